"""The configuration of a box: one YAML file, checked whole before anything is done.

Unknown keys, wrong types and impossible values are all reported together, each with the path of its
key. Paths in it are box paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ishowtts_ops.errors import ConfigError, Problem

CONFIG_PATH = "/etc/ishowtts-ops/config.yaml"
STATE_DIR = "/var/lib/ishowtts-ops"
CACHE_DIR = "/var/cache/ishowtts-ops"
RUN_DIR = "/run/ishowtts-ops"
PREFIX = "/opt/ishowtts-ops"
MANIFEST_PATH = f"{STATE_DIR}/engine.json"
"""What install found out for the daemon; see `Manifest`."""

EPSS_STEPS = frozenset({5, 6, 7, 10, 12, 16, 32})
"""NFE counts for which F5-TTS has a tuned (EPSS) schedule; others silently use a uniform grid."""

BoxPath = Annotated[str, Field(pattern=r"^/", description="an absolute path on the box")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IShowTTS(_Section):
    path: BoxPath = "/opt/ishowtts"


class F5(_Section):
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "1.1.22"
    model: str | None = None
    weights: Literal["hub", "file", "random"] = "hub"
    hub_endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    ckpt_file: BoxPath | None = None
    vocab_file: BoxPath | None = None
    vocoder_path: BoxPath | None = None
    nfe: Annotated[int, Field(ge=1, le=64)] = 7
    cfg_strength: Annotated[float, Field(ge=0, le=10)] = 2.0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"


class Engine(_Section):
    kind: Literal["f5", "espeak", "tone"] = "f5"
    python: BoxPath = f"{PREFIX}/venv/bin/python"
    torch_index: str | None = None


class Power(_Section):
    mode: Annotated[str, Field(min_length=1)] = "max"
    lock_clocks: bool = True
    fan: bool = False
    guard_seconds: Annotated[int, Field(ge=5, le=3600)] = 60


class Daemon(_Section):
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 27130
    queue_limit: Annotated[int, Field(ge=1, le=10_000)] = 16
    deadline_ms: Annotated[int, Field(ge=100, le=600_000)] = 30_000
    max_text_chars: Annotated[int, Field(ge=1, le=100_000)] = 4096
    watchdog_seconds: Annotated[int, Field(ge=2, le=600)] = 30
    drain_seconds: Annotated[int, Field(ge=0, le=300)] = 10


class VoiceEntry(_Section):
    """A reference recording and the words spoken in it."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    audio: BoxPath
    text: Annotated[str, Field(min_length=1)]
    language: str | None = None


class Measure(_Section):
    """Benchmarks and their calendar."""

    workload: Literal["S", "M", "L", "R3", "X", "mixed"] = "M"
    runs: Annotated[int, Field(ge=4, le=1000)] = 20
    tolerance_percent: Annotated[float, Field(ge=1, le=100)] = 5.0
    calendar: bool = True
    daily: Annotated[str, Field(min_length=1)] = "*-*-* 04:30"
    weekly: Annotated[str, Field(min_length=1)] = "Sun *-*-* 05:00"
    watch_minutes: Annotated[int, Field(ge=1, le=10_080)] = 15
    idle_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0

    @field_validator("daily", "weekly")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("must be one line, as OnCalendar= of systemd takes it")
        return text


class Notify(_Section):
    """Who is told when a unit failed; the journal always is."""

    webhook: Annotated[str, Field(pattern=r"^https?://")] | None = None
    command: tuple[str, ...] | None = None
    quiet_minutes: Annotated[int, Field(ge=0, le=10_080)] = 60


class Settings(_Section):
    """Everything a box can be told. Frozen; defaults are those of config/ishowtts-ops.yaml."""

    ishowtts: IShowTTS = IShowTTS()
    f5: F5 = F5()
    engine: Engine = Engine()
    power: Power = Power()
    daemon: Daemon = Daemon()
    measure: Measure = Measure()
    notify: Notify = Notify()
    voices: tuple[VoiceEntry, ...] = ()
    default_voice: str | None = None

    @field_validator("voices")
    @classmethod
    def _unique(cls, voices: tuple[VoiceEntry, ...]) -> tuple[VoiceEntry, ...]:
        seen: set[str] = set()
        for voice in voices:
            if voice.id in seen:
                raise ValueError(f"the voice {voice.id!r} is there twice")
            seen.add(voice.id)
        return voices


class Manifest(_Section):
    """The answers install found for the daemon: where sources, weights and voices really are.

    Written by install from the settings and, where there is one, iShowTTS's own configuration; read
    by the daemon, so that the two need not import each other. All paths are box paths.

    Attributes:
        source: the folder that holds the `f5_tts` package.
        model: a name in f5_tts/configs, or an architecture (for random weights).
        random_seed: seed of random weights; None when real ones are used.
    """

    version: Literal[1] = 1
    source: BoxPath | None = None
    model: str | dict[str, Any] = "F5TTS_v1_Base"
    ckpt_file: BoxPath | None = None
    vocab_file: BoxPath | None = None
    vocoder_path: BoxPath | None = None
    random_seed: int | None = None
    nfe: int = 7
    cfg_strength: float = 2.0
    device: str = "auto"
    voices: tuple[VoiceEntry, ...] = ()
    default_voice: str | None = None


def parse(text: str, source: str) -> Settings:
    """Settings from YAML text.

    Args:
        source: what to call the text in messages (its path).

    Raises:
        ConfigError: with every problem of the text.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "it is not YAML"
        raise ConfigError(source, [Problem(where, str(what))]) from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(source, [Problem("", "the file must be a mapping of sections")])
    problems: list[Problem] = []
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(item) for item in error.errors()]
    else:
        problems += _across(settings)
    if problems:
        raise ConfigError(source, problems)
    return settings


def load(path: Path, source: str | None = None) -> Settings:
    """Settings from a file; see `parse`. A file that cannot be read is a ConfigError too."""
    name = source or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(name, [Problem("", "there is no such file")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(name, [Problem("", f"it cannot be read: {error}")]) from None
    return parse(text, name)


def dump(settings: Settings) -> str:
    """Settings as YAML, every key written out."""
    data: dict[str, Any] = settings.model_dump(mode="json")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _problem(item: Any) -> Problem:
    where = ".".join(str(part) for part in item["loc"])
    kind = item["type"]
    if kind == "extra_forbidden":
        return Problem(where, "there is no such key")
    given = repr(item.get("input"))
    what = str(item["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch" and item["ctx"]["pattern"] == r"^/":
        what = "must be an absolute path"
    short = given if len(given) <= 60 else given[:57] + "..."
    return Problem(where, f"{what[0].lower()}{what[1:]} (found {short})")


def _across(settings: Settings) -> list[Problem]:
    """Problems that concern more than one key."""
    problems = []
    if settings.f5.weights == "file" and settings.f5.ckpt_file is None:
        problems.append(Problem("f5.ckpt_file", "must be given when f5.weights is `file`"))
    loopback = settings.daemon.host in ("127.0.0.1", "::1", "localhost")
    if not loopback:
        problems.append(
            Problem("daemon.host", "only loopback is served, since requests carry no API key yet")
        )
    return problems
