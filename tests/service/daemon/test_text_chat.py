"""Chat made speakable, and the regression set of short texts, which real engines have to speak."""

from __future__ import annotations

import io
import shutil
import unicodedata
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.daemon.chat import SHORT_BYTES, finished, normalize, speakable
from ishowtts_ops.daemon.failures import BadInput
from tests.service.daemon.daemon_server import Server, serving

CHAT = [
    ("loooooool that was soooo good!!!!!!", "loool that was sooo good!"),
    ("哈哈哈哈哈哈哈哈哈哈", "哈哈哈哈哈"),
    ("666666666", "666666666"),
    ("it costs 1000000 coins", "it costs 1000000 coins"),
    ("hahahahahahahaha", "hahaha"),
    ("kappa kappa kappa kappa kappa", "kappa kappa kappa"),
    ("what?!?!?!", "what?"),
    ("wait.......", "wait..."),
    ("see https://www.example.com/a/b?c=d, ok?", "see example.com, ok?"),
    ("看这个https://example.com/abc真的好", "看这个 example.com 真的好"),
    ("www.example.org!", "example.org!"),
    ("http://user:secret@example.com:8080/x", "example.com"),
    ("我用GPU跑", "我用 GPU 跑"),
    ("5个", "5个"),
    ("nice 😀👍🏽 one", "nice one"),
    ("😀", "grinning face"),
    ("😀😀😀👍", "grinning face, thumbs up sign"),
    ("👩‍🚀", "woman, rocket"),
    ("🇩🇪", "d, e"),
    ("7️⃣", "7"),
    ("𝓗𝓮𝓵𝓵𝓸 ＨＥＬＬＯ ①", "Hello HELLO 1"),
    ("你好，世界。", "你好，世界。"),
    ("\x1b[31mred\x07 alert\x00", "red alert"),
    ("@some_user #hype :Kappa: hi", "some user hype Kappa hi"),
    ("z\u0338\u0321\u0322\u031ba\u0337\u0353", "z\u0338\u0321a\u0337\u0353"),
    ("Việt Nam ế ệ", "Việt Nam ế ệ"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("Nothing to do here.", "Nothing to do here."),
]


@pytest.mark.parametrize(("text", "spoken"), CHAT)
def test_chat_becomes_speakable(text: str, spoken: str) -> None:
    assert normalize(text) == spoken


@given(st.text() | st.text(alphabet="aA😀.!:@#_hw/ 哈1tp\u0301\x1b[m", max_size=80))
def test_it_never_fails_and_leaves_no_control_code(text: str) -> None:
    spoken = normalize(text)
    assert not any(unicodedata.category(char) == "Cc" for char in spoken)
    assert spoken == " ".join(spoken.split())
    assert len(spoken) <= 3 * len(text) + 150


def test_a_wall_of_one_letter_takes_no_time_and_no_breath() -> None:
    assert normalize("a" * 100_000) == "aaa"
    assert normalize("ab" * 50_000) == "ababab"
    assert normalize("spam " * 20_000) == "spam spam spam"
    assert len(normalize("w" + ":a" * 50_000)) <= 100_001


@pytest.mark.parametrize("chat", [True, False])
def test_it_is_switchable(chat: bool) -> None:
    spoken = speakable("wooooow", 99, chat=chat, by_example=False, language="en")
    assert spoken == ("wooow" if chat else "wooooow")


def test_the_limit_is_of_the_text_as_sent() -> None:
    with pytest.raises(BadInput, match="at most 50"):
        speakable("a" * 51, 50, chat=True, by_example=False, language="en")
    names = speakable("😀👍🎉", 3, chat=True, by_example=False, language="en")
    assert names == "grinning face, thumbs up sign, party popper"


@pytest.mark.parametrize("text", ["", "  ", "?!", "\x07", "🏽"])
def test_what_has_nothing_to_say_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        speakable(text, 99, chat=True, by_example=True, language="en")
    assert (caught.value.code, caught.value.param) == ("input_empty", "input")


# ---- short texts ---------------------------------------------------------------------------------

SHORT = [
    # as sent, language, as an engine that speaks by example is given it
    ("ok", "en", "ok."),
    ("hi!", "en", "hi!"),
    ("gg", "de", "gg."),
    ("7", "en", "seven."),
    ("42", "en", "four two."),
    ("7", "zh", "七。"),
    ("42", "zh-CN", "四二。"),
    ("7", "fr", "7."),
    ("lol", None, "lol."),
    ("5", None, "five."),
    ("好", "zh", "好。"),
    ("好的", "zh", "好的。"),
    ("是吗？", "zh", "是吗？"),
    ("ㅋㅋ", "ko", "ㅋㅋ."),
    ("네", "ko", "네。"),
    ("はい", "ja", "はい。"),
    ("да", "ru", "да."),
    ("a", "en", "a."),
    ("😀", "en", "grinning face"),
    ("👍", "zh", "thumbs up sign"),
]


@pytest.mark.parametrize(("text", "language", "given"), SHORT)
def test_short_texts_become_sentences(text: str, language: str | None, given: str) -> None:
    assert speakable(text, 99, chat=True, by_example=True, language=language) == given


def test_longer_texts_stay_as_they_are() -> None:
    for text in ("0123456789", "no end at all", "三个字的话"):
        assert len(text.encode()) >= SHORT_BYTES
        assert finished(text, "en") == text


@pytest.fixture(scope="module")
def espeak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    with serving(tmp_path_factory.mktemp("short"), "espeak") as running:
        yield running.wait_ready()


SPOKEN = [("ok", "en"), ("7", "en"), ("好", "zh"), ("😀", "en"), ("да", "ru"), ("네", "ko")]


@pytest.mark.parametrize(("text", "language"), SPOKEN)
def test_short_texts_are_heard(espeak: Server, text: str, language: str) -> None:
    answer = espeak.speak(text, voice=f"espeak-{language}", normalize=True)
    assert answer.status_code == 200, answer.text
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    loud = np.abs(samples) > 0.02
    assert loud.any(axis=None) > 0.05 and 0.1 < len(samples) / rate < 4
    assert loud.sum() / rate > 0.03
