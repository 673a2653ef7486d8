"""What pip changed in the engine's environment, and its way back.

Our own environment goes with us. A foreign one (iShowTTS's conda environment or .venv) gets back
what it had: packages that we added are removed, others return to their former versions, and those
that somebody has changed since are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ishowtts_ops.config import PREFIX
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.steps import Ledger, Progress

NOTE = "engine-packages"
LIST_TIMEOUT_S = 120.0
UNDO_TIMEOUT_S = 3600.0

_QUIET = ("--no-input", "--disable-pip-version-check")


def install(python: str) -> tuple[str, ...]:
    """The head of a pip command that installs."""
    return (python, "-m", "pip", "install", *_QUIET, "--progress-bar", "off")


def said(argv: Sequence[str]) -> str:
    """A pip command without what only programs care for."""
    words = [word for word in argv[2:] if word not in (*_QUIET, "--progress-bar", "off")]
    return " ".join(words)


def telling(log: Progress) -> Progress:
    """pip's output without a line for every package that is there already."""

    def tell(line: str) -> None:
        if not line.startswith("Requirement already satisfied"):
            log(line)

    return tell


def packages(host: Host, python: str) -> dict[str, str]:
    """Distributions of an environment: name → version.

    Raises:
        OpsError: the environment has no pip that answers.
    """
    argv = (python, "-m", "pip", "list", "--format=json", *_QUIET)
    answer = host.query(argv, timeout=LIST_TIMEOUT_S)
    try:
        rows = json.loads(answer.stdout) if answer.ok else None
    except ValueError:
        rows = None
    if rows is None:
        raise OpsError(
            f"pip does not answer in the environment of {python}.",
            f"Try `{python} -m pip --version`; `{python} -m ensurepip` brings pip.",
        )
    return {str(row["name"]).lower().replace("_", "-"): str(row["version"]) for row in rows}


def record(
    ledger: Ledger, python: str, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Add what changed to the ledger; what a package was before our first change stays."""
    note = ledger.notes.get(NOTE)
    known: dict[str, dict[str, str | None]] = {}
    if isinstance(note, dict) and note.get("python") == python:
        known = dict(note.get("packages", {}))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was != now:
            known[name] = {"was": known.get(name, {}).get("was", was), "now": now}
    if known:
        ledger.notes[NOTE] = {"python": python, "packages": known}
        ledger.save()


def changed(ledger: Ledger) -> tuple[str, ...]:
    """What undo would do, as lines; empty for our own environment."""
    return tuple(f"{name} {row['now']} -> {row['was'] or 'gone'}" for name, row in _foreign(ledger))


def undo(host: Host, ledger: Ledger, log: Progress) -> tuple[str, ...]:
    """Give a foreign environment back what it had.

    Returns:
        sentences about what could not be put back.
    """
    rows = _foreign(ledger)
    if not rows:
        return ()
    python = str(ledger.notes[NOTE]["python"])
    try:
        here = packages(host, python)
    except OpsError as error:
        return (error.message,)
    ours = [(name, row["was"]) for name, row in rows if here.get(name) == row["now"]]
    added = [name for name, was in ours if was is None]
    former = [f"{name}=={was}" for name, was in ours if was is not None]
    commands = []
    if added:
        commands.append((python, "-m", "pip", "uninstall", "-y", *_QUIET, *added))
    if former:
        commands.append((*install(python), "--no-deps", *former))
    problems = []
    for argv in commands:
        log(said(argv))
        if not host.run(argv, timeout=UNDO_TIMEOUT_S, on_line=log).ok:
            problems.append(f"pip could not undo what install did to {python}: {' '.join(argv)}.")
    return tuple(problems)


def _foreign(ledger: Ledger) -> list[tuple[str, dict[str, str | None]]]:
    note = ledger.notes.get(NOTE)
    if not isinstance(note, dict) or str(note["python"]).startswith(f"{PREFIX}/"):
        return []
    return list(note.get("packages", {}).items())
