"""Text from callers: checked whole, then brought into the one form that engines are given.

What chat needs on top (links, emoji, laughter by the hundred) is in `chat.py`.
"""

from __future__ import annotations

import re
import unicodedata

from ishowtts_ops.daemon.failures import BadInput

FIELD = "input"
_SPACES = re.compile(r"\s+")
_ASCII_WORD = re.compile(r"[A-Za-z0-9$+<=>^`|~]")
"""ASCII's letters, digits and symbols (L, N and S): what can be spoken."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINERS = "\u200c\u200d"
"""Format characters that carry meaning in Persian, Indic scripts and emoji; all others go."""


def clean(text: str, max_chars: int, field: str = FIELD) -> str:
    """The text to speak: NFC, one space between words, no invisible characters.

    Args:
        max_chars: the limit, in code points of the text as sent, so that it holds for any script.
        field: where the text was, for errors.

    Raises:
        BadInput: with that field.
    """
    refuse_long(text, max_chars, field)
    if text.isascii() and text.isprintable() and _ASCII_WORD.search(text):
        # All of what follows changes nothing here but the spaces.
        return _SPACES.sub(" ", text).strip()
    refuse_surrogates(text, field)
    for position, char in enumerate(text):
        if unicodedata.category(char) == "Cc" and not char.isspace():
            raise BadInput(
                f"`{field}` has a control character (U+{ord(char):04X}) at position {position}.",
                "Remove control characters from the text.",
                param=field,
                code="control_character",
            )
    visible = "".join(
        char for char in text if unicodedata.category(char) != "Cf" or char in _JOINERS
    )
    spoken = _SPACES.sub(" ", unicodedata.normalize("NFC", visible)).strip()
    if not any(unicodedata.category(char)[0] in "LNS" for char in spoken):
        what = "is empty" if not spoken else "has nothing that can be spoken"
        raise BadInput(
            f"`{field}` {what}.", "Send at least one word.", param=field, code=f"{field}_empty"
        )
    return spoken


def refuse_long(text: str, max_chars: int, field: str = FIELD) -> None:
    """Raises BadInput for a text of more code points."""
    if len(text) > max_chars:
        raise BadInput(
            f"`{field}` has {len(text)} characters; at most {max_chars} are spoken at once.",
            "Split the text and send its parts one after another.",
            param=field,
            code=f"{field}_too_long",
        )


def refuse_surrogates(text: str, field: str) -> None:
    """Half of a surrogate pair is no character: it comes from bytes that were not UTF-8 or from a
    lone `\\ud83d` escape.

    Raises:
        BadInput: naming `field`.
    """
    if not text.isascii() and _SURROGATE.search(text):
        raise BadInput(
            f"`{field}` is not valid UTF-8 text.",
            "Encode the request as UTF-8.",
            param=field,
            code="invalid_utf8",
        )


def predict_spoken_seconds(text: str) -> float:
    """Seconds a person would need for the text: about 15 letters a second, and 4.5 of the scripts
    in which one character is one syllable."""
    syllables = sum(_is_syllabic(char) for char in text)
    return syllables / 4.5 + (len(text) - syllables) / 15


def _is_syllabic(char: str) -> bool:
    return (
        "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3"
    )


_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|(?<=[。！？；：])\s*")
_CLAUSE_END = re.compile(r"[,、，]\s*|\s")


def pieces(text: str, longest: int = 200, together: int | None = None) -> list[str]:
    """The text cut at sentence ends into pieces of at most `longest` characters, so that speaking
    it can be watched and given up in between. Short sentences stay together up to `together`
    characters (left out: half of `longest`); a long one is cut at its last comma or space that
    fits, or hard."""
    found: list[str] = []
    limit = longest // 2 if together is None else together
    for sentence in filter(None, _SENTENCE_END.split(text)):
        if found and len(found[-1]) + 1 + len(sentence) <= limit:
            found[-1] = f"{found[-1]} {sentence}"
            continue
        while len(sentence) > longest:
            cut = max(
                (m.end() for m in _CLAUSE_END.finditer(sentence, 1, longest)), default=longest
            )
            found.append(sentence[:cut].strip())
            sentence = sentence[cut:].strip()
        if sentence:
            found.append(sentence)
    return [piece for piece in found if piece]
