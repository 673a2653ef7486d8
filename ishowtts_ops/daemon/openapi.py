"""The description of the API at /openapi.json.

Bodies are parsed by hand, to name the field also where the bytes are no UTF-8, so their schemas are
put in by hand too. A test holds the running daemon to what is written here.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from ishowtts_ops.daemon import failures
from ishowtts_ops.daemon.schema import ChatBody, SpeechBody

Part = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
LANGUAGE_PATTERN = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"


OF_THE_GATE = (401,)
"""What any request may be told before it reaches a route."""


def ref(name: str) -> Part:
    return {"$ref": f"#/components/schemas/{name}"}


def json_body(name: str) -> Part:
    """An operation's JSON body."""
    return {"requestBody": {"required": True, "content": _json(ref(name))}}


def form_body(name: str) -> Part:
    """An operation's multipart form."""
    content = {"multipart/form-data": {"schema": ref(name)}}
    return {"requestBody": {"required": True, "content": content}}


def described(name: str, status: int = 200) -> Responses:
    """A JSON answer."""
    return {status: {"description": "", "content": _json(ref(name))}}


def errors(*only: int) -> Responses:
    """The statuses of the table of errors; all of them, or some, and those of the gate."""
    codes: dict[int, list[str]] = {}
    for row in failures.TABLE.values():
        codes.setdefault(row.status, []).append(row.code)
    return {
        status: {"description": ", ".join(names), "content": _json(ref("Error"))}
        for status, names in codes.items()
        if not only or status in (*only, *OF_THE_GATE)
    }


def add_description(app: FastAPI) -> None:
    """GET /openapi.json, of the routes that are there by now."""
    description = _openapi(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(description)


def _json(schema: Part) -> Part:
    return {"application/json": {"schema": schema}}


def _openapi(app: FastAPI) -> Part:
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for kind in (SpeechBody, ChatBody):
        body = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(body.pop("$defs", {}))
        schemas[kind.__name__] = body
    # Left out it depends on the model, see SpeechBody.
    schemas["SpeechBody"]["properties"]["response_format"].pop("default")
    schemas["Error"] = failures.SCHEMA
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    }
    # A daemon on loopback wants none.
    schema["security"] = [{}, {"bearer": []}, {"key": []}]
    schemas.update(SCHEMAS)
    # FastAPI describes errors of its own parsing, which is not used here.
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in schema["paths"].values():
        for operation in path.values():
            given = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(given):
                del operation["responses"]["422"]
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "voice_id":
                    parameter["schema"] = {"type": "string", "pattern": ID_PATTERN}
    return schema


def _object(required: Part, optional: Part | None = None) -> Part:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
    }


_TEXT: Part = {"type": "string"}
_MAYBE: Part = {"type": ["string", "null"]}
_NUMBER: Part = {"type": "number"}
_FLAG: Part = {"type": "boolean"}
_COUNT: Part = {"type": "integer", "minimum": 0}
_FILE: Part = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
_WORDS: Part = {"type": "string", "minLength": 1, "maxLength": 1000}
_LANGUAGE: Part = {"type": "string", "pattern": LANGUAGE_PATTERN}

_MODEL = _object({"id": _TEXT, "object": _TEXT, "created": _COUNT, "owned_by": _TEXT})
_VOICE = _object(
    {
        "id": _TEXT,
        "language": _MAYBE,
        "builtin": _FLAG,
        "default": _FLAG,
        "source": {"enum": ["engine", "box", "added"]},
        "overrides": _FLAG,
        "updated_at": _MAYBE,
        "reference_seconds": {"type": ["number", "null"]},
        "reference_text": _MAYBE,
    },
    {
        "figures": {"type": "object"},
        "warnings": {"type": "array", "items": _TEXT},
    },
)

SCHEMAS: dict[str, Part] = {
    "Model": _MODEL,
    "Models": _object({"object": _TEXT, "data": {"type": "array", "items": ref("Model")}}),
    "Voice": _VOICE,
    "Aside": _object({"id": _TEXT, "why": _TEXT}),
    "Voices": _object(
        {
            "voices": {"type": "array", "items": ref("Voice")},
            "default_voice": _TEXT,
            "aside": {"type": "array", "items": ref("Aside")},
        }
    ),
    "Deleted": _object(
        {"id": _TEXT, "deleted": _FLAG, "voice": {"anyOf": [ref("Voice"), {"type": "null"}]}}
    ),
    "NewVoice": _object(
        {"id": {"type": "string", "pattern": ID_PATTERN}, "text": _WORDS, "audio": _FILE},
        {"language": _LANGUAGE},
    ),
    "VoiceChange": _object({}, {"text": _WORDS, "audio": _FILE, "language": _LANGUAGE}),
    "ReferenceChange": _object({}, {"text": _WORDS, "audio": _FILE}),
    "Health": _object({"status": _TEXT, "voices": _COUNT, "default_voice": _TEXT}),
    "ChatVoices": {
        "type": "array",
        "items": _object(
            {"id": _TEXT, "engine": _TEXT, "engine_label": _TEXT},
            {"language": _TEXT, "reference_text": _TEXT},
        ),
    },
    "ChatSpeech": _object(
        {
            "request_id": _TEXT,
            "voice_id": _TEXT,
            "engine": _TEXT,
            "engine_label": _TEXT,
            "sample_rate": _COUNT,
            "audio_base64": _TEXT,
            "waveform_len": _COUNT,
            "format": {"const": "audio/wav"},
        }
    ),
    "ChatReference": _object(
        {
            "voice_id": _TEXT,
            "engine": _TEXT,
            "engine_label": _TEXT,
            "baseline_audio_available": _FLAG,
            "override_audio_available": _FLAG,
        },
        {
            "language": _TEXT,
            "active_reference_text": _TEXT,
            "baseline_reference_text": _TEXT,
            "override_reference_text": _TEXT,
            "override_updated_at": _TEXT,
        },
    ),
    "Life": _object({"status": _TEXT}, {"reasons": {"type": "array", "items": _TEXT}}),
    "Readiness": _object(
        {
            "status": _TEXT,
            "ready": _FLAG,
            "stage": _TEXT,
            "voices": {"type": "array", "items": _TEXT},
            "voices_aside": {"type": "array", "items": ref("Aside")},
        }
    ),
    "Box": _object(
        {
            "clocks_mhz": {"type": "object", "additionalProperties": _NUMBER},
            "limits_mhz": {"type": "object", "additionalProperties": _NUMBER},
            "temperatures_c": {"type": "object", "additionalProperties": _NUMBER},
            "throttling": {"type": "array", "items": _TEXT},
        }
    ),
    "Stats": _object(
        {
            "status": _TEXT,
            "ready": _FLAG,
            "stage": _TEXT,
            "queue": {"type": "object"},
            "recent_rtf": _NUMBER,
            "recent": {
                "type": "array",
                "items": _object(
                    {
                        "number": _COUNT,
                        "at": _NUMBER,
                        "engine": _TEXT,
                        "voice": _TEXT,
                        "rtf": _NUMBER,
                        "first_audio_seconds": _NUMBER,
                        "queue_seconds": _NUMBER,
                        "audio_seconds": _NUMBER,
                    }
                ),
            },
        }
    ),
}
