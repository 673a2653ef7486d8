"""What a benchmark says: fixed texts, so that two runs have done the same work.

The named workloads are those of the project's measurements. A text is sized in bytes: F5-TTS makes
speech in proportion to them, about 15 a second for a voice whose transcript fits its clip, so "8 s"
means 120 bytes. What comes out is measured, never assumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ishowtts_ops.errors import UsageError

OWN = "own"
"""What a run of the user's own texts is called."""
BYTES_PER_SECOND = 15
FRAMES_PER_SECOND = 93.75
SEED = 20250930
"""Of the noise: the same seed gives the same speech, so every pass does the same work."""
LONGEST_PIECE_S = 22.0
"""Upstream's limit on reference and speech together; longer texts are spoken in pieces."""

_PASSAGE = (
    "Welcome back to the stream, everyone, and thank you for waiting while we set things up. "
    "Tonight we are going to look at the map that so many of you asked about, and then we will "
    "play two rounds with whoever is in the chat. If you have a question, write it down and it "
    "will be read aloud, one after another, in the order in which they came. Somebody wants to "
    "know how long this took to build: about three weeks, most of them spent on small details "
    "that nobody will ever notice. Please be kind to each other, keep the jokes friendly, and "
    "remember to drink some water while you are here. "
)


@dataclass(frozen=True)
class Utterance:
    """One request: a text and who speaks it.

    Attributes:
        voice: an id; None is the box's default voice.
        voice_index: with no id, which of the box's voices by number, counted round.
        seconds: how long the speech is meant to be; kept exactly where sides are compared in
            process (`bench run --compare`). None leaves it to the text.
    """

    text: str
    voice: str | None = None
    voice_index: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Workload:
    """A list of utterances; one *pass* speaks each of them once.

    Attributes:
        reference_s: length of the reference clip it is meant for, where an engine is fed one made
            for the purpose; the daemon's door uses the box's own voices.
        seed, nfe: sent with every request; nfe None is the engine's own setting.
    """

    name: str
    title: str
    utterances: tuple[Utterance, ...]
    reference_s: float = 6.0
    seed: int = SEED
    nfe: int | None = None

    @property
    def key(self) -> str:
        """Tells workloads apart by content; runs are only compared under the same key."""
        body = [self.seed, self.nfe, self.reference_s]
        rows = [[u.text, u.voice, u.voice_index] for u in self.utterances]
        return hashlib.sha256(json.dumps([body, rows]).encode()).hexdigest()[:16]

    def to_compare(self, default_nfe: int) -> dict[str, Any]:
        """As `f5_tts.fast.compare` reads it."""
        return {
            "name": self.name,
            "reference_s": self.reference_s,
            "nfe": self.nfe or default_nfe,
            "seed": self.seed,
            "utterances": [[u.text, u.voice_index, u.seconds] for u in self.utterances],
        }


def passage(size: int, start: int = 0) -> str:
    """Text of exactly `size` bytes of plain English, cut at a word and ended with a full stop.

    Args:
        start: where in the passage to begin, in words: different texts of one size.
    """
    words = _PASSAGE.split()
    if size < 2:
        raise ValueError(f"a text of {size} bytes cannot end with a full stop")
    chosen: list[str] = []
    length = 0
    at = start
    while length + 1 + len(word := words[at % len(words)]) <= size - 1:
        chosen.append(word)
        length += len(word) + (1 if len(chosen) > 1 else 0)
        at += 1
    text = " ".join(chosen).rstrip(",.:;")
    # Filled up with a last word, so that the size is exact and with it the work.
    gap = size - 1 - len(text)
    text += (" " + "so" * gap)[:gap] if gap > 1 else "s" * gap
    return text + "."


def _single(name: str, title: str, seconds: float, reference_s: float) -> Workload:
    text = passage(round(seconds * BYTES_PER_SECOND))
    whole = seconds + reference_s <= LONGEST_PIECE_S
    return Workload(
        name, title, (Utterance(text, seconds=seconds if whole else None),), reference_s
    )


def _mixed() -> Workload:
    """200 requests over three voices; with a 3 s to 6 s reference N lies in 400 to 2048 frames."""
    rows = []
    for number in range(200):
        # A full-period walk over 1.3 s to 15.8 s: every length once, in no order, and no RNG whose
        # stream a release of numpy could change.
        step = (number * 73 + 11) % 200
        seconds = 1.3 + 14.5 * step / 199
        size = round(seconds * BYTES_PER_SECOND)
        text = passage(size, start=number * 7)
        rows.append(Utterance(text, voice_index=number % 3, seconds=round(seconds, 3)))
    return Workload("mixed", "200 requests of 1.3 to 16 s, three voices", tuple(rows))


def named() -> dict[str, Workload]:
    """The workloads that have names, by name."""
    every = (
        _single("S", "about 2 s of speech", 2, 3.0),
        _single("M", "about 8 s of speech", 8, 6.0),
        _single("L", "about 16 s of speech", 16, 6.0),
        _single("R3", "about 8 s of speech after a short reference", 8, 3.0),
        _single("X", "about 30 s of speech, in chunks", 30, 6.0),
        _mixed(),
    )
    return {workload.name: workload for workload in every}


def kept_name(name: str) -> str:
    """The name under which runs of a workload are kept.

    Raises:
        UsageError: there is no such workload.
    """
    names = [*named(), OWN]
    found = next((one for one in names if one.lower() == name.lower()), None)
    if found is None:
        raise UsageError(f"There is no workload {name!r}.", f"Give one of {', '.join(names)}.")
    return found


def choose(
    name: str, texts: Sequence[str] = (), voice: str | None = None, nfe: int | None = None
) -> Workload:
    """A named workload, or one of the user's own texts; `voice` speaks all of it.

    Raises:
        UsageError: no such workload, or a text is empty.
    """
    if texts:
        if any(not text.strip() for text in texts):
            raise UsageError("A text to measure is empty.", "Give --text some words.")
        rows = tuple(Utterance(text, voice) for text in texts)
        count = "your own text" if len(rows) == 1 else f"{len(rows)} texts of your own"
        return Workload(OWN, count, rows, nfe=nfe)
    known = {key.lower(): workload for key, workload in named().items()}
    chosen = known.get(name.lower())
    if chosen is None:
        raise UsageError(
            f"There is no workload {name!r}.", f"Workloads: {', '.join(named())}; or give --text."
        )
    if voice is None and nfe is None:
        return chosen
    rows = tuple(
        replace(u, voice=voice or u.voice, voice_index=0 if voice else u.voice_index)
        for u in chosen.utterances
    )
    return Workload(chosen.name, chosen.title, rows, chosen.reference_s, chosen.seed, nfe)
