from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.sim.tree import build_box
from tests.service.sim.sim_box import SimBox

MEMORY = Path("/dev/shm")


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """A folder in memory where there is such a thing: a box is hundreds of tiny files."""
    where = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sim-", dir=where) as folder:
        yield Path(folder)


@pytest.fixture
def agx(fast_path: Path) -> SimBox:
    """AGX Orin 64 GB, R36.4, freshly booted in MODE_30W."""
    build_box(fast_path / "agx", "agx-orin-64")
    return SimBox(fast_path / "agx")


@pytest.fixture
def nano(fast_path: Path) -> SimBox:
    """Orin Nano Super, R36.4.3, freshly booted in 25W."""
    build_box(fast_path / "nano", "orin-nano-super")
    return SimBox(fast_path / "nano")


@pytest.fixture
def serving(agx: SimBox) -> Iterator[SimBox]:
    """A box whose services are stopped at the end."""
    yield agx
    agx.systemctl("sim-shutdown")
