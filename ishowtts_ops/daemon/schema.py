"""The JSON bodies of requests for speech: OpenAI's fields and ours, and iShowTTS's."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ishowtts_ops.daemon.engine import Tuning
from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.text import refuse_surrogates

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")
"""Names that OpenAI's clients send by default; they mean this daemon's own engine."""

Format = Literal["wav", "pcm", "flac", "opus", "mp3", "aac"]
WHOLE = ("wav", "flac")
"""Formats with their length in front: sent whole unless a stream is asked for."""

Speed = Annotated[float, Field(ge=0.25, le=4, strict=False)]
Nfe = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Deadline = Annotated[int, Field(ge=50, le=600_000)]


class Tuned(BaseModel):
    """F5-TTS's own settings, one request's. An engine that has no such thing goes on without, and
    the header X-Ishowtts-Ignored names what it did not obey."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    target_rms: Annotated[
        float | None, Field(ge=0.001, le=1, description="level a quiet reference is lifted to")
    ] = None
    cross_fade_duration: Annotated[
        float | None, Field(ge=0, le=2, description="seconds two chunks of a long text overlap")
    ] = None
    sway_sampling_coef: Annotated[
        float | None, Field(ge=-1, le=1, description="bends the time grid of the denoising steps")
    ] = None
    cfg_strength: Annotated[
        float | None, Field(ge=0, le=10, description="classifier-free guidance; 0 is none")
    ] = None
    fix_duration: Annotated[
        float | None, Field(gt=0, le=43, description="seconds of reference and speech together")
    ] = None
    remove_silence: Annotated[
        bool | None, Field(description="shorten pauses of more than a second")
    ] = None

    def tuning(self) -> Tuning:
        """For the engine."""
        return Tuning(**{name: getattr(self, name) for name in IN_FORCE})


IN_FORCE: Mapping[str, float | bool | None] = {
    "target_rms": 0.1,
    "cross_fade_duration": 0.15,
    "sway_sampling_coef": -1.0,
    "cfg_strength": 2.0,
    "fix_duration": None,
    "remove_silence": False,
}
"""F5-TTS's defaults: asking for them asks for nothing."""


class VoiceRef(BaseModel):
    """OpenAI's other way to name a voice."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str


class SpeechBody(Tuned):
    """One wish for speech.

    Fields beyond OpenAI's: `nfe` and `seed` for the F5 engine, and the settings of F5-TTS;
    `deadline_ms` after which the request is no longer worth beginning, `priority` (batch waits for
    all that is interactive), `fallback`, which lets a light voice speak while the engine is not
    ready, and `normalize`, which makes chat speakable (left out: as daemon.normalize in the
    configuration says).

    `response_format` left out is mp3 for OpenAI's model names, as their clients expect, else wav.
    Audio is streamed as it is made, except wav and flac without a `stream_format`.
    `instructions`, which gpt-4o-mini-tts obeys, is taken and not followed: no engine here can.
    OpenAI's names of voices mean the default voice where there is none of that name. The header
    X-Ishowtts-Ignored says all of that.
    """

    input: Annotated[
        str, Field(description="the text to speak", json_schema_extra={"minLength": 1})
    ]
    model: Annotated[str | None, Field(description="an engine, or one of OpenAI's names")] = None
    voice: Annotated[str | VoiceRef | None, Field(description="see GET /v1/voices")] = None
    response_format: Format = "wav"
    speed: Speed = 1.0
    instructions: Annotated[
        str | None, Field(max_length=4096, description="taken, and not followed")
    ] = None
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
        if not isinstance(data, dict):
            return data
        # Many clients write what they leave out as null.
        given = {name: value for name, value in data.items() if value is not None}
        if "input" in data:
            given["input"] = data["input"]
        openai = given.get("model") in OPENAI_MODELS
        return {"response_format": "mp3", **given} if openai else given

    @property
    def voice_id(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceRef) else self.voice

    def unheard(self, honours: Collection[str], usual: Mapping[str, float]) -> list[str]:
        """Fields that ask for something else than what an engine does.

        Args:
            honours: what the engine obeys.
            usual: what is in force on this box, where that is not F5-TTS's own default.
        """
        in_force = {"instructions": "", "nfe": None, **IN_FORCE, **usual}
        asked = {name: getattr(self, name) for name in in_force if name not in honours}
        return [
            name for name, value in asked.items() if value is not None and value != in_force[name]
        ]

    @property
    def streamed(self) -> bool:
        return self.stream_format is not None or self.response_format not in WHOLE


class ChatBody(Tuned):
    """One wish for speech as iShowTTS's frontend sends it."""

    text: Annotated[str, Field(description="the text to speak", json_schema_extra={"minLength": 1})]
    voice_id: str | None = None
    engine: str | None = None
    speed: Speed | None = None
    nfe_step: Nfe | None = None
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
            **{name: getattr(self, name) for name in IN_FORCE},
        )


FIELDS = frozenset(
    {*SpeechBody.model_fields, *ChatBody.model_fields, "id", "audio", "language", "source", "type"}
)
"""Names that are ours: what else a request calls its fields is its own, and nothing for a log."""

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
        raise BadInput(
            "The body must be a JSON object.",
            "GET /openapi.json has its fields.",
            code="invalid_json",
        )
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
        raise BadInput(
            f"The body is not JSON: {error}.",
            "GET /openapi.json has its fields.",
            code="invalid_json",
        ) from None


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
        own = [name for name in kind.__annotations__ if name in kind.model_fields]
        known = ", ".join(dict.fromkeys([*own, *kind.model_fields]))
        return BadInput(
            f"There is no field `{field}`.", f"Fields: {known}.", param=field, code="unknown_field"
        )
    message = str(item["msg"])
    return BadInput(f"`{field}`: {message[0].lower()}{message[1:]}.", param=field)
