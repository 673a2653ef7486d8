"""Voices that were given to the running daemon, kept on disk.

    FOLDER/voices.json          who there is: id, language, transcript, key, when
    FOLDER/audio/KEY.wav        a recording in the form engines use; KEY is the hash of its content

No name on disk comes from a request. Every file is written aside and moved into place, audio before
the list that names it, so that whenever the power goes a whole state is left. Recordings were
decoded, brought to one rate and trimmed when they came; that work is never done again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict, ValidationError

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Reference, Samples, Voice
from ishowtts_ops.daemon.failures import StoreFailed

log = logging.getLogger(__name__)

LIST = "voices.json"
MOST_VOICES = 64
"""As many as the F5 engine keeps prepared."""


@dataclass(frozen=True)
class KeyedReference(Reference):
    """A reference and the hash of its content, by which an engine may remember it: ids are used
    again for other content, hashes are not."""

    key: str = ""


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

    def load(self) -> list[Voice]:
        """All voices that are whole; what is damaged is named in the journal and left out."""
        if self.folder is None:
            return []
        with self._lock:
            found = {}
            voices = []
            for entry in self._read_list():
                voice = self._read(entry)
                if voice is not None:
                    found[entry.id] = entry
                    voices.append(voice)
            self._entries = found
            return voices

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
            self._try(lambda: _write(audio, _as_wav(reference)))
            self._replace({**self._entries, voice_id: entry})
        return Voice(voice_id, language, reference)

    def remove(self, voice_id: str) -> None:
        """Forget a voice; one that is not there is no error.

        Raises:
            StoreFailed: the list could not be written; everything is as before.
        """
        with self._lock:
            self._replace({key: e for key, e in self._entries.items() if key != voice_id})

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
        self._try(lambda: _write(folder / LIST, text.encode()))
        self._entries = entries
        used = {f"{_audio_key(entry)}.wav" for entry in entries.values()}
        for file in (folder / "audio").glob("*.wav"):
            if file.name not in used:
                file.unlink(missing_ok=True)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise StoreFailed(
                f"The voice could not be kept: {error.strerror}.",
                "Look at the disk: df -h /var/lib",
            ) from None

    def _read_list(self) -> list[_Entry]:
        folder = self.ready()
        path = folder / LIST
        try:
            return _Listing.model_validate_json(path.read_bytes()).voices
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            log.error(journal.line("the list of voices is damaged", why=_first_line(error)))
            # Out of the way, and there for whoever wants to mend it.
            path.replace(path.with_suffix(".damaged"))
            return []

    def _read(self, entry: _Entry) -> Voice | None:
        path = self.ready() / "audio" / f"{_audio_key(entry)}.wav"
        try:
            samples, rate = soundfile.read(path, dtype="float32")
        except (OSError, soundfile.SoundFileError) as error:
            log.error(journal.line("a voice is lost", voice=entry.id, why=_first_line(error)))
            return None
        reference = keyed(samples, int(rate), entry.text)
        if reference.key != entry.key:
            log.error(journal.line("a voice is damaged", voice=entry.id))
            return None
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


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
