"""Watches for leaks: memory that grows steadily for a whole window leads to a planned restart in a
moment in which nobody speaks, long before the box runs out of it.

A slope is Theil and Sen's (the median of all pairs' slopes), which a single large request does not
move; and each third of the window must lie above the one before, which a cache that fills up and
then stays does not do.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.memory import MemoryUse

log = logging.getLogger(__name__)

SAMPLES = 60
"""Per window."""
HOUR = 3600.0
MEGABYTE = 1e6


@dataclass(frozen=True)
class Leak:
    """Memory that grows: which, and by how many megabytes an hour."""

    what: str
    mb_per_hour: float


def slope(samples: list[tuple[float, float]]) -> float:
    """The median slope of all pairs of (seconds, bytes), in bytes per second."""
    slopes = [
        (second[1] - first[1]) / (second[0] - first[0])
        for number, first in enumerate(samples)
        for second in samples[number + 1 :]
        if second[0] > first[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def steadily_up(samples: list[tuple[float, float]]) -> bool:
    """Does each third of the samples lie above the one before?"""
    third = len(samples) // 3
    if not third:
        return False
    parts = [samples[:third], samples[third : 2 * third], samples[2 * third :]]
    low = [min(value for _, value in part) for part in parts]
    return low[0] < low[1] < low[2]


class LeakWatch:
    """A window of samples. On one thread.

    Args:
        window: seconds that memory must grow for.
        mb_per_hour: growth from which it counts; 0 turns it off.
    """

    def __init__(self, window: float, mb_per_hour: float) -> None:
        self._window = window
        self._limit = mb_per_hour
        self._samples: deque[tuple[float, MemoryUse]] = deque(maxlen=SAMPLES + 1)

    def add(self, seconds: float, use: MemoryUse) -> Leak | None:
        """A sample, `window / SAMPLES` seconds after the last; says what leaks, if anything."""
        self._samples.append((seconds, use))
        full = seconds - self._samples[0][0] >= self._window * (SAMPLES - 1) / SAMPLES
        if not self._limit or not full:
            return None
        rows: dict[str, list[tuple[float, float]]] = {
            "process": [(at, float(one.resident)) for at, one in self._samples],
            "device": [
                (at, float(one.device)) for at, one in self._samples if one.device is not None
            ],
        }
        for what, samples in rows.items():
            grows = slope(samples) * HOUR / MEGABYTE
            if grows > self._limit and steadily_up(samples):
                return Leak(what, grows)
        return None


class Sentinel(threading.Thread):
    """Samples, decides, and waits for the gap.

    Args:
        read: what is held now.
        settled: true once the engine is warm.
        idle_seconds: since when nobody has been spoken for.
        gap: how long that must be.
        on_leak: told once, in the gap.
    """

    def __init__(
        self,
        watch: LeakWatch,
        window: float,
        *,
        read: Callable[[], MemoryUse],
        settled: Callable[[], bool],
        idle_seconds: Callable[[], float],
        gap: float,
        on_leak: Callable[[Leak], None],
    ) -> None:
        super().__init__(name="sentinel", daemon=True)
        self._watch = watch
        self._period = window / SAMPLES
        self._read = read
        self._settled = settled
        self._idle_seconds = idle_seconds
        self._gap = gap
        self._on_leak = on_leak
        self._end = threading.Event()
        self.leak: Leak | None = None

    def stop(self) -> None:
        self._end.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        while not self._end.wait(self._period if self.leak is None else min(1.0, self._period)):
            if self.leak is None:
                self._look()
            elif self._idle_seconds() >= self._gap:
                self._on_leak(self.leak)
                return

    def _look(self) -> None:
        if not self._settled():
            return
        self.leak = self._watch.add(time.monotonic(), self._read())
        if self.leak:
            log.warning(
                journal.line(
                    "memory leaks; a restart is planned for the next quiet moment",
                    what=self.leak.what,
                    mb_per_hour=self.leak.mb_per_hour,
                )
            )
