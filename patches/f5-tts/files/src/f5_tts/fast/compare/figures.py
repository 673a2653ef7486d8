"""From measured seconds to figures, and two results' distance. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
MIN_MEL_SNR_DB, MIN_WAVE_SNR_DB = 40.0, 35.0
MAX_FP32_ERROR = 1e-4
# Stands for "no difference at all", which JSON has no number for.
MOST_DB = 200.0


def spread(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Milliseconds: median with its 95 % bootstrap interval (None below three), 95th percentile."""
    data = 1e3 * np.asarray(seconds, dtype=np.float64)
    low = high = None
    if data.size >= 3:
        rng = np.random.default_rng(1)
        medians = np.median(data[rng.integers(0, data.size, (RESAMPLES, data.size))], axis=1)
        low, high = (round(float(v), 3) for v in np.percentile(medians, [2.5, 97.5]))
    return {
        "p50_ms": round(float(np.median(data)), 3),
        "low_ms": low,
        "high_ms": high,
        "p95_ms": round(float(np.percentile(data, 95)), 3),
        "min_ms": round(float(data.min()), 3),
        "runs": int(data.size),
    }


def faster(ours: Sequence[float], other: Sequence[float]) -> dict[str, float | None]:
    """How many times as long the other's median is, with a 95 % bootstrap interval."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(other, dtype=np.float64)
    found: dict[str, float | None] = {"times": round(float(np.median(b) / np.median(a)), 3)}
    if min(a.size, b.size) < 3:
        return {**found, "low": None, "high": None}
    rng = np.random.default_rng(1)
    first = np.median(a[rng.integers(0, a.size, (RESAMPLES, a.size))], axis=1)
    second = np.median(b[rng.integers(0, b.size, (RESAMPLES, b.size))], axis=1)
    low, high = np.percentile(second / first, [2.5, 97.5])
    return {**found, "low": round(float(low), 3), "high": round(float(high), 3)}


def relative(got: NDArray[Any], want: NDArray[Any]) -> float:
    """||got - want|| / ||want||; inf where the shapes or the numbers are not comparable."""
    if got.shape != want.shape or not np.isfinite(got).all():
        return math.inf
    error = got.astype(np.float64) - want
    return float(np.linalg.norm(error) / np.linalg.norm(want.astype(np.float64)))


def decibels(error: float) -> float:
    """A relative error as a signal-to-noise ratio, dB."""
    if error == math.inf:
        return -MOST_DB
    return round(min(-20 * math.log10(max(error, 1e-12)), MOST_DB), 2)


def fidelity(
    rows: Sequence[Mapping[str, Any]], native: Sequence[Any], exact: Sequence[Any]
) -> dict[str, Any]:
    """Distances from upstream's exact result; the worst piece counts.

    Args:
        rows: of `Ours.made`.
        native, exact: (mel, wave) of upstream for each, in its own type and in fp32.
    """

    def worst(pairs: Sequence[tuple[Any, Any]]) -> float:
        return max(relative(np.asarray(got), np.asarray(want)) for got, want in pairs)

    ours = worst([(r["mel"], e[0]) for r, e in zip(rows, exact, strict=True)])
    ours_wave = worst([(r["wave"], e[1]) for r, e in zip(rows, exact, strict=True)])
    theirs = worst([(n[0], e[0]) for n, e in zip(native, exact, strict=True)])
    theirs_wave = worst([(n[1], e[1]) for n, e in zip(native, exact, strict=True)])
    precise = worst([(r.get("fp32_mel", r["mel"]), e[0]) for r, e in zip(rows, exact, strict=True)])
    # Where upstream computes in fp32 itself it is the reference, and its error is nothing.
    beaten = ours <= max(theirs, MAX_FP32_ERROR)
    beaten_wave = ours_wave <= max(theirs_wave, 10 * MAX_FP32_ERROR)
    equal = all(bool(r["bit_equal"]) for r in rows)
    near = decibels(ours) >= MIN_MEL_SNR_DB and decibels(ours_wave) >= MIN_WAVE_SNR_DB
    near = near and precise <= MAX_FP32_ERROR
    return {
        "pieces": len(rows),
        "frames": [int(r["frames"]) for r in rows],
        "mel_snr_db": decibels(ours),
        "wave_snr_db": decibels(ours_wave),
        "upstream_mel_snr_db": decibels(theirs),
        "upstream_wave_snr_db": decibels(theirs_wave),
        "fp32_relative_error": precise,
        "same_seed_bit_equal": equal,
        "passed": bool(beaten and beaten_wave and equal and near),
    }


def side(
    measured: Mapping[str, Any], flops: float, peak_tflop_per_s: float, rate: int = 24000
) -> dict[str, Any]:
    """Figures of one side in one workload, from what its turns measured."""
    audio = measured["samples"] / rate
    total = spread(measured["total_s"])
    floor_ms = flops / peak_tflop_per_s / 1e9
    middle = float(total["p50_ms"] or 0.0)
    return {
        "total": total,
        "first_audio": spread(measured["first_audio_s"]),
        "audio_s": round(audio, 3),
        "rtf": round(middle / 1e3 / audio, 6),
        "tflop": round(flops / 1e12, 6),
        "floor_ms": round(floor_ms, 3),
        "times_floor": round(middle / floor_ms, 2),
        "total_s": [round(v, 6) for v in measured["total_s"]],
        "first_audio_s": [round(v, 6) for v in measured["first_audio_s"]],
    }
