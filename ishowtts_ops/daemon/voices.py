"""The voices a daemon offers: those install wrote down, and those an engine has built in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soundfile

from ishowtts_ops.config import Manifest, Settings, VoiceEntry
from ishowtts_ops.daemon.engine import Engine, Reference, StartRefused, Voice
from ishowtts_ops.daemon.failures import UnknownVoice
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

SHORTEST_REFERENCE_S = 0.5


class Voices:
    """Voices by id, in order; the default one is always among them."""

    def __init__(self, voices: Iterable[Voice], default: str) -> None:
        self._voices = {voice.id: voice for voice in voices}
        self.default = self._voices[default]

    def __iter__(self) -> Iterator[Voice]:
        return iter(self._voices.values())

    def __len__(self) -> int:
        return len(self._voices)

    @property
    def ids(self) -> list[str]:
        return list(self._voices)

    def get(self, voice_id: str | None) -> Voice:
        """The voice of that name, the default one for None.

        Raises:
            UnknownVoice: with the voices there are.
        """
        if voice_id is None:
            return self.default
        try:
            return self._voices[voice_id]
        except KeyError:
            raise UnknownVoice(voice_id, self.ids) from None


def load_voices(settings: Settings, manifest: Manifest, engine: Engine, host: Host) -> Voices:
    """The voices of this box for this engine.

    Raises:
        StartRefused: a recording cannot be used, there is no voice at all, or the default is none
            of them; all problems at once.
    """
    problems: list[str] = []
    voices: list[Voice] = []
    for entry in manifest.voices or settings.voices:
        try:
            voices.append(_voice(entry, host) if engine.needs_reference else _name_only(entry))
        except OpsError as error:
            problems.append(error.message)
    taken = {voice.id for voice in voices}
    voices += [voice for voice in engine.builtin if voice.id not in taken]
    if not voices and not problems:
        problems.append(f"The engine `{engine.name}` speaks by recorded voices, and there is none.")
    wanted = settings.default_voice or manifest.default_voice
    if wanted is not None and wanted not in {voice.id for voice in voices} and not problems:
        known = ", ".join(voice.id for voice in voices)
        problems.append(f"default_voice is {wanted!r}, which is none of the voices: {known}.")
    if problems:
        raise StartRefused(
            " ".join(problems),
            "Correct `voices` and `default_voice` in the configuration, then run "
            "`ishowtts-ops install`.",
        )
    return Voices(voices, wanted or voices[0].id)


def _name_only(entry: VoiceEntry) -> Voice:
    return Voice(entry.id, entry.language)


def _voice(entry: VoiceEntry, host: Host) -> Voice:
    where = f"The recording of voice {entry.id!r}, {entry.audio},"
    try:
        samples, rate = soundfile.read(host.path(entry.audio), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise OpsError(f"{where} cannot be read: {error}.") from None
    mono = np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32)
    if len(mono) < SHORTEST_REFERENCE_S * rate:
        raise OpsError(f"{where} is {len(mono) / rate:.2f} s long; it must be at least 0.5 s.")
    if not np.isfinite(mono).all() or not np.abs(mono).max() > 1e-3:
        raise OpsError(f"{where} is silent or broken.")
    return Voice(entry.id, entry.language, Reference(mono, int(rate), entry.text))
