"""Under what a measurement was taken: what else the machine did, and with which priority we ran."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from types import TracebackType
from typing import Any

POLICIES = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}


def priority() -> dict[str, Any]:
    """Ours, which the daemon inherits. `rr` goes before all usual work, so it shows what two cores
    of its own would give; niceness alone says little where sessions are groups of their own
    (sched_autogroup)."""
    policy = os.sched_getscheduler(0)
    return {
        "policy": POLICIES.get(policy, str(policy)),
        "level": os.sched_getparam(0).sched_priority,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def _busy_seconds() -> float:
    """Of all processors together, since boot: all but idle and waiting for disks."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _our_seconds() -> float:
    """Ours, and of children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Surroundings:
    """Watches the machine during a block, in which all our children must end.

    Attributes:
        found: afterwards: the load average before and after, and how much of all processors others
            took, as a share of 1.
    """

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def __enter__(self) -> Surroundings:
        self._load = os.getloadavg()[0]
        self._began = time.monotonic()
        self._busy, self._ours = _busy_seconds(), _our_seconds()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        spent = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self._busy) - (_our_seconds() - self._ours)
        self.found = {
            "load_average_before": round(self._load, 2),
            "load_average_after": round(os.getloadavg()[0], 2),
            "share_of_processors_taken_by_others": round(max(0.0, others) / spent, 3),
        }
