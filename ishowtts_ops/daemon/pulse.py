"""The engine thread's signs of life, and a note of what the daemon is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class Pulse:
    """Counts the engine thread's progress. Written by that thread, read by all."""

    def __init__(self) -> None:
        self.count = 0
        self.last = time.monotonic()
        self.doing = ""

    def beat(self, doing: str = "") -> None:
        """The engine thread got on with its work."""
        self.doing = doing or self.doing
        self.last = time.monotonic()
        self.count += 1

    def age(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self.last


@dataclass(frozen=True)
class Snapshot:
    """What `/readyz` says of the daemon's condition.

    Attributes:
        status: warming, ready, failing, draining.
        stage: what it is doing, for people.
        reasons: why it is not ready; empty when it is.
    """

    status: str
    stage: str
    reasons: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return self.status == "ready"


class Condition:
    """Whether the daemon can speak, and if not, why. Safe from every thread.

    Args:
        on_stage: told every new stage (systemd's STATUS=).
    """

    def __init__(self, on_stage: Callable[[str], None] = lambda _: None) -> None:
        self._lock = threading.Lock()
        self._on_stage = on_stage
        self._stage = "starting"
        self._warm = False
        self._draining = False
        self._ailments: dict[str, str] = {}

    def stage(self, text: str) -> None:
        with self._lock:
            changed = text != self._stage
            self._stage = text
        if changed:
            self._on_stage(text)

    def warmed_up(self, stage: str) -> None:
        """Every voice has spoken: requests are welcome."""
        self._warm = True
        self.stage(stage)

    def drain(self) -> None:
        self._draining = True
        self.stage("draining: finishing what was begun")

    def ail(self, what: str, why: str) -> None:
        """Something is wrong; requests are refused until `heal(what)`."""
        with self._lock:
            self._ailments[what] = why
        self._on_stage(why)

    def heal(self, what: str) -> None:
        with self._lock:
            gone = self._ailments.pop(what, None)
            stage = self._stage
        if gone is not None:
            self._on_stage(stage)

    def ailment(self, what: str) -> str | None:
        """Why, if that is wrong."""
        with self._lock:
            return self._ailments.get(what)

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def warm(self) -> bool:
        """True for good once warm-up is over."""
        return self._warm

    def snapshot(self) -> Snapshot:
        with self._lock:
            reasons = list(self._ailments.values())
            stage = self._stage
        status = "failing" if reasons else "ready"
        if not self._warm:
            status = "warming"
            reasons.insert(0, f"warming up: {stage}")
        if self._draining:
            status = "draining"
            reasons.insert(0, "shutting down")
        return Snapshot(status, stage, tuple(reasons))
