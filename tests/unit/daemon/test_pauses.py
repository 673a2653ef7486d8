"""Pauses made short, against pydub, which F5-TTS's own `infer` does it with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ishowtts_ops.daemon.pauses import FRAME, shorten_pauses

RATE = 24_000
Wave = npt.NDArray[np.float32]


def hum(seconds: float) -> Wave:
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 150 * times)).astype(np.float32)


def hush(seconds: float) -> Wave:
    noise = np.random.default_rng(1).standard_normal(round(seconds * RATE))
    return (0.0005 * noise).astype(np.float32)


def shortened(*pieces: Wave) -> Wave:
    return np.concatenate([np.zeros(0, np.float32), *shorten_pauses(pieces)])


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        ((hum(1), hush(0.9), hum(1)), 2.9),
        ((hum(1), hush(3), hum(1)), 3.0),
        ((hush(2.5), hum(1), hush(0.3)), 1.8),
        ((hum(1), hush(2.5)), 1.5),
        ((hush(0.7), hum(1)), 1.7),
        ((hush(1.5), hum(0.5), hush(1.2), hum(0.5), hush(4)), 3.0),
    ],
)
def test_long_pauses_keep_half_a_second_on_either_side(
    parts: tuple[Wave, ...], seconds: float
) -> None:
    found = shortened(np.concatenate(parts))
    assert len(found) / RATE == pytest.approx(seconds, abs=0.03)
    speech = np.concatenate([part for part in parts if np.abs(part).max() > 0.1])
    assert np.array_equal(found[np.abs(found) > 0.01], speech[np.abs(speech) > 0.01])


def test_it_is_what_pydub_makes_of_the_finished_file() -> None:
    pydub = pytest.importorskip("pydub")
    from pydub.silence import split_on_silence

    wave = np.concatenate([hush(1.7), hum(1), hush(0.6), hum(0.8), hush(2.2), hum(0.5), hush(1.3)])
    raw = (wave * 32767).astype("<i2").tobytes()
    segment = pydub.AudioSegment(raw, sample_width=2, frame_rate=RATE, channels=1)
    kept = split_on_silence(
        segment, min_silence_len=1000, silence_thresh=-50, keep_silence=500, seek_step=10
    )
    theirs = sum(len(one) for one in kept) / 1000
    assert len(shortened(wave)) / RATE == pytest.approx(theirs, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12))
def test_how_it_is_cut_into_pieces_makes_no_difference(cuts: list[int]) -> None:
    wave = np.concatenate([hum(0.4), hush(1.4), hum(0.3), hush(0.2), hum(0.1), hush(1.1)])
    whole = shortened(wave)
    pieces = np.split(wave, np.minimum(np.cumsum(cuts), len(wave)))
    assert np.array_equal(shortened(*pieces), whole)


def test_speech_without_pauses_is_untouched_and_silence_is_nothing() -> None:
    wave = hum(0.7)[: -FRAME // 2]
    assert np.array_equal(shortened(wave), wave)
    assert len(shortened(hush(5))) == 0


def test_what_is_no_number_is_passed_on() -> None:
    wave = hum(0.5)
    wave[300] = np.nan
    assert np.isnan(shortened(wave)).any()
