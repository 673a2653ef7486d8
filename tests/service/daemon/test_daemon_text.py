"""Text from callers."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.text import clean, pieces, predict_spoken_seconds


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("  two\n\nlines\t and  tabs ", "two lines and tabs"),
        ("\ufeffbyte order mark", "byte order mark"),
        ("right\u202eleft", "rightleft"),
        ("cafe\u0301", "café"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("你好，世界", "你好，世界"),
        ("7", "7"),
        ("😀", "😀"),
    ],
)
def test_text_is_brought_into_one_form(text: str, spoken: str) -> None:
    assert clean(text, 100) == spoken


def test_the_limit_is_in_characters_of_any_script() -> None:
    assert clean("字" * 100, 100) == "字" * 100
    with pytest.raises(BadInput) as caught:
        clean("字" * 101, 100)
    assert caught.value.code == "input_too_long"


def test_a_control_character_is_named_with_its_place() -> None:
    with pytest.raises(BadInput) as caught:
        clean("ab\x1b[31m", 100)
    assert "U+001B" in caught.value.message
    assert "position 2" in caught.value.message


@given(st.text())
def test_what_is_clean_stays_as_it_is(text: str) -> None:
    try:
        spoken = clean(text, 1000)
    except BadInput as refused:
        assert refused.param == "input"
        return
    assert clean(spoken, 1000) == spoken
    assert spoken == " ".join(spoken.split())
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in spoken)


@given(
    st.text(alphabet="ab .,!。，字", max_size=600).map(lambda t: " ".join(t.split())),
    st.integers(10, 200),
)
def test_pieces_lose_nothing_and_keep_their_limit(text: str, longest: int) -> None:
    found = pieces(text, longest)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert all(0 < len(piece) <= longest for piece in found)


def test_pieces_end_where_sentences_do() -> None:
    text = "One sentence is here. Another, longer one follows it! 又一句。"
    assert pieces(text, 40) == [
        "One sentence is here.",
        "Another, longer one follows it!",
        "又一句。",
    ]


def test_prediction_knows_that_a_chinese_character_is_a_syllable() -> None:
    assert predict_spoken_seconds("a" * 150) == pytest.approx(10)
    assert predict_spoken_seconds("字" * 45) == pytest.approx(10)
