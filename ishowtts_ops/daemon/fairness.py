"""Fair shares of one engine: who goes next, by priority and by the engine time callers have had."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ishowtts_ops.daemon.job import Job, Priority

MANY_CALLERS = 1024
"""Accounts kept; those of callers who wait for nothing go first."""


@dataclass
class _Class:
    """Accounts of one priority.

    Attributes:
        now: virtual time: the start tag of the last job taken.
        owed: per caller, where the tag of the next job begins.
    """

    now: float
    owed: dict[str, float]


class FairLine:
    """Waiting jobs, interactive before batch, and among equals by start-time fair queueing: a
    caller's jobs stay in order, and a caller who asks for little does not wait behind one who asks
    for much. Costs are predicted seconds of speech. Not safe for threads: its queue is."""

    def __init__(self) -> None:
        self._line: list[tuple[Priority, float, int, Job]] = []
        self._classes = {priority: _Class(0.0, {}) for priority in Priority}
        self._count = 0

    def __len__(self) -> int:
        return len(self._line)

    def jobs(self) -> list[Job]:
        """In the order in which they would be taken."""
        return [job for *_, job in self._line]

    def add(self, job: Job) -> None:
        key = self._key(job)
        self._classes[job.priority].owed[job.caller] = key[1] + max(job.predicted_seconds, 1e-3)
        self._count += 1
        entry = (*key, self._count, job)
        place = next((at for at, other in enumerate(self._line) if other[:3] > entry[:3]), None)
        self._line.insert(len(self._line) if place is None else place, entry)

    def ahead_of(self, job: Job) -> list[Job]:
        """Waiting jobs that would be taken before a newcomer."""
        key = self._key(job)
        return [other for priority, tag, _, other in self._line if (priority, tag) <= key]

    def take(self) -> Job | None:
        if not self._line:
            return None
        priority, tag, _, job = self._line.pop(0)
        account = self._classes[priority]
        account.now = max(account.now, tag)
        if len(account.owed) > MANY_CALLERS:
            waiting = {other.caller for other in self.jobs()}
            account.owed = {name: at for name, at in account.owed.items() if name in waiting}
        return job

    def remove(self, job: Job) -> bool:
        before = len(self._line)
        self._line = [entry for entry in self._line if entry[3] is not job]
        return len(self._line) < before

    def clear(self) -> list[Job]:
        jobs = self.jobs()
        self._line.clear()
        return jobs

    def victim(self, newcomer: Job, spared: list[Job]) -> Job | None:
        """Who should give up a place for the newcomer: the last batch job when the newcomer is
        interactive, else the newest job of a caller who would still hold more places than the
        newcomer's. None when nobody should.

        Args:
            spared: jobs that are on their way out already.
        """
        there = [job for job in self.jobs() if job not in spared]
        lower = [job for job in there if job.priority > newcomer.priority]
        if lower:
            return lower[-1]
        equals = [job for job in there if job.priority == newcomer.priority]
        places = Counter(job.caller for job in equals)
        if not places:
            return None
        greediest, held = places.most_common(1)[0]
        if held <= places[newcomer.caller] + 1:
            return None
        return [job for job in equals if job.caller == greediest][-1]

    def _key(self, job: Job) -> tuple[Priority, float]:
        account = self._classes[job.priority]
        return job.priority, max(account.now, account.owed.get(job.caller, 0.0))
