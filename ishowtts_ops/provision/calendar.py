"""The last good state of a box, what has changed since, and the way back.

A state is *good* once it was validated: installed, verified, measured. What is tracked is what
changes behind the toolkit's back: the commit of F5-TTS, torch, L4T, the configuration, the toolkit
itself. Configuration and F5-TTS's commit can be rolled back; torch and L4T cannot, and are told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from typing import Any

from ishowtts_ops import __version__
from ishowtts_ops.config import CONFIG_PATH, STATE_DIR, Settings
from ishowtts_ops.errors import OpsError, PatchRefused
from ishowtts_ops.facts import identity
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.facts.python_env import PythonEnv, read_python_env
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch, patch_last_good
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.git import Repo
from ishowtts_ops.provision.series import load_series
from ishowtts_ops.steps import Ledger, Progress

VALIDATED_PATH = f"{STATE_DIR}/validated.json"
VERSION = 1

NAMES = {
    "config": "the configuration",
    "f5": "the commit of F5-TTS",
    "torch": "torch",
    "l4t": "L4T",
    "series": "the speed series",
    "program": "ishowtts-ops",
}
CANNOT_GO_BACK = ("torch", "l4t", "series", "program")

_LOST = {state.value for state in patch.PatchState}
"""The series is out of the sources: the steps of install put it back, or say why not."""

Tracked = Mapping[str, str | None]


@dataclass(frozen=True)
class Good:
    """The last state that passed.

    Attributes:
        tracked: by the names of NAMES.
        config_text: the configuration of then; None when the box had none.
        rejected: a state that was tried since and failed; it is not tried again.
    """

    tracked: Tracked
    config_text: str | None
    validated_at: str
    rejected: Tracked | None = None


@dataclass(frozen=True)
class RolledBack:
    """What was put back and what could not be; sentences."""

    done: tuple[str, ...]
    left: tuple[str, ...]


def tracked(host: Host, settings: Settings) -> dict[str, str | None]:
    """The tracked state of now; changes nothing."""
    release = identity.read(host).release
    found: dict[str, str | None] = {
        "config": _sha256(_config_text(host)),
        "l4t": None if isinstance(release, Unknown) else str(release),
        "program": __version__,
    }
    if settings.engine.kind != "f5":
        return found
    env = read_python_env(host, in_use(host, settings))
    repo = _repo(host, settings)
    found |= {
        "torch": env.package("torch").version if isinstance(env, PythonEnv) else None,
        "f5": repo.head() if repo else None,
        "series": _series(host, settings),
    }
    return found


def changes(good: Good | None, now: Tracked) -> list[str]:
    """What differs from the last good state, as clauses; empty when nothing does."""
    if good is None:
        return ["this box was never validated"]
    found = []
    for name, what in NAMES.items():
        was, is_now = good.tracked.get(name), now.get(name)
        if was != is_now:
            span = "" if name == "config" else f" from {_short(was)} to {_short(is_now)}"
            found.append(f"{what} changed{span}")
    return found


def read_good(host: Host) -> Good | None:
    """The last good state; None when there is none, or its record is damaged: then the box is
    validated anew."""
    if not host.is_file(VALIDATED_PATH):
        return None
    try:
        body = json.loads(host.read_text(VALIDATED_PATH))
        if body["version"] != VERSION:
            return None
        return Good(
            dict(body["tracked"]), body["config_text"], body["validated_at"], body["rejected"]
        )
    except (ValueError, KeyError, TypeError):
        return None


def candidate(host: Host, settings: Settings, config_text: str | None) -> Good:
    """The state of now, to be recorded once it was validated.

    Args:
        config_text: the file that `settings` were read from. It may have been saved anew since, and
            what is validated is what was read.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    now = {**tracked(host, settings), "config": _sha256(config_text)}
    return Good(now, config_text, stamp)


def record_good(host: Host, good: Good) -> None:
    """From now on this state is the one to come back to."""
    _write(host, good)


def record_rejected(host: Host, good: Good, now: Tracked) -> None:
    """Remember a state that failed, so that it is not tried again and again."""
    _write(host, Good(good.tracked, good.config_text, good.validated_at, now))


def roll_back(
    host: Host, good: Good, now: Tracked, settings: Settings, log: Progress
) -> RolledBack:
    """Put configuration and F5-TTS's commit back as they were; the steps of install do the rest.

    Args:
        now: the state that failed.
        settings: of the good state.
    """
    done: list[str] = []
    left: list[str] = []
    if good.tracked.get("config") != now.get("config"):
        done.append(_config_back(host, good, log))
    if good.tracked.get("f5") != now.get("f5"):
        target = good.tracked.get("f5")
        repo = _repo(host, settings)
        if target is None or repo is None:
            left.append("F5-TTS was no git repository then or is none now; its files stay.")
        elif patch_last_good.stand_in(host, locate(host, settings).path) is not None:
            # Its owner chose that commit, and the daemon has what it needs.
            left.append(
                "F5-TTS stays at its new commit, which the series does not fit; the daemon speaks"
                " from its last good copy."
            )
        else:
            try:
                _source_back(host, repo, target, settings, log)
                done.append(f"F5-TTS is at commit {target[:12]} again.")
            except OpsError as error:
                left.append(f"F5-TTS stays at its new commit: {error.message}")
    left += [
        f"{NAMES[name]} cannot be put back from here: it was {_short(good.tracked.get(name))}"
        f" and is {_short(now.get(name))}.{_how(name, good.tracked.get(name))}"
        for name in CANNOT_GO_BACK
        if good.tracked.get(name) != now.get(name) and now.get(name) not in _LOST
    ]
    return RolledBack(tuple(done), tuple(left))


def _config_back(host: Host, good: Good, log: Progress) -> str:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    # Two may be rejected within a second, and each is somebody's work.
    kept = first = f"{CONFIG_PATH}.rejected-{stamp}"
    more = count(2)
    while host.lexists(kept):
        kept = f"{first}-{next(more)}"
    current = _config_text(host)
    if current is not None:
        host.write(kept, current)
    log(f"putting {CONFIG_PATH} back; the rejected one is {kept}")
    if good.config_text is None:
        host.remove(CONFIG_PATH)
    else:
        host.write(CONFIG_PATH, good.config_text)
    return f"The configuration is as it was; the rejected one is kept as {kept}."


def _source_back(host: Host, repo: Repo, commit: str, settings: Settings, log: Progress) -> None:
    """Series out, old commit in; the patch step applies the series again."""
    source = locate(host, settings).path
    log(f"taking the series out of {source}")
    try:
        patch.revert(host, source, Ledger.open(host), set_aside=True, progress=log)
    except PatchRefused as error:
        # What is not ours stays; git refuses below where that is in the way.
        log(error.message)
    log(f"checking out {commit}")
    repo.checkout(commit)


def _series(host: Host, settings: Settings) -> str:
    """Which series is in the sources; the state's word where it is not (all) there: `git submodule
    update` to the very same commit loses it too."""
    series = load_series()
    state = patch.status(host, locate(host, settings).path, series).state
    return series.id if state is patch.PatchState.APPLIED else state.value


def _repo(host: Host, settings: Settings) -> Repo | None:
    place = locate(host, settings)
    return Repo.open(host, place.path) if place.state is SourceState.PRESENT else None


def _config_text(host: Host) -> str | None:
    return host.read_text(CONFIG_PATH) if host.is_file(CONFIG_PATH) else None


def _write(host: Host, good: Good) -> None:
    body: dict[str, Any] = {
        "version": VERSION,
        "tracked": dict(good.tracked),
        "config_text": good.config_text,
        "validated_at": good.validated_at,
        "rejected": None if good.rejected is None else dict(good.rejected),
    }
    # The configuration may hold a webhook's address, which is a secret.
    host.write(VALIDATED_PATH, json.dumps(body, indent=1) + "\n", mode=0o600)


def _sha256(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return value[:12] if len(value) > 20 else value


def _how(name: str, value: str | None) -> str:
    if name == "torch" and value:
        return f" Install torch {value} into the engine's interpreter again."
    if name == "l4t":
        return " Bring the former release back, or keep it: `ishowtts-ops validate --accept`."
    return ""
