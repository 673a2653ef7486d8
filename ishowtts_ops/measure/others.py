"""What other programs took of the processors while something was measured.

A box that compiles something meanwhile speaks more slowly, and that is no regression of it.
"""

from __future__ import annotations

import contextlib
import os

import psutil

OTHERS = "others"
"""In a run's `extra`: the share of all processor time that was neither idle nor ours, 0 to 1."""
MOST = 0.9
"""Of what others take, so much at most is held for an excuse."""


class OthersUse:
    """Counts from when it is made.

    Args:
        pid: the daemon's process; this process, the benchmark, counts as ours too.
    """

    def __init__(self, pid: int | None) -> None:
        self._pids = {os.getpid(), *([pid] if pid else [])}
        self._ours = self._our_seconds()
        self._busy, self._all = _processors()

    def share(self) -> float:
        """Of all processor time since then."""
        busy, everything = _processors()
        whole = everything - self._all
        if whole <= 0:
            return 0.0
        others = (busy - self._busy) - (self._our_seconds() - self._ours)
        return round(min(1.0, max(0.0, others / whole)), 3)

    def _our_seconds(self) -> float:
        """Each process once, also where the daemon is a child of this one."""
        ours: dict[int, psutil.Process] = {}
        seconds = 0.0
        for pid in self._pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                for one in (process, *process.children(recursive=True)):
                    ours[one.pid] = one
        for process in ours.values():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
                # Children that ended are in nobody else's count.
                seconds += times.children_user + times.children_system
        return float(seconds)


def alone(values: list[float], share: float, usual: float) -> list[float]:
    """Times as they would be at least, had others taken no more than usual: what takes all of a
    processor takes 1 / (1 - share) times as long while others have that share of it.

    Args:
        share: what others had of the processors meanwhile.
        usual: what they have when nothing is wrong.
    """
    excess = min(MOST, max(0.0, share - usual))
    return [value * (1 - excess) for value in values]


def _processors() -> tuple[float, float]:
    """(seconds at work, all seconds) of all processors since boot."""
    now = psutil.cpu_times()
    # Times of guests are in user and nice already.
    everything = sum(now) - getattr(now, "guest", 0.0) - getattr(now, "guest_nice", 0.0)
    return everything - now.idle - getattr(now, "iowait", 0.0), everything
