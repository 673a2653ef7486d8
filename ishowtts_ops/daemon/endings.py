"""How jobs end: once each, with their caller told, the fallback asked first where it may help, and
the end booked. And the words for all those ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ishowtts_ops.daemon.admission import JobQueue
from ishowtts_ops.daemon.engine import Timings
from ishowtts_ops.daemon.failures import (
    CallerGone,
    DeadlinePassed,
    Draining,
    EngineFailed,
    NotReady,
    QueueFull,
    Refusal,
)
from ishowtts_ops.daemon.job import Failed, Job
from ishowtts_ops.errors import OpsError

RESTART_S = 5.0
"""Least Retry-After of those whom a restart sends away; it grows with how long the start took."""

Observer = Callable[[Job, Refusal | Timings], None]
"""Told once how every admitted job ended, after its caller was."""


class Endings:
    """Ends the jobs of one engine. Safe from every thread.

    Attributes:
        restart_seconds: how long a restart is expected to take.
    """

    def __init__(self, queue: JobQueue, observer: Observer) -> None:
        self.restart_seconds = RESTART_S
        self._queue = queue
        self._observer = observer

    def spoken(self, job: Job, timings: Timings) -> None:
        """All its speech was sent."""
        if job.finish():
            job.rescue = None
            # Who waits comes before the books.
            job.done(timings)
            self._observer(job, timings)

    def refuse(self, job: Job, refusal: Refusal) -> None:
        """It gets no more speech, unless nothing was sent yet and the fallback takes it over."""
        if not job.finish():
            return
        theirs = isinstance(refusal, (NotReady, EngineFailed))
        rescue, job.rescue = job.rescue, None
        if theirs and not job.begun and rescue is not None and rescue(refusal):
            return
        job.tell(Failed(refusal))
        self._observer(job, refusal)

    def refuse_all(self, jobs: Iterable[Job], refusal: Refusal) -> None:
        for job in jobs:
            self.refuse(job, refusal)

    def restarting(self, why: str) -> NotReady:
        hint = "It will be restarted."
        return NotReady(why, hint, code="restarting", retry_after=self.restart_seconds)

    def shed(self) -> NotReady:
        return NotReady(
            "The device is out of memory; what waited was sent away.",
            "Try again shortly.",
            code="out_of_memory",
            retry_after=max(RESTART_S, self._queue.wait_seconds()),
        )

    def pushed_out(self) -> QueueFull:
        return QueueFull(
            "The queue is full, and others who wait have had less than their share.",
            "Try again after the time in Retry-After.",
            code="pushed_out",
            retry_after=self._queue.wait_seconds(),
        )


def stale(job: Job) -> DeadlinePassed:
    waited = time.monotonic() - job.admitted
    return DeadlinePassed(
        f"The request waited {waited:.1f} s, past its deadline, and was not spoken.",
        "Send it again, or give it a longer deadline_ms.",
        retry_after=1,
    )


def interrupted(job: Job) -> Refusal:
    """Work on it was cancelled: by its caller, or because the daemon ends."""
    if job.gone.is_set():
        return CallerGone("The caller left while the speech was made.")
    return going_down()


def never_begun() -> CallerGone:
    return CallerGone("The caller left before its turn came.")


def going_down() -> Draining:
    return Draining("The daemon is going down.", "Try again shortly.", retry_after=RESTART_S)


def sentence(error: BaseException) -> str:
    """The first line of what an error says."""
    text = error.message if isinstance(error, OpsError) else str(error) or type(error).__name__
    return text.splitlines()[0] if text else ""
