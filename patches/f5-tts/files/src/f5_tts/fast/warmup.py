"""Captures plans before the first request wants them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from f5_tts.fast.engine import Engine
from f5_tts.fast.plan import Job
from f5_tts.fast.schedule import build

# Reference 6 s and 2 s of speech; reference 6 s and 8 s: a first chunk and a whole one.
DEFAULT_FRAMES = (750, 1312)
REFERENCE_FRAMES = 562
# Reference and speech together are at most 22 s.
LARGEST = 2112


def warm(engine: Engine, *, full: bool, progress: Callable[[str], None]) -> None:
    """Run one job through the default buckets, or through all of them; those the compiler makes
    anew after that, where it is asked for: a start never waits for it."""
    tables = engine.tables(build(7, -1.0))
    # A CPU captures nothing: one short run shows that the whole path works.
    lengths = list(DEFAULT_FRAMES) if engine.machine.graphs else [128]
    if full and engine.machine.graphs:
        lengths = list(range(max(engine.bucket, 256), LARGEST + 1, engine.bucket))
    for number, frames in enumerate(lengths, start=1):
        progress(f"bucket {number} of {len(lengths)} ({frames} frames)")
        reference = min(REFERENCE_FRAMES, frames // 2)
        engine.render([_job(engine, frames, reference)], tables)
    if full and engine.machine.graphs and engine.switches.compile:
        for number, frames in enumerate(lengths, start=1):
            progress(f"compiling bucket {number} of {len(lengths)} ({frames} frames)")
            engine.compile_plan(frames)


def _job(engine: Engine, frames: int, reference: int) -> Job:
    weights = engine.weights
    size = weights.arch.mel_dim
    empty = torch.zeros(frames, size, device=weights.device, dtype=weights.dtype)
    return Job(
        tokens=[1] * min(120, frames - 1),
        mel=empty[: reference + 1],
        reference_frames=reference,
        frames=frames,
        noise=empty,
        guidance=2.0,
    )
