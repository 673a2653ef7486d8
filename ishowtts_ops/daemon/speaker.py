"""Speaks jobs, alone or several in one go, and decides what an engine's failure means for whom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.admission import JobQueue, Pace
from ishowtts_ops.daemon.batching import Batching, speak_together
from ishowtts_ops.daemon.canary import Canary
from ishowtts_ops.daemon.endings import Endings, interrupted, never_begun, sentence, stale
from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancelled,
    DeviceLost,
    Engine,
    OutOfMemory,
    Progress,
    Samples,
    Timings,
)
from ishowtts_ops.daemon.failures import EngineFailed, Refusal
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.limits import in_smaller_pieces
from ishowtts_ops.daemon.listen import audible

log = logging.getLogger(__name__)

AGAIN = "Try again; the daemon's journal says more under this request's id."


class Speaker:
    """On the engine's thread.

    Args:
        progress: the engine's, which feeds the watchdog.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        engine: Engine,
        queue: JobQueue,
        pace: Pace,
        endings: Endings,
        canary: Canary,
        progress: Progress,
        on_batch: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._pace = pace
        self._endings = endings
        self._canary = canary
        self._progress = progress
        self._on_batch = on_batch

    def speak(self, job: Job, batching: Batching) -> None:
        """Speak a job that was taken from the queue, and what waits and goes well with it.

        Raises:
            DeviceLost: nothing will work any more.
        """
        if not self._wanted(job):
            return
        jobs = [job, *filter(self._wanted, self._companions(job, batching))]
        if len(jobs) > 1:
            self._on_batch(len(jobs))
            if speak_together(self._engine, jobs, self._progress, self._spoken):
                return
        for one in jobs:
            if one is job or self._wanted(one):
                self._speak_alone(one)

    def _companions(self, job: Job, batching: Batching) -> list[Job]:
        if not batching.sizes:
            return []
        return self._queue.take_with(
            job,
            lambda other: self._engine.together(job.request, other.request),
            lambda there: batching.best(1 + there) - 1,
        )

    def _wanted(self, job: Job) -> bool:
        """False, and answered, when it is too late to begin."""
        if job.gone.is_set():
            self._endings.refuse(job, never_begun())
        elif time.monotonic() > job.deadline:
            self._endings.refuse(job, stale(job))
        else:
            return True
        return False

    def _speak_alone(self, job: Job) -> None:
        begun = time.monotonic()
        try:
            first, frames = self._stream(job)
        except Cancelled:
            self._endings.refuse(job, interrupted(job))
        except OutOfMemory as error:
            self._out_of_memory(job, error)
        except DeviceLost as error:
            log.exception("the device is lost id=%s", job.id)
            why = f"The engine failed: {sentence(error).rstrip('.')}."
            self._endings.refuse(job, self._endings.restarting(why))
            raise
        except Refusal as refusal:
            self._failed(job, refusal)
        except Exception as error:
            log.exception("the engine failed id=%s", job.id)
            words = f"The engine failed: {sentence(error).rstrip('.')}."
            self._failed(job, EngineFailed(words, AGAIN, retry_after=1))
        else:
            self._spoken(job, begun, first, time.monotonic(), frames)

    def _stream(self, job: Job, smaller: bool = False) -> tuple[float, int]:
        """Speak a job; returns when its first audio came, and its length in frames."""
        first = 0.0
        frames = 0
        cancelled = job.gone.is_set
        pieces: Iterator[Samples]
        if smaller:
            pieces = in_smaller_pieces(self._engine, job.request, self._progress, cancelled)
        else:
            pieces = self._engine.stream(job.request, self._progress, cancelled)
        for samples in audible(pieces, cancelled):
            first = first or time.monotonic()
            frames += len(samples)
            job.chunk(samples)
        return first, frames

    def _spoken(self, job: Job, begun: float, first: float, ended: float, frames: int) -> None:
        timings = Timings(
            queue=begun - job.admitted,
            infer=ended - begun,
            first_audio=first - job.admitted,
            total=ended - job.admitted,
            audio_seconds=frames / SAMPLE_RATE,
        )
        self._pace.add(timings)
        self._endings.spoken(job, timings)

    def _out_of_memory(self, job: Job, error: OutOfMemory) -> None:
        """Shed what waits, free what can be spared, try once in smaller pieces; then give up.

        Raises:
            DeviceLost: it did not help.
        """
        log.error(journal.line("the device is out of memory", id=job.id, why=sentence(error)))
        self._endings.refuse_all(self._queue.clear(), self._endings.shed())
        self._engine.free()
        if job.begun:
            # Its beginning was sent already and cannot be said again.
            self._failed(
                job, EngineFailed("The device is out of memory.", AGAIN, code="out_of_memory")
            )
            return
        job.forget()
        begun = time.monotonic()
        try:
            first, frames = self._stream(job, smaller=True)
        except Cancelled:
            self._endings.refuse(job, interrupted(job))
        except Exception as again:
            self._endings.refuse(job, self._endings.restarting("The device is out of memory."))
            raise DeviceLost(
                f"The device stays out of memory: {sentence(again)}",
                "`ishowtts-ops doctor` says what else uses it.",
            ) from again
        else:
            self._spoken(job, begun, first, time.monotonic(), frames)

    def _failed(self, job: Job, refusal: Refusal) -> None:
        # One caller's failure may be the engine's end: find out before the next caller does.
        self._canary.suspect = isinstance(refusal, EngineFailed)
        self._endings.refuse(job, refusal)
