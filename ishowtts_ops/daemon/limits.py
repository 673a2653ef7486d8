"""What one request may ask for, and how it is made smaller when the device has no room for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancel,
    Engine,
    Progress,
    Samples,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.text import pieces

SMALL_CHARACTERS = 60
"""About four seconds of speech: the activations of the model grow with it, its weights do not."""
PAUSE_S = 0.08
"""Between pieces that were spoken apart."""


def predicted(
    engine: Engine,
    text: str,
    voice: Voice,
    speed: float,
    most: float,
    fixed: float | None = None,
) -> float:
    """Seconds of speech, by prediction: a limit that holds for any script, unlike characters.

    Args:
        fixed: the request's `fix_duration`, for engines that honour it.

    Raises:
        BadInput: more than `most`.
    """
    heard = fixed if "fix_duration" in engine.honours else None
    seconds = engine.predict_seconds(text, voice, speed, heard)
    if seconds > most:
        raise BadInput(
            f"`input` would take about {seconds:.0f} s to speak; the limit is {most:.0f} s.",
            "Split the text and send its parts one after another.",
            param="input",
            code="input_too_long",
        )
    return seconds


def in_smaller_pieces(
    engine: Engine, request: SynthesisRequest, progress: Progress, cancelled: Cancel
) -> Iterator[Samples]:
    """As `Engine.stream`, cut into short texts with a short pause in between."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), dtype=np.float32)
    # The length that was asked for is that of the whole.
    tuning = dataclasses.replace(request.tuning, fix_duration=None)
    for number, text in enumerate(pieces(request.text, SMALL_CHARACTERS)):
        if number:
            yield pause
        piece = dataclasses.replace(request, text=text, tuning=tuning)
        yield from engine.stream(piece, progress, cancelled)
