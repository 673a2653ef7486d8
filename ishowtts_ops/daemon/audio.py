"""Audio formats of answers. Each format is an `Encoder`; more are more rows of ENCODERS.

All of them give bytes as samples come: nothing waits for the end of the speech.
"""

from __future__ import annotations

import fractions
import io
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, cast

import av
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
        heavy: true when encoding is real work, which belongs on a thread.
    """

    content_type: str
    heavy: bool

    def start(self, sample_rate: int, frames: int | None) -> bytes:
        """Bytes before the audio; `frames` is None when the length is not known yet."""

    def chunk(self, samples: Samples) -> bytes:
        """The encoded samples, as far as they are complete."""

    def finish(self) -> bytes:
        """What is left."""


class Pcm:
    """Signed 16-bit little-endian mono without a header, as OpenAI's `pcm`."""

    content_type = "audio/pcm"
    heavy = False

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


class _Sink(io.RawIOBase):
    """Where a muxer writes to. It cannot seek, so no muxer waits for the end to mend a header."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._data)
        self._data.clear()
        return taken


class _Coded:
    """A codec and a container of FFmpeg's."""

    content_type: str
    heavy = True
    container: ClassVar[str]
    codec: ClassVar[str]
    bit_rate: ClassVar[int | None] = None
    options: ClassVar[Mapping[str, str]] = {}

    def start(self, sample_rate: int, frames: int | None) -> bytes:
        self._sink = _Sink()
        self._muxer = av.open(
            self._sink,
            "w",
            format=self.container,
            # Without the first, a muxer keeps back kilobytes, which are seconds of speech.
            options={"flush_packets": "1", **self.options},
        )
        self._stream = cast(
            av.AudioStream, self._muxer.add_stream(self.codec, rate=sample_rate, layout="mono")
        )
        if self.bit_rate:
            self._stream.bit_rate = self.bit_rate
        self._rate = sample_rate
        self._frames = 0
        return self._sink.take()

    def chunk(self, samples: Samples) -> bytes:
        clipped = np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)
        frame = av.AudioFrame.from_ndarray(clipped[None, :], format="fltp", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._frames
        frame.time_base = fractions.Fraction(1, self._rate)
        self._frames += len(samples)
        self._muxer.mux(self._stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        self._muxer.mux(self._stream.encode(None))
        self._muxer.close()
        return self._sink.take()


class Mp3(_Coded):
    content_type = "audio/mpeg"
    container, codec, bit_rate = "mp3", "libmp3lame", 64_000
    # The Xing frame holds the length, which is not known; ID3 tags would be empty.
    options: ClassVar[Mapping[str, str]] = {"write_xing": "0", "id3v2_version": "0"}


class Opus(_Coded):
    """Opus in Ogg, in pages of a fifth of a second at most."""

    content_type = "audio/ogg"
    container, codec, bit_rate = "ogg", "libopus", 48_000
    options: ClassVar[Mapping[str, str]] = {"page_duration": "200000"}


class Aac(_Coded):
    """AAC in ADTS frames, which can be played from any of them."""

    content_type = "audio/aac"
    container, codec, bit_rate = "adts", "aac", 64_000


class Flac(_Coded):
    """Lossless, 16 bits. Its header says how long it is when that is known at the start; libsndfile
    reads no file that leaves it open, so whole answers always say it."""

    content_type = "audio/flac"
    container, codec = "flac", "flac"

    def start(self, sample_rate: int, frames: int | None) -> bytes:
        self._promised = frames or 0
        return self._mended(super().start(sample_rate, frames))

    def chunk(self, samples: Samples) -> bytes:
        return self._mended(super().chunk(samples))

    def finish(self) -> bytes:
        return self._mended(super().finish())

    def _mended(self, data: bytes) -> bytes:
        """Total samples are the low 36 bits of the 8 bytes behind the rate (RFC 9639, 8.2)."""
        if not data.startswith(b"fLaC") or not self._promised:
            return data
        packed = int.from_bytes(data[18:26], "big") | self._promised
        self._promised = 0
        return data[:18] + packed.to_bytes(8, "big") + data[26:]


ENCODERS: Mapping[str, type[Encoder]] = {
    "wav": Wav,
    "pcm": Pcm,
    "flac": Flac,
    "opus": Opus,
    "mp3": Mp3,
    "aac": Aac,
}


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


def wav(samples: Samples, sample_rate: int) -> bytes:
    """A whole WAV file."""
    return wav_header(sample_rate, len(samples)) + pcm16(samples)
