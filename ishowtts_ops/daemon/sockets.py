"""How many WebSockets are open, and whose: each may say nothing for hours, so they are counted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from ishowtts_ops.config import Daemon as DaemonSettings
from ishowtts_ops.daemon.failures import Crowded


class Sockets:
    """Counts them by caller. On one thread."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextlib.contextmanager
    def held(self, caller: str, limits: DaemonSettings) -> Iterator[None]:
        """One more, for the length of the block.

        Raises:
            Crowded: it would be one too many.
        """
        if self._open[caller] >= limits.max_websockets_per_client:
            raise Crowded(
                f"This client has {self._open[caller]} WebSockets open, which is the limit.",
                "Send texts over one that is open, or close one.",
                code="too_many_websockets",
            )
        if len(self) >= limits.max_websockets:
            raise Crowded(
                f"{len(self)} WebSockets are open, which is the limit.",
                "Use POST /v1/audio/speech, or try again later.",
                code="too_many_websockets",
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            # Callers come and go for months.
            if not self._open[caller]:
                del self._open[caller]
