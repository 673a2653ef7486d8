"""An engine that plays one sine per character: instant, deterministic, and easy to check.

It is for tests and for trying out a box's plumbing. Faults can be asked of it, through the
environment only:

    ISHOWTTS_TONE_FAULT=hang          every synthesis stops for ever
    ISHOWTTS_TONE_FAULT=freeze        it also lets no other Python code of the process run
    ISHOWTTS_TONE_FAULT=raise|nan|silence
    ISHOWTTS_TONE_FAULT=slow:SECONDS  every piece takes that long
    ISHOWTTS_TONE_FAULT=load:SECONDS  loading takes that long, with progress
    ISHOWTTS_TONE_FAULT=text          a text may hold `fault:hang`, `fault:nan`, `fault:slow:2` …
    ISHOWTTS_TONE_FAULT=leak:MB       every synthesis keeps that much memory for ever
    ISHOWTTS_TONE_FAULT=vram:MB       … and says that it is the device's (which is not there)
    ISHOWTTS_TONE_FAULT=rest:SECONDS  it still has that long to prepare once it is ready
    … fault:oom:N                     out of memory for texts of more than N characters, for good
    … fault:cuda                      the device is lost, as after a CUDA error
    … fault:late                      the text's other faults begin with its second piece
    … fault:break                     this and every later synthesis fails, as after a CUDA error

Several are joined by commas. Without the variable no text can cause any of them.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence

import numpy as np

from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancel,
    Cancelled,
    DeviceLost,
    DeviceMemory,
    Engine,
    OutOfMemory,
    Progress,
    Samples,
    StartRefused,
    SynthesisRequest,
    Voice,
)

FAULT_VARIABLE = "ISHOWTTS_TONE_FAULT"
KINDS = (
    "hang", "raise", "nan", "silence", "slow", "load", "text", "late", "break", "freeze",
    "leak", "vram", "rest", "oom", "cuda",
)  # fmt: skip
CHARACTER_SECONDS = 0.05
PIECE_CHARACTERS = 20
_TEXT_FAULT = re.compile(r"fault:(\w+)(?::([\d.]+))?")


class ToneFault(RuntimeError):
    """Raised because a test asked for it."""


class ToneEngine(Engine):
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
        self._leaked: list[bytearray] = []
        self._device_bytes = 0
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
        self._leak(asked)
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
            if "cuda" in faults:
                raise DeviceLost("CUDA error: a test asked for this failure")
            if "oom" in faults and len(request.text) > faults["oom"]:
                raise OutOfMemory("CUDA out of memory: a test asked for this failure")
            _slowly(faults.get("slow", 0.0), progress, cancelled)
            progress("tones")
            piece = request.text[start : start + PIECE_CHARACTERS]
            yield _spoil(tones(piece, request.voice.id, request.speed), faults)

    def predict_seconds(
        self, text: str, voice: Voice, speed: float, fixed: float | None = None
    ) -> float:
        return len(text) * CHARACTER_SECONDS / speed

    def close(self) -> None:
        pass

    def memory(self) -> DeviceMemory | None:
        if "vram" not in self._faults:
            return None
        return DeviceMemory(self._device_bytes, self._device_bytes)

    def warm_rest(self, progress: Progress) -> None:
        _slowly(self._faults.get("rest", 0.0), progress)

    def together(self, request: SynthesisRequest, other: SynthesisRequest) -> bool:
        return request.speed == other.speed

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        return [np.concatenate(list(self.stream(one, progress, cancelled))) for one in requests]

    def _leak(self, faults: dict[str, float]) -> None:
        if "leak" in faults:
            # Written to, since memory that nobody touched is not there yet.
            self._leaked.append(bytearray(b"x") * int(faults["leak"] * 1e6))
        self._device_bytes += int(faults.get("vram", 0.0) * 1e6)

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
