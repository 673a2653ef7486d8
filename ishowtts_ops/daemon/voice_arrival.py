"""How a voice comes into a running daemon: checked, heard once, kept, and offered at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from ishowtts_ops.daemon import voice_check
from ishowtts_ops.daemon.delivery import Delivery
from ishowtts_ops.daemon.engine import SAMPLE_RATE, Reference, Voice
from ishowtts_ops.daemon.failures import BadAudio, BadInput, BadVoice
from ishowtts_ops.daemon.openapi import ID_PATTERN, LANGUAGE_PATTERN
from ishowtts_ops.daemon.routes_speech import read
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.text import clean, refuse_surrogates
from ishowtts_ops.daemon.voice_check import Report
from ishowtts_ops.daemon.voice_store import keyed

MAX_UPLOAD_BYTES = 16 << 20
MAX_TEXT_CHARS = 1000
SHORTEST_S, LONGEST_S = 0.2, 60.0
"""What the audition's few words can take at all."""


@dataclass(frozen=True)
class Offer:
    """What a caller gives for a voice; None is what the voice has already."""

    text: str | None = None
    audio: bytes | None = None
    language: str | None = None


@dataclass(frozen=True)
class Arrival:
    """A voice that is on offer now, and what was found out about its recording."""

    voice: Voice
    report: Report


def good_id(voice_id: str) -> str:
    """Raises BadInput for what cannot be a voice's id."""
    refuse_surrogates(voice_id, "id")
    if re.fullmatch(ID_PATTERN, voice_id) is None or voice_id.endswith("\n"):
        raise BadInput(
            "`id` must begin with a letter or digit; up to 64 letters, digits, `_`, `.` and `-`.",
            param="id",
        )
    return voice_id


async def read_form(request: Request, fields: tuple[str, ...]) -> Mapping[str, str | bytes]:
    """A multipart form: `audio` as bytes, everything else as text.

    Raises:
        BodyTooLarge, BadInput: naming the field.
    """
    raw = await read(request, MAX_UPLOAD_BYTES)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise BadInput(
            "The body must be multipart/form-data.",
            "With curl: -F text='the words spoken' -F audio=@recording.wav",
            code="invalid_form",
        )
    form: dict[str, str | bytes] = {}
    for name, value in await _parts(request.headers, raw):
        refuse_surrogates(name, "body")
        if name not in fields:
            known = ", ".join(fields)
            raise BadInput(
                f"There is no field `{name}`.",
                f"Fields: {known}.",
                param=name,
                code="unknown_field",
            )
        if name in form:
            raise BadInput(f"`{name}` is there twice.", param=name)
        if name == "audio":
            form[name] = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
        else:
            form[name] = _text(name, value)
    return form


async def _parts(headers: Headers, raw: bytes) -> list[tuple[str, str | bytes]]:
    async def once() -> Any:
        yield raw
        yield b""

    try:
        # All of it is in memory and bounded already, so no part needs a limit or a file of its own.
        parser = MultiPartParser(
            headers, once(), max_files=8, max_fields=8, max_part_size=MAX_UPLOAD_BYTES
        )
        parser.spool_max_size = MAX_UPLOAD_BYTES + 1
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, LookupError, ValueError) as error:
        words = getattr(error, "message", "") or "it cannot be taken apart"
        raise BadInput(f"The form is broken: {words}.", code="invalid_form") from None
    return [
        (name, await value.read() if isinstance(value, UploadFile) else value)
        for name, value in form.multi_items()
    ]


def _text(name: str, value: str | bytes) -> str:
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = "\ud83d"
    refuse_surrogates(text, name)
    return text


def offer_of(form: Mapping[str, str | bytes]) -> Offer:
    """The fields of a form, checked as far as they can be without the recording.

    Raises:
        BadInput: naming the field.
    """
    text, audio, language = form.get("text"), form.get("audio"), form.get("language")
    if isinstance(text, str):
        text = clean(text, MAX_TEXT_CHARS, "text")
    if audio is not None and not audio:
        raise BadInput("`audio` is empty.", param="audio", code="audio_empty")
    if isinstance(language, str) and re.fullmatch(LANGUAGE_PATTERN, language) is None:
        raise BadInput("`language` must be a tag such as `en` or `zh`.", param="language")
    assert not isinstance(text, bytes) and not isinstance(language, bytes)
    assert not isinstance(audio, str)
    return Offer(text, audio, language)


async def arrive(
    service: Service,
    voice_id: str,
    offer: Offer,
    request_id: str,
    receive: Receive,
    *,
    new: bool = False,
) -> Arrival:
    """Add a voice, or replace the one of that id, of which it keeps what is not offered.

    Args:
        new: there must be none of that id.

    Raises:
        Refusal: nothing was changed.
    """
    voices = service.voices
    voices.admit(voice_id, new=new)
    voices.store.ready()
    before = voices.get(voice_id) if voice_id in voices.ids else None
    old = before.reference if before else None
    text = offer.text if offer.text is not None else (old.text if old else None)
    if text is None:
        raise BadInput("`text` is missing.", param="text", code="missing")
    report = await _report(offer.audio, old, text)
    language = offer.language or (before.language if before else None)
    reference = keyed(report.samples, SAMPLE_RATE, text)
    try:
        await _audition(service, Voice(voice_id, language, reference), request_id, receive)
        kept = await asyncio.to_thread(voices.put, voice_id, language, reference, new=new)
    finally:
        forget_others(service)
    return Arrival(kept, report)


def forget_others(service: Service) -> None:
    """Have the engine let go of what it prepared for voices that are on offer no more. One that
    somebody still waits for is prepared again when its turn comes."""
    engine, voices = service.primary.engine, service.voices
    service.primary.errand(lambda: engine.keep(voices.contents))


async def _report(audio: bytes | None, old: Reference | None, text: str) -> Report:
    if audio is not None:
        return await asyncio.to_thread(voice_check.check, audio, text)
    if old is None:
        raise BadInput("`audio` is missing.", param="audio", code="missing")
    return await asyncio.to_thread(voice_check.judge, old.samples, old.sample_rate, text)


async def _audition(service: Service, voice: Voice, request_id: str, receive: Receive) -> None:
    """Have the engine say something with it: that prepares it, and shows that it can be used."""
    delivery = Delivery(lambda reply: service.audition(voice, request_id, reply), receive)
    try:
        parts = await delivery.rest()
    except BadAudio as silent:
        raise BadVoice(
            f"The engine does not speak with this voice: {silent.message}",
            "Try another recording of the same person.",
            param="audio",
            code="voice_does_not_speak",
        ) from None
    seconds = sum(map(len, parts)) / SAMPLE_RATE
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise BadVoice(
            f"With this voice a short sentence takes {seconds:.1f} s.",
            "Compare the transcript with the recording.",
            param="text",
            code="voice_does_not_speak",
        )
