"""An unpatched copy of the sources, for what is compared with them."""

from __future__ import annotations

import shutil
from pathlib import Path

from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.patch_state import PatchState
from ishowtts_ops.provision.patch_survey import PACKAGE, survey
from ishowtts_ops.provision.series import load_series

_NOT_NEEDED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.wav", "*.flac", "*.mp3")


def unpatched(host: Host, source: str, target: Path) -> Path:
    """Write upstream's own files below `target`, and return the folder for PYTHONPATH.

    What the series hooked comes from git (or from where the patch keeps it), what it added is left
    out; the box's tree is only read.

    Raises:
        OpsError: the series is not applied, or a file's original cannot be had.
    """
    found = survey(host, source, load_series())
    if found.status.state is not PatchState.APPLIED:
        raise OpsError(
            f"There is nothing to compare: {found.status.text}",
            "Run `ishowtts-ops patch apply` first.",
        )
    made = target / PACKAGE
    shutil.copytree(host.path(f"{source}/{PACKAGE}"), made, ignore=_NOT_NEEDED)
    for added in found.added:
        (target / added.path).unlink(missing_ok=True)
    for hook in found.hooks:
        if hook.base is None:
            raise OpsError(
                f"Upstream's own {hook.path} cannot be had here.",
                f"`git -C {source} status` says what is the matter with the sources.",
            )
        (target / hook.path).write_bytes(hook.base)
    return made.parent
