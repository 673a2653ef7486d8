"""Tells a leak from a busy moment."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

MIB = 1 << 20
SAMPLES = 60
"""Samples a window. Each keeps the lowest reading of its time: a request's own memory comes and
goes, a leak is what stays."""
PARTS = 4


class Sentinel:
    """Watches the memory of a service.

    Args:
        limit: bytes that are too many.
        growth: bytes an hour that are too many when they go on for a whole window; 0 for any.
        window: seconds.
    """

    def __init__(self, limit: float, growth: float, window: float) -> None:
        self._limit = limit
        self._growth = growth
        self._window = window
        self._lows: deque[tuple[float, int]] = deque()
        self._began: float | None = None

    def add(self, now: float, rss: int) -> str | None:
        """Take a reading.

        Args:
            now: seconds; may begin anywhere.

        Returns:
            why the service should be started again, or None.
        """
        if rss > self._limit:
            return f"it uses {rss / MIB:.0f} MiB of memory, over {self._limit / MIB:.0f} MiB"
        if self._began is None:
            self._began = now
        number = (now - self._began) // (self._window / SAMPLES)
        if self._lows and self._lows[-1][0] == number:
            self._lows[-1] = (number, min(rss, self._lows[-1][1]))
            return None
        # The newest sample is not complete before the next one begins, so it is judged then.
        trouble = self._judge() if number >= SAMPLES else None
        self._lows.append((number, rss))
        while self._lows[0][0] <= number - SAMPLES:
            self._lows.popleft()
        return trouble

    def _judge(self) -> str | None:
        if not self._growth or not self._lows:
            return None
        first, last = self._lows[0][0], self._lows[-1][0]
        parts: list[list[int]] = [[] for _ in range(PARTS)]
        for number, rss in self._lows:
            parts[min(int((number - first) * PARTS / (last - first + 1)), PARTS - 1)].append(rss)
        lows = [min(part) for part in parts if part]
        rising = all(low < next_low for low, next_low in pairwise(lows))
        # From the lows of the first part to those of the last is the window less one part.
        hours = self._window * (PARTS - 1) / PARTS / 3600
        rate = (lows[-1] - lows[0]) / hours
        if len(lows) < PARTS or not rising or rate <= self._growth:
            return None
        return (
            f"its memory grows by {rate / MIB:.0f} MiB an hour "
            f"(from {lows[0] / MIB:.0f} to {lows[-1] / MIB:.0f} MiB), "
            f"over {self._growth / MIB:.0f} MiB an hour"
        )
