"""How much memory this process and its engine hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.daemon.engine import Engine

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class MemoryUse:
    """Bytes. On a Jetson both are parts of one memory; device is None without a GPU."""

    resident: int
    device: int | None


def memory_use(engine: Engine) -> MemoryUse:
    """Now."""
    # Field 2 of statm(5): resident pages.
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    device = engine.memory()
    return MemoryUse(pages * _PAGE, device.held if device else None)
