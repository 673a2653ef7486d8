"""Finding out several things side by side, each within its own time.

A read of sysfs can hang for good inside the kernel (a dead I²C device, a wedged driver), and no
signal ends it. So a job that is late is left behind in a daemon thread, which does not keep the
program from ending, and its answer is Unknown, with the path it hangs at.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.asking import clause
from ishowtts_ops.facts.value import Unknown

FILE_LIMIT_S = 4.0
"""For a job that reads files only."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Something to find out, and how long it may take (seconds). `what` is what hangs when it takes
    longer."""

    call: Callable[[], Any]
    limit_s: float
    what: str = "it"


def in_parallel(jobs: Mapping[str, Job], seconds: dict[str, float] | None = None) -> dict[str, Any]:
    """Run jobs side by side; each answers within its limit, or is Unknown.

    Args:
        seconds: filled with how long each took.

    Returns:
        what each call returned, or Unknown when it was late or raised.
    """
    runs = {name: _Run(name, job) for name, job in jobs.items()}
    for run in runs.values():
        run.start()
    answers = {name: run.answer() for name, run in runs.items()}
    if seconds is not None:
        seconds |= {name: run.seconds for name, run in runs.items()}
    return answers


class _Run:
    """One job in its thread."""

    def __init__(self, name: str, job: Job) -> None:
        self._job = job
        self._begun = time.monotonic()
        self._answer: Any = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"probe {name}", daemon=True)
        self.seconds = 0.0

    def start(self) -> None:
        self._begun = time.monotonic()
        self._thread.start()

    def _work(self) -> None:
        try:
            self._answer = self._job.call()
        except (OpsError, OSError) as error:
            self._answer = Unknown(clause(str(error)))
        except Exception as error:  # noqa: BLE001  one broken probe must not cost all the others
            _log.debug("%s failed", self._thread.name, exc_info=True)
            self._answer = Unknown(f"{self._job.what} failed with {type(error).__name__}: {error}")
        self.seconds = time.monotonic() - self._begun
        self._done.set()

    def answer(self) -> Any:
        left = self._begun + self._job.limit_s - time.monotonic()
        if not self._done.wait(max(0.0, left)):
            self.seconds = time.monotonic() - self._begun
            path = sysfs.being_read(self._thread.ident)
            where = f": {path} hangs" if path else ""
            return Unknown(f"{self._job.what} gave no answer in {self._job.limit_s:g} s{where}")
        return self._answer
