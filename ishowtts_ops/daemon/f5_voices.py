"""The F5 engine's voices: prepared once, kept on disk, forgotten when nobody can ask for them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Reference, StartRefused, SynthesisRequest, Voice
from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.prepared import Prepared, PreparedStore
from ishowtts_ops.daemon.voice_store import KeyedReference

log = logging.getLogger(__name__)

SHORTEST_SPEECH_S = 0.2


class F5Voices:
    """Prepared voices by id. On the engine's thread, except `find`.

    Args:
        synthesizer: of the series; it prepares them.
        kind: its type of a prepared voice.
        to_device: a float32 array as a tensor where and as the network wants it.
        usual_rms: the level that references are lifted to unless a request says otherwise.
        folder: where they are kept; None keeps none.
        sources: a digest of the sources that prepare them.
    """

    def __init__(
        self,
        synthesizer: Any,
        kind: Any,
        to_device: Any,
        usual_rms: float,
        folder: Path | None,
        sources: str,
    ) -> None:
        self._synthesizer = synthesizer
        self._kind = kind
        self._to_device = to_device
        self._usual_rms = usual_rms
        weights = synthesizer.engine.weights
        how = f"{sources} {weights.device.type} {weights.dtype}"
        self._store = PreparedStore(folder, how, weights.arch.mel_dim)
        self._voices: dict[str, Any] = {}
        self._keys: dict[str, str] = {}

    def prepare(self, voice: Voice) -> None:
        """Make a voice ready, or find it ready on disk.

        Raises:
            StartRefused: it cannot be used.
        """
        reference = voice.reference
        assert reference is not None, "the engine needs references"
        key = reference.key if isinstance(reference, KeyedReference) else ""
        found = self._store.load(key)
        made = self._made(voice, reference) if found is None else self._revived(found)
        if found is None:
            self._store.keep(key, _to_keep(made))
        for odd in made.warnings:
            log.warning(journal.line("odd voice", voice=voice.id, why=odd))
        self._voices[voice.id] = made
        self._keys[voice.id] = key
        log.info(journal.line("voice is prepared", voice=voice.id, kept=found is not None))

    def _made(self, voice: Voice, reference: Reference) -> Any:
        try:
            return self._synthesizer.voice(reference.samples, reference.sample_rate, reference.text)
        except ValueError as error:
            raise StartRefused(
                f"Voice {voice.id!r} cannot be used: {error}.", "Correct `voices`, then `install`."
            ) from None

    def _revived(self, found: Prepared) -> Any:
        names = [field.name for field in dataclasses.fields(found) if field.name != "mel"]
        facts = {name: getattr(found, name) for name in names}
        return self._kind(mel=self._to_device(found.mel), **facts)

    def find(self, voice_id: str) -> Any:
        """The prepared voice; None when it was forgotten. From any thread."""
        return self._voices.get(voice_id)

    def of(self, request: SynthesisRequest) -> Any:
        """The prepared voice; at another level than usual where the request asks for that, which
        the synthesizer remembers by content.

        Raises:
            BadInput: its `fix_duration` leaves no time for speech.
        """
        tuning, reference = request.tuning, request.voice.reference
        voice = self._voices[request.voice.id]
        if tuning.fix_duration is not None:
            speech_seconds(tuning.fix_duration, voice.seconds)
        if tuning.target_rms in (None, self._usual_rms) or reference is None:
            return voice
        return self._synthesizer.voice(
            reference.samples, reference.sample_rate, reference.text, target_rms=tuning.target_rms
        )

    def keep(self, voices: Sequence[Voice]) -> None:
        """Forget all but these, here and on disk."""
        kept = {voice.id for voice in voices}
        for table in (self._voices, self._keys):
            for lost in [known for known in table if known not in kept]:
                del table[lost]
        self._store.keep_only(set(self._keys.values()))


def _to_keep(voice: Any) -> Prepared:
    mel = voice.mel.detach().float().cpu().numpy()
    names = [field.name for field in dataclasses.fields(Prepared) if field.name != "mel"]
    return Prepared(mel=mel, **{name: getattr(voice, name) for name in names})


def speech_seconds(fixed: float, reference: float) -> float:
    """What `fix_duration` leaves for the speech.

    Raises:
        BadInput: next to nothing.
    """
    if fixed - reference < SHORTEST_SPEECH_S:
        raise BadInput(
            f"`fix_duration` is {fixed:g} s, of which the voice's recording takes {reference:.1f}.",
            "It counts recording and speech together; give more, or leave it out.",
            param="fix_duration",
        )
    return fixed - reference
