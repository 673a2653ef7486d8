"""Several waiting requests spoken in one go, where the engine can do that and gains from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Cancelled, DeviceLost, Engine, OutOfMemory, Progress
from ishowtts_ops.daemon.failures import Refusal
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.listen import audible

log = logging.getLogger(__name__)

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
