"""The one thread that owns an engine: it warms it up, then speaks job after job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from ishowtts_ops.daemon.admission import JobQueue, Pace
from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Audio,
    Cancel,
    Cancelled,
    Engine,
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
    Refusal,
)
from ishowtts_ops.daemon.job import Chunk, Done, Event, Failed, Job
from ishowtts_ops.daemon.listen import audible
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.errors import OpsError

log = logging.getLogger(__name__)

CANARY_TEXT = "Ready."
RESTART_S = 5.0
"""Retry-After of those whom a restart sends away; nobody knows how long it really takes."""
FAILING = "engine"
"""The ailment of an engine that fails its canary."""

Observer = Callable[[Job, Refusal | Timings], None]
"""Told once how every admitted job ended."""


class Worker:
    """Owns an engine.

    Args:
        canary_seconds: a canary is spoken when the engine was idle for this long.
        observer: see `Observer`; called on whichever thread ended the job.
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
    ) -> None:
        self.engine = engine
        self.condition = condition
        self.pulse = pulse
        self.pace = Pace()
        self.queue = JobQueue(queue_limit, self.pace)
        self.canaries = 0
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
        self.queue.wake()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def idle(self) -> bool:
        return self.queue.running is None and len(self.queue) == 0

    def _live(
        self, boot: Callable[[Worker], Voice], on_end: Callable[[BaseException], None]
    ) -> None:
        try:
            voice = boot(self)
            while not self._stop.is_set():
                self._turn(voice)
            self.engine.close()
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread ends the daemon
            if not self._stop.is_set():
                on_end(error)

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
            QueueFull: too many wait.
        """
        self.queue.put(job)

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
        running = self.queue.running
        for job in [*([running] if running else []), *self.queue.clear()]:
            job.gone.set()
            self._end(job, NotReady(why, "It will be restarted.", retry_after=RESTART_S))

    # ---- engine's side -----------------------------------------------------------------------

    def _turn(self, voice: Voice) -> None:
        if self._suspect or self._canary_due:
            self._canary(voice)
        job = self.queue.take(self._canary_seconds)
        if job is None:
            self._canary_due = not self._stop.is_set()
            return
        try:
            self._job(job)
        finally:
            self.queue.finished()

    def _job(self, job: Job) -> None:
        if job.gone.is_set():
            self._end(job, CallerGone("The caller left before its turn came."))
        elif time.monotonic() > job.deadline:
            self._end(job, _stale(job))
        else:
            self._speak(job)

    def _speak(self, job: Job) -> None:
        begun = time.monotonic()
        first = 0.0
        frames = 0
        try:
            for samples in self._checked(job.request, job.gone.is_set):
                first = first or time.monotonic()
                frames += len(samples)
                _send(job, Chunk(samples))
        except Cancelled:
            self._end(job, _left() if job.gone.is_set() else _going_down())
            return
        except Refusal as refusal:
            self._failed(job, refusal)
            return
        except Exception as error:
            log.exception("the engine failed id=%s", job.id)
            self._failed(job, EngineFailed(f"The engine failed: {_sentence(error)}", retry_after=1))
            return
        ended = time.monotonic()
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
            _send(job, Done(timings))

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
        if job.finish():
            self._observer(job, refusal)
            _send(job, Failed(refusal))


def _send(job: Job, event: Event) -> None:
    try:
        job.reply(event)
    except RuntimeError:
        # The event loop of the caller is closed: nobody is left to be told.
        job.gone.set()


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


def _sentence(error: Exception) -> str:
    text = error.message if isinstance(error, OpsError) else str(error) or type(error).__name__
    return text.splitlines()[0] if text else ""
