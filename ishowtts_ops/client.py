"""Speaks to a daemon over HTTP: for the command line, the doctor and the benchmarks."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ishowtts_ops.config import API_KEY_VARIABLE, Settings, client_key
from ishowtts_ops.errors import OpsError

UNIT = "ishowtts-tts"
LOOK = f"`systemctl status {UNIT}` and `journalctl -u {UNIT} -e` say more."
PREFIX = "X-Ishowtts-"
UNAUTHORIZED = 401


class DaemonDown(OpsError):
    """Nobody answers, or not in time."""


class DaemonRefused(OpsError):
    """The daemon answered with an error.

    Attributes:
        status: of HTTP.
        code: the error's word for programs, such as `voice_not_found`.
        param: the field to blame, or None.
        retry_after: seconds, when the daemon named any.
    """

    def __init__(
        self,
        message: str,
        hint: str,
        *,
        status: int,
        code: str,
        param: str | None,
        retry_after: float | None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


class KeyWanted(DaemonRefused):
    """The daemon wants an API key, or another one."""


@dataclass(frozen=True)
class Readiness:
    """What `/readyz` says.

    Attributes:
        status: ready, warming, failing or draining.
        reasons: why it is not ready.
        story: the whole answer.
    """

    ready: bool
    status: str
    stage: str
    reasons: tuple[str, ...]
    engine: str
    device: str
    voices: tuple[str, ...]
    default_voice: str
    recent_rtf: float
    story: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class VoiceInfo:
    """A voice on offer.

    Attributes:
        source: `engine` (built in), `box` (of the configuration) or `added` (to the daemon).
        overrides: it stands in the place of one of the box's.
    """

    id: str
    language: str | None
    builtin: bool
    default: bool
    reference_text: str | None
    reference_seconds: float | None = None
    source: str = "box"
    overrides: bool = False
    updated_at: str | None = None


@dataclass(frozen=True)
class AddedVoice:
    """A voice that was taken.

    Attributes:
        figures: what was measured: seconds, characters_per_second, level_dbfs …
        warnings: what is odd about it, in sentences.
    """

    voice: VoiceInfo
    figures: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SpokenTimings:
    """The daemon's own measurement of one request, in seconds; see its `Timings`."""

    queue: float
    infer: float
    first_audio: float
    total: float
    audio_seconds: float
    rtf: float


@dataclass(frozen=True)
class SpokenAudio:
    """Speech and how it came about.

    Attributes:
        content: bytes in the format asked for.
        fallback: true when another engine spoke in the asked one's place.
        ignored: fields of the request that whoever spoke does not obey.
        timings: None for streamed answers, whose headers are sent before they are known.
        first_byte_s, total_s: seconds at this end of the socket.
    """

    content: bytes = field(repr=False)
    format: str
    sample_rate: int
    engine: str
    voice: str
    fallback: bool
    request_id: str
    timings: SpokenTimings | None
    first_byte_s: float
    total_s: float
    ignored: tuple[str, ...] = ()


class DaemonClient:
    """One daemon.

    Args:
        base_url: such as `http://127.0.0.1:27130`.
        timeout: seconds without a byte after which the daemon counts as gone.
        api_key: sent with every request; never part of a message.
    """

    def __init__(self, base_url: str, timeout: float = 60.0, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # A daemon is on this machine or next to it: a proxy from the environment is never meant.
        self._http = httpx.Client(
            base_url=self.base_url, timeout=timeout, trust_env=False, headers=headers
        )

    @classmethod
    def of(cls, settings: Settings, timeout: float = 60.0, root: Path = Path("/")) -> DaemonClient:
        """The daemon of a box, asked with the box's own key where it has one.

        Args:
            root: of the box.
        """
        return cls(settings.daemon.url, timeout, client_key(settings, root))

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # ---- state -------------------------------------------------------------------------------

    def livez(self) -> bool:
        """True when the daemon is alive and its engine does not hang.

        Raises:
            DaemonDown: nobody answers.
        """
        return self._get("/livez").status_code == 200

    def readyz(self) -> Readiness:
        """The daemon's state, ready or not.

        Raises:
            DaemonDown: nobody answers, or somebody else.
        """
        answer = self._get("/readyz")
        if answer.status_code == UNAUTHORIZED:
            self._check(answer)
        try:
            story = answer.json()
            return Readiness(
                ready=story["ready"],
                status=story["status"],
                stage=story["stage"],
                reasons=tuple(story["reasons"]),
                engine=story["engine"],
                device=story["device"],
                voices=tuple(story["voices"]),
                default_voice=story["default_voice"],
                recent_rtf=story["recent_rtf"],
                story=story,
            )
        except (ValueError, KeyError, TypeError):
            raise self._stranger() from None

    def voices(self) -> list[VoiceInfo]:
        """The voices on offer, in order."""
        return self.voices_and_asides()[0]

    def voices_and_asides(self) -> tuple[list[VoiceInfo], dict[str, str]]:
        """The voices on offer, and by id why others are not."""
        answer = self._get("/v1/voices")
        self._check(answer)
        story = answer.json()
        asides = {row["id"]: row["why"] for row in story.get("aside", ())}
        return [_voice(row) for row in story["voices"]], asides

    def voice(self, voice_id: str) -> VoiceInfo:
        """One voice; DaemonRefused where there is none of that id."""
        answer = self._get(f"/v1/voices/{_part(voice_id)}")
        self._check(answer)
        return _voice(answer.json())

    def voice_audio(self, voice_id: str) -> bytes:
        """A voice's recording as the daemon keeps it, a WAV file."""
        answer = self._get(f"/v1/voices/{_part(voice_id)}/audio")
        self._check(answer)
        return answer.content

    def add_voice(
        self,
        voice_id: str,
        audio: bytes | None,
        text: str | None,
        language: str | None = None,
        *,
        replace: bool = False,
    ) -> AddedVoice:
        """Give the daemon a voice, on offer from then on.

        Args:
            audio: a recording in any usual format; None keeps that of a voice to be replaced.
            text: exactly the words spoken in it; None keeps them.
            replace: take the place of a voice of the same id.

        Raises:
            DaemonRefused: with what is wrong with it.
        """
        fields = {"id": None if replace else voice_id, "text": text, "language": language}
        # A part with a name and no file name: the form is multipart also without a recording.
        form: dict[str, Any] = {
            name: (None, value) for name, value in fields.items() if value is not None
        }
        if audio is not None:
            form["audio"] = ("recording", audio, "application/octet-stream")
        with self._reaching():
            answer = (
                self._http.put(f"/v1/voices/{_part(voice_id)}", files=form)
                if replace
                else self._http.post("/v1/voices", files=form)
            )
        self._check(answer)
        row = answer.json()
        return AddedVoice(_voice(row), row["figures"], tuple(row["warnings"]))

    def remove_voice(self, voice_id: str) -> VoiceInfo | None:
        """Delete an added voice; returns the box's own that it stood for."""
        with self._reaching():
            answer = self._http.delete(f"/v1/voices/{_part(voice_id)}")
        self._check(answer)
        behind = answer.json()["voice"]
        return _voice(behind) if behind else None

    def metrics(self) -> str:
        """The metrics in Prometheus' text format."""
        answer = self._get("/metrics")
        self._check(answer)
        return answer.text

    # ---- speech ------------------------------------------------------------------------------

    def speak(
        self,
        text: str,
        voice: str | None = None,
        format: str = "wav",
        speed: float = 1.0,
        *,
        stream: bool = False,
        fallback: bool = False,
        on_part: Callable[[bytes], object] | None = None,
        **extra: float | str | None,
    ) -> SpokenAudio:
        """Speech for a text.

        Args:
            format: wav, pcm, flac, opus, mp3 or aac.
            stream: have it sent as it is made.
            on_part: given the bytes as they come.
            fallback: let a light voice speak while the engine is not ready.
            extra: `model` (an engine by name), `nfe`, `seed`, `deadline_ms`, F5-TTS's settings.

        Raises:
            DaemonDown: nobody answers, or the answer was cut off.
            DaemonRefused: it answered with an error.
        """
        body: dict[str, Any] = {"input": text, "voice": voice, "response_format": format}
        body |= {"speed": speed, "fallback": fallback}
        body |= {"stream_format": "audio"} if stream else {}
        body |= {name: value for name, value in extra.items() if value is not None}
        began = time.perf_counter()
        with (
            self._reaching(),
            self._http.stream("POST", "/v1/audio/speech", json=body) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                self._check(answer)
            first = 0.0
            parts = []
            for part in answer.iter_raw():
                first = first or time.perf_counter()
                parts.append(part)
                if on_part:
                    on_part(part)
            ended = time.perf_counter()
        return self._spoken(answer, b"".join(parts), format, first - began, ended - began)

    def _spoken(
        self, answer: httpx.Response, content: bytes, format: str, first: float, total: float
    ) -> SpokenAudio:
        headers = answer.headers
        try:
            return SpokenAudio(
                content=content,
                format=format,
                sample_rate=int(headers[f"{PREFIX}Sample-Rate"]),
                engine=headers[f"{PREFIX}Engine"],
                voice=headers[f"{PREFIX}Voice"],
                fallback=headers[f"{PREFIX}Fallback"] == "true",
                request_id=headers["X-Request-Id"],
                timings=_timings(headers),
                first_byte_s=first,
                total_s=total,
                ignored=tuple(filter(None, headers.get(f"{PREFIX}Ignored", "").split(", "))),
            )
        except (KeyError, ValueError):
            raise self._stranger() from None

    # ---- the wire ----------------------------------------------------------------------------

    def _get(self, path: str) -> httpx.Response:
        with self._reaching():
            return self._http.get(path)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError:
            raise DaemonDown(f"No daemon answers at {self.base_url}.", LOOK) from None
        except httpx.TimeoutException:
            raise DaemonDown(f"The daemon at {self.base_url} does not answer.", LOOK) from None
        except httpx.TransportError as error:
            raise DaemonDown(
                f"The daemon at {self.base_url} broke off: {str(error) or type(error).__name__}.",
                LOOK,
            ) from None

    def _check(self, answer: httpx.Response) -> None:
        """Raise for an error the daemon answered with."""
        if answer.is_success:
            return
        try:
            error = answer.json()["error"]
            message, code = str(error["message"]), str(error["code"])
            param = error["param"]
        except (ValueError, KeyError, TypeError):
            raise self._stranger() from None
        if answer.status_code == UNAUTHORIZED:
            raise self._key_wanted(answer, code)
        after = answer.headers.get("Retry-After")
        hint = f"Try again in {after} s." if after else ""
        raise DaemonRefused(
            message,
            hint,
            status=answer.status_code,
            code=code,
            param=param,
            retry_after=float(after) if after else None,
        )

    def _key_wanted(self, answer: httpx.Response, code: str) -> KeyWanted:
        sent = "Authorization" in self._http.headers
        what = "does not know the API key it was sent" if sent else "wants an API key"
        return KeyWanted(
            f"The daemon at {self.base_url} {what}.",
            f"Put a key into {API_KEY_VARIABLE}, or its file into --api-key-file or "
            "daemon.api_key_file of the configuration.",
            status=answer.status_code,
            code=code,
            param=None,
            retry_after=None,
        )

    def _stranger(self) -> DaemonDown:
        return DaemonDown(
            f"What answers at {self.base_url} is not this toolkit's daemon.",
            "daemon.port in the configuration chooses another port.",
        )


def _voice(row: Mapping[str, Any]) -> VoiceInfo:
    names = (field.name for field in dataclasses.fields(VoiceInfo))
    return VoiceInfo(**{name: row[name] for name in names if name in row})


def _part(voice_id: str) -> str:
    """An id as one part of a path: with a slash in it, it would be another path."""
    return urllib.parse.quote(voice_id, safe="")


def _timings(headers: httpx.Headers) -> SpokenTimings | None:
    if f"{PREFIX}Total-Seconds" not in headers:
        return None
    return SpokenTimings(
        queue=float(headers[f"{PREFIX}Queue-Seconds"]),
        infer=float(headers[f"{PREFIX}Infer-Seconds"]),
        first_audio=float(headers[f"{PREFIX}First-Audio-Seconds"]),
        total=float(headers[f"{PREFIX}Total-Seconds"]),
        audio_seconds=float(headers[f"{PREFIX}Audio-Seconds"]),
        rtf=float(headers[f"{PREFIX}Rtf"]),
    )
