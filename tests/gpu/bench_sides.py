"""The sides of `f5_tts.fast.compare`, both in this process, with what only these benchmarks need:
batches, switches turned, and the bridge behind upstream's own calls."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from f5_tts.fast.compare import ours, upstream
from f5_tts.fast.compare.work import LENGTHS, SEED, Work, named, text_of

__all__ = ["SEED", "WORKLOADS", "Ours", "Upstream", "spread", "text_of"]

# Reference seconds, and total seconds: 468 and 1312 frames for S and M.
WORKLOADS = {name: (first, first + second) for name, (first, second) in LENGTHS.items()}


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: median, 95th percentile, least."""
    ordered = sorted(1e3 * value for value in seconds)
    at = min(len(ordered) - 1, int(0.95 * len(ordered)))
    return {
        "p50_ms": round(statistics.median(ordered), 3),
        "p95_ms": round(ordered[at], 3),
        "min_ms": round(ordered[0], 3),
        "runs": len(ordered),
    }


def first_of(name: str) -> tuple[Work, Any]:
    work = named(name)
    return work, work.utterances[0]


class Ours:
    """The synthesizer, and engines with one switch turned."""

    def __init__(self, cache: Path | None) -> None:
        from f5_tts.fast.synthesizer import SynthesisSettings

        self.side = ours.Ours(ours.Model(device="cuda", cache_dir=cache))
        self.synthesizer = self.side.synthesizer
        self.settings = SynthesisSettings

    def voice(self, seconds: float, number: int = 0) -> Any:
        return self.side.voice(seconds, number)

    def run(self, name: str, *, count: int = 1) -> list[Any]:
        """`count` requests of this workload in one batch, over three voices."""
        work, utterance = first_of(name)
        settings = self.side.settings(work, utterance)
        requests = [(utterance.text, self.voice(work.reference_s, n % 3)) for n in range(count)]
        waves: list[Any] = self.synthesizer.batch(requests, settings, seeds=list(range(count)))
        return waves

    def with_switches(self, **off: bool) -> Any:
        from f5_tts.fast.engine import Engine

        old = self.synthesizer.engine
        return Engine(old.weights, old.vocos, dataclasses.replace(old.switches, **off))

    @contextlib.contextmanager
    def engine(self, engine: Any) -> Iterator[None]:
        before = self.synthesizer._engine
        self.synthesizer._engine = engine
        try:
            yield
        finally:
            self.synthesizer._engine = before


class Upstream(upstream.Upstream):
    """Upstream's modules of the patched tree: its own path where the bridge is off."""

    def __init__(self, source: Path) -> None:
        os.environ["F5_FAST_BRIDGE"] = "0"
        super().__init__(ours.Model(device="cuda"), source)

    def run(self, name: str) -> Any:
        return self.speak(*first_of(name))
