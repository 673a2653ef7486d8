"""What is spoken: texts, how long they take, and the voices they are spoken with.

Everything is made from numbers, so that each side makes the same for itself.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 24000
SEED = 1
TRANSCRIPT_PACE = 15  # bytes a second, as usual speech has
SENTENCE = "Some call me nature, others call me mother nature, and I have been here for a while. "

# Of the network. The small one is for machines without a GPU: all of the path, in a second.
SMALL: Mapping[str, Any] = {
    "dim": 128,
    "depth": 2,
    "heads": 2,
    "ff_mult": 2,
    "text_dim": 64,
    "conv_layers": 2,
}
PRESETS: Mapping[str, str | Mapping[str, Any]] = {"full": "F5TTS_v1_Base", "small": SMALL}
# Of the vocoder that goes with a small network; see Synthesizer.load.
SMALL_VOCODER = {"dim": 64, "hidden": 128, "layers": 2}


@dataclass(frozen=True)
class Utterance:
    """One request. `seconds`: how long the speech is made; None leaves that to the text."""

    text: str
    voice: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Work:
    """Utterances that one pass speaks. `reference_s`: length of every voice's clip."""

    name: str
    utterances: tuple[Utterance, ...]
    reference_s: float = 6.0
    nfe: int = 7
    seed: int = SEED

    def total_s(self, utterance: Utterance) -> float | None:
        """Reference and speech; half a frame more, because it is cut to whole frames."""
        if utterance.seconds is None:
            return None
        return self.reference_s + utterance.seconds + 0.005

    def to_json(self) -> dict[str, Any]:
        rows = [[u.text, u.voice, u.seconds] for u in self.utterances]
        return {
            "name": self.name,
            "reference_s": self.reference_s,
            "nfe": self.nfe,
            "seed": self.seed,
            "utterances": rows,
        }


def from_json(body: Any) -> Work:
    """The inverse of `Work.to_json`. ValueError says what is wrong with it."""
    try:
        rows = [Utterance(str(text), int(voice), seconds) for text, voice, seconds in
                body["utterances"]]  # fmt: skip
        made = Work(
            str(body["name"]), tuple(rows), float(body["reference_s"]), int(body["nfe"]),
            int(body["seed"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no work to compare: {error!r}") from None
    if not made.utterances or any(not u.text.strip() for u in made.utterances):
        raise ValueError(f"the work {made.name!r} has nothing to speak")
    return made


def text_of(seconds: float) -> str:
    """English of the usual pace that takes `seconds`."""
    size = int(seconds * TRANSCRIPT_PACE)
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size].strip() + "."


@functools.cache
def clip(seconds: float, number: int = 0) -> NDArray[np.float32]:
    """A clip of noise with an envelope like speech, (samples,) at 24 kHz; each number another."""
    rng = np.random.default_rng(number)
    t = np.arange(int(seconds * RATE)) / RATE
    made = 0.2 * rng.standard_normal(t.size) * (0.6 + 0.3 * np.sin(9 * t))
    return made.astype(np.float32)


# Reference seconds, and seconds of speech; S is 468 frames and M is 1312.
LENGTHS = {"S": (3.0, 2.0), "M": (6.0, 8.0), "R3": (3.0, 8.0), "L": (6.0, 16.0)}
LONG_S = 30.0


def named(name: str) -> Work:
    """S, M, R3 or L (one length), X (30 s in chunks) or mixed. ValueError for another name."""
    if name in LENGTHS:
        reference, seconds = LENGTHS[name]
        return Work(name, (Utterance(text_of(seconds), 0, seconds),), reference)
    if name == "X":
        return Work(name, (Utterance(text_of(LONG_S)),))
    if name == "mixed":
        return Work(name, tuple(_mixed()))
    raise ValueError(f"there is no workload {name!r}; there are {', '.join(LENGTHS)}, X, mixed")


def _mixed() -> Sequence[Utterance]:
    """200 requests of 1.3 to 15.8 s over three voices; every length once, in no order."""
    rows = []
    for number in range(200):
        seconds = 1.3 + 14.5 * ((number * 73 + 11) % 200) / 199
        rows.append(Utterance(text_of(seconds), number % 3, round(seconds, 3)))
    return rows
