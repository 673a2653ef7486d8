"""The books: how every request ended, in metrics, in the journal and for the page at `/`.

They are written a few milliseconds after the end, by a thread of their own: an answer on its way
must not wait for them. Whoever reads metrics or state has them brought up to date first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Timings
from ishowtts_ops.daemon.failures import Refusal, answer_for
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.metrics import Metrics
from ishowtts_ops.daemon.schema import FIELDS

log = logging.getLogger(__name__)

RECENT = 120
"""Finished requests that are remembered for the page at `/`."""
PATIENCE_S = 0.005
"""Longer than an answer needs to leave."""

Entry = Callable[[], None]


class Accounts:
    """Safe from every thread.

    Attributes:
        recent: the last requests that were spoken, oldest first; JSON values.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.recent: deque[dict[str, str | float]] = deque(maxlen=RECENT)
        self._metrics = metrics
        self._spoken = 0
        self._entries: deque[Entry] = deque()
        self._there = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._clerk = threading.Thread(target=self._write, name="accounts", daemon=True)
        self._clerk.start()

    def refused(self, refusal: Refusal, request_id: str) -> None:
        """A request that was never admitted."""
        row = answer_for(refusal)
        code = refusal.code or row.code

        def entry() -> None:
            self._metrics.refused("none", row.outcome, code)
            # A field nobody knows is called by the caller's own words, and those are not for a log.
            param = refusal.param if refusal.param in FIELDS else None
            log.info(journal.line("refused", id=request_id, code=code, param=param))

        self._add(entry)

    def ended(self, engine: str, job: Job, outcome: Refusal | Timings) -> None:
        """The end of an admitted job."""
        at = time.time()
        if isinstance(outcome, Timings):
            self._add(lambda: self._booked(engine, job, outcome, at))
        else:
            self._add(lambda: self._not_spoken(engine, job, outcome))

    def flush(self) -> None:
        """Bring them up to date."""
        with self._lock:
            while self._entries:
                self._entries.popleft()()

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._closed = True
        self._there.set()
        self._clerk.join()
        self.flush()

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._there.set()

    def _write(self) -> None:
        while not self._closed:
            self._there.wait()
            self._there.clear()
            time.sleep(PATIENCE_S)
            self.flush()

    def _not_spoken(self, engine: str, job: Job, refusal: Refusal) -> None:
        row = answer_for(refusal)
        code = refusal.code or row.code
        self._metrics.refused(engine, row.outcome, code)
        level = logging.ERROR if row.status == 500 else logging.INFO
        why = refusal.message if row.status == 500 else None
        log.log(level, journal.line("not spoken", **_facts(engine, job), code=code, why=why))

    def _booked(self, engine: str, job: Job, timings: Timings, at: float) -> None:
        self._metrics.spoken(engine, timings)
        self._spoken += 1
        self.recent.append(
            {
                "number": self._spoken,
                "at": at,
                "engine": engine,
                "voice": job.request.voice.id,
                "rtf": round(timings.rtf, 4),
                "first_audio_seconds": round(timings.first_audio, 4),
                "queue_seconds": round(timings.queue, 4),
                "audio_seconds": round(timings.audio_seconds, 3),
            }
        )
        log.info(
            journal.line(
                "spoken",
                **_facts(engine, job),
                queue_s=timings.queue,
                infer_s=timings.infer,
                first_audio_s=timings.first_audio,
                audio_s=timings.audio_seconds,
                rtf=timings.rtf,
            )
        )


def _facts(engine: str, job: Job) -> dict[str, str | float | bool | None]:
    return {
        "id": job.id,
        "engine": engine,
        "voice": job.request.voice.id,
        "chars": len(job.request.text),
        "caller": job.caller or None,
    }
