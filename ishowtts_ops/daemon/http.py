"""The HTTP face: OpenAI's speech route, voices, models, health and metrics."""

from __future__ import annotations

import re
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ishowtts_ops
from ishowtts_ops.daemon import failures, metrics
from ishowtts_ops.daemon.audio import ENCODERS
from ishowtts_ops.daemon.delivery import Delivery, SpeechStream
from ishowtts_ops.daemon.engine import SAMPLE_RATE, Timings, Voice
from ishowtts_ops.daemon.failures import BodyTooLarge, Refusal
from ishowtts_ops.daemon.notify import HUNG
from ishowtts_ops.daemon.schema import SpeechBody, parse
from ishowtts_ops.daemon.service import Service

MAX_BODY_BYTES = 1 << 20
PREFIX = "X-Ishowtts-"
REQUEST_ID = "X-Request-Id"
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def build_app(service: Service) -> ASGIApp:
    """The daemon's ASGI application."""
    # FastAPI's interactive pages would load their scripts from elsewhere; boxes may be offline.
    app = FastAPI(title="ishowtts-ops", version=ishowtts_ops.__version__, openapi_url=None)
    _speech_routes(app, service)
    _state_routes(app, service)
    _error_handlers(app)
    _description_route(app)
    return RequestIds(app)


def _speech_routes(app: FastAPI, service: Service) -> None:
    schema = {"$ref": "#/components/schemas/SpeechBody"}

    @app.post(
        "/v1/audio/speech",
        response_class=Response,
        responses={
            200: {"content": {encoder.content_type: {} for encoder in ENCODERS.values()}},
            **_error_responses(),
        },
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        },
    )
    async def speech(request: Request) -> Response:
        request_id: str = request.state.request_id
        try:
            body = parse(await _read(request))
            delivery = Delivery(service, body, request_id, request.receive)
        except Refusal as refusal:
            service.refused(refusal, request_id)
            raise
        if body.streamed:
            return await _streamed(delivery, body)
        return await _whole(delivery, body)

    @app.get("/v1/voices")
    async def voices() -> JSONResponse:
        default = service.voices.default.id
        listed = [_voice(voice, default) for voice in service.voices]
        return JSONResponse({"voices": listed, "default_voice": default})

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "ishowtts-ops"}
            for name in service.models
        ]
        return JSONResponse({"object": "list", "data": rows})


def _state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/livez")
    async def livez() -> JSONResponse:
        """Alive means: this loop turns, and the engine's thread does not hang."""
        ailing = service.primary.condition.ailment(HUNG)
        if ailing:
            return JSONResponse({"status": "hung", "reasons": [ailing]}, 503)
        return JSONResponse({"status": "alive"})

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        ready, story = service.readiness()
        return JSONResponse(story, 200 if ready else 503)

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        return Response(service.metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _read(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(data)


async def _whole(delivery: Delivery, body: SpeechBody) -> Response:
    encoder = ENCODERS[body.response_format]()
    parts: list[bytes] = []
    frames = 0
    try:
        while (samples := await delivery.next()) is not None:
            frames += len(samples)
            parts.append(encoder.chunk(samples))
    finally:
        delivery.close()
    parts = [encoder.start(SAMPLE_RATE, frames), *parts, encoder.finish()]
    headers = _headers(delivery)
    if delivery.timings is not None:
        headers |= timing_headers(delivery.timings)
    return Response(b"".join(parts), headers=headers, media_type=encoder.content_type)


async def _streamed(delivery: Delivery, body: SpeechBody) -> Response:
    encoder = ENCODERS[body.response_format]()
    try:
        first = await delivery.next()
    except BaseException:
        delivery.close()
        raise
    assert first is not None, "the worker never ends a job without audio"
    return SpeechStream(delivery, first, encoder, _headers(delivery))


def _headers(delivery: Delivery) -> dict[str, str]:
    admitted = delivery.admitted
    return {
        f"{PREFIX}Engine": admitted.worker.engine.name,
        f"{PREFIX}Voice": admitted.job.request.voice.id,
        f"{PREFIX}Fallback": str(admitted.substituted).lower(),
        f"{PREFIX}Sample-Rate": str(SAMPLE_RATE),
        "Cache-Control": "no-store",
    }


def timing_headers(timings: Timings) -> dict[str, str]:
    """Seconds, one header each, and the same in milliseconds as Server-Timing, which browsers
    show."""
    rows = {
        "Queue": timings.queue,
        "Infer": timings.infer,
        "First-Audio": timings.first_audio,
        "Total": timings.total,
    }
    headers = {f"{PREFIX}{name}-Seconds": f"{seconds:.6f}" for name, seconds in rows.items()}
    headers[f"{PREFIX}Audio-Seconds"] = f"{timings.audio_seconds:.6f}"
    headers[f"{PREFIX}Rtf"] = f"{timings.rtf:.6f}"
    headers["Server-Timing"] = ", ".join(
        f"{name.lower()};dur={seconds * 1000:.3f}" for name, seconds in rows.items()
    )
    return headers


def _voice(voice: Voice, default: str) -> dict[str, Any]:
    return {
        "id": voice.id,
        "language": voice.language,
        "builtin": voice.builtin,
        "default": voice.id == default,
        "reference_seconds": round(voice.reference.seconds, 3) if voice.reference else None,
        "reference_text": voice.reference.text if voice.reference else None,
    }


def _error_handlers(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        row = failures.answer_for(error)
        return JSONResponse(failures.body_of(error), row.status, failures.headers_of(error))

    async def http_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        body = failures.error_body(str(error.detail), "invalid_request_error", code)
        return JSONResponse(body, error.status_code, error.headers)

    async def bug(_: Request, error: Exception) -> JSONResponse:
        body = failures.error_body(
            "The daemon has a bug; its journal says more.", "server_error", "bug"
        )
        return JSONResponse(body, 500)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, bug)


def _error_responses() -> dict[int | str, dict[str, Any]]:
    """The statuses of the table, for the description."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    codes: dict[int | str, list[str]] = {}
    for row in failures.TABLE.values():
        codes.setdefault(row.status, []).append(row.code)
    return {
        status: {"description": ", ".join(names), "content": content}
        for status, names in codes.items()
    }


def _description_route(app: FastAPI) -> None:
    description = _openapi(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(description)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The body is parsed by hand, to name the field also when its bytes are no UTF-8; so its schema
    is put in by hand too."""
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    body = SpeechBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(body.pop("$defs", {}))
    schemas["SpeechBody"] = body
    schemas["Error"] = failures.SCHEMA
    return schema


class RequestIds:
    """Gives every request an id, the caller's own when it is well-formed, and returns it in the
    headers of every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"").decode("latin-1")
        request_id = given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, with_id)
