"""`ishowtts-ops patch`: the F5-TTS speed series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.host import BoxKind
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.provision.install import LOCK_PATH
from ishowtts_ops.provision.patch import PatchState, PatchStatus
from ishowtts_ops.provision.units import WATCH_PATH, WATCH_TIMER, is_active
from ishowtts_ops.steps import Ledger

app = typer.Typer(help="The F5-TTS speed series and the state it is in.", no_args_is_help=True)

_APART = 4
"""More rows that say the same become one."""

SetAside = Annotated[
    bool,
    typer.Option(
        "--set-aside", help="Save edits that are not ours as a patch file, then undo them."
    ),
]


@app.command("status")
@takes_box
def status(box: Box, as_json: Json = False) -> int:
    """Say whether the series is applied, file by file. Exit 1 when it is not.

    States: applied, not-applied, partial, drifted, conflict, legacy; decided by blob hashes.
    """
    found = patch.status(box.host.read_only(), _source(box))
    ok = found.state is PatchState.APPLIED
    if as_json:
        render.envelope("patch status", found.to_json(), ok=ok)
    else:
        _show(found)
    return 0 if ok else 1


@app.command("apply")
@takes_box
def apply(
    box: Box,
    replace_legacy: Annotated[
        bool, typer.Option("--replace-legacy", help="Replace an older, foreign patch.")
    ] = False,
    set_aside: SetAside = False,
    as_json: Json = False,
) -> int:
    """Apply the series to the sources the engine uses; all of it or nothing."""
    host = box.host
    host.require_root("Applying the series")
    with host.lock(LOCK_PATH, "ishowtts-ops patch apply"):
        found = patch.apply(
            host,
            _source(box),
            Ledger.open(host),
            replace_legacy=replace_legacy,
            set_aside=set_aside,
            progress=render.log,
        )
    return _done("patch apply", found, as_json)


@app.command("revert")
@takes_box
def revert(box: Box, set_aside: SetAside = False, as_json: Json = False) -> int:
    """Bring back, byte for byte, what was there before the series."""
    host = box.host
    host.require_root("Reverting the series")
    asked = (WATCH_PATH, WATCH_TIMER) if host.which("systemctl") else ()
    watched = [] if host.kind is BoxKind.OFFLINE else [u for u in asked if is_active(host, u)]
    with host.lock(LOCK_PATH, "ishowtts-ops patch revert"):
        found = patch.revert(
            host, _source(box), Ledger.open(host), set_aside=set_aside, progress=render.log
        )
    if watched and not as_json:
        units = " ".join(watched)
        render.note(f"{watched[0]} sees this and applies the series again; to keep it out:")
        render.note(f"  sudo systemctl stop {units} && sudo ishowtts-ops patch revert")
    return _done("patch revert", found, as_json)


@app.command("verify")
@takes_box
def verify(box: Box, as_json: Json = False) -> int:
    """Prove it: files are as recorded, and the engine's own imports find them. Exit 1 if
    not, 3 when it could not be found out."""
    report = patch.verify(box.host.read_only(), _source(box), box.settings)
    if as_json:
        render.envelope("patch verify", report.to_json(), ok=report.ok is True)
    else:
        words = {True: "ok", False: "WRONG", None: "unknown"}
        lines = [(f"{words[row.ok]:<8}", row.check, f": {row.text}") for row in report.rows]
        for line in _together(lines, "modules"):
            render.say(line)
    return {True: 0, False: 1, None: 3}[report.ok]


@app.command("export")
@takes_box
def export(box: Box) -> int:
    """Print the whole series for these sources as one mbox message, for `git am`."""
    render.raw(patch.export(box.host.read_only(), _source(box)))
    return 0


def _source(box: Box) -> str:
    return locate(box.host.read_only(), box.settings).path


def _done(command: str, found: PatchStatus, as_json: bool) -> int:
    if as_json:
        render.envelope(command, found.to_json())
    else:
        _show(found)
    return 0


def _show(found: PatchStatus) -> None:
    version = f"F5-TTS {found.version}" if found.version else "F5-TTS of unknown version"
    render.say(f"{found.state.value}: {found.text}", "bold")
    render.say(f"  {version} in {found.source}, series {found.series}")
    lines = [
        (f"  {row.state.value:<9} {row.role:<6} ", row.path, f"  {row.note}" if row.note else "")
        for row in found.rows
    ]
    for line in _together(lines, "files"):
        render.say(line)
    for line in (*(str(failure) for failure in found.failures), *found.notes):
        render.say(f"  {line}")


def _together(lines: Sequence[tuple[str, str, str]], what: str) -> list[str]:
    """One line for neighbours that say the same: head, name, tail."""
    shown = []
    for (head, tail), group in groupby(lines, key=lambda line: (line[0], line[2])):
        names = [name for _, name, _ in group]
        if len(names) > _APART:
            shown.append(f"{head}{names[0]} … {names[-1]} ({len(names)} {what}){tail}")
        else:
            shown += [f"{head}{name}{tail}" for name in names]
    return shown
