"""A copy of the last patched package, to speak from while the checkout cannot be patched.

It is made at every successful apply. When the submodule moves to a commit that the series does not
fit, the checkout stays as upstream has it, and the engine's manifest points here until it fits
again: a daemon that is restarted meanwhile comes up as before.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from ishowtts_ops.config import STATE_DIR
from ishowtts_ops.host import Host
from ishowtts_ops.provision.patch_state import PatchState, PatchStatus
from ishowtts_ops.provision.patch_survey import PACKAGE, survey
from ishowtts_ops.provision.series import Series, load_series

LAST_GOOD = f"{STATE_DIR}/last-good"
ABOUT = f"{LAST_GOOD}/about.json"

_LEFT_OUT = (".wav", ".flac", ".mp3", ".pyc")
"""Example recordings and byte code, which no engine needs."""


def save(host: Host, status: PatchStatus) -> None:
    """Copy the package of a tree that was just patched. A run that is killed leaves the former copy
    or the new one, or none, never half of one."""
    new = f"{LAST_GOOD}.new"
    host.rmtree(new)
    _copy(host, f"{status.source}/{PACKAGE}", f"{new}/{PACKAGE}")
    about = {
        "source": status.source,
        "series": status.series,
        "version": status.version,
        "commit": status.commit,
    }
    host.write(f"{new}/about.json", json.dumps(about, indent=1) + "\n")
    host.rmtree(LAST_GOOD)
    host.rename(new, LAST_GOOD)


def forget(host: Host, source: str) -> None:
    """The series was taken out of `source` on purpose: its copy goes too."""
    if _copied_from(host) == source:
        host.rmtree(LAST_GOOD)


def stand_in(host: Host, source: str, series: Series | None = None) -> str | None:
    """Box path of the copy to use instead of `source`; None while `source` itself will do, or there
    is no copy of it. Changes nothing."""
    if _copied_from(host) != source or not host.is_dir(f"{LAST_GOOD}/{PACKAGE}"):
        return None
    state = survey(host, source, series or load_series()).status.state
    return LAST_GOOD if state is PatchState.CONFLICT else None


def _copied_from(host: Host) -> str | None:
    if not host.is_file(ABOUT):
        return None
    try:
        told = json.loads(host.read_text(ABOUT))
    except ValueError:
        return None
    return str(told.get("source")) if isinstance(told, dict) else None


def _copy(host: Host, old: str, new: str) -> None:
    for name in host.listdir(old):
        path = f"{old}/{name}"
        if host.is_dir(path):
            if name != "__pycache__" and not host.is_symlink(path):
                _copy(host, path, f"{new}/{name}")
        elif host.is_file(path) and PurePosixPath(name).suffix not in _LEFT_OUT:
            host.write(f"{new}/{name}", host.read_bytes(path), mode=0o644)
