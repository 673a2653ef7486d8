"""Between the worker and an engine: voices go by what they are, not by what they are called.

A voice's id is used again when its recording is replaced, while requests for the old one may still
wait. So the engine is given `id@hash` for an id, and whatever it remembers of a voice belongs to
that content for ever: voices cannot mix. A voice the engine has not seen is prepared before its
first speech, on the engine's thread, so that new ones need no restart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from ishowtts_ops.daemon.engine import (
    Cancel,
    DeviceMemory,
    Engine,
    Progress,
    Samples,
    StartRefused,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.failures import BadVoice
from ishowtts_ops.daemon.text import predict_spoken_seconds
from ishowtts_ops.daemon.voice_store import KeyedReference


class ByContent(Engine):
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        self.inner = engine
        self.name = engine.name
        self.device = engine.device
        self.builtin = engine.builtin
        self.needs_reference = engine.needs_reference
        self.source = engine.source
        self.honours = engine.honours
        self._warm: set[str] = set()

    def load(self, progress: Progress) -> None:
        self.inner.load(progress)
        self.device = self.inner.device

    def warm(self, voice: Voice, progress: Progress) -> None:
        known = content_voice(voice)
        self.inner.warm(known, progress)
        self._warm.add(known.id)

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        yield from self.inner.stream(self._known(request, progress), progress, cancelled)

    def predict_seconds(
        self, text: str, voice: Voice, speed: float, fixed: float | None = None
    ) -> float:
        known = content_voice(voice)
        if known.id not in self._warm:
            return predict_spoken_seconds(text) / speed
        return self.inner.predict_seconds(text, known, speed, fixed)

    def keep(self, voices: Sequence[Voice]) -> None:
        kept = [content_voice(voice) for voice in voices]
        self._warm &= {voice.id for voice in kept}
        self.inner.keep(kept)

    def close(self) -> None:
        self._warm.clear()
        self.inner.close()

    def free(self) -> None:
        self.inner.free()

    def memory(self) -> DeviceMemory | None:
        return self.inner.memory()

    def warm_rest(self, progress: Progress) -> None:
        self.inner.warm_rest(progress)

    def alone(self) -> str | None:
        return self.inner.alone()

    def fingerprint(self) -> str:
        return self.inner.fingerprint()

    def together(self, request: SynthesisRequest, other: SynthesisRequest) -> bool:
        one, two = (_by_content(each) for each in (request, other))
        # Preparing a voice is work of its own; it is done where a failure has one request to blame.
        if not {one.voice.id, two.voice.id} <= self._warm:
            return False
        return self.inner.together(one, two)

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        known = [self._known(request, progress) for request in requests]
        return self.inner.speak_together(known, progress, cancelled)

    def _known(self, request: SynthesisRequest, progress: Progress) -> SynthesisRequest:
        known = _by_content(request)
        if known.voice.id not in self._warm:
            try:
                self.inner.warm(known.voice, progress)
            except StartRefused as refused:
                raise BadVoice(refused.message, param="audio") from None
            self._warm.add(known.voice.id)
        return known


def content_voice(voice: Voice) -> Voice:
    """The voice under a name that no other content ever has."""
    if not isinstance(voice.reference, KeyedReference):
        return voice
    return dataclasses.replace(voice, id=f"{voice.id}@{voice.reference.key}")


def _by_content(request: SynthesisRequest) -> SynthesisRequest:
    return dataclasses.replace(request, voice=content_voice(request.voice))
