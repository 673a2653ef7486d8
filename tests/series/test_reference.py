"""A voice is found by its content: three voices in turn never get each other's reference."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import f5_small as small
import numpy as np
import pytest
import torch

SETTINGS = {"target_rms": 0.1, "target_rate": 24000, "device": "cpu"}


def wrong_answers(cache: Any, rounds: int = 10) -> int:
    """Requests, in turn over three voices, that were answered with another voice's audio.

    As in a server, every request reads its voice into a new array that dies after the request.
    """
    from f5_tts.fast.reference import prepare

    stored = [small.clip(number).tobytes() for number in range(3)]
    wanted = [
        prepare(torch.from_numpy(small.clip(n)).unsqueeze(0), 24000, **SETTINGS).audio
        for n in range(3)
    ]
    wrong = 0
    for _ in range(rounds):
        for number in range(3):
            audio = torch.from_numpy(np.frombuffer(stored[number], dtype=np.float32).copy())
            got = cache.prepare(audio.unsqueeze(0), 24000, **SETTINGS).audio
            wrong += not torch.equal(got, wanted[number])
    return wrong


def test_three_voices_in_turn_get_their_own(newest: Path) -> None:
    from f5_tts.fast.reference import ReferenceCache

    cache = ReferenceCache()
    assert wrong_answers(cache) == 0
    assert cache.hits == 27, "three voices are prepared once each, and found 27 times"


def test_the_same_check_catches_a_cache_keyed_by_identity(newest: Path) -> None:
    from f5_tts.fast.reference import ReferenceCache

    # The key of the patch in the field: the address of a temporary, which Python uses again.
    by_identity = ReferenceCache(key_of=lambda audio, *facts: (id(audio), facts))
    assert wrong_answers(by_identity) > 0


@pytest.mark.parametrize("change", ["rate", "target_rms", "one sample"])
def test_everything_the_result_depends_on_is_in_the_key(newest: Path, change: str) -> None:
    from f5_tts.fast.reference import ReferenceCache

    cache = ReferenceCache()
    audio = torch.from_numpy(small.clip(0)).unsqueeze(0)
    cache.prepare(audio, 24000, **SETTINGS)
    other, rate, settings = audio.clone(), 24000, dict(SETTINGS)
    if change == "rate":
        rate = 16000
    elif change == "target_rms":
        settings["target_rms"] = 0.2
    else:
        other[0, 100] += 1e-3
    cache.prepare(other, rate, **settings)
    assert cache.hits == 0


def test_bounded_and_forgets_the_oldest(newest: Path) -> None:
    from f5_tts.fast.reference import LruCache

    cache: Any = LruCache(2)
    for name in ("a", "b", "a", "c"):
        cache.get_or_make(name, name.upper)
    assert len(cache) == 2
    assert cache.get_or_make("a", lambda: "made again") == "A"
    assert cache.get_or_make("b", lambda: "made again") == "made again"


def test_many_threads_get_their_own(newest: Path) -> None:
    from f5_tts.fast.reference import ReferenceCache

    cache = ReferenceCache(max_items=2)
    wrong: list[int] = []
    threads = [
        threading.Thread(target=lambda: wrong.append(wrong_answers(cache, 5))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0, 0, 0, 0]


def test_voices_never_mix_in_speech(newest: Path) -> None:
    from f5_tts.fast.synthesizer import SynthesisSettings

    synthesizer = small.synthesizer()
    settings = SynthesisSettings(seed=3, nfe=5)
    alone = [
        small.synthesizer().synthesize(
            "Good morning.", synthesizer.voice(small.clip(n), 24000, small.TRANSCRIPT), settings
        )
        for n in range(3)
    ]
    assert not np.array_equal(alone[0], alone[1])
    for _ in range(2):
        for number in range(3):
            voice = synthesizer.voice(small.clip(number), 24000, small.TRANSCRIPT)
            got = synthesizer.synthesize("Good morning.", voice, settings)
            assert np.array_equal(got, alone[number])
    assert synthesizer.stats()["voices"] == 3


@pytest.mark.parametrize(
    ("samples", "words", "message"),
    [
        (np.zeros(0, np.float32), "Hello there.", "is empty"),
        (np.zeros(48000, np.float32), "Hello there.", "silent throughout"),
        (small.clip(0, 0.1), "Hello there.", "not silence"),
        (small.clip(0, 31.0), "Hello there.", "at most 30 s"),
        (np.full(48000, np.nan, np.float32), "Hello there.", "not finite"),
        (np.zeros((2, 48000), np.float32), "Hello there.", "one channel"),
        (np.ones(48000, np.int16), "Hello there.", "give float32"),
        (small.clip(0), "  ", "transcript is empty"),
        (small.clip(0), "word " * 60, "does not belong to this clip"),
    ],
)
def test_a_bad_voice_is_refused_in_one_sentence(
    newest: Path, samples: Any, words: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        small.synthesizer().voice(samples, 24000, words)
    assert "\n" not in str(raised.value)


def test_an_odd_pace_is_warned_about(newest: Path) -> None:
    with pytest.warns(UserWarning, match="bytes per second"):
        voice = small.synthesizer().voice(small.clip(0), 24000, "Only this.")
    assert voice.warnings


def test_a_long_clip_is_cut_at_a_pause(newest: Path) -> None:
    clip = 4 * small.clip(0, 15.0)
    clip[9 * 24000 : 9 * 24000 + 6000] = 0.0
    voice = small.synthesizer().voice(clip, 24000, small.TRANSCRIPT * 3)
    assert 9.0 < voice.seconds < 9.4
    assert "the transcript must end there" in " ".join(voice.warnings)
