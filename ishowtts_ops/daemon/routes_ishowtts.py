"""iShowTTS's own routes, so that its frontend and scripts can point here: the shapes are those of
its backend, the errors are ours.

Unlike there, health is honest, a text of any script is limited by what it takes to speak it, and
what is wrong with a recording is said.
"""

from __future__ import annotations

import base64
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ishowtts_ops.daemon.audio import Wav
from ishowtts_ops.daemon.delivery import Delivery, whole
from ishowtts_ops.daemon.engine import SAMPLE_RATE, Voice
from ishowtts_ops.daemon.failures import (
    BadInput,
    Refusal,
    UnknownModel,
    UnknownVoice,
)
from ishowtts_ops.daemon.openapi import described, errors, form_body, json_body
from ishowtts_ops.daemon.routes_speech import (
    PREFIX,
    ignored_header,
    read,
    speech_headers,
    timing_headers,
    unheard,
)
from ishowtts_ops.daemon.routes_voices import booked, reference_audio
from ishowtts_ops.daemon.schema import ChatBody, parse_as
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.voice_arrival import (
    Arrival,
    arrive,
    forget_others,
    good_id,
    offer_of,
    read_form,
)

LABELS = {"f5": "F5-TTS", "espeak": "eSpeak NG", "tone": "Tones"}
NAMES = {"input": "text", "voice": "voice_id", "model": "engine", "nfe": "nfe_step"}
"""Our fields by iShowTTS's names."""
REFERENCE = "/api/voices/{voice_id}/reference"


def add_ishowtts(app: FastAPI, service: Service) -> None:
    """/api/health, /api/voices, /api/tts and the voice overrides."""

    @app.get("/api/health", responses=described("Health"))
    async def health() -> JSONResponse:
        """`status` is `ok` when the engine is ready, else warming, failing or draining."""
        now = service.primary.condition.snapshot()
        status = "ok" if now.ready else now.status
        voices = service.voices
        return JSONResponse(
            {"status": status, "voices": len(voices), "default_voice": voices.default.id}
        )

    @app.get("/api/voices", responses={**described("ChatVoices"), **errors(401)})
    async def voices() -> JSONResponse:
        """All voices on offer."""
        return JSONResponse([_listed(service, voice) for voice in service.voices])

    @app.post(
        "/api/tts",
        responses={**described("ChatSpeech"), **errors()},
        openapi_extra=json_body("ChatBody"),
    )
    async def tts(request: Request) -> JSONResponse:
        """Speech for a line of chat, which is made speakable first."""
        request_id: str = request.state.request_id
        try:
            body = parse_as(ChatBody, await read(request))
            delivery = _admit(service, body, request_id, request)
        except Refusal as refusal:
            service.refused(refusal, request_id)
            raise
        parts = await delivery.rest()
        content = await whole(Wav(), parts)
        ignored = unheard(service, delivery, body.speech(fallback=True))
        headers = {
            **speech_headers(delivery),
            **ignored_header([NAMES.get(name, name) for name in ignored]),
            **timing_headers(delivery.timings),
        }
        engine = headers[f"{PREFIX}Engine"]
        answer = {
            "request_id": request_id,
            "voice_id": headers[f"{PREFIX}Voice"],
            "engine": engine,
            "engine_label": LABELS.get(engine, engine),
            "sample_rate": SAMPLE_RATE,
            "audio_base64": base64.b64encode(content).decode(),
            "waveform_len": sum(map(len, parts)),
            "format": "audio/wav",
        }
        return JSONResponse(answer, headers=headers)

    _reference_routes(app, service)


def _reference_routes(app: FastAPI, service: Service) -> None:
    @app.get(REFERENCE, responses={**described("ChatReference"), **errors(404)})
    async def reference(voice_id: str) -> JSONResponse:
        """What a voice speaks by: the box's reference, and the one that stands in its place."""
        return _reference(service, voice_id)

    @app.post(
        REFERENCE,
        responses={**described("ChatReference"), **errors()},
        openapi_extra=form_body("ReferenceChange"),
    )
    async def override(voice_id: str, request: Request) -> JSONResponse:
        """Put another recording, another transcript or both in place of a voice's own."""

        async def work() -> Arrival:
            service.voices.get(voice_id)
            form = await read_form(request, ("text", "audio"))
            # iShowTTS's page sends an empty file where none was chosen.
            given = {name: value for name, value in form.items() if value or name == "text"}
            if not given:
                raise BadInput("The form has neither `audio` nor `text`.", param="audio")
            offer, id_ = offer_of(given), request.state.request_id
            return await arrive(service, good_id(voice_id), offer, id_, request.receive)

        await booked(service, request, work)
        return _reference(service, voice_id)

    @app.delete(
        REFERENCE, responses={**described("ChatReference"), **errors(400, 403, 404, 409, 507)}
    )
    async def restore(voice_id: str, request: Request) -> JSONResponse:
        """Back to the box's own reference; nothing happens where it is in force."""

        async def work() -> None:
            voices = service.voices
            voices.get(voice_id)
            if voices.added(voice_id) is not None and voices.baseline(voice_id) is None:
                # Not an override: the voice itself would be gone.
                raise BadInput(
                    f"The voice {voice_id!r} has no reference of the box's behind it.",
                    f"DELETE /v1/voices/{voice_id} deletes the voice.",
                    param="voice_id",
                    code="no_baseline",
                )
            if voices.added(voice_id) is not None:
                voices.remove(voice_id)
                forget_others(service)

        await booked(service, request, work)
        return _reference(service, voice_id)

    @app.get(
        f"{REFERENCE}/audio",
        response_class=Response,
        responses={200: {"content": {"audio/wav": {}}}, **errors(400, 404)},
    )
    async def audio(voice_id: str, source: str | None = None) -> Response:
        """The recording: `source` is baseline or override; left out, the one in force."""
        voices = service.voices
        sources = {
            None: voices.get(voice_id),
            "baseline": voices.baseline(voice_id),
            "override": voices.added(voice_id),
        }
        if source not in sources:
            raise BadInput("`source` must be baseline or override.", param="source")
        answer = reference_audio(sources[source])
        answer.headers["X-Voice-Reference-Source"] = source or "active"
        return answer


def _admit(service: Service, body: ChatBody, request_id: str, request: Request) -> Delivery:
    """As iShowTTS: what is unknown is a bad request. Fields go by iShowTTS's names."""
    try:
        return Delivery(
            lambda reply: service.admit(
                body.speech(fallback=True), request_id, reply, chat=True, whole=True
            ),
            request.receive,
        )
    except (UnknownVoice, UnknownModel) as unknown:
        raise BadInput(
            unknown.message,
            unknown.hint,
            param=NAMES[unknown.param or ""],
            code="voice_not_found" if isinstance(unknown, UnknownVoice) else "engine_not_found",
            details=unknown.details,
        ) from None
    except BadInput as bad:
        renamed = NAMES.get(bad.param or "", bad.param)
        words = bad.message.replace(f"`{bad.param}`", f"`{renamed}`")
        raise BadInput(words, bad.hint, param=renamed, code=bad.code) from None


def _listed(service: Service, voice: Voice) -> dict[str, Any]:
    engine = service.primary.engine.name
    row = {"id": voice.id, "engine": engine, "engine_label": LABELS.get(engine, engine)}
    if voice.language is not None:
        row["language"] = voice.language
    if voice.reference is not None:
        row["reference_text"] = voice.reference.text
    return row


def _reference(service: Service, voice_id: str) -> JSONResponse:
    voices = service.voices
    active = voices.get(voice_id)
    baseline, override = voices.baseline(voice_id), voices.added(voice_id)
    engine = service.primary.engine.name
    row = {
        "voice_id": voice_id,
        "engine": engine,
        "engine_label": LABELS.get(engine, engine),
        "language": active.language,
        "active_reference_text": _words(active),
        "baseline_reference_text": _words(baseline),
        "override_reference_text": _words(override),
        "baseline_audio_available": baseline is not None and baseline.reference is not None,
        "override_audio_available": override is not None,
        "override_updated_at": voices.store.updated_at(voice_id),
    }
    return JSONResponse({name: value for name, value in row.items() if value is not None})


def _words(voice: Voice | None) -> str | None:
    return voice.reference.text if voice and voice.reference else None
