"""From text to tokens, and from a long text to chunks that the model can speak."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

# Upstream slows down texts shorter than this (UTF-8 bytes), which otherwise come out clipped.
SHORT_BYTES = 10
SHORT_SPEED = 0.3

_REPLACED = str.maketrans({";": ",", "“": '"', "”": '"', "‘": "'", "’": "'"})
_SENTENCE_END = re.compile(r"(?<=[;:,.!?])\s+|(?<=[；：，。！？、…])")
_CHINESE = ("\u3100", "\u9fff")


def _segments(text: str) -> Iterable[str]:
    """Word segments. Upstream moved from jieba to rjieba; whichever is installed is used."""
    try:
        import rjieba
    except ImportError:
        import jieba  # type: ignore[import-untyped,import-not-found,unused-ignore]

        if not jieba.dt.initialized:
            jieba.default_logger.setLevel(50)
        return list(jieba.cut(text))
    return list(rjieba.cut(text))


def _is_chinese(char: str) -> bool:
    return _CHINESE[0] <= char <= _CHINESE[1]


def to_symbols(text: str) -> list[str]:
    """Vocabulary symbols of `text`: characters, and pinyin with tone numbers for Chinese."""
    from pypinyin import Style, lazy_pinyin

    text = text.translate(_REPLACED)
    symbols: list[str] = []
    # Without a character beyond ASCII the segmenter only finds words and the gaps between them.
    for segment in _segments(text):
        size = len(segment.encode("utf-8"))
        if size == len(segment):
            if symbols and size > 1 and symbols[-1] not in " :'\"":
                symbols.append(" ")
            symbols.extend(segment)
        elif size == 3 * len(segment):
            spoken = lazy_pinyin(segment, style=Style.TONE3, tone_sandhi=True)
            for char, sound in zip(segment, spoken, strict=False):
                if _is_chinese(char):
                    symbols.append(" ")
                symbols.append(sound)
        else:
            for char in segment:
                if ord(char) < 256:
                    symbols.append(char)
                elif _is_chinese(char):
                    symbols.append(" ")
                    symbols.extend(lazy_pinyin(char, style=Style.TONE3, tone_sandhi=True))
                else:
                    symbols.append(char)
    return symbols


class Vocabulary:
    """Symbol to index, read from upstream's vocab.txt (one symbol a line; line 0 is a space)."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        if not lines:
            raise ValueError(f"{path} holds no symbols; give F5-TTS's vocab.txt")
        self._index = {symbol: number for number, symbol in enumerate(lines)}

    def __len__(self) -> int:
        return len(self._index)

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Indices of the symbols; an unknown one is 0, as upstream has it."""
        return [self._index.get(symbol, 0) for symbol in symbols]


@lru_cache(maxsize=4)
def load_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary at `path`, read once per process."""
    return Vocabulary(path)


def byte_length(text: str) -> int:
    return len(text.encode("utf-8"))


def finish_reference_text(text: str) -> str:
    """A transcript that ends as upstream wants it: with `. ` or `。`."""
    text = text.strip()
    if not text:
        raise ValueError("the reference transcript is empty; give the words spoken in the clip")
    if text.endswith("。"):
        return text
    return text + " " if text.endswith(".") else text + ". "


def speed_for(text: str, speed: float) -> float:
    """The speed upstream would speak `text` at: very short texts are slowed down."""
    return SHORT_SPEED if byte_length(text) < SHORT_BYTES else speed


def generated_frames(reference_frames: int, reference_text: str, text: str, speed: float) -> int:
    """Mel frames that `text` will take, at the reference's own rate of bytes per frame."""
    per_byte = reference_frames / byte_length(reference_text)
    return int(per_byte * byte_length(text) / speed_for(text, speed))


def split(text: str, max_bytes: int, first_bytes: int | None = None) -> list[str]:
    """Chunks of at most `max_bytes` UTF-8 bytes (the first of at most `first_bytes`).

    Breaks after sentences, else after clauses, else at spaces, and where there is none of them
    between characters: no chunk is ever longer than the cap, whatever the text.
    """
    if max_bytes < 4:
        raise ValueError(f"max_bytes is {max_bytes}; a single character may need 4")
    pieces = [piece.strip() for piece in _SENTENCE_END.split(text) if piece and piece.strip()]
    chunks: list[str] = []
    current = ""
    cap = max(4, min(first_bytes, max_bytes)) if first_bytes is not None else max_bytes
    for piece in pieces:
        joined = _join(current, piece)
        if byte_length(joined) <= cap:
            current = joined
            continue
        if current:
            chunks.append(current)
            cap = max_bytes
        current = piece
        while byte_length(current) > cap:
            head, current = _cut(current, cap)
            chunks.append(head)
            cap = max_bytes
    if current:
        chunks.append(current)
    return chunks


def hard_cap(chunks: list[str], max_bytes: int) -> list[str]:
    """Upstream's chunks, with those beyond `max_bytes` split further. Others stay untouched.

    Upstream's cap shrinks to nothing as the reference nears 22 s; below 40 bytes it is not kept.
    """
    limit = max(40, max_bytes)
    result: list[str] = []
    for chunk in chunks:
        result.extend(split(chunk, limit) if byte_length(chunk) > limit else [chunk])
    return result


def _join(left: str, right: str) -> str:
    if not left:
        return right
    return f"{left} {right}" if ord(left[-1]) < 128 else left + right


def _cut(text: str, max_bytes: int) -> tuple[str, str]:
    """The longest head within the cap, ending at a space if one is in its second half."""
    used = 0
    end = 0
    for end, char in enumerate(text):  # noqa: B007 - the position is wanted after the loop
        used += byte_length(char)
        if used > max_bytes:
            break
    head = text[:end]
    space = head.rfind(" ")
    if space > 0 and byte_length(head[:space]) >= max_bytes // 2:
        return head[:space].rstrip(), text[space:].lstrip()
    return head.rstrip() or head, text[end:].lstrip()


def rate_warnings(reference_text: str, seconds: float) -> tuple[str, ...]:
    """What is odd about a transcript's pace, as sentences; ValueError if it cannot be right.

    English runs at about 15 bytes/s, Chinese at about 4.5 characters (13 bytes). Generated
    speech copies the pace, so a transcript that does not match its clip spoils every request.
    """
    rate = byte_length(reference_text) / seconds
    if not 1.0 <= rate <= 60.0:
        raise ValueError(
            f"the transcript has {rate:.1f} bytes per second of audio (about 15 is normal): "
            "it does not belong to this clip; give the words that are spoken, and only those"
        )
    if not 7.0 <= rate <= 28.0:
        sentence = (
            f"the transcript has {rate:.1f} bytes per second of audio (about 15 is normal): "
            "check that it says what is spoken in the clip, from beginning to end"
        )
        warnings.warn(sentence, stacklevel=3)
        return (sentence,)
    return ()
