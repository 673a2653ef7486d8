"""Simulated boxes for tests: each kind is built once and copied, which is much faster."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from ishowtts_ops.host import Host
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import build_box

_TEMPLATES = tempfile.TemporaryDirectory(prefix="simulated-boxes-")


@cache
def _template(board: str) -> Path:
    root = Path(_TEMPLATES.name) / board
    build_box(root, board)
    return root


def sim_box(tmp_path: Path, board: str, *faults: str) -> Host:
    """A fresh simulated box below `tmp_path`, with these faults."""
    root = tmp_path / "box"
    shutil.copytree(_template(board), root, symlinks=True)
    for fault in faults:
        apply_fault(root, fault)
    return Host.at(root)
