"""The configuration of a box: one YAML file, checked whole before anything is done.

Unknown keys, wrong types and impossible values are all reported together, each with the path of its
key. Paths in it are box paths.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ishowtts_ops.config_problems import UniqueKeys, told
from ishowtts_ops.errors import ConfigError, Problem, UsageError

CONFIG_PATH = "/etc/ishowtts-ops/config.yaml"
STATE_DIR = "/var/lib/ishowtts-ops"
CACHE_DIR = "/var/cache/ishowtts-ops"
RUN_DIR = "/run/ishowtts-ops"
PREFIX = "/opt/ishowtts-ops"
MANIFEST_PATH = f"{STATE_DIR}/engine.json"
"""What install found out for the daemon; see `Manifest`."""

API_KEY_VARIABLE = "ISHOWTTS_API_KEY"
KEY_FILE_HINT = "`ishowtts-ops config key NAME --output FILE` makes a key and its file."

EPSS_STEPS = frozenset({5, 6, 7, 10, 12, 16, 32})
"""NFE counts for which F5-TTS has a tuned (EPSS) schedule; others silently use a uniform grid."""

DEFAULT_NFE = 7
"""Where neither the settings nor iShowTTS's configuration say."""

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
    nfe: Annotated[int, Field(ge=1, le=64)] | None = None
    cfg_strength: Annotated[float, Field(ge=0, le=10)] = 2.0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"


class Engine(_Section):
    kind: Literal["f5", "espeak", "tone"] = "f5"
    python: Literal["auto"] | BoxPath = "auto"
    torch_index: str | None = None


class Power(_Section):
    mode: Annotated[str, Field(min_length=1)] = "max"
    lock_clocks: bool = True
    fan: bool = False
    guard_seconds: Annotated[int, Field(ge=5, le=3600)] = 60


class ApiKey(_Section):
    """A key that requests may carry, as it is kept: never the key itself.

    Attributes:
        name: who has it; what the journal and the metrics call this caller.
        hash: `sha256:` and 64 hex digits, for keys that were drawn at random; or
            `scrypt:N:r:p:SALT:KEY`, salt and key in hex, for words that people thought up.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    hash: Annotated[
        str,
        Field(
            pattern=r"^(sha256:[0-9a-f]{64}"
            r"|scrypt:\d{1,7}:\d{1,2}:\d{1,2}:([0-9a-f]{2}){8,64}:([0-9a-f]{2}){16,128})$"
        ),
    ]


class Daemon(_Section):
    enabled: bool = True
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 27130
    queue_limit: Annotated[int, Field(ge=1, le=10_000)] = 16
    deadline_ms: Annotated[int, Field(ge=100, le=600_000)] = 30_000
    max_text_chars: Annotated[int, Field(ge=1, le=100_000)] = 4096
    watchdog_seconds: Annotated[int, Field(ge=2, le=600)] = 30
    client_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_websockets: Annotated[int, Field(ge=0, le=10_000)] = 64
    max_websockets_per_client: Annotated[int, Field(ge=0, le=10_000)] = 16
    drain_seconds: Annotated[int, Field(ge=0, le=300)] = 10
    queue_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_audio_seconds: Annotated[float, Field(gt=0, le=3600)] = 600.0
    fallback: Literal["chat", "always", "never"] = "chat"
    batch: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] = "auto"
    normalize: Literal["chat", "always", "never"] = "chat"
    state_dir: BoxPath | None = None
    api_keys: tuple[ApiKey, ...] = ()
    api_keys_for: Literal["network", "everyone"] = "network"
    api_key_file: BoxPath | None = None
    requests_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    leak_mb_per_hour: Annotated[float, Field(ge=0, le=1_000_000)] = 64.0
    leak_window_minutes: Annotated[float, Field(gt=0, le=10_080)] = 120.0
    leak_idle_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0

    @property
    def loopback(self) -> bool:
        """True when nobody outside this machine can connect."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def url(self) -> str:
        """Where the daemon is reached from its own box."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{here}]:{self.port}" if ":" in here else f"http://{here}:{self.port}"

    @field_validator("api_keys")
    @classmethod
    def _names_once(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if len({key.name for key in keys}) < len(keys):
            raise ValueError("two keys have the same name")
        return keys


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


ISHOWTTS_URL = "http://127.0.0.1:27121"
"""Where iShowTTS's own backend listens."""


class BackendRequest(_Section):
    """A request that shows whether a backend works.

    Attributes:
        body: sent as JSON; None sends nothing.
        expect: what a good answer is, beside a status of 2xx. `ok`: nothing more. `json`: JSON.
            `audio`: a recording that is not silent, as it is or in base64 as iShowTTS answers.
            `contains:TEXT`: that text.
    """

    method: Annotated[str, Field(pattern=r"^[A-Z]+$")] = "GET"
    path: Annotated[str, Field(pattern=r"^(/|https?://)")]
    body: Any = None
    expect: Annotated[str, Field(pattern=r"^(ok|json|audio|contains:.+)$")] = "ok"


class Backend(_Section):
    """A service that `supervise` starts, warms up and watches. Times are in seconds."""

    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    directory: BoxPath | None = None
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    preset: Literal["ishowtts", "none"] = "ishowtts"
    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+")] | None = None
    health: tuple[Annotated[str, Field(pattern=r"^(/|https?://)")], ...] | None = None
    warmup: tuple[BackendRequest, ...] | None = None
    canary: BackendRequest | None = None
    start_limit: Annotated[float, Field(gt=0, le=86_400)] = 1800
    start_grace: Annotated[float, Field(gt=0, le=3600)] = 120
    warmup_timeout: Annotated[float, Field(gt=0, le=3600)] = 300
    health_interval: Annotated[float, Field(gt=0, le=3600)] = 5
    health_timeout: Annotated[float, Field(gt=0, le=600)] = 5
    health_failures: Annotated[int, Field(ge=1, le=100)] = 3
    canary_interval: Annotated[float, Field(gt=0, le=86_400)] = 60
    canary_timeout: Annotated[float, Field(gt=0, le=3600)] = 60
    canary_failures: Annotated[int, Field(ge=1, le=100)] = 2
    idle_seconds: Annotated[float, Field(ge=0, le=3600)] = 5
    stop_seconds: Annotated[float, Field(ge=0, le=600)] = 15
    memory_limit_mb: Annotated[float, Field(gt=0)] | None = None
    memory_growth_mb_per_hour: Annotated[float, Field(ge=0)] = 200
    memory_window: Annotated[float, Field(gt=0, le=604_800)] = 3600
    memory_wait: Annotated[float, Field(ge=0, le=86_400)] = 600

    @field_validator("url")
    @classmethod
    def _real_port(cls, url: str | None) -> str | None:
        # Reading a port that cannot be raises ValueError with what is wrong.
        if url is not None and urlsplit(url).port == 0:
            raise ValueError("0 is no port")
        return url

    @property
    def verdict_seconds(self) -> float:
        """Longest time from the first thing that goes wrong to the verdict that it is broken."""
        health = self.health_failures * (self.health_interval + self.health_timeout)
        canary = self.canary_failures * (self.canary_timeout + self.health_interval)
        return max(health, canary)


class Settings(_Section):
    """Everything a box can be told. Frozen; defaults are those of config/ishowtts-ops.yaml."""

    ishowtts: IShowTTS = IShowTTS()
    f5: F5 = F5()
    engine: Engine = Engine()
    power: Power = Power()
    daemon: Daemon = Daemon()
    measure: Measure = Measure()
    notify: Notify = Notify()
    backend: Backend = Backend()
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
        raw = yaml.load(text, UniqueKeys)
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
        problems += told(error, Settings)
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


def read_api_key(path: Path) -> str:
    """The key in a file: its first line.

    Raises:
        UsageError: it has none, or cannot be read.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        raise UsageError(f"There is no key file {path}.", KEY_FILE_HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The key file {path} cannot be read: {error}.", KEY_FILE_HINT) from None
    if len(lines) != 1:
        raise UsageError(f"The key file {path} must hold one key and nothing else.", KEY_FILE_HINT)
    return lines[0]


def client_key(settings: Settings, root: Path = Path("/")) -> str | None:
    """The key by which this box's own programs ask its daemon: that of the environment, else of
    daemon.api_key_file; None where there is none, or none that this user may read.

    Args:
        root: of the box.
    """
    told = os.environ.get(API_KEY_VARIABLE, "").strip()
    if told or settings.daemon.api_key_file is None:
        return told or None
    try:
        return read_api_key(root / settings.daemon.api_key_file.lstrip("/"))
    except UsageError:
        return None


def dump(settings: Settings) -> str:
    """Settings as YAML, every key written out."""
    data: dict[str, Any] = settings.model_dump(mode="json")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _across(settings: Settings) -> list[Problem]:
    """Problems that concern more than one key."""
    problems = []
    if settings.f5.weights == "file" and settings.f5.ckpt_file is None:
        problems.append(Problem("f5.ckpt_file", "must be given when f5.weights is `file`"))
    port = urlsplit(settings.backend.url or ISHOWTTS_URL).port
    if not settings.daemon.enabled and settings.backend.command is None:
        what = "is false, and there is no backend.command: nothing would speak"
        problems.append(Problem("daemon.enabled", what))
    if settings.daemon.enabled and settings.backend.command and port == settings.daemon.port:
        problems.append(
            Problem("daemon.port", f"{port} is the backend's too: each needs one of its own")
        )
    if not settings.daemon.loopback and not settings.daemon.api_keys:
        problems.append(
            Problem(
                "daemon.host",
                "other machines are served only with daemon.api_keys; without any it must be "
                "loopback (127.0.0.1 or ::1)",
            )
        )
    return problems
