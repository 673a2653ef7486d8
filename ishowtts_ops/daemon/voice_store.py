"""Voices that were given to the running daemon, kept on disk.

    FOLDER/voices.json          who there is: id, language, transcript, key, when
    FOLDER/voices.before        the list as it was before the last change
    FOLDER/audio/KEY.wav        a recording in the form engines use; KEY is the hash of its content
    FOLDER/aside/KEY.wav        one that was found damaged

No name on disk comes from a request. Every file is written aside and moved into place, audio before
the list that names it, so that whenever the power goes a whole state is left. Recordings were
decoded, brought to one rate and trimmed when they came; that work is never done again. A voice that
is damaged all the same is put aside with the reason, until it is replaced or deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict, ValidationError

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.durable import write_file
from ishowtts_ops.daemon.engine import Reference, Samples, Voice
from ishowtts_ops.daemon.failures import StoreFailed

log = logging.getLogger(__name__)

LIST = "voices.json"
BEFORE = "voices.before"
MOST_VOICES = 64
"""As many as the F5 engine keeps prepared."""


@dataclass(frozen=True)
class KeyedReference(Reference):
    """A reference and the hash of its content, by which an engine may remember it: ids are used
    again for other content, hashes are not."""

    key: str = ""


@dataclass(frozen=True)
class Aside:
    """A voice that is known and cannot be used.

    Attributes:
        why: one sentence.
    """

    id: str
    why: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    language: str | None = None
    text: str
    key: str
    updated_at: str


class _Listing(BaseModel):
    version: int = 1
    voices: list[_Entry] = []


class VoiceStore:
    """See the module. Safe from every thread.

    Args:
        folder: None where there is none to write to: nothing can be added then.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._aside: dict[str, str] = {}

    def load(self) -> list[Voice]:
        """All voices that are whole. What is damaged is put aside, see `asides`; never raises."""
        if self.folder is None:
            return []
        with self._lock:
            voices, used = [], set()
            self._entries, self._aside = {}, {}
            for entry in self._read_list(self.folder):
                self._entries[entry.id] = entry
                try:
                    voices.append(_read(self.folder, entry))
                    used.add(_audio_key(entry))
                except (OSError, ValueError) as error:
                    why = self._aside[entry.id] = _first_line(error)
                    log.error(journal.line("a voice is put aside", voice=entry.id, why=why))
            for voice_id in self._aside:
                # Two transcripts may share a recording.
                if (name := _audio_key(self._entries[voice_id])) not in used:
                    _put_aside(self.folder, name)
            return voices

    @property
    def asides(self) -> list[Aside]:
        """The damaged ones."""
        return [Aside(voice_id, why) for voice_id, why in self._aside.items()]

    def put(self, voice_id: str, language: str | None, reference: KeyedReference) -> Voice:
        """Keep a voice, in place of one of the same id.

        Raises:
            StoreFailed: it could not be written; everything is as before.
        """
        folder = self.ready()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = _Entry(
            id=voice_id,
            language=language,
            text=reference.text,
            key=reference.key,
            updated_at=now,
        )
        with self._lock:
            audio = folder / "audio" / f"{_digest(reference.samples, reference.sample_rate)}.wav"
            self._try(lambda: write_file(audio, _as_wav(reference)))
            self._replace({**self._entries, voice_id: entry})
            self._aside.pop(voice_id, None)
        return Voice(voice_id, language, reference)

    def remove(self, voice_id: str) -> None:
        """Forget a voice; one that is not there is no error.

        Raises:
            StoreFailed: the list could not be written; everything is as before.
        """
        with self._lock:
            self._replace({key: e for key, e in self._entries.items() if key != voice_id})
            self._aside.pop(voice_id, None)

    def updated_at(self, voice_id: str) -> str | None:
        """When a voice came, in ISO 8601; None for one that is not of this store."""
        entry = self._entries.get(voice_id)
        return entry.updated_at if entry else None

    # ---- the disk ----------------------------------------------------------------------------

    def ready(self) -> Path:
        """The folder. Raises StoreFailed where there is none."""
        if self.folder is None:
            raise StoreFailed(
                "The daemon has no folder in which to keep voices.",
                "Set daemon.state_dir in the configuration and start it again.",
            )
        return self.folder

    def _replace(self, entries: dict[str, _Entry]) -> None:
        if entries == self._entries:
            return
        folder = self.ready()
        text = _Listing(voices=list(entries.values())).model_dump_json(indent=1)
        self._try(lambda: _write_list(folder, text.encode()))
        # Only what this list has let go of: what it does not know may be another's to mend.
        used = {_audio_key(entry) for entry in entries.values()}
        for lost in {_audio_key(entry) for entry in self._entries.values()} - used:
            for place in ("audio", "aside"):
                _unlink(folder / place / f"{lost}.wav")
        self._entries = entries

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise StoreFailed(
                f"The voice could not be kept: {error.strerror}.",
                "Look at the disk: df -h /var/lib",
            ) from None

    def _read_list(self, folder: Path) -> list[_Entry]:
        path = folder / LIST
        try:
            return _parse_list(path)
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            log.error(journal.line("the list of voices is damaged", why=_first_line(error)))
        try:
            # Out of the way, and there for whoever wants to mend it.
            path.replace(path.with_suffix(".damaged"))
        except OSError as error:
            log.error(journal.line("it cannot be put aside", why=error.strerror))
        try:
            found = _parse_list(folder / BEFORE)
        except (OSError, ValidationError):
            return []
        log.warning(journal.line("the list before its last change is used", voices=len(found)))
        return found


def _put_aside(folder: Path, key: str) -> None:
    try:
        (folder / "aside").mkdir(exist_ok=True, mode=0o700)
        (folder / "audio" / f"{key}.wav").replace(folder / "aside" / f"{key}.wav")
    except OSError:
        # It is not there, or the disk is not to be written to: it is left out either way.
        return


def _parse_list(path: Path) -> list[_Entry]:
    return _Listing.model_validate_json(path.read_bytes()).voices


def _write_list(folder: Path, data: bytes) -> None:
    with contextlib.suppress(OSError, ValidationError):
        _parse_list(folder / LIST)
        write_file(folder / BEFORE, (folder / LIST).read_bytes())
    write_file(folder / LIST, data)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning(journal.line("cannot remove", file=path.name, why=error.strerror))


def _read(folder: Path, entry: _Entry) -> Voice:
    """Raises OSError or ValueError with what is wrong with it, as a sentence."""
    name = f"{_audio_key(entry)}.wav"
    path = folder / "audio" / name
    if not path.is_file():
        if (folder / "aside" / name).is_file():
            raise ValueError("Its recording was found damaged at an earlier start.")
        raise ValueError("Its recording is gone.")
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (OSError, soundfile.SoundFileError) as error:
        raise ValueError(f"Its recording cannot be read: {_first_line(error)}") from None
    reference = keyed(samples, int(rate), entry.text)
    if reference.key != entry.key:
        raise ValueError("Its recording or transcript is not the one that was kept.")
    return Voice(entry.id, entry.language, reference)


def keyed(samples: Samples, sample_rate: int, text: str) -> KeyedReference:
    """A reference by its content. The key is that of the audio, a dash, and that of the words."""
    words = hashlib.sha256(text.encode()).hexdigest()[:16]
    key = f"{_digest(samples, sample_rate)}-{words}"
    return KeyedReference(samples, sample_rate, text, key)


def _audio_key(entry: _Entry) -> str:
    name = entry.key.split("-")[0]
    # Only what we could have written ourselves is ever part of a path.
    return name if len(name) == 64 and name.isalnum() else "none"


def _digest(samples: Samples, sample_rate: int) -> str:
    total = hashlib.sha256(f"{sample_rate}\n".encode())
    total.update(np.ascontiguousarray(samples, dtype=np.float32).tobytes())
    return total.hexdigest()


def _as_wav(reference: Reference) -> bytes:
    """Float samples, so that what is read back is bit for bit what was judged."""
    buffer = io.BytesIO()
    soundfile.write(buffer, reference.samples, reference.sample_rate, "FLOAT", format="WAV")
    return buffer.getvalue()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
