"""The JSON bodies of requests for speech: OpenAI's fields and ours, and iShowTTS's."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.text import refuse_surrogates

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that OpenAI's clients send by default; they mean this daemon's own engine."""

Format = Literal["wav", "pcm", "flac", "opus", "mp3", "aac"]
WHOLE = ("wav", "flac")
"""Formats with their length in front: sent whole unless a stream is asked for."""

Speed = Annotated[float, Field(ge=0.25, le=4, strict=False)]
Nfe = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Deadline = Annotated[int, Field(ge=50, le=600_000)]


class VoiceRef(BaseModel):
    """OpenAI's other way to name a voice."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str


class SpeechBody(BaseModel):
    """One wish for speech.

    Fields beyond OpenAI's: `nfe` and `seed` for the F5 engine, `deadline_ms` after which the
    request is no longer worth beginning, `priority` (batch waits for all that is interactive),
    `fallback`, which lets a light voice speak while the engine is not ready, and `normalize`, which
    makes chat speakable (left out: as daemon.normalize in the configuration says).

    `response_format` left out is mp3 for OpenAI's model names, as their clients expect, else wav.
    Audio is streamed as it is made, except wav and flac without a `stream_format`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    input: Annotated[
        str, Field(description="the text to speak", json_schema_extra={"minLength": 1})
    ]
    model: Annotated[str | None, Field(description="an engine, or one of OpenAI's names")] = None
    voice: Annotated[str | VoiceRef | None, Field(description="see GET /v1/voices")] = None
    response_format: Format = "wav"
    speed: Speed = 1.0
    stream_format: Literal["audio", "sse"] | None = None
    nfe: Nfe | None = None
    seed: Seed | None = None
    deadline_ms: Deadline | None = None
    fallback: bool = False
    priority: Literal["interactive", "batch"] = "interactive"
    normalize: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _openais_default(cls, data: Any) -> Any:
        openai = isinstance(data, dict) and data.get("model") in OPENAI_MODELS
        return {"response_format": "mp3", **data} if openai else data

    @property
    def voice_id(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceRef) else self.voice

    @property
    def streamed(self) -> bool:
        return self.stream_format is not None or self.response_format not in WHOLE


class ChatBody(BaseModel):
    """One wish for speech as iShowTTS's frontend sends it.

    `voice_id`, `engine`, `speed`, `nfe_step` and `seed` are obeyed. The others are settings of the
    whole box here: a value that differs from what is in force is named in the header
    X-Ishowtts-Ignored, and changes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: Annotated[str, Field(description="the text to speak", json_schema_extra={"minLength": 1})]
    voice_id: str | None = None
    engine: str | None = None
    speed: Speed | None = None
    target_rms: float | None = None
    cross_fade_duration: float | None = None
    sway_sampling_coef: float | None = None
    cfg_strength: float | None = None
    nfe_step: Nfe | None = None
    fix_duration: float | None = None
    remove_silence: bool | None = None
    seed: Seed | None = None

    def speech(self, *, fallback: bool) -> SpeechBody:
        """The same wish in our own words."""
        return SpeechBody(
            input=self.text,
            model=self.engine,
            voice=self.voice_id,
            speed=1.0 if self.speed is None else self.speed,
            nfe=self.nfe_step,
            seed=self.seed,
            fallback=fallback,
        )

    def ignored(self, cfg_strength: float) -> list[str]:
        """Fields that ask for something else than what the engine does."""
        in_force = {
            "target_rms": 0.1,
            "cross_fade_duration": 0.15,
            "sway_sampling_coef": -1.0,
            "cfg_strength": cfg_strength,
            "fix_duration": None,
            "remove_silence": False,
        }
        asked = {name: getattr(self, name) for name in in_force}
        return [
            name for name, value in asked.items() if value is not None and value != in_force[name]
        ]


Body = TypeVar("Body", bound=BaseModel)


def parse(raw: bytes) -> SpeechBody:
    """The body of a request in OpenAI's words; see `parse_as`."""
    return parse_as(SpeechBody, raw)


def parse_as(kind: type[Body], raw: bytes | str) -> Body:
    """A JSON body.

    Raises:
        BadInput: naming the first field that is off.
    """
    return validate(kind, read_json(raw))


def validate(kind: type[Body], data: Any) -> Body:
    """The same for JSON that was read already."""
    if not isinstance(data, dict):
        raise BadInput("The body must be a JSON object.", code="invalid_json")
    _refuse_surrogates(data)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _refusal(kind, error) from None


def read_json(raw: bytes | str) -> Any:
    """Raises BadInput when it is not JSON."""
    # Bytes that are no UTF-8 become lone surrogates here, so that the field they are in can be
    # named instead of the whole body.
    text = raw if isinstance(raw, str) else raw.decode("utf-8", errors="surrogateescape")
    try:
        return json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The body is not JSON: {error}.", code="invalid_json") from None


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _refuse_surrogates(body: dict[Any, Any]) -> None:
    """Also below the surface: a name inside an object ends up in an answer, which is UTF-8."""
    pending: list[tuple[Any, str]] = [(body, "body")]
    while pending:
        value, field = pending.pop()
        if isinstance(value, str):
            refuse_surrogates(value, field)
        elif isinstance(value, dict):
            for name, item in value.items():
                refuse_surrogates(name, field)
                pending.append((item, name if value is body else field))
        elif isinstance(value, list):
            pending += [(item, field) for item in value]


def _refusal(kind: type[BaseModel], error: ValidationError) -> BadInput:
    item = error.errors()[0]
    field = str(item["loc"][0]) if item["loc"] else None
    if item["type"] == "missing":
        return BadInput(f"`{field}` is missing.", param=field, code="missing")
    if item["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return BadInput(
            f"There is no field `{field}`.", f"Fields: {known}.", param=field, code="unknown_field"
        )
    message = str(item["msg"])
    return BadInput(f"`{field}`: {message[0].lower()}{message[1:]}.", param=field)
