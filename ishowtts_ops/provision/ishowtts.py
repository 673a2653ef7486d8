"""Reads an iShowTTS checkout's own configuration, config/ishowtts.toml.

Only the parts a speech daemon needs are read; other sections and keys are left alone. Relative
paths in the file count from the file's own folder, as iShowTTS itself resolves them.
"""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ishowtts_ops.config import Settings, VoiceEntry
from ishowtts_ops.host import Host

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG = "config/ishowtts.toml"
_CLONED_TO = ("/opt", "/srv", "/root", "/home/*", "/home/*/*", "/data", "/mnt/*")


@dataclass(frozen=True)
class IShowTTSConfig:
    """What iShowTTS is told. Paths are box paths; what the file does not say is None.

    Attributes:
        path: the file.
        python_path: the folder that holds the f5_tts package.
        problems: what in the file cannot be used, one sentence each.
        readable: false where nothing of it can be used.
    """

    path: str
    model: str | None = None
    python_path: str | None = None
    ckpt_file: str | None = None
    vocab_file: str | None = None
    vocoder_local_path: str | None = None
    hf_cache_dir: str | None = None
    device: str | None = None
    default_nfe_step: int | None = None
    voices: tuple[VoiceEntry, ...] = ()
    default_voice: str | None = None
    problems: tuple[str, ...] = ()
    readable: bool = True


def checkouts(host: Host, but: str = "") -> list[str]:
    """iShowTTS checkouts on the box, by the places people clone to, links left out.

    Args:
        but: the one that is known.
    """
    found = [
        path.removesuffix(f"/{CONFIG}")
        for base in _CLONED_TO
        for path in host.glob(f"{base}/*/{CONFIG}")
    ]
    return [path for path in found if path != but.rstrip("/") and not host.is_symlink(path)]


def read_ishowtts(host: Host, settings: Settings) -> IShowTTSConfig | None:
    """The configuration of the checkout at settings.ishowtts.path; None when it has none.

    A damaged file is an IShowTTSConfig with problems and nothing else, so that `doctor` can say so.
    """
    path = f"{settings.ishowtts.path.rstrip('/')}/{CONFIG}"
    if not host.is_file(path):
        return None
    try:
        raw = tomllib.loads(host.read_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _unreadable(path, "is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        return _unreadable(path, f"is not valid TOML: {error}")
    except OSError as error:
        return _unreadable(path, f"cannot be read: {error.strerror}")
    return _Reader(host, path, raw).read()


def _unreadable(path: str, why: str) -> IShowTTSConfig:
    return IShowTTSConfig(path, problems=(f"{path} {why}.",), readable=False)


class _Reader:
    def __init__(self, host: Host, path: str, raw: Mapping[str, Any]) -> None:
        self.host = host
        self.path = path
        self.raw = raw
        self.problems: list[str] = []

    def read(self) -> IShowTTSConfig:
        f5 = self.raw.get("f5", {})
        if not isinstance(f5, dict):
            self._problem("f5", "must be a table")
            f5 = {}
        elif not f5:
            self._problem("f5", "is not there, so there is no F5 voice to take over")
        voices = self._voices(f5)
        default = self._text(self.raw, "default_voice", "")
        if default is not None and voices and default not in {voice.id for voice in voices}:
            self._problem("default_voice", f"is {default!r}, which is no voice of [[f5.voices]]")
            default = None
        return IShowTTSConfig(
            path=self.path,
            model=self._text(f5, "model", "f5."),
            python_path=self._file(f5, "python_package_path"),
            ckpt_file=self._file(f5, "ckpt_file"),
            vocab_file=self._file(f5, "vocab_file"),
            vocoder_local_path=self._file(f5, "vocoder_local_path"),
            hf_cache_dir=self._path(f5, "hf_cache_dir", "f5."),
            device=self._text(f5, "device", "f5."),
            default_nfe_step=self._count(f5, "default_nfe_step"),
            voices=voices,
            default_voice=default,
            problems=tuple(self.problems),
        )

    def _problem(self, key: str, what: str) -> None:
        self.problems.append(f"{self.path}: {key} {what}.")

    def _text(self, table: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = table.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._problem(prefix + key, f"must be text, and is {value!r}")
            return None
        return value

    def _count(self, table: Mapping[str, Any], key: str) -> int | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self._problem(f"f5.{key}", f"must be a whole number above 0, and is {value!r}")
            return None
        return value

    def _path(self, table: Mapping[str, Any], key: str, prefix: str) -> str | None:
        value = self._text(table, key, prefix)
        if value is None:
            return None
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.path), value))

    def _file(self, table: Mapping[str, Any], key: str) -> str | None:
        path = self._path(table, key, "f5.")
        if path is not None and not self.host.exists(path):
            self._problem(f"f5.{key}", f"names {path}, which is not there")
        return path

    def _voices(self, f5: Mapping[str, Any]) -> tuple[VoiceEntry, ...]:
        listed = f5.get("voices", [])
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            self._problem("f5.voices", "must be a list of tables")
            return ()
        found: dict[str, VoiceEntry] = {}
        for number, item in enumerate(listed, start=1):
            where = f"f5.voices[{number}]."
            name = self._text(item, "id", where)
            audio = self._path(item, "reference_audio", where)
            text = self._text(item, "reference_text", where)
            language = self._text(item, "language", where)
            fields = {"id": name, "reference_audio": audio, "reference_text": text}
            lacking = [key for key, value in fields.items() if value is None]
            if name is None or audio is None or text is None:
                label = f"the voice {name!r}" if name else f"voice number {number}"
                self._problem("f5.voices", f"has {label} without {', '.join(lacking)}")
            elif name in found:
                self._problem("f5.voices", f"has the voice {name!r} twice; the first one counts")
            else:
                if not self.host.is_file(audio):
                    self._problem("f5.voices", f"has the voice {name!r}, whose {audio} is missing")
                try:
                    found[name] = VoiceEntry(id=name, audio=audio, text=text, language=language)
                except ValidationError:
                    self._problem("f5.voices", f"has the voice {name!r}, which is no usable name")
        return tuple(found.values())
