"""The one thread that owns an engine: it warms it up, then speaks job after job."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from ishowtts_ops.daemon.admission import JobQueue, Pace
from ishowtts_ops.daemon.batching import ONE_BY_ONE, Batching
from ishowtts_ops.daemon.canary import FAILING, Canary
from ishowtts_ops.daemon.endings import (
    RESTART_S,
    Endings,
    Observer,
    going_down,
    never_begun,
    sentence,
    stale,
)
from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Audio,
    Cancelled,
    Engine,
    SynthesisRequest,
    Timings,
    Voice,
)
from ishowtts_ops.daemon.errands import Errand, Errands
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.listen import audible
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.rest import REST_AFTER_S, Rest
from ishowtts_ops.daemon.speaker import Speaker


class Worker:
    """Owns an engine.

    Args:
        queue_limit, queue_seconds: see `JobQueue`.
        canary_seconds: a canary is spoken when the engine was idle for this long.
        observer: see `Observer`; called on whichever thread ended the job.
        batching: how many jobs may be spoken together where the engine can do that; may be
            exchanged at any time.
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
        batching: Batching = ONE_BY_ONE,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.engine = engine
        self.condition = condition
        self.pulse = pulse
        self.pace = Pace()
        self.queue = JobQueue(queue_limit, self.pace, queue_seconds)
        self.batching = batching
        self.last_job = time.monotonic()
        self.rest = Rest(engine)
        self._canary_seconds = canary_seconds
        self._canary = Canary(engine, condition)
        self._endings = Endings(self.queue, observer)
        self._errands = Errands()
        self._speaker = Speaker(
            engine, self.queue, self.pace, self._endings, self._canary, self.beat, on_batch
        )
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
        self._endings.refuse_all(self.queue.clear(), going_down())
        self._errands.give_up()
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

    @property
    def canaries(self) -> int:
        """How many were spoken since the start."""
        return self._canary.passed

    @property
    def restart_seconds(self) -> float:
        """How long a restart is expected to take."""
        return self._endings.restart_seconds

    def _live(
        self, boot: Callable[[Worker], Voice], on_end: Callable[[BaseException], None]
    ) -> None:
        try:
            began = time.monotonic()
            voice = boot(self)
            self._endings.restart_seconds = max(RESTART_S, time.monotonic() - began)
            while not self._stop.is_set():
                self._turn(voice)
            self.engine.close()
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread ends the daemon
            if not self._stop.is_set():
                self._send_away(error)
                on_end(error)

    def _send_away(self, error: BaseException) -> None:
        """The thread ends: nobody may be left waiting for it."""
        self.condition.ail(FAILING, f"the engine's thread ended: {sentence(error)}")
        self._endings.refuse_all(
            [*self.queue.all_running, *self.queue.clear()],
            self._endings.restarting("The engine failed."),
        )

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
        if others := self.queue.put(job):
            self._endings.refuse_all(others, self._endings.pushed_out())

    def errand(self, errand: Errand) -> Future[None]:
        """Have something done on the engine's thread, between two jobs and before the next one.

        Returns:
            its end: None, or what it raised.
        """
        future = self._errands.add(errand)
        self.queue.wake()
        if self._stop.is_set():
            future.cancel()
        return future

    def cancel(self, job: Job) -> None:
        """The caller left: forget the job, or stop speaking it."""
        job.gone.set()
        if self.queue.remove(job):
            self._endings.refuse(job, never_begun())

    def expire(self, job: Job) -> None:
        """Answer a job that is still waiting at its deadline; one that was begun goes on."""
        if self.queue.remove(job):
            self._endings.refuse(job, stale(job))

    def abandon(self, why: str) -> None:
        """Answer everybody who waits for an engine that hangs, while there is still time."""
        refusal = self._endings.restarting(why)
        for job in [*self.queue.all_running, *self.queue.clear()]:
            self._endings.refuse(job, refusal)
            job.gone.set()

    # ---- engine's side -----------------------------------------------------------------------

    def audition(self, request: SynthesisRequest) -> Audio:
        """Speak on the engine thread for the daemon's own ends (warm-up); counts for the RTF."""
        begun = time.monotonic()
        stopped = self._stop.is_set
        parts = list(audible(self.engine.stream(request, self.beat, stopped), stopped))
        audio = Audio(np.concatenate(parts), SAMPLE_RATE)
        spent = time.monotonic() - begun
        self.pace.add(Timings(0, spent, spent, spent, audio.seconds))
        return audio

    def _turn(self, voice: Voice) -> None:
        while self._errands:
            if self._errands.run():
                self.beat("errand")
        if self._canary.wanted:
            self._prove(voice)
        job = self.queue.take(REST_AFTER_S if self.rest.due else self._canary_seconds)
        if job is None:
            self._idle()
            return
        try:
            self._speaker.speak(job, self.batching)
        finally:
            self.last_job = time.monotonic()
            self.queue.finished()

    def _idle(self) -> None:
        if self._stop.is_set() or self._errands:
            return
        if self.rest.due:
            self.rest.take(self._undisturbed)
        # The next thing an engine with nothing left to do does is to prove itself.
        self._canary.due = not self.rest.due

    def _undisturbed(self, doing: str) -> None:
        """Progress of work that gives way to everybody.

        Raises:
            Cancelled: somebody came.
        """
        self.beat(doing)
        if len(self.queue) or self._errands:
            raise Cancelled

    def _prove(self, voice: Voice) -> None:
        yields = not self._canary.suspect

        def unwanted() -> bool:
            return self._stop.is_set() or (yields and len(self.queue) > 0)

        if self._canary.sing(voice, self.beat, unwanted):
            self.pulse.beat("idle")
