"""The body of POST /v1/audio/speech: OpenAI's fields, and ours."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.text import refuse_surrogates


class VoiceRef(BaseModel):
    """OpenAI's other way to name a voice."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str


class SpeechBody(BaseModel):
    """One wish for speech.

    Fields beyond OpenAI's: `nfe` and `seed` for the F5 engine, `deadline_ms` after which the
    request is no longer worth beginning, and `fallback`, which lets a light voice speak while the
    engine is not ready.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    input: Annotated[
        str, Field(description="the text to speak", json_schema_extra={"minLength": 1})
    ]
    model: Annotated[str | None, Field(description="an engine, or one of OpenAI's names")] = None
    voice: Annotated[str | VoiceRef | None, Field(description="see GET /v1/voices")] = None
    response_format: Literal["wav", "pcm"] = "wav"
    speed: Annotated[float, Field(ge=0.25, le=4, strict=False)] = 1.0
    stream_format: Literal["audio"] | None = None
    nfe: Annotated[int, Field(ge=1, le=64)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    deadline_ms: Annotated[int, Field(ge=50, le=600_000)] | None = None
    fallback: bool = False

    @property
    def voice_id(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceRef) else self.voice

    @property
    def streamed(self) -> bool:
        """`pcm` needs no length in front, so it always flows as it is made."""
        return self.stream_format == "audio" or self.response_format == "pcm"


def parse(raw: bytes) -> SpeechBody:
    """The body of a request.

    Raises:
        BadInput: naming the first field that is off.
    """
    data = _json(raw)
    if not isinstance(data, dict):
        raise BadInput("The body must be a JSON object.", code="invalid_json")
    for name, value in data.items():
        refuse_surrogates(name, "body")
        if isinstance(value, str):
            refuse_surrogates(value, name)
    try:
        return SpeechBody.model_validate(data)
    except ValidationError as error:
        raise _refusal(error) from None


def _json(raw: bytes) -> Any:
    # Bytes that are no UTF-8 become lone surrogates here, so that the field they are in can be
    # named instead of the whole body.
    try:
        return json.loads(raw.decode("utf-8", errors="surrogateescape"), parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The body is not JSON: {error}.", code="invalid_json") from None


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _refusal(error: ValidationError) -> BadInput:
    item = error.errors()[0]
    field = str(item["loc"][0]) if item["loc"] else None
    if item["type"] == "missing":
        return BadInput(f"`{field}` is missing.", param=field, code="missing")
    if item["type"] == "extra_forbidden":
        known = ", ".join(SpeechBody.model_fields)
        return BadInput(
            f"There is no field `{field}`.", f"Fields: {known}.", param=field, code="unknown_field"
        )
    message = str(item["msg"])
    return BadInput(f"`{field}`: {message[0].lower()}{message[1:]}.", param=field)
