"""Simulated boxes for tests: each kind is built once and copied, in memory where there is room.

A box has some 400 small files, so on a disk most of a test's time would go into writing them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ishowtts_ops.host import Host
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import build_box

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 128 << 20


def _folder() -> tempfile.TemporaryDirectory[str]:
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _NEEDED_BYTES
    return tempfile.TemporaryDirectory(prefix="simboxes-", dir=_MEMORY if roomy else None)


_HOME = _folder()
_latest: list[tuple[Path, Path]] = []
"""(tmp_path, real folder) of the boxes of the test that runs now."""


@cache
def _template(board: str) -> Path:
    root = Path(_HOME.name, "templates", board)
    root.parent.mkdir(exist_ok=True)
    build_box(root, board)
    return root


def sim_box(tmp_path: Path, board: str, *faults: str, name: str = "box") -> Host:
    """A fresh simulated box with these faults, seen at `tmp_path / name`.

    It is gone once another test asks for one.
    """
    if _latest and _latest[0][0] != tmp_path:
        for _, old in _latest:
            shutil.rmtree(old)
        _latest.clear()
    real = Path(tempfile.mkdtemp(dir=_HOME.name))
    _latest.append((tmp_path, real))
    real.chmod(0o755)
    subprocess.run(["cp", "-a", f"{_template(board)}/.", str(real)], check=True)
    root = tmp_path / name
    root.symlink_to(real)
    for fault in faults:
        apply_fault(root, fault)
    return Host.at(root)
