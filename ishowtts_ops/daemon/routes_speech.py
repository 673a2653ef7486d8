"""OpenAI's routes: speech and models."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ishowtts_ops.daemon.audio import ENCODERS
from ishowtts_ops.daemon.delivery import Delivery, SpeechStream, whole
from ishowtts_ops.daemon.direct import Endpoint
from ishowtts_ops.daemon.engine import SAMPLE_RATE, Timings
from ishowtts_ops.daemon.failures import BodyTooLarge, Refusal, UnknownModel
from ishowtts_ops.daemon.openapi import Part, described, errors, json_body
from ishowtts_ops.daemon.schema import OPENAI_MODELS, SpeechBody, parse
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.sse import CONTENT_TYPE, SpeechEvents

MAX_BODY_BYTES = 1 << 20
SPEECH_PATH = "/v1/audio/speech"
PREFIX = "X-Ishowtts-"


def add_speech(app: FastAPI, service: Service) -> Endpoint:
    """POST /v1/audio/speech, GET /v1/models and /v1/models/{model}.

    Returns:
        the endpoint of the first.
    """
    audio: dict[str, Part] = {encoder.content_type: {} for encoder in ENCODERS.values()}

    @app.post(
        SPEECH_PATH,
        response_class=Response,
        responses={200: {"content": {**audio, CONTENT_TYPE: {}}}, **errors()},
        openapi_extra=json_body("SpeechBody"),
    )
    async def speech(request: Request) -> Response:
        """Speech for a text."""
        request_id: str = request.state.request_id
        try:
            body = parse(await read(request))
            delivery = Delivery(
                lambda reply: service.admit(body, request_id, reply, whole=not body.streamed),
                request.receive,
            )
        except Refusal as refusal:
            service.refused(refusal, request_id)
            raise
        if body.streamed:
            return await _streamed(service, delivery, body)
        return await _whole(service, delivery, body)

    @app.get("/v1/models", responses={**described("Models"), **errors(401)})
    async def models() -> JSONResponse:
        """The engines that can be asked for by name."""
        return JSONResponse({"object": "list", "data": [_model(name) for name in service.models]})

    @app.get("/v1/models/{model}", responses={**described("Model"), **errors(404)})
    async def model(model: str) -> JSONResponse:
        """One engine. OpenAI's own names are known too."""
        if model not in (*service.models, *OPENAI_MODELS):
            raise UnknownModel(model, service.models)
        return JSONResponse(_model(model))

    return speech


def _model(name: str) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ishowtts-ops"}


async def read(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """The body.

    Raises:
        BodyTooLarge: as soon as it is.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise BodyTooLarge(f"The body is larger than {most} bytes.", "Send less at once.")
    return bytes(data)


async def _whole(service: Service, delivery: Delivery, body: SpeechBody) -> Response:
    parts = await delivery.rest()
    encoder = ENCODERS[body.response_format]()
    content = await whole(encoder, parts)
    return Response(
        content,
        headers={
            **speech_headers(delivery),
            **ignored_header(unheard(service, delivery, body)),
            **timing_headers(delivery.timings),
        },
        media_type=encoder.content_type,
    )


async def _streamed(service: Service, delivery: Delivery, body: SpeechBody) -> Response:
    encoder = ENCODERS[body.response_format]()
    try:
        first = await delivery.next()
    except BaseException:
        delivery.close()
        raise
    assert first is not None, "the worker never ends a job without audio"
    kind = SpeechEvents if body.stream_format == "sse" else SpeechStream
    ignored = ignored_header(unheard(service, delivery, body))
    return kind(delivery, first, encoder, {**speech_headers(delivery), **ignored})


def unheard(service: Service, delivery: Delivery, body: SpeechBody) -> list[str]:
    """Which of the request's fields whoever speaks it does not obey."""
    admitted = delivery.admitted
    names = body.unheard(admitted.worker.engine.honours, service.usual)
    other_voice = body.voice_id not in (None, admitted.job.request.voice.id)
    return [*(["voice"] if other_voice else []), *names]


def ignored_header(names: list[str]) -> dict[str, str]:
    """The header that names them; none when there are none."""
    return {f"{PREFIX}Ignored": ", ".join(names)} if names else {}


def speech_headers(delivery: Delivery) -> dict[str, str]:
    """Who speaks."""
    admitted = delivery.admitted
    return {
        f"{PREFIX}Engine": admitted.worker.engine.name,
        f"{PREFIX}Voice": admitted.job.request.voice.id,
        f"{PREFIX}Fallback": str(admitted.substituted).lower(),
        f"{PREFIX}Sample-Rate": str(SAMPLE_RATE),
        "Cache-Control": "no-store",
    }


def timing_headers(timings: Timings | None) -> dict[str, str]:
    """Seconds, one header each, and the same in milliseconds as Server-Timing, which browsers
    show. None of them while the speech is not finished."""
    if timings is None:
        return {}
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
