"""How often a caller may ask: a token bucket each."""

from __future__ import annotations

import time

BURST_SECONDS = 10.0
"""A caller who was quiet may at once ask what this time allows."""
MOST_CALLERS = 10_000


class RateLimit:
    """Token buckets by caller. On one thread.

    Args:
        per_minute: 0 is no limit.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate * BURST_SECONDS)
        self._buckets: dict[str, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        return self._rate > 0

    def wait(self, caller: str) -> float:
        """Seconds until that caller may ask again; 0 when now."""
        if not self._rate:
            return 0.0
        return max(0.0, (1 - self._tokens(caller)) / self._rate)

    def spend(self, caller: str) -> None:
        """Count one request."""
        if not self._rate:
            return
        if len(self._buckets) >= MOST_CALLERS:
            full = [one for one in self._buckets if self._tokens(one) >= self._most]
            for one in full or list(self._buckets):
                del self._buckets[one]
        self._buckets[caller] = (max(0.0, self._tokens(caller) - 1), time.monotonic())

    def _tokens(self, caller: str) -> float:
        tokens, at = self._buckets.get(caller, (self._most, 0.0))
        return min(self._most, tokens + (time.monotonic() - at) * self._rate)
