"""Memory of a box, which on a Jetson is the GPU's memory too.

Sources: `/proc/meminfo`, `/proc/swaps`, `/proc/vmstat` (`oom_kill`, counted since boot), and what
NVIDIA's release notes and field reports say about CUDA's own limits. All sizes are in bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

MEMINFO = "/proc/meminfo"
SWAPS = "/proc/swaps"
VMSTAT = "/proc/vmstat"

GIB = 1 << 30
CUDA_ALLOCATION_DEFECT_BYTES = 3 * GIB
"""On L4T R36.4.7 one CUDA allocation above about this size fails; R36.5 mends it."""


@dataclass(frozen=True)
class Memory:
    """What the kernel says about memory.

    Attributes:
        total: RAM the kernel manages; below the module's nominal size by firmware carve-outs.
        available: what could be had without swapping (`MemAvailable`).
        disk_swap_used: swap in use on disks and files; slow.
        zram_used: swap in use on compressed RAM; costs CPU time and no disk.
        oom_kills: processes killed for memory since boot; unknown on kernels that do not count.
    """

    total: int
    available: int
    swap_total: int
    swap_free: int
    disk_swap_used: int
    zram_used: int
    oom_kills: Maybe[int]

    @property
    def swap_used(self) -> int:
        return max(0, self.swap_total - self.swap_free)


@dataclass(frozen=True)
class SwapArea:
    """One line of `/proc/swaps`."""

    name: str
    size: int
    used: int

    @property
    def zram(self) -> bool:
        return "zram" in self.name


def parse_meminfo(text: str) -> dict[str, int]:
    """The sizes of `/proc/meminfo` as bytes by name; lines that do not fit are left out, a last
    one that was cut off included."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([A-Za-z0-9_()]+):\s+(\d{1,18}) kB\s*", line, re.ASCII)
        if match:
            found[match[1]] = int(match[2]) * 1024
    return found


def parse_swaps(text: str) -> tuple[SwapArea, ...]:
    """`/proc/swaps`; lines that do not fit are left out."""
    areas = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\S+)\s+\S+\s+(\d{1,18})\s+(\d{1,18})\s+-?\d+\s*", line, re.ASCII)
        if match:
            areas.append(SwapArea(match[1], int(match[2]) * 1024, int(match[3]) * 1024))
    return tuple(areas)


def parse_oom_kills(text: str) -> Maybe[int]:
    """The `oom_kill` counter of `/proc/vmstat`."""
    match = re.search(r"^oom_kill (\d{1,18})$", text, re.MULTILINE | re.ASCII)
    return int(match[1]) if match else Unknown(f"{VMSTAT} has no oom_kill counter")


def read_memory(host: Host) -> Maybe[Memory]:
    """Memory of the box now."""
    try:
        info = parse_meminfo(host.read_text(MEMINFO))
    except OSError as error:
        return Unknown(f"{MEMINFO} cannot be read: {error.strerror}")
    missing = [name for name in ("MemTotal", "MemAvailable") if name not in info]
    if missing or info["MemTotal"] <= 0:
        return Unknown(f"{MEMINFO} has no {' and no '.join(missing) or 'sensible MemTotal'}")
    areas = _swaps(host)
    swap_total = info.get("SwapTotal", 0)
    swap_free = info.get("SwapFree", swap_total)
    zram_used = sum(area.used for area in areas if area.zram)
    return Memory(
        total=info["MemTotal"],
        available=info["MemAvailable"],
        swap_total=swap_total,
        swap_free=swap_free,
        disk_swap_used=max(0, swap_total - swap_free - zram_used),
        zram_used=zram_used,
        oom_kills=_oom_kills(host),
    )


def cuda_allocation_limit(major: int, revision: str) -> int | None:
    """The largest single CUDA allocation a release is known to be limited to, in bytes; None when
    there is no known limit.

    Args:
        major: L4T major release, 36 in "R36.4.7".
        revision: the rest, "4.7".
    """
    return CUDA_ALLOCATION_DEFECT_BYTES if (major, revision) == (36, "4.7") else None


def _swaps(host: Host) -> tuple[SwapArea, ...]:
    try:
        return parse_swaps(host.read_text(SWAPS))
    except OSError:
        return ()


def _oom_kills(host: Host) -> Maybe[int]:
    try:
        return parse_oom_kills(host.read_text(VMSTAT))
    except OSError as error:
        return Unknown(f"{VMSTAT} cannot be read: {error.strerror}")
