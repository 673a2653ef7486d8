"""One request on its way through the daemon, and what it reports back."""

from __future__ import annotations

import enum
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
    """All speech was made.

    Attributes:
        held: of a job whose caller wants it whole: all of it.
    """

    timings: Timings
    held: tuple[Samples, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Failed:
    """No more speech will come."""

    refusal: Refusal


Event = Chunk | Done | Failed
Reply = Callable[[Event], None]
"""The way back to the caller; called from the engine thread, never blocks."""


class Priority(enum.IntEnum):
    """Who goes first: the lower number."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(eq=False)
class Job:
    """An admitted request.

    Attributes:
        deadline: `time.monotonic()` after which it may no longer be begun.
        predicted_seconds: of speech.
        caller: whose it is, for fairness: a key's name or an address.
        rescue: asked once when the engine cannot speak it and nothing of it was sent yet; true when
            somebody else took it over, who then ends it. None once it has ended: it leads back to
            the job, which would only be freed by the collector.
        whole: the caller wants all of it at the end, so nothing is sent before.
    """

    id: str
    request: SynthesisRequest
    reply: Reply
    deadline: float
    predicted_seconds: float
    caller: str = ""
    priority: Priority = Priority.INTERACTIVE
    rescue: Callable[[Refusal], bool] | None = None
    whole: bool = False
    admitted: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits any more."""
    begun: bool = False
    """True once speech was sent."""
    _held: list[Samples] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _ended: bool = False

    def finish(self) -> bool:
        """True for the first who ends the job; it ends once, however many have a reason to."""
        with self._lock:
            first = not self._ended
            self._ended = True
            return first

    def chunk(self, samples: Samples) -> None:
        """Send speech; a job that has ended sends nothing more, whatever its engine still makes."""
        with self._lock:
            if self._ended:
                return
            if self.whole:
                self._held.append(samples)
                return
            self.begun = True
            self.tell(Chunk(samples))

    def forget(self) -> None:
        """Drop what is held back: it is spoken anew."""
        self._held.clear()

    def done(self, timings: Timings) -> None:
        """Tell its caller that it was spoken; after `finish`."""
        self.tell(Done(timings, tuple(self._held)))

    def tell(self, event: Event) -> None:
        """Reply. A caller whose event loop is closed cannot be told, and counts as gone."""
        try:
            self.reply(event)
        except RuntimeError:
            self.gone.set()
