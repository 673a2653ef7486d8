"""Encoders, read back by others' decoders."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soundfile

from ishowtts_ops.daemon.audio import Wav, pcm16, peak


def test_full_scale_is_clipped_and_never_wraps() -> None:
    samples = np.array([0, 1, -1, 1.5, -1.5, 0.5], dtype=np.float32)
    assert np.frombuffer(pcm16(samples), dtype="<i2").tolist() == [
        0,
        32767,
        -32767,
        32767,
        -32767,
        16384,
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_wav_in_chunks_is_read_whole_by_other_decoders(known: bool) -> None:
    samples = np.linspace(-1, 1, 5000, dtype=np.float32)
    encoder = Wav()
    raw = encoder.start(24_000, len(samples) if known else None)
    for part in np.array_split(samples, 7):
        raw += encoder.chunk(part)
    raw += encoder.finish()
    decoded, rate = soundfile.read(io.BytesIO(raw), dtype="float32")
    assert rate == 24_000
    assert len(decoded) == len(samples)
    assert np.abs(decoded - samples).max() < 1e-4
    with wave.open(io.BytesIO(raw)) as file:
        assert file.readframes(file.getnframes()) == raw[44:]
        if known:
            assert file.getnframes() == len(samples)


def test_peak_shows_what_is_not_a_number() -> None:
    assert peak(np.zeros(0, dtype=np.float32)) == 0
    assert peak(np.array([0.1, -0.5], dtype=np.float32)) == pytest.approx(0.5)
    assert not np.isfinite(peak(np.array([0, np.nan, 1], dtype=np.float32)))
    assert not np.isfinite(peak(np.array([0, np.inf], dtype=np.float32)))
