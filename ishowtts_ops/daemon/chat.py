"""Chat made speakable: links, emoji, decorated letters, laughter by the hundred, control codes.

`normalize` keeps what was meant and drops what no voice can say. It never fails and never makes a
text longer than a few characters more; a text with nothing to say becomes empty, and `text.clean`
then refuses it.

`finished` is for engines that speak by example, to which very short texts are a known trouble:
F5-TTS makes noise of a lone digit or of a word without an end.
"""

from __future__ import annotations

import re
import unicodedata

from ishowtts_ops.daemon.text import clean, refuse_long

LETTERS_IN_A_ROW = 3
"""No word of any language has four; `loooool` keeps its stress."""
SYLLABLES_IN_A_ROW = 5
"""`哈哈哈` is laughter, and five of them are as funny as fifty."""
MARKS_IN_A_ROW = 2
"""Stacked accents beyond two are decoration (Vietnamese needs two)."""
WORDS_IN_A_ROW = 3
EMOJI_SPOKEN = 3
SHORT_BYTES = 10
"""Texts of fewer UTF-8 bytes are what F5-TTS has trouble with (upstream's own bound)."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.")
_URL = re.compile(r"(?:(?:https?|ftp)://|\bwww\.)[!#-&(-;=?-~]+", re.IGNORECASE)
_HOST = re.compile(r"^(?:\w+://)?(?:[^/@?#]*@)?(?:www\.)?([^/:?#]+)", re.IGNORECASE)
_TRAILING = ".,;:!?)]}"
_EMOTE = re.compile(r":([A-Za-z][A-Za-z0-9_]{1,30}):")
_MENTION = re.compile(r"(?<!\w)@(\w)")
_HASH = re.compile(r"(?<!\w)#([^\W\d_])")
_LATIN = "A-Za-z\u00c0-\u024f"
_SYLLABLES = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_SEAM = re.compile(rf"(?<=[{_SYLLABLES}])(?=[{_LATIN}])|(?<=[{_LATIN}])(?=[{_SYLLABLES}])")
_LETTER_RUN = re.compile(r"([^\W\d_])\1{3,}", re.IGNORECASE)
_PUNCTUATION_RUN = re.compile(r"([!?！？。，、,;:~～…\-=*+^])\1+")
_MIXED_MARKS = re.compile(r"([!?！？])[!?！？]+")
_DOTS = re.compile(r"\.{2,}|…+|。{2,}")
_WORD_RUN = re.compile(r"\b(\w+)((?:\s+\1\b){3,})", re.IGNORECASE)
_PHRASE_RUN = re.compile(r"([^\W\d]{2,6}?)\1{3,}", re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SINOGRAPH_DIGITS = "零一二三四五六七八九"
_ENDS = ".!?。！？…,，;；:："


def speakable(text: str, most: int, *, chat: bool, by_example: bool, language: str | None) -> str:
    """What an engine is given for a text.

    Args:
        most: code points of the text as sent.
        chat: make it speakable first.
        by_example: the engine speaks by example, so short texts need care.

    Raises:
        BadInput: nothing can be spoken, or the text is too long.
    """
    refuse_long(text, most)
    plain = normalize(text) if chat else text
    ready = clean(plain, max(most, len(plain)))
    return finished(ready, language) if by_example else ready


def normalize(text: str) -> str:
    """Chat as a voice can say it; see the module. `text` may hold anything but lone surrogates."""
    text = _ANSI.sub(" ", text)
    text = "".join(_plain(char) for char in unicodedata.normalize("NFC", text))
    text = _few_marks(text)
    text = _URL.sub(_host, text)
    text = _EMOTE.sub(lambda found: f" {found[1]} ", text)
    text = _HASH.sub(r"\1", _MENTION.sub(r"\1", text)).replace("_", " ")
    text = _emoji(text)
    text = _SEAM.sub(" ", text)
    text = _few_repeats(text)
    return _SPACES.sub(" ", text).strip()


def finished(text: str, language: str | None) -> str:
    """A text that is short enough to be trouble, made a sentence: digits as words where the
    language is known to be English or Chinese, and an end. Longer texts stay as they are."""
    if len(text.encode()) >= SHORT_BYTES:
        return text
    tag = (language or "").split("-")[0].lower()
    if text.isascii() and text.isdigit():
        if tag in ("", "en"):
            text = " ".join(_DIGITS[int(digit)] for digit in text)
        elif tag == "zh":
            text = "".join(_SINOGRAPH_DIGITS[int(digit)] for digit in text)
    if text.endswith(tuple(_ENDS)):
        return text
    return text + ("。" if _is_syllable(text[-1]) else ".")


def _plain(char: str) -> str:
    """Control codes as spaces; fullwidth, circled, squared and mathematical letters and digits as
    the plain ones they stand for. Not all of NFKC, which would turn 。 and ， into other marks."""
    if char.isascii() and char.isprintable():
        return char
    category = unicodedata.category(char)
    if category == "Cc":
        return " "
    if category in ("Cf", "Lo") and not 0xFF66 <= ord(char) <= 0xFF9D:
        return char
    folded = unicodedata.normalize("NFKC", char)
    plain = folded.strip("()")
    return plain if plain and plain.isalnum() else char


def _few_marks(text: str) -> str:
    found: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if marks <= MARKS_IN_A_ROW:
            found.append(char)
    return unicodedata.normalize("NFC", "".join(found))


def _host(found: re.Match[str]) -> str:
    """A link as the name of its place; what ends the sentence is no part of it."""
    link = found[0].rstrip(_TRAILING)
    rest = found[0][len(link) :]
    host = _HOST.match(link)
    return f" {host[1] if host else ''}{rest} "


def _emoji(text: str) -> str:
    """Emoji between words are dropped; where there is nothing else, their names are the text."""
    words = "".join(" " if _is_picture(char) else char for char in text)
    if any(unicodedata.category(char)[0] in "LN" for char in words):
        return words
    names = dict.fromkeys(map(_name, filter(_is_picture, text)))
    return ", ".join([name for name in names if name][:EMOJI_SPOKEN]) or words


def _name(picture: str) -> str:
    """Unicode's name; a flag is two letters, and what only changes another picture has none."""
    if unicodedata.category(picture) != "So":
        return ""
    return unicodedata.name(picture, "").lower().removeprefix("regional indicator symbol letter ")


def _is_picture(char: str) -> bool:
    changes = char in "\u200d\ufe0e\ufe0f\u20e3" or 0x1F3FB <= ord(char) <= 0x1F3FF
    return changes or unicodedata.category(char) == "So"


def _few_repeats(text: str) -> str:
    text = _DOTS.sub(lambda found: "。" if found[0][0] == "。" else "...", text)
    text = _MIXED_MARKS.sub(r"\1", _PUNCTUATION_RUN.sub(r"\1", text))
    text = _LETTER_RUN.sub(_row, text)
    text = _PHRASE_RUN.sub(lambda found: found[1] * WORDS_IN_A_ROW, text)
    return _WORD_RUN.sub(lambda found: " ".join([found[1]] * WORDS_IN_A_ROW), text)


def _row(found: re.Match[str]) -> str:
    longest = SYLLABLES_IN_A_ROW if _is_syllable(found[1]) else LETTERS_IN_A_ROW
    return found[0][:longest]


def _is_syllable(char: str) -> bool:
    return re.match(f"[{_SYLLABLES}]", char) is not None
