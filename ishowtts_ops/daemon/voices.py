"""The voices a daemon offers: those install wrote down, those an engine has built in, and those
that were given to it while it ran. The last win over the others of the same id, and when they are
deleted the others are back."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from ishowtts_ops.config import Manifest, Settings, VoiceEntry
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Engine, StartRefused, Voice
from ishowtts_ops.daemon.failures import UnknownVoice, VoiceConflict
from ishowtts_ops.daemon.voice_store import MOST_VOICES, KeyedReference, VoiceStore, keyed
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

log = logging.getLogger(__name__)

SHORTEST_REFERENCE_S = 0.5
STATE_DIR = "/var/lib/ishowtts-tts"


class Voices:
    """Voices by id, in order; the default one is always among them. Safe from every thread: each
    change makes a new table, and whoever walks the old one ends with it.

    Args:
        voices: those that are always there.
        store: those that were added; None for none.
    """

    def __init__(
        self, voices: Iterable[Voice], default: str, store: VoiceStore | None = None
    ) -> None:
        self._base = {voice.id: voice for voice in voices}
        self.store = store or VoiceStore(None)
        self._lock = threading.Lock()
        self._added = {voice.id: voice for voice in self.store.load()}
        self._all = {**self._base, **self._added}
        self._default = default
        if default not in self._all:
            raise UnknownVoice(default, self.ids)

    def __iter__(self) -> Iterator[Voice]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def ids(self) -> list[str]:
        return list(self._all)

    @property
    def default(self) -> Voice:
        return self._all[self._default]

    def get(self, voice_id: str | None) -> Voice:
        """The voice of that name, the default one for None.

        Raises:
            UnknownVoice: with the voices there are.
        """
        if voice_id is None:
            return self.default
        try:
            return self._all[voice_id]
        except KeyError:
            raise UnknownVoice(voice_id, self.ids) from None

    def baseline(self, voice_id: str) -> Voice | None:
        """The voice that is always there under this id."""
        return self._base.get(voice_id)

    def added(self, voice_id: str) -> Voice | None:
        """The voice that was added under this id."""
        return self._added.get(voice_id)

    def admit(self, voice_id: str) -> None:
        """Raises VoiceConflict where one more voice is one too many."""
        if voice_id not in self._all and len(self._all) >= MOST_VOICES:
            raise VoiceConflict(
                f"There are {MOST_VOICES} voices, which is the limit.",
                "Delete one first.",
                code="too_many_voices",
            )

    def put(self, voice_id: str, language: str | None, reference: KeyedReference) -> Voice:
        """Keep a voice and offer it from now on, in place of the one of the same id.

        Raises:
            VoiceConflict: as `admit`.
            StoreFailed: nothing was changed.
        """
        with self._lock:
            self.admit(voice_id)
            voice = self.store.put(voice_id, language, reference)
            self._added = {**self._added, voice_id: voice}
            self._all = {**self._base, **self._added}
        return voice

    def remove(self, voice_id: str) -> Voice | None:
        """Take an added voice back; returns the one that is there instead.

        Raises:
            UnknownVoice: there is none of this id.
            VoiceConflict: it belongs to the box's configuration, or is the default one.
            StoreFailed: nothing was changed.
        """
        with self._lock:
            self.get(voice_id)
            if voice_id not in self._added:
                raise VoiceConflict(
                    f"The voice {voice_id!r} belongs to the box's configuration.",
                    "Take it out of `voices` there; only added voices can be deleted here.",
                    code="voice_read_only",
                )
            if voice_id == self._default and voice_id not in self._base:
                raise VoiceConflict(
                    f"The voice {voice_id!r} is the default one.",
                    "Choose another default_voice first.",
                    code="voice_is_default",
                )
            self.store.remove(voice_id)
            self._added = {key: v for key, v in self._added.items() if key != voice_id}
            self._all = {**self._base, **self._added}
            return self._base.get(voice_id)


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
    store = VoiceStore(state_folder(settings, host))
    added = [voice.id for voice in store.load()]
    known = [*(voice.id for voice in voices), *added]
    if not known and not problems:
        problems.append(f"The engine `{engine.name}` speaks by recorded voices, and there is none.")
    wanted = settings.default_voice or manifest.default_voice
    if wanted is not None and wanted not in known and not problems:
        names = ", ".join(dict.fromkeys(known))
        problems.append(f"default_voice is {wanted!r}, which is none of the voices: {names}.")
    if problems:
        raise StartRefused(
            " ".join(problems),
            "Correct `voices` and `default_voice` in the configuration, then run "
            "`ishowtts-ops install`.",
        )
    return Voices(voices, wanted or known[0], store)


def state_folder(settings: Settings, host: Host) -> Path | None:
    """Where added voices are kept: `daemon.state_dir` of the configuration, else what systemd made
    for us (StateDirectory=), else its usual place, which is made on a box in a folder only."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if settings.daemon.state_dir is not None:
        folder = host.path(settings.daemon.state_dir)
    else:
        folder = Path(given) if given else host.path(STATE_DIR)
    if not folder.is_dir() and (host.root != Path("/") or settings.daemon.state_dir is not None):
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            log.warning(journal.line("cannot make a folder for voices", why=error.strerror))
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder / "voices"
    log.info(journal.line("no voices can be added: no writable folder", folder=str(folder)))
    return None


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
    return Voice(entry.id, entry.language, keyed(mono, int(rate), entry.text))
