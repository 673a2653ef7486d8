"""Every way a request can fail, one table to HTTP status, one JSON shape.

Refusal
├── BadInput        the request is off; names the field
├── BodyTooLarge
├── HeadTooLarge    more headers than anybody needs
├── Unauthorized    no API key, or one that is not known
├── ForeignOrigin   a page of another machine
├── RateLimited     this caller asks too often
├── Crowded         too many connections are open
├── BadVoice        a recording or transcript that is none; carries every reason
├── VoiceConflict   the voice is there already, or cannot be changed
├── StoreFailed     the disk does not take a voice
├── NotThere        there is a voice, but not what was asked of it
├── UnknownVoice    carries the voices there are
├── UnknownModel    carries the models there are
├── NotReady        warming up, or not healthy
├── Draining        on its way down
├── QueueFull       too many wait already
├── DeadlinePassed  waited too long; never reached the engine
├── CallerGone      nobody is left to read an answer
├── EngineFailed    the engine raised
└── BadAudio        the engine made NaN or silence
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ishowtts_ops.errors import OpsError

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]


class Refusal(OpsError):
    """A request that is answered with an error.

    Args:
        param: the field of the request that is to blame.
        code: a finer word than the table's, for programs.
        retry_after: seconds after which trying again makes sense.
        details: more members of the error object.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.details = dict(details or {})


class BadInput(Refusal):
    pass


class BodyTooLarge(Refusal):
    pass


class HeadTooLarge(Refusal):
    pass


class Unauthorized(Refusal):
    pass


class ForeignOrigin(Refusal):
    pass


class RateLimited(Refusal):
    pass


class Crowded(Refusal):
    pass


class BadVoice(Refusal):
    pass


class VoiceConflict(Refusal):
    pass


class StoreFailed(Refusal):
    pass


class NotThere(Refusal):
    pass


class UnknownVoice(Refusal):
    def __init__(self, voice: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no voice {voice!r}.",
            f"Voices: {', '.join(known)}.",
            param="voice",
            details={"voices": list(known)},
        )


class UnknownModel(Refusal):
    def __init__(self, model: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no model {model!r}.",
            f"Models: {', '.join(known)}.",
            param="model",
            details={"models": list(known)},
        )


class NotReady(Refusal):
    pass


class Draining(Refusal):
    pass


class QueueFull(Refusal):
    pass


class DeadlinePassed(Refusal):
    pass


class CallerGone(Refusal):
    pass


class EngineFailed(Refusal):
    pass


class BadAudio(EngineFailed):
    pass


@dataclass(frozen=True)
class Answer:
    """A row of the table: HTTP status, OpenAI's error type, code, and the metrics' outcome."""

    status: int
    type: str
    code: str
    outcome: str


TABLE: Mapping[type[Refusal], Answer] = {
    BadInput: Answer(400, "invalid_request_error", "invalid_value", "invalid"),
    BodyTooLarge: Answer(413, "invalid_request_error", "body_too_large", "invalid"),
    HeadTooLarge: Answer(431, "invalid_request_error", "head_too_large", "invalid"),
    Unauthorized: Answer(401, "authentication_error", "missing_api_key", "unauthorized"),
    ForeignOrigin: Answer(403, "invalid_request_error", "foreign_origin", "invalid"),
    RateLimited: Answer(429, "rate_limit_error", "rate_limited", "rate_limited"),
    Crowded: Answer(429, "rate_limit_error", "too_many_connections", "rate_limited"),
    BadVoice: Answer(422, "invalid_request_error", "bad_voice", "invalid"),
    VoiceConflict: Answer(409, "invalid_request_error", "voice_conflict", "invalid"),
    StoreFailed: Answer(507, "server_error", "storage_failed", "failed"),
    NotThere: Answer(404, "invalid_request_error", "not_found", "invalid"),
    UnknownVoice: Answer(404, "invalid_request_error", "voice_not_found", "invalid"),
    UnknownModel: Answer(404, "invalid_request_error", "model_not_found", "invalid"),
    NotReady: Answer(503, "service_unavailable", "not_ready", "not_ready"),
    Draining: Answer(503, "service_unavailable", "draining", "draining"),
    QueueFull: Answer(429, "rate_limit_error", "queue_full", "queue_full"),
    DeadlinePassed: Answer(504, "timeout", "deadline_passed", "deadline"),
    # 499 as nginx has it: it shows up in the journal, and no caller is left to see it.
    CallerGone: Answer(499, "cancelled", "caller_gone", "cancelled"),
    EngineFailed: Answer(500, "server_error", "engine_failed", "failed"),
    BadAudio: Answer(500, "server_error", "bad_audio", "failed"),
}


def answer_for(refusal: Refusal) -> Answer:
    """The table's row for an error."""
    return TABLE[type(refusal)]


def body_of(refusal: Refusal) -> dict[str, Json]:
    """The error as OpenAI's clients expect it."""
    row = answer_for(refusal)
    return error_body(
        " ".join(filter(None, (refusal.message, refusal.hint))),
        row.type,
        refusal.code or row.code,
        refusal.param,
        refusal.details,
    )


def error_body(
    message: str,
    type_: str,
    code: str,
    param: str | None = None,
    details: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """The one JSON shape of an error."""
    error = {"message": message, "type": type_, "param": param, "code": code, **(details or {})}
    return {"error": error}


SCHEMA: Mapping[str, Json] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
"""`error_body` as a JSON schema."""


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Retry-After in whole seconds, rounded up: coming too early would only be refused again."""
    if refusal.retry_after is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(refusal.retry_after)))}
