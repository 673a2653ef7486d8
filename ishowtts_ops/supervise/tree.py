"""The processes of a service: what they use, and what they are at when something is wrong."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

MOVES = 0.01
"""Part of a processor core above which a starting service counts as at work: timers and event loops
that wait stay below."""
MOVES_BYTES = 64 << 10
IDLE = 0.05
"""Part of a core below which a service counts as idle; being asked for its health uses less."""
LONGEST_STORY = 20


@dataclass(frozen=True)
class Usage:
    """What the processes use.

    Attributes:
        at: seconds of the monotonic clock.
        rss: bytes of memory, shared pages counted in each process.
        cpu: seconds of processor time of those that run.
        io: bytes they have read.
    """

    at: float
    pids: frozenset[int]
    rss: int
    cpu: float
    io: int


class Tree:
    """A process, its descendants, and whoever else is in its session.

    Args:
        pid: the process that leads the session.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def members(self) -> list[psutil.Process]:
        """Those alive, the leader first."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.pid)
            found = {p.pid: p for p in (leader, *leader.children(recursive=True))}
        # What a process that has ended left behind has lost its parent, but not its session.
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if pid not in found and os.getsid(pid) == self.pid:
                    found[pid] = psutil.Process(pid)
        return [p for p in found.values() if _alive(p)]

    def look(self) -> Usage:
        rss, cpu, io = 0, 0.0, 0
        pids = set()
        for process in self.members():
            with contextlib.suppress(psutil.Error), process.oneshot():
                pids.add(process.pid)
                rss += process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system
                with contextlib.suppress(psutil.AccessDenied, NotImplementedError):
                    counts = process.io_counters()
                    io += counts.read_chars + counts.read_bytes
        return Usage(time.monotonic(), frozenset(pids), rss, cpu, io)

    def story(self) -> list[str]:
        """A line a process: what a person would want to know of one that hangs."""
        lines = []
        for process in self.members()[:LONGEST_STORY]:
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                lines.append(
                    f"pid={process.pid} parent={process.ppid()} state={process.status()} "
                    f"threads={process.num_threads()} rss_mib={process.memory_info().rss >> 20} "
                    f"cpu_s={times.user + times.system:.1f} waits_in={_waits(process.pid)} "
                    f"command={' '.join(process.cmdline())[:100] or process.name()!r}"
                )
        return lines


def moved(before: Usage, now: Usage) -> bool:
    """Did a starting service get on with its work between two looks?"""
    return (
        before.pids != now.pids
        or now.io - before.io >= MOVES_BYTES
        or now.cpu - before.cpu > MOVES * (now.at - before.at)
    )


def rested(before: Usage, now: Usage) -> bool:
    """Had it nothing to do between two looks?"""
    return now.cpu - before.cpu < IDLE * (now.at - before.at)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _waits(pid: int) -> str:
    """Where in the kernel its threads wait, the commonest first: `futex_wait_queue:7,ep_poll:1`.
    The kernel tells only root and the owner."""
    places: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").glob("*/wchan"):
        with contextlib.suppress(OSError):
            places[task.read_text().strip() or "?"] += 1
    return ",".join(f"{place}:{n}" for place, n in places.most_common(4)) or "?"
