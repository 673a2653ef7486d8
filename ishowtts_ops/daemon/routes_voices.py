"""Voices: listed, and added, replaced and deleted while the daemon runs."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ishowtts_ops.daemon.audio import wav
from ishowtts_ops.daemon.engine import Voice
from ishowtts_ops.daemon.failures import BadInput, NotThere, Refusal
from ishowtts_ops.daemon.openapi import described, errors, form_body
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.voice_arrival import (
    Arrival,
    arrive,
    forget_others,
    good_id,
    offer_of,
    read_form,
)


def add_voices(app: FastAPI, service: Service) -> None:
    """/v1/voices and below."""

    @app.get("/v1/voices", responses={**described("Voices"), **errors(401)})
    async def voices() -> JSONResponse:
        """All voices on offer."""
        listed = [voice_row(service, voice) for voice in service.voices]
        aside = [dataclasses.asdict(one) for one in service.voices.asides]
        default = service.voices.default.id
        return JSONResponse({"voices": listed, "default_voice": default, "aside": aside})

    @app.post(
        "/v1/voices",
        status_code=201,
        responses={**described("Voice", 201), **errors()},
        openapi_extra=form_body("NewVoice"),
    )
    async def create(request: Request) -> JSONResponse:
        """A new voice from a recording and exactly the words spoken in it. It is judged, heard once
        and on offer for the next request."""

        async def work() -> Arrival:
            form = await read_form(request, ("id", "text", "language", "audio"))
            for name in ("id", "text", "audio"):
                if name not in form:
                    raise BadInput(f"`{name}` is missing.", param=name, code="missing")
            voice_id = good_id(str(form["id"]))
            return await _arrive(service, voice_id, form, request, new=True)

        return _arrived(service, await booked(service, request, work), 201)

    @app.get("/v1/voices/{voice_id}", responses={**described("Voice"), **errors(404)})
    async def show(voice_id: str) -> JSONResponse:
        """One voice."""
        return JSONResponse(voice_row(service, service.voices.get(voice_id)))

    @app.put(
        "/v1/voices/{voice_id}",
        responses={**described("Voice"), **described("Voice", 201), **errors()},
        openapi_extra=form_body("VoiceChange"),
    )
    async def replace(voice_id: str, request: Request) -> JSONResponse:
        """Replace a voice, or what is given of it; one that is not there is created."""
        new = voice_id not in service.voices.ids

        async def work() -> Arrival:
            form = await read_form(request, ("text", "language", "audio"))
            if not form:
                raise BadInput("The form has no field.", "Send text, audio or language.")
            return await _arrive(service, good_id(voice_id), form, request)

        return _arrived(service, await booked(service, request, work), 201 if new else 200)

    @app.delete(
        "/v1/voices/{voice_id}", responses={**described("Deleted"), **errors(403, 404, 409, 507)}
    )
    async def delete(voice_id: str, request: Request) -> JSONResponse:
        """Delete an added voice. One of the box's that it stood for is back at once."""

        async def work() -> Voice | None:
            behind = service.voices.remove(voice_id)
            forget_others(service)
            return behind

        behind = await booked(service, request, work)
        row = voice_row(service, behind) if behind else None
        return JSONResponse({"id": voice_id, "deleted": True, "voice": row})

    @app.get(
        "/v1/voices/{voice_id}/audio",
        response_class=Response,
        responses={200: {"content": {"audio/wav": {}}}, **errors(404)},
    )
    async def audio(voice_id: str) -> Response:
        """A voice's recording in the form engines are given."""
        return reference_audio(service.voices.get(voice_id))


async def booked(service: Service, request: Request, work: Any) -> Any:
    """Run, and book a refusal."""
    try:
        return await work()
    except Refusal as refusal:
        service.refused(refusal, request.state.request_id)
        raise


def voice_row(service: Service, voice: Voice) -> dict[str, Any]:
    """A voice as callers see it."""
    voices = service.voices
    added = voices.added(voice.id) is voice
    reference = voice.reference
    return {
        "id": voice.id,
        "language": voice.language,
        "builtin": voice.builtin,
        "default": voice.id == voices.default.id,
        "source": "added" if added else "engine" if voice.builtin else "box",
        "overrides": added and voices.baseline(voice.id) is not None,
        "updated_at": voices.store.updated_at(voice.id) if added else None,
        "reference_seconds": round(reference.seconds, 3) if reference else None,
        "reference_text": reference.text if reference else None,
    }


def reference_audio(voice: Voice | None) -> Response:
    """The recording as WAV.

    Raises:
        NotThere: it has none.
    """
    if voice is None or voice.reference is None:
        raise NotThere("There is no such recording.", param="voice_id")
    reference = voice.reference
    content = wav(reference.samples, reference.sample_rate)
    return Response(content, headers={"Cache-Control": "no-store"}, media_type="audio/wav")


async def _arrive(
    service: Service, voice_id: str, form: Any, request: Request, *, new: bool = False
) -> Arrival:
    offer, request_id = offer_of(form), request.state.request_id
    return await arrive(service, voice_id, offer, request_id, request.receive, new=new)


def _arrived(service: Service, arrival: Arrival, status: int) -> JSONResponse:
    row = voice_row(service, arrival.voice)
    row["figures"] = arrival.report.figures()
    row["warnings"] = [warning.message for warning in arrival.report.warnings]
    return JSONResponse(row, status)
