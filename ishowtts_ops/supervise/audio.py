"""Does an answer hold something that can be heard?"""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import soundfile

SILENCE_PEAK = 1e-4
"""Below -80 dBFS nothing is heard."""
SHORTEST_S = 0.05
"""No word is shorter; what is, was cut off or never made."""


class NotHeard(Exception):
    """The answer holds no speech; the message says why."""


def hear(body: bytes, content_type: str) -> float:
    """Listen to an answer.

    Args:
        body: a file that libsndfile reads (WAV, FLAC, Ogg), or iShowTTS's JSON with `audio_base64`.

    Returns:
        seconds of audio.

    Raises:
        NotHeard: it is no audio, too short, silent, or not made of numbers.
    """
    raw = body if content_type.startswith("audio/") or body[:4] == b"RIFF" else _from_json(body)
    if not raw:
        raise NotHeard("the answer's audio is empty")
    try:
        samples, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        raise NotHeard("the answer's audio cannot be read") from None
    seconds = len(samples) / rate
    if seconds < SHORTEST_S:
        raise NotHeard(f"the answer's audio is {seconds:.3g} s long")
    if not np.isfinite(samples).all():
        raise NotHeard("the answer's audio is not made of finite numbers")
    # A constant offset has a magnitude and cannot be heard.
    peak = float(np.abs(samples - samples.mean(axis=0)).max())
    if peak < SILENCE_PEAK:
        raise NotHeard(f"the answer's audio is silent (peak {peak:.2g} of 1)")
    return float(seconds)


def _from_json(body: bytes) -> bytes:
    try:
        text = json.loads(body)["audio_base64"]
        return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, TypeError):
        raise NotHeard("the answer holds no audio") from None
