"""Finds out whether speaking several requests in one go gains anything on this box.

It is measured once, when the daemon is ready and nobody waits, on the engine's thread: one line of
chat alone, and 2, 4, 8 and 16 times in one go. The answer is kept in the cache directory under a
fingerprint of GPU, torch and sources, so the next start has it at once.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.batching import (
    POWERS,
    Batching,
    configured,
    decided,
)
from ishowtts_ops.daemon.endings import sentence
from ishowtts_ops.daemon.engine import (
    DeviceLost,
    Engine,
    OutOfMemory,
    Progress,
    Samples,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.folders import writable
from ishowtts_ops.daemon.worker import Worker

log = logging.getLogger(__name__)

FILE = "batching.json"
TEXTS = ("A line of chat, which somebody reads aloud.", "A line of chat.")
"""The first that the engine would speak in one piece."""
TIMES = 3
BUDGET_S = 30.0
"""Engine seconds for all of it. On an Orin the large sizes do not fit, and are not tried."""
LEAST_SNR_DB = 20.0
"""Of a request spoken in a batch against the same alone. Half precision gives about 40 dB here;
what is below this is another sound."""


class BatchTrial:
    """The measurement. Called again after an interruption, it goes on with what is left.

    Attributes:
        gains: speech per second over one by one, by size, so far.
    """

    def __init__(
        self,
        engine: Engine,
        voice: Voice,
        told: Callable[[dict[int, float]], None],
        budget: float = BUDGET_S,
    ) -> None:
        self.gains: dict[int, float] = {}
        self._engine = engine
        self._voice = voice
        self._told = told
        self._budget = budget
        self._alone: float | None = None
        self._sound: Samples | None = None

    def __call__(self, progress: Progress) -> None:
        """Measure on the engine's thread; tells the gains in the end.

        Raises:
            Cancelled: by `progress`; to be called again.
            DeviceLost: nothing will work any more.
        """
        try:
            self._measure(progress)
        except OutOfMemory:
            # The sizes that were tried work; larger ones have no room.
            self._engine.free()
        except DeviceLost:
            raise
        except (RuntimeError, ValueError) as error:
            log.warning(journal.line("a trial of batching failed", why=sentence(error)))
        self._told(self.gains)

    def _measure(self, progress: Progress) -> None:
        request = self._request()
        if request is None:
            return
        if self._alone is None:
            self._alone, self._sound = self._timed([request], progress)
        for size in POWERS:
            if size in self.gains:
                continue
            # One run to warm up, and the others, if nothing were gained.
            expected = (TIMES + 1) * size * self._alone
            if expected > self._budget:
                return
            seconds, sound = self._timed([request] * size, progress)
            self._budget -= expected
            assert self._sound is not None
            if snr_db(sound, self._sound) < LEAST_SNR_DB:
                log.warning(journal.line("a batch sounds other than its parts alone", size=size))
                return
            self.gains[size] = round(size * self._alone / seconds, 3)

    def _request(self) -> SynthesisRequest | None:
        for text in TEXTS:
            request = SynthesisRequest(text, self._voice, seed=1)
            if self._engine.together(request, request):
                return request
        return None

    def _timed(self, requests: list[SynthesisRequest], progress: Progress) -> tuple[float, Samples]:
        """Median seconds, and what the last of them sounds like."""
        taken = []
        for _ in range(TIMES + 1):
            began = time.monotonic()
            if len(requests) > 1:
                last = self._engine.speak_together(requests, progress, _never)[-1]
            else:
                last = np.concatenate(list(self._engine.stream(requests[0], progress, _never)))
            taken.append(time.monotonic() - began)
        return statistics.median(taken[1:]), last


def settle(worker: Worker, setting: int | str, voice: Voice, folder: Path) -> None:
    """Give a worker the batching that the setting asks for: at once where it is known, else after
    a trial in the next quiet moment. On the engine's thread, after loading."""
    engine = worker.engine
    if isinstance(setting, int):
        worker.batching = configured(setting)
        return
    if (reason := engine.alone()) is not None:
        worker.batching = Batching((), reason)
        return
    key = engine.fingerprint()
    known = recall(folder, key)
    if known is not None:
        worker.batching = decided(known, "measured on this box before")
        return
    pending = Batching((), "not measured yet")

    def told(gains: dict[int, float]) -> None:
        remember(folder, key, gains)
        # Not where the owner has set something else meanwhile.
        if worker.batching is pending:
            worker.batching = decided(gains, "measured on this box")
            log.info(journal.line("batching decided", why=worker.batching.why))

    worker.batching = pending
    worker.rest.first(BatchTrial(engine, voice, told))


def recall(folder: Path, key: str) -> dict[int, float] | None:
    """Gains measured before under this fingerprint."""
    try:
        data = json.loads((folder / FILE).read_text())
        if data["fingerprint"] != key:
            return None
        return {int(size): float(gain) for size, gain in data["gains"].items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.warning(journal.line("batching is measured anew", file=str(folder / FILE)))
        return None


def remember(folder: Path, key: str, gains: dict[int, float]) -> None:
    """Keep the gains; a disk that takes no writes costs a measurement at the next start."""
    if not writable(folder):
        return
    text = json.dumps({"fingerprint": key, "gains": gains})
    try:
        new = folder / f"{FILE}.new"
        new.write_text(text)
        new.replace(folder / FILE)
    except OSError as error:
        log.warning(journal.line("the measured batching is not kept", why=error.strerror))


def story(batching: Batching, setting: int | str) -> dict[str, object]:
    """For `/readyz`; JSON values only."""
    return {
        "setting": setting,
        "sizes": list(batching.sizes or (1,)),
        "why": batching.why,
        "gains": {str(size): gain for size, gain in batching.gains.items()},
    }


def snr_db(heard: Samples, wanted: Samples) -> float:
    """Decibels of `wanted` over the difference; -inf where the lengths differ."""
    if len(heard) != len(wanted):
        return -np.inf
    error = float(np.sum((heard.astype(np.float64) - wanted) ** 2))
    power = float(np.sum(wanted.astype(np.float64) ** 2))
    return float(10 * np.log10(power / error)) if error and power else np.inf


def _never() -> bool:
    return False
