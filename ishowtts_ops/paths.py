"""Where a path of a box really is: symlinks are followed inside the box, never out of it."""

from __future__ import annotations

import os
from pathlib import Path

from ishowtts_ops.errors import OpsError

MAX_LINKS = 40
"""As many as the kernel follows."""


def resolve(root: Path, box_path: str, *, follow_last: bool) -> Path:
    """The real path of an absolute box path.

    Args:
        root: the box's root, itself resolved.
        follow_last: resolve the last component too when it is a symlink.

    Raises:
        OpsError: the path is relative, or loops.
    """
    if not box_path.startswith("/"):
        raise OpsError(f"{box_path!r} is not an absolute path of the box.")
    if root == Path("/") and follow_last:
        return Path(box_path)
    # Plain strings, not pathlib: every read of a box comes through here.
    todo = [part for part in reversed(box_path.split("/")) if part not in ("", ".")]
    top = str(root).rstrip("/")
    done = top
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done.rpartition("/")[0] if done != top else top
            continue
        here = f"{done}/{part}"
        target = _target(here) if todo or follow_last else None
        if target is None:
            done = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OpsError(f"{box_path} is a loop of symbolic links.")
        if target.startswith("/"):
            done = top
        todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return Path(done or "/")


def _target(path: str) -> str | None:
    """Where a symlink points, or None for anything else."""
    try:
        return os.readlink(path)
    except OSError:
        return None
