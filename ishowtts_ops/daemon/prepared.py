"""Voices as the F5 engine has prepared them, kept on disk: trimmed, levelled, and as a mel.

    FOLDER/KEY.VERSION.npz      KEY is the content of recording and transcript, VERSION that of what
                                prepared it (sources, device, precision)

A file that is damaged, or of another version, is made anew. Nothing in a file is ever executed:
plain numpy arrays without pickles, with a digest over all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.durable import write_file
from ishowtts_ops.daemon.engine import Samples

log = logging.getLogger(__name__)

MOST_BYTES = 8 << 20
"""Twelve seconds are 450 kB."""
_KEY = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")


@dataclass(frozen=True)
class Prepared:
    """A reference ready to speak by; see the engine's own voice.

    Attributes:
        key: the engine's name for the content.
        text: the transcript as it is put before every text.
        seconds, frames: what is left of the clip, and its whole hops.
        rms: of the clip as given.
        mel: (frames or one more, bins) float32.
        warnings: what is odd about it.
    """

    key: str
    text: str
    seconds: float
    frames: int
    rms: float
    mel: Samples = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()


class PreparedStore:
    """See the module. Used by the engine's thread only.

    Args:
        folder: None keeps nothing.
        version: of what prepares; any text.
        bins: columns of a mel.
    """

    def __init__(self, folder: Path | None, version: str, bins: int) -> None:
        self._folder = folder
        self._version = hashlib.sha256(version.encode()).hexdigest()[:16]
        self._bins = bins

    def load(self, key: str) -> Prepared | None:
        """What is kept under this key; None where there is nothing, or nothing sound."""
        path = self._path(key)
        if path is None:
            return None
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large")
            found = _read(path.read_bytes())
            _check(found, self._bins)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            why = f"{type(error).__name__}: {error}"
            log.warning(journal.line("a prepared voice is damaged and made anew", key=key, why=why))
            return None
        return found

    def keep(self, key: str, prepared: Prepared) -> None:
        """Keep it; a disk that does not take it costs time at the next start, and no more."""
        path = self._path(key)
        if path is None:
            return
        try:
            write_file(path, _written(prepared))
        except OSError as error:
            log.warning(journal.line("a prepared voice cannot be kept", why=error.strerror))

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove what belongs to none of these keys, or to another version."""
        if self._folder is None:
            return
        wanted = {path.name for key in keys if (path := self._path(key))}
        for file in self._folder.glob("*.npz"):
            if file.name not in wanted:
                try:
                    file.unlink(missing_ok=True)
                except OSError as error:
                    log.warning(journal.line("cannot remove", file=file.name, why=error.strerror))

    def _path(self, key: str) -> Path | None:
        # Only what we could have written ourselves is ever part of a path.
        if self._folder is None or _KEY.fullmatch(key) is None:
            return None
        return self._folder / f"{key}.{self._version}.npz"


def _written(prepared: Prepared) -> bytes:
    facts = {
        "key": prepared.key,
        "text": prepared.text,
        "seconds": prepared.seconds,
        "frames": prepared.frames,
        "rms": prepared.rms,
        "warnings": list(prepared.warnings),
    }
    told = json.dumps(facts, sort_keys=True).encode()
    mel = np.ascontiguousarray(prepared.mel, dtype=np.float32)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mel=mel,
        facts=np.frombuffer(told, dtype=np.uint8),
        digest=np.frombuffer(_digest(told, mel), dtype=np.uint8),
    )
    return buffer.getvalue()


def _read(data: bytes) -> Prepared:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        mel, told = arrays["mel"], arrays["facts"].tobytes()
        digest = arrays["digest"].tobytes()
    if mel.dtype != np.float32 or mel.ndim != 2 or digest != _digest(told, mel):
        raise ValueError("its digest is another")
    facts = json.loads(told)
    return Prepared(
        key=str(facts["key"]),
        text=str(facts["text"]),
        seconds=float(facts["seconds"]),
        frames=int(facts["frames"]),
        rms=float(facts["rms"]),
        mel=mel,
        warnings=tuple(map(str, facts["warnings"])),
    )


def _digest(told: bytes, mel: Samples) -> bytes:
    total = hashlib.sha256(told)
    total.update(repr(mel.shape).encode())
    total.update(np.ascontiguousarray(mel).tobytes())
    return total.digest()


def _check(found: Prepared, bins: int) -> None:
    rows, columns = found.mel.shape
    if columns != bins or found.frames < 1 or rows not in (found.frames, found.frames + 1):
        raise ValueError("it is of another shape")
    if not np.isfinite(found.mel).all() or not found.seconds > 0 or not found.rms > 0:
        raise ValueError("it holds what cannot be")
