"""The one thread that owns an engine: it warms it up, then speaks job after job."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.admission import JobQueue, Pace
from ishowtts_ops.daemon.batching import speak_together
from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Audio,
    Cancel,
    Cancelled,
    DeviceLost,
    Engine,
    OutOfMemory,
    Samples,
    SynthesisRequest,
    Timings,
    Voice,
)
from ishowtts_ops.daemon.failures import (
    CallerGone,
    DeadlinePassed,
    Draining,
    EngineFailed,
    NotReady,
    QueueFull,
    Refusal,
)
from ishowtts_ops.daemon.job import Done, Failed, Job
from ishowtts_ops.daemon.limits import in_smaller_pieces
from ishowtts_ops.daemon.listen import audible
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.errors import OpsError

log = logging.getLogger(__name__)

CANARY_TEXT = "Ready."
RESTART_S = 5.0
"""Least Retry-After of those whom a restart sends away; it grows with how long the start took."""
REST_AFTER_S = 0.5
"""Idle for this long, the engine prepares what its warm-up left out."""
FAILING = "engine"
"""The ailment of an engine that fails its canary."""

Observer = Callable[[Job, Refusal | Timings], None]
"""Told once how every admitted job ended."""

Errand = Callable[[], None]
"""Something to be done on the engine's thread between two jobs."""


class Worker:
    """Owns an engine.

    Args:
        queue_limit, queue_seconds: see `JobQueue`.
        canary_seconds: a canary is spoken when the engine was idle for this long.
        observer: see `Observer`; called on whichever thread ended the job.
        batch: how many jobs may be spoken together where the engine can do that.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        engine: Engine,
        condition: Condition,
        pulse: Pulse,
        *,
        queue_limit: int,
        canary_seconds: float,
        observer: Observer,
        queue_seconds: float = math.inf,
        batch: int = 1,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.engine = engine
        self.condition = condition
        self.pulse = pulse
        self.pace = Pace()
        self.queue = JobQueue(queue_limit, self.pace, queue_seconds)
        self.canaries = 0
        self.batch = batch
        self.restart_seconds = RESTART_S
        self.last_job = time.monotonic()
        self._on_batch = on_batch
        self._errands: deque[tuple[Errand, Future[None]]] = deque()
        self._rest_is_due = True
        self._canary_seconds = canary_seconds
        self._canary_due = False
        self._suspect = False
        self._observer = observer
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # ---- life --------------------------------------------------------------------------------

    def start(
        self, boot: Callable[[Worker], Voice], on_end: Callable[[BaseException], None]
    ) -> None:
        """Begin.

        Args:
            boot: loads and warms the engine on its thread, and returns the canary's voice.
            on_end: told why the thread ended when it was not stopped.
        """
        self._thread = threading.Thread(
            target=self._live, args=(boot, on_end), name=f"engine-{self.engine.name}", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Give up all jobs and end the thread; False when it does not end in time."""
        self._stop.set()
        for job in self.queue.clear():
            self._end(job, _going_down())
        while self._errands:
            self._errands.popleft()[1].cancel()
        self.queue.wake()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def idle(self) -> bool:
        return self.queue.running is None and len(self.queue) == 0

    @property
    def idle_seconds(self) -> float:
        """Since the last job ended; 0 while there is one."""
        return time.monotonic() - self.last_job if self.idle else 0.0

    def _live(
        self, boot: Callable[[Worker], Voice], on_end: Callable[[BaseException], None]
    ) -> None:
        try:
            began = time.monotonic()
            voice = boot(self)
            self.restart_seconds = max(RESTART_S, time.monotonic() - began)
            while not self._stop.is_set():
                self._turn(voice)
            self.engine.close()
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread ends the daemon
            if not self._stop.is_set():
                self._send_away(error)
                on_end(error)

    def _send_away(self, error: BaseException) -> None:
        """The thread ends: nobody may be left waiting for it."""
        self.condition.ail(FAILING, f"the engine's thread ended: {_sentence(error)}")
        refusal = self._restarting("The engine failed.")
        for job in [*self.queue.all_running, *self.queue.clear()]:
            self._end(job, refusal)

    def beat(self, doing: str) -> None:
        """The engine's progress callback.

        Raises:
            Cancelled: the daemon is going down.
        """
        if self._stop.is_set():
            raise Cancelled
        self.pulse.beat(doing)

    # ---- callers' side -----------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a job; its reply is called from now on.

        Raises:
            QueueFull: too much waits.
            DeadlinePassed: it would wait longer than it may.
        """
        for other in self.queue.put(job):
            self._end(other, self._pushed_out())

    def errand(self, errand: Errand) -> Future[None]:
        """Have something done on the engine's thread, between two jobs and before the next one.

        Returns:
            its end: None, or what it raised.
        """
        future: Future[None] = Future()
        self._errands.append((errand, future))
        self.queue.wake()
        if self._stop.is_set():
            future.cancel()
        return future

    def cancel(self, job: Job) -> None:
        """The caller left: forget the job, or stop speaking it."""
        job.gone.set()
        if self.queue.remove(job):
            self._end(job, CallerGone("The caller left before its turn came."))

    def expire(self, job: Job) -> None:
        """Answer a job that is still waiting at its deadline; one that was begun goes on."""
        if self.queue.remove(job):
            self._end(job, _stale(job))

    def abandon(self, why: str) -> None:
        """Answer everybody who waits for an engine that hangs, while there is still time."""
        refusal = self._restarting(why)
        for job in [*self.queue.all_running, *self.queue.clear()]:
            self._end(job, refusal)
            job.gone.set()

    # ---- engine's side -----------------------------------------------------------------------

    def _turn(self, voice: Voice) -> None:
        while self._errands:
            self._run_errand(*self._errands.popleft())
        if self._suspect or self._canary_due:
            self._canary(voice)
        job = self.queue.take(REST_AFTER_S if self._rest_is_due else self._canary_seconds)
        if job is None:
            self._idle()
            return
        try:
            self._job(job)
        finally:
            self.last_job = time.monotonic()
            self.queue.finished()

    def _idle(self) -> None:
        if self._stop.is_set() or self._errands:
            return
        if not self._rest_is_due:
            self._canary_due = True
            return

        def progress(doing: str) -> None:
            self.beat(doing)
            if len(self.queue) or self._errands:
                raise Cancelled

        try:
            self.engine.warm_rest(progress)
        except Cancelled:
            return
        except OutOfMemory:
            # What is there works; the lengths that do not fit will be met one by one.
            log.warning("no memory to prepare all lengths of text")
            self.engine.free()
        self._rest_is_due = False
        self._canary_due = True

    def _run_errand(self, errand: Errand, future: Future[None]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            errand()
        except DeviceLost as error:
            future.set_exception(error)
            raise
        except Exception as error:  # noqa: BLE001 - who asked for it decides what it means
            future.set_exception(error)
        else:
            future.set_result(None)
        self.beat("errand")

    def _job(self, job: Job) -> None:
        if not self._wanted(job):
            return
        others: list[Job] = []
        if self.batch > 1:
            others = self.queue.take_with(
                job, lambda other: self.engine.together(job.request, other.request), self.batch - 1
            )
        jobs = [job, *filter(self._wanted, others)]
        if len(jobs) > 1:
            self._on_batch(len(jobs))
            if speak_together(self.engine, jobs, self.beat, self._spoken):
                return
        for one in jobs:
            if one is job or self._wanted(one):
                self._speak(one)

    def _wanted(self, job: Job) -> bool:
        """False, and answered, when it is too late to begin."""
        if job.gone.is_set():
            self._end(job, CallerGone("The caller left before its turn came."))
        elif time.monotonic() > job.deadline:
            self._end(job, _stale(job))
        else:
            return True
        return False

    def _speak(self, job: Job) -> None:
        begun = time.monotonic()
        try:
            first, frames = self._stream(job)
        except Cancelled:
            self._end(job, _left() if job.gone.is_set() else _going_down())
        except OutOfMemory as error:
            self._out_of_memory(job, error)
        except DeviceLost as error:
            log.exception("the device is lost id=%s", job.id)
            self._end(job, self._restarting(f"The engine failed: {_sentence(error)}"))
            raise
        except Refusal as refusal:
            self._failed(job, refusal)
        except Exception as error:
            log.exception("the engine failed id=%s", job.id)
            self._failed(job, EngineFailed(f"The engine failed: {_sentence(error)}", retry_after=1))
        else:
            self._spoken(job, begun, first, time.monotonic(), frames)

    def _stream(self, job: Job, smaller: bool = False) -> tuple[float, int]:
        """Speak a job; returns when its first audio came, and its length in frames."""
        first = 0.0
        frames = 0
        cancelled = job.gone.is_set
        pieces: Iterator[Samples]
        if smaller:
            pieces = in_smaller_pieces(self.engine, job.request, self.beat, cancelled)
        else:
            pieces = self.engine.stream(job.request, self.beat, cancelled)
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
        self.pace.add(timings)
        if job.finish():
            self._observer(job, timings)
            job.tell(Done(timings))

    def _out_of_memory(self, job: Job, error: OutOfMemory) -> None:
        """Shed what waits, free what can be spared, try once in smaller pieces; then give up.

        Raises:
            DeviceLost: it did not help.
        """
        log.error(journal.line("the device is out of memory", id=job.id, why=_sentence(error)))
        for other in self.queue.clear():
            self._end(other, self._shed())
        self.engine.free()
        if job.begun:
            # Its beginning was sent already and cannot be said again.
            self._failed(job, EngineFailed("The device is out of memory.", code="out_of_memory"))
            return
        begun = time.monotonic()
        try:
            first, frames = self._stream(job, smaller=True)
        except Cancelled:
            self._end(job, _left() if job.gone.is_set() else _going_down())
        except Exception as again:
            self._end(job, self._restarting("The device is out of memory."))
            raise DeviceLost(
                f"The device stays out of memory: {_sentence(again)}",
                "`ishowtts-ops doctor` says what else uses it.",
            ) from again
        else:
            self._spoken(job, begun, first, time.monotonic(), frames)

    def _checked(self, request: SynthesisRequest, cancelled: Cancel) -> Iterator[Samples]:
        return audible(self.engine.stream(request, self.beat, cancelled), cancelled)

    def audition(self, request: SynthesisRequest) -> Audio:
        """Speak on the engine thread for the daemon's own ends (warm-up); counts for the RTF."""
        begun = time.monotonic()
        parts = list(self._checked(request, self._stop.is_set))
        audio = Audio(np.concatenate(parts), SAMPLE_RATE)
        spent = time.monotonic() - begun
        self.pace.add(Timings(0, spent, spent, spent, audio.seconds))
        return audio

    def _canary(self, voice: Voice) -> None:
        """Prove that the engine still works. A caller who comes in the middle goes first, unless
        the engine just failed: then the proof does."""
        yields = not self._suspect
        self._canary_due = self._suspect = False
        request = SynthesisRequest(CANARY_TEXT, voice)

        def unwanted() -> bool:
            return self._stop.is_set() or (yields and len(self.queue) > 0)

        try:
            for _ in self._checked(request, unwanted):
                pass
        except Cancelled:
            return
        except DeviceLost:
            raise
        except OutOfMemory:
            # Not the end: a caller's request is tried in smaller pieces.
            log.warning("no memory for a canary")
            self.engine.free()
            return
        except Exception as error:
            log.exception("the engine failed its canary")
            self.condition.ail(FAILING, f"the engine failed its canary: {_sentence(error)}")
            return
        self.canaries += 1
        self.pulse.beat("idle")
        self.condition.heal(FAILING)

    def _failed(self, job: Job, refusal: Refusal) -> None:
        # One caller's failure may be the engine's end: find out before the next caller does.
        self._suspect = isinstance(refusal, EngineFailed)
        self._end(job, refusal)

    def _end(self, job: Job, refusal: Refusal) -> None:
        if not job.finish():
            return
        theirs = isinstance(refusal, (NotReady, EngineFailed))
        if theirs and not job.begun and job.rescue is not None and job.rescue(refusal):
            return
        self._observer(job, refusal)
        job.tell(Failed(refusal))

    def _restarting(self, why: str) -> NotReady:
        hint = "It will be restarted."
        return NotReady(why, hint, code="restarting", retry_after=self.restart_seconds)

    def _shed(self) -> NotReady:
        return NotReady(
            "The device is out of memory; what waited was sent away.",
            "Try again shortly.",
            code="out_of_memory",
            retry_after=max(RESTART_S, self.queue.wait_seconds()),
        )

    def _pushed_out(self) -> QueueFull:
        return QueueFull(
            "The queue is full, and others who wait have had less than their share.",
            "Try again after the time in Retry-After.",
            code="pushed_out",
            retry_after=self.queue.wait_seconds(),
        )


def _stale(job: Job) -> DeadlinePassed:
    waited = time.monotonic() - job.admitted
    return DeadlinePassed(
        f"The request waited {waited:.1f} s, past its deadline, and was not spoken.",
        "Send it again, or give it a longer deadline_ms.",
        retry_after=1,
    )


def _going_down() -> Draining:
    return Draining("The daemon is going down.", "Try again shortly.", retry_after=RESTART_S)


def _left() -> CallerGone:
    return CallerGone("The caller left while the speech was made.")


def _sentence(error: BaseException) -> str:
    text = error.message if isinstance(error, OpsError) else str(error) or type(error).__name__
    return text.splitlines()[0] if text else ""
