"""The reference recordings of the manifest's voices: length, level, clipping, silence, and how fast
their transcript is spoken.

F5-TTS makes speech in proportion to its text at the reference's own rate, so a transcript that does
not fit its recording slows or hurries everything that the voice says: about 15 characters a second
are normal, 6.7 were seen where half of the transcript was missing. F5-TTS reads 12 s of a recording
at most.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ishowtts_ops.config import MANIFEST_PATH, Manifest
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ_S = 60.0
"""So much of a recording is looked at."""
FULL_SCALE = 0.999
FRAME_S = 0.02
QUIET_DB = -45.0
"""A frame this far below the loudest one is silence."""
_WIDE = 0x2E80
_WIDE_WEIGHT = 3
"""CJK characters, from here on, stand for a syllable and count as three letters: as many as their
bytes in UTF-8, which is what F5-TTS counts."""


@dataclass(frozen=True)
class Recording:
    """What is in a file. Levels are decibels below full scale.

    Attributes:
        clipped: share of samples at full scale, 0 to 1.
        silent: share of 20 ms frames that are silence, 0 to 1.
        rms_db: of the frames that are not; -inf for digital silence.
    """

    seconds: float
    sample_rate: int
    channels: int
    clipped: float
    silent: float
    rms_db: float


@dataclass(frozen=True)
class VoiceSample:
    """A voice of the manifest."""

    id: str
    audio: str
    text: str
    recording: Maybe[Recording]

    @property
    def rate(self) -> Maybe[float]:
        """Characters a second."""
        if isinstance(self.recording, Unknown):
            return self.recording
        return letters(self.text) / self.recording.seconds


@dataclass(frozen=True)
class VoiceFacts:
    """All voices of the manifest; none where there is no manifest."""

    voices: tuple[VoiceSample, ...]


def read_voices(host: Host) -> Maybe[VoiceFacts]:
    """Look at every voice's recording. A manifest that is missing or damaged has no voices here:
    that is told elsewhere."""
    text = sysfs.text(host, MANIFEST_PATH)
    try:
        told = Manifest.model_validate(json.loads(text)) if isinstance(text, str) else Manifest()
    except (ValueError, ValidationError, RecursionError):
        told = Manifest()
    return VoiceFacts(
        tuple(VoiceSample(v.id, v.audio, v.text, _recording(host, v.audio)) for v in told.voices)
    )


def letters(text: str) -> int:
    """A transcript's length, in letters of an alphabet."""
    return sum(_WIDE_WEIGHT if ord(letter) >= _WIDE else 1 for letter in text.strip())


def _recording(host: Host, box_path: str) -> Maybe[Recording]:
    # numpy and libsndfile take a tenth of a second to load, which only those who ask shall pay.
    import soundfile

    real = host.path(box_path)
    if not real.is_file():
        return Unknown(f"{box_path} is not there")
    try:
        return _measure(real, soundfile)
    except (soundfile.SoundFileError, OSError, ValueError):
        return Unknown(f"{box_path} is no recording that can be read")


def _measure(real: Path, soundfile: Any) -> Maybe[Recording]:
    with soundfile.SoundFile(str(real)) as file:
        rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
        samples = file.read(int(READ_S * rate), dtype="float32", always_2d=True)
    if rate <= 0 or not len(samples):
        return Unknown(f"{real.name} holds no sound")
    clipped, silent, rms_db = levels(samples, rate)
    return Recording(frames / rate, rate, channels, clipped, silent, rms_db)


def levels(samples: NDArray[np.float32], rate: int) -> tuple[float, float, float]:
    """`clipped`, `silent` and `rms_db` of samples [frames, channels] at `rate` Hz."""
    import numpy as np

    clean = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    clipped = float(np.mean(np.abs(clean) >= FULL_SCALE))
    size = max(1, round(rate * FRAME_S))
    mono = clean.mean(axis=1)
    count = max(1, len(mono) // size)
    frames = mono[: count * size].reshape(count, -1)
    loud = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    peak = float(loud.max())
    if peak <= 0.0:
        return clipped, 1.0, -math.inf
    speech = loud > peak * 10 ** (QUIET_DB / 20)
    rms = float(np.sqrt(np.mean(np.square(loud[speech]))))
    return clipped, float(np.mean(~speech)), 20 * math.log10(rms)
