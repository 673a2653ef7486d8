"""Chunks respect the cap whatever the text, and lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXTS = {
    "english": "The first sentence is here. The second, which is longer, has clauses; and a third! "
    * 4,
    "unpunctuated english": "word after word without any stop whatsoever " * 12,
    "one endless word": "a" * 700,
    "unpunctuated chinese": "今天天气很好我们一起去公园散步" * 27,
    "chinese": "今天天气很好，我们一起去公园散步。明天也许会下雨！" * 10,
    "mixed": "Hello世界 this is混合text " * 20,
    "emoji": "😀" * 90,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("cap", "first"), [(135, None), (135, 40), (48, 17)])
def test_hard_cap_and_nothing_lost(newest: Path, name: str, cap: int, first: int | None) -> None:
    from f5_tts.fast import text

    chunks = text.split(TEXTS[name], cap, first)
    assert all(0 < text.byte_length(chunk) <= cap for chunk in chunks)
    if first is not None:
        assert text.byte_length(chunks[0]) <= first
    assert "".join("".join(chunks).split()) == "".join(TEXTS[name].split())


def test_upstreams_own_chunks_break_the_cap_and_ours_do_not(newest: Path) -> None:
    from f5_tts.fast import text

    endless = TEXTS["unpunctuated chinese"]
    assert [len(chunk) for chunk in text.hard_cap([endless], 135)] == [45] * 9
    assert text.hard_cap(["Short.", "And sweet."], 135) == ["Short.", "And sweet."]


def test_english_words_stay_whole(newest: Path) -> None:
    from f5_tts.fast import text

    words = TEXTS["unpunctuated english"].split()
    chunks = text.split(TEXTS["unpunctuated english"], 60)
    assert [word for chunk in chunks for word in chunk.split()] == words


def test_chinese_breaks_after_punctuation_first(newest: Path) -> None:
    from f5_tts.fast import text

    chunks = text.split(TEXTS["chinese"], 90)
    assert all(chunk[-1] in "，。！" for chunk in chunks)


def test_durations_are_upstreams(newest: Path) -> None:
    from f5_tts.fast import text

    reference = "Some call me nature. "
    assert text.generated_frames(300, reference, "And then there was more.", 1.0) == int(
        300 / 21 * 24
    )
    assert text.generated_frames(300, reference, "And then there was more.", 2.0) == int(
        300 / 21 * 12
    )
    # Upstream slows down what is shorter than ten bytes.
    assert text.generated_frames(300, reference, "Hello", 1.0) == int(300 / 21 * 5 / 0.3)


def test_switches_come_from_the_environment(newest: Path) -> None:
    from f5_tts.fast import switches

    assert switches.read({}).graphs
    assert not switches.read({}).compile
    assert not switches.read({"F5_FAST_GRAPHS": "off"}).graphs
    assert switches.read({"F5_FAST_COMPILE": "1"}).compile
    with pytest.raises(ValueError, match="F5_FAST_GRAPHS='maybe'"):
        switches.read({"F5_FAST_GRAPHS": "maybe"})
