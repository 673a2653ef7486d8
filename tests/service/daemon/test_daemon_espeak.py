"""Real speech by espeak-ng."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancelled,
    Samples,
    StartRefused,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.espeak import EspeakEngine, available
from ishowtts_ops.host import Host
from tests.service.daemon.daemon_server import serving

pytestmark = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


@pytest.fixture(scope="module")
def engine() -> EspeakEngine:
    made = EspeakEngine(Host.at("/"))
    made.load(lambda _: None)
    return made


def say(engine: EspeakEngine, text: str, language: str | None = None, speed: float = 1) -> Samples:
    request = SynthesisRequest(text, Voice("v", language), speed)
    return np.concatenate(list(engine.stream(request, lambda _: None, lambda: False)))


def seconds(samples: Samples) -> float:
    return len(samples) / SAMPLE_RATE


def test_it_speaks_at_a_speaking_pace(engine: EspeakEngine) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    spoken = say(engine, text, "en")
    assert np.abs(spoken).max() > 0.05
    predicted = engine.predict_seconds(text, Voice("v", "en"), 1)
    assert predicted / 2 < seconds(spoken) < predicted * 2
    # Speech, not noise: most of its power lies below 4 kHz.
    power = np.abs(np.fft.rfft(spoken)) ** 2
    limit = 4000 * len(spoken) // SAMPLE_RATE
    assert power[:limit].sum() > 0.9 * power.sum()


def test_speed_shortens(engine: EspeakEngine) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    slow, normal, fast = (seconds(say(engine, text, "en", speed)) for speed in (0.5, 1, 3))
    assert slow > 1.5 * normal > 3 * fast


def test_the_voices_language_is_spoken_else_the_texts_own(engine: EspeakEngine) -> None:
    assert len(say(engine, "chat", "en")) != len(say(engine, "chat", "fr"))
    chinese = say(engine, "你好", "zh-CN")
    assert np.array_equal(say(engine, "你好"), chinese)
    assert np.array_equal(say(engine, "你好", "xx"), chinese)
    # An English voice spells them out as `Chinese letter` instead.
    assert seconds(say(engine, "你好", "en")) > 1.2 * seconds(chinese)


def test_it_gives_up_between_sentences(engine: EspeakEngine) -> None:
    request = SynthesisRequest("One sentence. " * 40, Voice("v", "en"))
    pieces = []
    with pytest.raises(Cancelled):
        for piece in engine.stream(request, lambda _: None, lambda: len(pieces) == 1):
            pieces.append(piece)
    assert len(pieces) == 1


def test_text_is_never_taken_for_an_option(engine: EspeakEngine) -> None:
    assert seconds(say(engine, "--version -h", "en")) > 0.3


def test_without_the_program_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not available(Host.at("/"))
    with pytest.raises(StartRefused, match="`espeak-ng` is not on this box") as caught:
        EspeakEngine(Host.at("/")).load(lambda _: None)
    assert "apt-get install espeak-ng" in caught.value.hint


def test_a_daemon_speaks_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, "espeak") as server:
        server.wait_ready()
        story = server.ready()
        assert story["fallback"] is None
        assert "eSpeak NG" in story["source"]["version"]
        answer = server.speak("Good evening, everybody.", voice="espeak-de")
        samples, rate = soundfile.read(io.BytesIO(answer.content))
        assert rate == SAMPLE_RATE
        assert np.abs(samples).max() > 0.05
        assert answer.headers["x-ishowtts-engine"] == "espeak"
        assert server.stop() == 0
