"""Who may wait for the engine, and for how long: a bounded queue that knows its own length in
seconds of engine time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from ishowtts_ops.daemon.engine import Timings
from ishowtts_ops.daemon.failures import DeadlinePassed, QueueFull
from ishowtts_ops.daemon.fairness import FairLine
from ishowtts_ops.daemon.job import Job

RTF_WEIGHT = 0.3
"""Weight of the newest request in the recent RTF: about the last five requests count."""


class Pace:
    """Recent real-time factor, an exponential mean. Starts at 1, which is safe until measured."""

    def __init__(self) -> None:
        self.rtf = 1.0
        self.measured = False

    def add(self, timings: Timings) -> None:
        if not timings.audio_seconds:
            return
        weight = RTF_WEIGHT if self.measured else 1.0
        self.rtf += weight * (timings.rtf - self.rtf)
        self.measured = True


class JobQueue:
    """Bounded in number and in predicted engine seconds, fair (see `FairLine`). Safe from every
    thread.

    Args:
        limit: how many may wait; those being spoken are not counted.
        seconds: predicted engine time that may wait. A job that is longer waits alone.
    """

    def __init__(self, limit: int, pace: Pace, seconds: float = math.inf) -> None:
        self.limit = limit
        self.seconds = seconds
        self._pace = pace
        self._line = FairLine()
        self._running: list[Job] = []
        self._taken_at = 0.0
        self._changed = threading.Condition()
        self._woken = False

    def put(self, job: Job) -> list[Job]:
        """Admit a job.

        Returns:
            jobs that had to leave for it, which the caller must answer.

        Raises:
            QueueFull: with the seconds until all that waits now has been spoken.
            DeadlinePassed: what is before it already takes longer than it would wait.
        """
        with self._changed:
            self._refuse_hopeless(job)
            out = self._make_room(job)
            for other in out:
                self._line.remove(other)
            self._line.add(job)
            self._changed.notify()
            return out

    def _refuse_hopeless(self, job: Job) -> None:
        if not self._pace.measured:
            return
        wait = self._running_seconds() + self._cost(self._line.ahead_of(job))
        patience = job.deadline - time.monotonic()
        if wait > patience > 0:
            raise DeadlinePassed(
                f"The request would wait about {wait:.1f} s; its deadline is {patience:.1f} s.",
                "Try again after the time in Retry-After, or give it a longer deadline_ms.",
                code="deadline_unreachable",
                retry_after=wait - patience,
            )

    def _make_room(self, job: Job) -> list[Job]:
        out: list[Job] = []
        while not self._fits(job, out):
            other = self._line.victim(job, out)
            if other is None:
                raise QueueFull(
                    f"{len(self._line)} requests with about {self._cost(self._line.jobs()):.1f} s "
                    f"of work are waiting already; the limits are {self.limit} and "
                    f"{self.seconds:.0f} s.",
                    "Try again after the time in Retry-After.",
                    retry_after=self._wait_seconds(),
                )
            out.append(other)
        return out

    def _fits(self, job: Job, out: list[Job]) -> bool:
        jobs = [other for other in self._line.jobs() if other not in out]
        if not jobs:
            return True
        return len(jobs) < self.limit and self._cost([*jobs, job]) <= self.seconds

    def take(self, timeout: float) -> Job | None:
        """The next job, which is then a running one until `finished`; None when none came."""
        with self._changed:
            if not len(self._line) and not self._woken:
                self._changed.wait(timeout)
            self._woken = False
            job = self._line.take()
            if job is not None:
                self._running = [job]
                self._taken_at = time.monotonic()
            return job

    def take_with(
        self, first: Job, fits: Callable[[Job], bool], how_many: Callable[[int], int]
    ) -> list[Job]:
        """More waiting jobs that are spoken together with the running one, in order.

        Args:
            how_many: of those that fit, given how many there are.
        """
        with self._changed:
            fitting = [job for job in self._line.jobs() if fits(job)]
            chosen = fitting[: how_many(len(fitting))]
            for job in chosen:
                self._line.remove(job)
            self._running = [first, *chosen]
            return chosen

    def finished(self) -> None:
        with self._changed:
            self._running = []

    def remove(self, job: Job) -> bool:
        """Take a waiting job out; False when it is not waiting (any more)."""
        with self._changed:
            return self._line.remove(job)

    def clear(self) -> list[Job]:
        """Take all waiting jobs out."""
        with self._changed:
            return self._line.clear()

    def wake(self) -> None:
        """Let `take` return early, the one under way or the next."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    @property
    def running(self) -> Job | None:
        running = self._running
        return running[0] if running else None

    @property
    def all_running(self) -> list[Job]:
        return list(self._running)

    def __len__(self) -> int:
        return len(self._line)

    def wait_seconds(self) -> float:
        """Engine seconds of all that waits or is being spoken, by prediction and recent RTF."""
        with self._changed:
            return self._wait_seconds()

    def _wait_seconds(self) -> float:
        return self._running_seconds() + self._cost(self._line.jobs())

    def _running_seconds(self) -> float:
        if not self._running:
            return 0.0
        left = self._cost(self._running) - (time.monotonic() - self._taken_at)
        # Whoever is late is expected to take as long again: when clocks drop, those who are sent
        # away are told so at once, and not only when the recent RTF has noticed.
        return abs(left)

    def _cost(self, jobs: list[Job]) -> float:
        return sum(job.predicted_seconds for job in jobs) * self._pace.rtf
