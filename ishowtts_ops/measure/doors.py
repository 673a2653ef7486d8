"""Ways to the engine: the running daemon's HTTP, or an engine in this process.

A door speaks one utterance and says how long it took; what happens on the other side is not its
business. The in-process door takes any engine as a function, so that this layer knows no daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

from ishowtts_ops.client import DaemonClient, DaemonRefused
from ishowtts_ops.config import Manifest
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.daemon_health import parse_outcomes
from ishowtts_ops.measure.run import MemoryUse
from ishowtts_ops.measure.workloads import Utterance


@dataclass(frozen=True)
class Spoken:
    """One utterance measured, in seconds."""

    engine_s: float
    total_s: float
    first_audio_s: float
    queue_s: float
    audio_s: float


class Door(Protocol):
    """A way to an engine.

    Attributes:
        name: http or in-process.
        engine, device: as the engine names them.
        voices: ids of the voices there are, the default one first.
        loaded: what the engine was loaded with, where that is not the box's own manifest.
        reference_s: length of every voice's clip, where the voices were made for the purpose.
    """

    name: str
    engine: str
    device: str
    voices: Sequence[str]
    loaded: Manifest | None
    reference_s: float | None

    def speak(self, utterance: Utterance, seed: int, nfe: int | None) -> Spoken:
        """Raises OpsError when it was not spoken."""

    def stream_once(self, utterance: Utterance, seed: int, nfe: int | None) -> float | None:
        """Seconds to the first byte of audio at the caller's end; None where `speak` says so."""

    def memory(self) -> MemoryUse:
        """Bytes held now, as `rss_after`."""

    def others(self) -> str:
        """Who else is using the engine: a clause, or nothing."""


class HttpDoor:
    """The running daemon, as any client meets it.

    Raises:
        OpsError: it does not answer or is not ready.
    """

    name = "http"
    loaded: Manifest | None = None
    reference_s: float | None = None

    def __init__(self, client: DaemonClient, pid: int | None = None) -> None:
        """Args:
        pid: the daemon's process, for its memory.
        """
        now = client.readyz()
        if not now.ready:
            raise OpsError(
                f"The daemon is not ready: {'; '.join(now.reasons) or now.status}.",
                "`ishowtts-ops doctor` says why; `systemctl start ishowtts-tts` starts it.",
            )
        self._client = client
        self._pid = pid
        self._ours = 0
        self._before = self._spoken()
        self.engine = now.engine
        self.device = now.device
        rest = [voice for voice in now.voices if voice != now.default_voice]
        self.voices: Sequence[str] = (now.default_voice, *rest)

    def speak(self, utterance: Utterance, seed: int, nfe: int | None) -> Spoken:
        voice = voice_for(utterance, self.voices)
        # WAV is sent whole, with the timings in its headers; a stream sends headers too early.
        try:
            told = self._client.speak(utterance.text, voice, format="wav", seed=seed, nfe=nfe)
        except DaemonRefused as error:
            raise OpsError(f"The daemon did not speak: {error.message}", error.hint) from None
        self._ours += 1
        timings = told.timings
        if timings is None or not timings.audio_seconds:
            raise OpsError("The daemon gave no timings.", "Is it this release's daemon?")
        return Spoken(
            engine_s=timings.infer,
            total_s=told.total_s,
            first_audio_s=timings.first_audio,
            queue_s=timings.queue,
            audio_s=timings.audio_seconds,
        )

    def stream_once(self, utterance: Utterance, seed: int, nfe: int | None) -> float | None:
        voice = voice_for(utterance, self.voices)
        told = self._client.speak(
            utterance.text, voice, format="pcm", stream=True, seed=seed, nfe=nfe
        )
        self._ours += 1
        return told.first_byte_s

    def memory(self) -> MemoryUse:
        return MemoryUse(rss_after=_rss(self._pid) if self._pid else None)

    def others(self) -> str:
        foreign = self._spoken() - self._before - self._ours
        if foreign > 0:
            return f"others had {foreign} requests answered meanwhile"
        depth = int(self._client.readyz().story.get("queue", {}).get("depth", 0))
        return f"{depth} requests of others are waiting" if depth else ""

    def _spoken(self) -> int:
        return sum(parse_outcomes(self._client.metrics()).values())


class EngineDoor:
    """An engine in this process.

    Args:
        speak: (text, voice, seed, nfe) → pieces of samples at `sample_rate` as they are made.
        device_peak: the GPU allocator's peak in bytes, when it can be asked.
        loaded, reference_s: see Door.
    """

    name = "in-process"

    def __init__(
        self,
        engine: str,
        device: str,
        voices: Sequence[str],
        sample_rate: int,
        speak: Callable[[str, str, int, int | None], Iterator[Any]],
        device_peak: Callable[[], int | None] = lambda: None,
        *,
        loaded: Manifest | None = None,
        reference_s: float | None = None,
    ) -> None:
        self.engine = engine
        self.device = device
        self.voices = voices
        self._rate = sample_rate
        self._speak = speak
        self._device_peak = device_peak
        self.loaded = loaded
        self.reference_s = reference_s

    def speak(self, utterance: Utterance, seed: int, nfe: int | None) -> Spoken:
        voice = voice_for(utterance, self.voices)
        began = time.perf_counter()
        first = 0.0
        frames = 0
        for piece in self._speak(utterance.text, voice, seed, nfe):
            first = first or time.perf_counter() - began
            frames += len(piece)
        total = time.perf_counter() - began
        if not frames:
            raise OpsError(f"The engine {self.engine} made no audio.")
        return Spoken(total, total, first, 0.0, frames / self._rate)

    def stream_once(self, utterance: Utterance, seed: int, nfe: int | None) -> float | None:
        return None

    def memory(self) -> MemoryUse:
        return MemoryUse(rss_after=_rss(None), device_peak=self._device_peak())

    def others(self) -> str:
        return ""


def voice_for(utterance: Utterance, voices: Sequence[str]) -> str:
    """The voice of an utterance among those there are."""
    return utterance.voice or voices[utterance.voice_index % len(voices)]


def _rss(pid: int | None) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
