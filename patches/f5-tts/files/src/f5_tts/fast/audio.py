"""Waveforms on the host: trimming a reference, and cross-fading chunks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

EDGE_DBFS = -42.0
PAUSE_DBFS = -40.0
TAIL_SILENCE_S = 0.05
MIN_SECONDS = 0.4
MAX_SECONDS = 30.0
CLIP_SECONDS = 12.0
CLIP_EARLIEST_S = 6.0


def as_mono_float32(samples: NDArray[np.generic], name: str = "samples") -> Wave:
    """One-dimensional float32; ValueError says what is wrong with anything else."""
    wave = np.asarray(samples)
    if wave.ndim == 2:
        raise ValueError(f"{name} have {wave.shape} dimensions; mix them to one channel first")
    if wave.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, not of shape {wave.shape}")
    if not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(f"{name} are {wave.dtype}; give float32 between -1 and 1")
    wave = np.ascontiguousarray(wave, dtype=np.float32)
    if not np.isfinite(wave).all():
        raise ValueError(f"{name} hold values that are not finite")
    return wave


def trim_reference(samples: Wave, rate: int) -> tuple[Wave, bool]:
    """Silence cut from both edges, at most 12 s kept, 50 ms of silence behind.

    Upstream's preprocessing in numpy: edges below -42 dBFS go; a long clip is cut at its last
    pause between 6 and 12 s, or at 12 s where there is none. The flag says it was cut.
    ValueError where nothing usable is left.
    """
    if rate < 4000:
        raise ValueError(f"a sample rate of {rate} Hz is too low for speech; give 16000 or more")
    if samples.size == 0:
        raise ValueError("the reference clip is empty")
    if samples.size > MAX_SECONDS * rate:
        raise ValueError(
            f"the reference clip lasts {samples.size / rate:.1f} s; give at most "
            f"{MAX_SECONDS:.0f} s (3 to {CLIP_SECONDS:.0f} s work best)"
        )
    levels = _levels(samples, rate)
    loud = np.flatnonzero(levels > EDGE_DBFS)
    if loud.size == 0:
        raise ValueError("the reference clip is silent throughout")
    frame = rate // 100
    wave = samples[loud[0] * frame : min(samples.size, (int(loud[-1]) + 1) * frame)]
    clipped = wave.size > CLIP_SECONDS * rate
    if clipped:
        wave = wave[: _pause_before(wave, rate)]
    if wave.size < MIN_SECONDS * rate:
        raise ValueError(
            f"only {wave.size / rate:.2f} s of the reference clip is not silence; give 3 to 12 s"
        )
    tail = np.zeros(int(TAIL_SILENCE_S * rate), dtype=np.float32)
    return np.concatenate([wave, tail]), clipped


def _levels(samples: Wave, rate: int) -> NDArray[np.float64]:
    """RMS of each 10 ms in dB below full scale."""
    frame = rate // 100
    count = -(-samples.size // frame)
    padded = np.zeros(count * frame, dtype=np.float64)
    padded[: samples.size] = samples
    power = np.mean(np.square(padded.reshape(count, frame)), axis=1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-12)), dtype=np.float64)


def _pause_before(wave: Wave, rate: int) -> int:
    """Samples to keep: the middle of the last pause of 100 ms between 6 and 12 s, else 12 s."""
    quiet = _levels(wave[: int(CLIP_SECONDS * rate)], rate) < PAUSE_DBFS
    frame = rate // 100
    last = len(quiet) - 10
    for start in range(last, int(CLIP_EARLIEST_S * 100), -1):
        if quiet[start : start + 10].all():
            return (start + 5) * frame
    return int(CLIP_SECONDS * rate)


def cross_fade(waves: Iterator[Wave], overlap: int) -> Iterator[Wave]:
    """The same audio as fading all waves into each other, given out as soon as it is final.

    The last `overlap` samples of a wave are held back until the next wave is there.
    """
    held: Wave | None = None
    for wave in waves:
        if held is None:
            ready, held = _hold(wave, overlap)
            if ready.size:
                yield ready
            continue
        size = min(held.size, wave.size, overlap)
        if size:
            ramp = np.linspace(1.0, 0.0, size, dtype=np.float32)
            mixed = held[-size:] * ramp + wave[:size] * ramp[::-1]
            joined = np.concatenate([held[:-size], mixed, wave[size:]]).astype(np.float32)
        else:
            joined = np.concatenate([held, wave])
        ready, held = _hold(joined, overlap)
        if ready.size:
            yield ready
    if held is not None and held.size:
        yield held


def _hold(wave: Wave, overlap: int) -> tuple[Wave, Wave]:
    if overlap <= 0:
        return wave, wave[:0]
    keep = min(overlap, wave.size)
    return wave[: wave.size - keep], wave[wave.size - keep :]


def join(waves: Iterator[Wave]) -> Wave:
    """All of it as one array."""
    parts = list(chain(waves))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
