"""Speech by espeak-ng: a light voice for the CPU with no model to download, and what speaks while
a larger engine is not there. It runs as a program of its own, one piece of text at a time."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator

import numpy as np
import soxr  # type: ignore[import-untyped]

from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancel,
    Cancelled,
    Engine,
    Progress,
    Samples,
    StartRefused,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.text import pieces, predict_spoken_seconds
from ishowtts_ops.errors import OpsError, ToolMissing
from ishowtts_ops.host import Host

PROGRAM = "espeak-ng"
WORDS_PER_MINUTE = 175
"""espeak-ng's own default pace."""
PIECE_TIMEOUT_S = 20.0
ENVIRONMENT = {"XDG_CONFIG_HOME": "/dev/null", "XDG_RUNTIME_DIR": "/dev/null"}
"""espeak-ng is linked with PulseAudio's client, which makes folders below these as soon as it runs.
Nothing is played here, and below a device it can make none."""
LANGUAGES = ("en", "zh", "de", "es", "fr", "it", "ja", "ko", "pt", "ru")
_ESPEAK_NAMES = {"en": "en-us", "zh": "cmn", "pt": "pt-br"}
"""Where espeak-ng's name of a language is not its two letters."""
_SCRIPTS = (
    ("\u3040", "\u30ff", "ja"),
    ("\uac00", "\ud7a3", "ko"),
    ("\u3400", "\u9fff", "zh"),
    ("\u0400", "\u04ff", "ru"),
)


class EspeakEngine(Engine):
    """See the module."""

    name = PROGRAM.removesuffix("-ng")
    device = "cpu"
    needs_reference = False
    builtin = tuple(Voice(f"espeak-{code}", code, builtin=True) for code in LANGUAGES)

    def __init__(self, host: Host) -> None:
        self._host = host
        self.source: dict[str, str | int | float | None] = {"kind": PROGRAM}
        self._known: frozenset[str] = frozenset()

    def load(self, progress: Progress) -> None:
        progress(f"asking {PROGRAM} for its version")
        try:
            version = _ask(self._host, [PROGRAM, "--version"])
        except ToolMissing as missing:
            raise StartRefused(missing.message, f"Run `apt-get install {PROGRAM}`.") from None
        self.source["version"] = version.decode(errors="replace").split("  ")[0].strip()
        listed = _ask(self._host, [PROGRAM, "--voices"])
        rows = listed.decode(errors="replace").splitlines()[1:]
        tags = {row.split()[1] for row in rows}
        # `fr` is understood where only `fr-fr` is listed.
        self._known = frozenset(tags | {tag.split("-")[0] for tag in tags})

    def warm(self, voice: Voice, progress: Progress) -> None:
        progress(f"voice {voice.id}")

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        argv = [PROGRAM, "--stdout", "--stdin", "-b", "1"]
        argv += ["-v", self._name(request)]
        argv += ["-s", str(round(WORDS_PER_MINUTE * request.speed))]
        for piece in pieces(request.text):
            if cancelled():
                raise Cancelled
            spoken = _ask(self._host, argv, piece)
            progress("speaking")
            yield decode(spoken)

    def predict_seconds(
        self, text: str, voice: Voice, speed: float, fixed: float | None = None
    ) -> float:
        return predict_spoken_seconds(text) / speed

    def close(self) -> None:
        pass

    def _name(self, request: SynthesisRequest) -> str:
        """espeak-ng's name of the voice's language. A voice whose language is not given, or not
        known here, is read by the script of the text: an English voice would only spell Chinese
        characters out as `Chinese letter`."""
        tag = (request.voice.language or "").lower()
        for code in (tag, tag.split("-")[0], _script(request.text)):
            name = _ESPEAK_NAMES.get(code, code)
            if name in self._known:
                return name
        return _ESPEAK_NAMES["en"]


def _ask(host: Host, argv: list[str], text: str = "") -> bytes:
    return host.pipe_here(argv, text.encode(), timeout=PIECE_TIMEOUT_S, env=ENVIRONMENT)


def available(host: Host) -> bool:
    """True when espeak-ng can be run."""
    try:
        _ask(host, [PROGRAM, "--version"])
    except OpsError:
        return False
    return True


def decode(wav: bytes) -> Samples:
    """espeak-ng's WAV (16-bit mono; its header promises more than follows, since it was written to
    a pipe) as float samples at SAMPLE_RATE."""
    with wave.open(io.BytesIO(wav)) as file:
        rate = file.getframerate()
        raw = file.readframes(file.getnframes())
    samples = np.frombuffer(raw[: len(raw) // 2 * 2], dtype="<i2").astype(np.float32) / 32768
    resampled = soxr.resample(samples, rate, SAMPLE_RATE)
    return np.asarray(resampled, dtype=np.float32)


def _script(text: str) -> str:
    for first, last, code in _SCRIPTS:
        if any(first <= char <= last for char in text):
            return code
    return "en"
