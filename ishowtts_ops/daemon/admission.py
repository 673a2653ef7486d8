"""Who may wait for the engine, and for how long: a bounded queue that knows its own length in
seconds of work."""

from __future__ import annotations

import threading
from collections import deque

from ishowtts_ops.daemon.engine import Timings
from ishowtts_ops.daemon.failures import QueueFull
from ishowtts_ops.daemon.job import Job

RTF_WEIGHT = 0.3
"""Weight of the newest request in the recent RTF: about the last five requests count."""


class Pace:
    """Recent real-time factor, an exponential mean. Starts at 1, which is safe until measured."""

    def __init__(self) -> None:
        self.rtf = 1.0
        self._measured = False

    def add(self, timings: Timings) -> None:
        if not timings.audio_seconds:
            return
        weight = RTF_WEIGHT if self._measured else 1.0
        self.rtf += weight * (timings.rtf - self.rtf)
        self._measured = True


class JobQueue:
    """First in, first out, bounded. Safe from every thread.

    Args:
        limit: how many may wait; the one being spoken is not counted.
    """

    def __init__(self, limit: int, pace: Pace) -> None:
        self.limit = limit
        self._pace = pace
        self._jobs: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()

    def put(self, job: Job) -> None:
        """Admit a job.

        Raises:
            QueueFull: with the seconds until all that waits now has been spoken.
        """
        with self._changed:
            if len(self._jobs) >= self.limit:
                raise QueueFull(
                    f"{len(self._jobs)} requests are waiting already, which is the limit.",
                    "Try again after the time in Retry-After.",
                    retry_after=self._wait_seconds(),
                )
            self._jobs.append(job)
            self._changed.notify()

    def take(self, timeout: float) -> Job | None:
        """The next job, which is then the running one until `finished`; None when none came."""
        with self._changed:
            if not self._jobs:
                self._changed.wait(timeout)
            if not self._jobs:
                return None
            self._running = self._jobs.popleft()
            return self._running

    def finished(self) -> None:
        with self._changed:
            self._running = None

    def remove(self, job: Job) -> bool:
        """Take a waiting job out; False when it is not waiting (any more)."""
        with self._changed:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            return True

    def clear(self) -> list[Job]:
        """Take all waiting jobs out."""
        with self._changed:
            jobs = list(self._jobs)
            self._jobs.clear()
            return jobs

    def wake(self) -> None:
        """Let `take` return early."""
        with self._changed:
            self._changed.notify_all()

    @property
    def running(self) -> Job | None:
        return self._running

    def __len__(self) -> int:
        return len(self._jobs)

    def wait_seconds(self) -> float:
        """Engine seconds of all that waits or is being spoken, by prediction and recent RTF."""
        with self._changed:
            return self._wait_seconds()

    def _wait_seconds(self) -> float:
        jobs = [*self._jobs, *([self._running] if self._running else [])]
        return sum(job.predicted_seconds for job in jobs) * self._pace.rtf
