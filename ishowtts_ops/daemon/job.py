"""One request on its way through the daemon, and what it reports back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ishowtts_ops.daemon.engine import Samples, SynthesisRequest, Timings
from ishowtts_ops.daemon.failures import Refusal


@dataclass(frozen=True)
class Chunk:
    """A piece of speech; the pieces come in order."""

    samples: Samples = field(repr=False)


@dataclass(frozen=True)
class Done:
    """All speech was sent."""

    timings: Timings


@dataclass(frozen=True)
class Failed:
    """No more speech will come."""

    refusal: Refusal


Event = Chunk | Done | Failed
Reply = Callable[[Event], None]
"""The way back to the caller; called from the engine thread, never blocks."""


@dataclass(eq=False)
class Job:
    """An admitted request.

    Attributes:
        deadline: `time.monotonic()` after which it may no longer be begun.
        predicted_seconds: of speech.
    """

    id: str
    request: SynthesisRequest
    reply: Reply
    deadline: float
    predicted_seconds: float
    admitted: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits any more."""
    _end: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def finish(self) -> bool:
        """True for the first who ends the job; it ends once, however many have a reason to."""
        return self._end.acquire(blocking=False)
