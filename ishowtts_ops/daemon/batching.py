"""Several waiting requests spoken in one go, where the engine can do that and gains from it.

Whether it gains is decided by a measurement on the box (`batch_trial.py`): a GPU that one request
keeps busy gains little, and a batch makes everybody in it wait for the last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Cancelled, DeviceLost, Engine, OutOfMemory, Progress
from ishowtts_ops.daemon.failures import Refusal
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.listen import audible

log = logging.getLogger(__name__)

MARGIN = 1.1
"""Speech per second must grow by a tenth: below, a batch only makes its first callers wait."""
POWERS = (2, 4, 8, 16)
"""Sizes that the engine computes without padding."""


@dataclass(frozen=True)
class Batching:
    """How many requests are spoken in one go.

    Attributes:
        sizes: allowed, ascending; none means one by one.
        why: in words.
        gains: speech per second over one by one, by size, where it was measured.
    """

    sizes: tuple[int, ...]
    why: str
    gains: Mapping[int, float] = field(default_factory=dict)

    def best(self, there: int) -> int:
        """How many of `there` requests to speak in one go. Not simply all of them: five would cost
        as much as eight."""
        return max((size for size in self.sizes if size <= there), default=1)

    @property
    def most(self) -> int:
        return self.sizes[-1] if self.sizes else 1


ONE_BY_ONE = Batching((), "one by one")


def configured(size: int) -> Batching:
    """By `daemon.batch: N`."""
    sizes = tuple(power for power in POWERS if power < size)
    return Batching((*sizes, size) if size > 1 else (), f"daemon.batch is {size}")


def decided(gains: Mapping[int, float], source: str) -> Batching:
    """By measured gains: the sizes that are worth it.

    Args:
        source: where the gains are from, in words.
    """
    sizes = tuple(sorted(size for size, gain in gains.items() if gain >= MARGIN))
    if sizes:
        verdict = f"{sizes[-1]} at once make {gains[sizes[-1]] - 1:+.0%} of speech per second"
    elif gains:
        best = max(gains, key=lambda size: gains[size])
        verdict = f"{best} at once make only {gains[best] - 1:+.0%} of speech per second"
    else:
        verdict = "no size could be tried"
    return Batching(sizes, f"{source}: {verdict}", dict(gains))


Spoken = Callable[[Job, float, float, float, int], None]
"""Told job, when it was begun, its first audio, its end, and its frames."""


def speak_together(engine: Engine, jobs: Sequence[Job], progress: Progress, spoken: Spoken) -> bool:
    """Speak all of them, or none.

    Returns:
        False when it did not work out: each is then to be spoken alone, which finds out whose
        fault it was and answers that one only.

    Raises:
        DeviceLost: nothing will work any more.
    """

    def nobody_waits() -> bool:
        return all(job.gone.is_set() for job in jobs)

    begun = time.monotonic()
    try:
        made = engine.speak_together([job.request for job in jobs], progress, nobody_waits)
        heard = [list(audible([samples], lambda: False)) for samples in made]
    except DeviceLost:
        raise
    except (Cancelled, OutOfMemory, Refusal, RuntimeError, ValueError) as error:
        log.warning(journal.line("a batch failed", size=len(jobs), why=type(error).__name__))
        return False
    ended = time.monotonic()
    # The engine's time is shared: the recent RTF is of what one request costs.
    share = (ended - begun) / len(jobs)
    for job, parts in zip(jobs, heard, strict=True):
        for samples in parts:
            job.chunk(samples)
        spoken(job, ended - share, ended, ended, sum(len(samples) for samples in parts))
    return True
