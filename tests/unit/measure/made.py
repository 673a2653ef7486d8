"""Runs made of figures, for what judges runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ishowtts_ops.measure.fingerprint import Fingerprint, Moment, Value
from ishowtts_ops.measure.run import Run, Sample

LOCKED = Moment(
    jetson=True,
    mode="MAXN",
    loose=(),
    lock_unknown="",
    clocks="CPU 2201 MHz, GPU 1300 MHz, EMC 3199 MHz",
    gpu_hz=1_300_500_000,
    temperatures={"gpu-thermal": 52.0},
    events={"OC3": 4},
)
SOFTWARE: dict[str, Value] = {"engine": "f5", "torch": "2.8.0", "series": "abc123", "NFE": 7}


def print_of(
    before: Moment = LOCKED, after: Moment | None = None, **software: Value
) -> Fingerprint:
    rows = {**SOFTWARE, **{name.replace("_", " "): value for name, value in software.items()}}
    return Fingerprint(rows, before, after or before)


def make_run(
    rtfs: Sequence[float],
    *,
    started: str = "2026-01-01T00:00:00Z",
    id: str = "",
    found: Fingerprint | None = None,
    marks: tuple[str, ...] = (),
    workload: str = "M",
    key: str = "m-key",
    door: str = "http",
    engine: str = "f5",
) -> Run:
    audio = 8.0
    samples = tuple(
        Sample(float(i), rtf * audio, rtf * audio + 0.01, rtf * audio / 4, 0.0, audio)
        for i, rtf in enumerate(rtfs)
    )
    return Run(
        id=id or f"{started}-made",
        started=started,
        kind="custom",
        workload=workload,
        workload_key=key,
        door=door,
        engine=engine,
        device="cuda:0",
        warm_up=3,
        samples=samples,
        fingerprint=found or print_of(),
        marks=marks,
    )


def noisy(median: float, count: int = 20, spread: float = 0.03, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(v) for v in median * np.exp(spread * rng.standard_normal(count))]


def moment(**changes: object) -> Moment:
    return dataclasses.replace(LOCKED, **changes)  # type: ignore[arg-type]
