"""Recordings for voices: what a microphone might have given, made by arithmetic."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 24_000
WORDS = "Good evening to everybody who is here tonight."
"""46 characters: 15 a second in three seconds."""


def voice(
    seconds: float = 3.0, pitch: float = 140.0, rms: float = 0.1, rate: int = RATE
) -> npt.NDArray[np.float64]:
    """Syllables of a humming voice; shape (frames,)."""
    times = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 9))
    hum = np.asarray(tone * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * times)), dtype=np.float64)
    return hum * (rms / np.sqrt(np.mean(hum**2)))


def as_file(samples: npt.NDArray[np.float64], rate: int = RATE, format: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format)
    return buffer.getvalue()


def recording(seconds: float = 3.0, pitch: float = 140.0) -> bytes:
    """A good one."""
    return as_file(voice(seconds, pitch))
