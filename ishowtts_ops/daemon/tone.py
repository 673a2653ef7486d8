"""An engine that plays one sine per character: instant, deterministic, and easy to check.

It is for tests and for trying out a box's plumbing. Faults can be asked of it, through the
environment only:

    ISHOWTTS_TONE_FAULT=hang          every synthesis stops for ever
    ISHOWTTS_TONE_FAULT=freeze        it also lets no other Python code of the process run
    ISHOWTTS_TONE_FAULT=raise|nan|silence
    ISHOWTTS_TONE_FAULT=slow:SECONDS  every piece takes that long
    ISHOWTTS_TONE_FAULT=load:SECONDS  loading takes that long, with progress
    ISHOWTTS_TONE_FAULT=text          a text may hold `fault:hang`, `fault:nan`, `fault:slow:2` …
    … fault:late                      the text's other faults begin with its second piece
    … fault:break                     this and every later synthesis fails, as after a CUDA error

Several are joined by commas. Without the variable no text can cause any of them.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator

import numpy as np

from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancel,
    Cancelled,
    Progress,
    Samples,
    StartRefused,
    SynthesisRequest,
    Voice,
)

FAULT_VARIABLE = "ISHOWTTS_TONE_FAULT"
KINDS = ("hang", "raise", "nan", "silence", "slow", "load", "text", "late", "break", "freeze")
CHARACTER_SECONDS = 0.05
PIECE_CHARACTERS = 20
_TEXT_FAULT = re.compile(r"fault:(\w+)(?::([\d.]+))?")


class ToneFault(RuntimeError):
    """Raised because a test asked for it."""


class ToneEngine:
    """See the module."""

    name = "tone"
    device = "cpu"
    needs_reference = False
    builtin: tuple[Voice, ...] = (
        Voice("tone-a", "en", builtin=True),
        Voice("tone-b", "en", builtin=True),
    )

    def __init__(self, faults: str | None = None) -> None:
        """Args:
        faults: as the variable; None reads the variable.
        """
        self.source: dict[str, str | int | float | None] = {"kind": "built in"}
        self._broken = False
        self._faults = _parse(os.environ.get(FAULT_VARIABLE, "") if faults is None else faults)

    def load(self, progress: Progress) -> None:
        _slowly(self._faults.get("load", 0.0), progress)
        progress("tone generator")

    def warm(self, voice: Voice, progress: Progress) -> None:
        progress(f"voice {voice.id}")

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        asked = self._faults_of(request.text)
        self._broken = self._broken or "break" in asked
        for start in range(0, len(request.text), PIECE_CHARACTERS):
            if cancelled():
                raise Cancelled
            faults = {} if "late" in asked and start == 0 else asked
            if "hang" in faults:
                time.sleep(1e6)
            if "freeze" in faults:
                # Backtracks for ever inside C code, without letting go of the interpreter.
                re.match("(a+)+b", "a" * 99)
            if "raise" in faults or self._broken:
                raise ToneFault("a test asked for this failure")
            _slowly(faults.get("slow", 0.0), progress, cancelled)
            progress("tones")
            piece = request.text[start : start + PIECE_CHARACTERS]
            yield _spoil(tones(piece, request.voice.id, request.speed), faults)

    def predict_seconds(self, text: str, voice: Voice, speed: float) -> float:
        return len(text) * CHARACTER_SECONDS / speed

    def close(self) -> None:
        pass

    def _faults_of(self, text: str) -> dict[str, float]:
        if "text" not in self._faults:
            return self._faults
        asked = {kind: float(value or 0) for kind, value in _TEXT_FAULT.findall(text)}
        return {**self._faults, **asked}


def tones(text: str, voice: str, speed: float) -> Samples:
    """Shape (len(text) * frames per character,): a 0.3-loud sine for every character, its pitch
    told by the character and the voice."""
    frames = round(SAMPLE_RATE * CHARACTER_SECONDS / speed)
    shift = hashlib.sha256(voice.encode()).digest()[0]
    pitches = np.array([200.0 + shift + 8 * (ord(char) % 128) for char in text])
    times = np.arange(frames) / SAMPLE_RATE
    waves = 0.3 * np.sin(2 * np.pi * pitches[:, None] * times[None, :])
    return waves.reshape(-1).astype(np.float32)


def _spoil(samples: Samples, faults: dict[str, float]) -> Samples:
    if "nan" in faults:
        samples[len(samples) // 2] = np.nan
    if "silence" in faults:
        samples[:] = 0
    return samples


def _slowly(seconds: float, progress: Progress, cancelled: Cancel = lambda: False) -> None:
    """Take that long, as an engine that works does: progress again and again."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if cancelled():
            raise Cancelled
        progress("working slowly")
        time.sleep(min(left, 0.02))


def _parse(text: str) -> dict[str, float]:
    faults: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        kind, _, value = item.partition(":")
        try:
            faults[kind] = float(value or 0)
        except ValueError:
            kind = ""
        if kind not in KINDS:
            raise StartRefused(
                f"{FAULT_VARIABLE} has {item!r}, which is no fault.",
                f"Faults: {', '.join(KINDS)}; slow and load take seconds (`slow:0.5`).",
            )
    return faults
