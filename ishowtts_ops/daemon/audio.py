"""Audio formats of answers. Each format is an `Encoder`; more are more rows of ENCODERS."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ishowtts_ops.daemon.engine import Samples

UNKNOWN_SIZE = 0xFFFFFFFF
"""What a streamed WAV says for a length it cannot know yet; readers take it as `to the end`."""

SILENCE_PEAK = 1e-4
"""Below -80 dBFS nothing is heard."""


class Encoder(Protocol):
    """One answer's encoder. The body is `start`, every `chunk`, `finish`.

    Attributes:
        content_type: without parameters.
    """

    content_type: str

    def start(self, sample_rate: int, frames: int | None) -> bytes:
        """Bytes before the audio; `frames` is None when the length is not known yet."""

    def chunk(self, samples: Samples) -> bytes:
        """The encoded samples, as far as they are complete."""

    def finish(self) -> bytes:
        """What is left."""


class Pcm:
    """Signed 16-bit little-endian mono without a header, as OpenAI's `pcm`."""

    content_type = "audio/pcm"

    def start(self, sample_rate: int, frames: int | None) -> bytes:
        return b""

    def chunk(self, samples: Samples) -> bytes:
        return pcm16(samples)

    def finish(self) -> bytes:
        return b""


class Wav(Pcm):
    """RIFF/WAVE with 16-bit mono samples."""

    content_type = "audio/wav"

    def start(self, sample_rate: int, frames: int | None) -> bytes:
        return wav_header(sample_rate, frames)


ENCODERS: Mapping[str, type[Encoder]] = {"wav": Wav, "pcm": Pcm}


def pcm16(samples: Samples) -> bytes:
    """Float samples as signed 16-bit little-endian; what is beyond full scale is clipped."""
    scaled = np.clip(samples, -1.0, 1.0) * np.float32(32767)
    raw: bytes = np.rint(scaled).astype("<i2").tobytes()
    return raw


def wav_header(sample_rate: int, frames: int | None) -> bytes:
    """The 44 bytes before 16-bit mono samples.

    Args:
        frames: number of samples; None when the audio is streamed.
    """
    data = UNKNOWN_SIZE if frames is None else frames * 2
    riff = UNKNOWN_SIZE if frames is None else 36 + data
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        sample_rate,
        sample_rate * 2,
        2,
        16,
        b"data",
        data,
    )


def peak(samples: Samples) -> float:
    """The largest magnitude; NaN or infinite when any sample is."""
    return float(np.max(np.abs(samples))) if len(samples) else 0.0
