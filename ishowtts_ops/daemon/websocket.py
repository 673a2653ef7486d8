"""GET /v1/audio/stream: a WebSocket on which text goes in and speech comes out, sentence by
sentence, and can be taken back.

In, as JSON text:
    {"type": "speak", "id": "a", "input": "…", …}   the fields of POST /v1/audio/speech; left out,
                                                     response_format is pcm, and fallback true
    {"type": "cancel", "id": "a"}                    without id: everything

Out, in the order in which they were asked for:
    {"type": "begin", "id": "a", "sentences": 2, "format": "pcm", "sample_rate": 24000}
    {"type": "sentence", "id": "a", "index": 0, "text": "…", "engine": …, "voice": …,
     "fallback": false, "ignored": ["names of fields that were not obeyed"], "request_id": "…"}
    binary frames: this sentence, a whole file in its format
    {"type": "sentence_end", "id": "a", "index": 0, "usage": {…}, "timings": {…}}
    {"type": "end", "id": "a"}  |  {"type": "cancelled", "id": "a"}
    {"type": "error", "id": "a", "error": {…}, "request_id": "…"}    as in every other answer

`request_id` is what the journal calls it: that of the connection and the number of the sentence.
One caller's sentences queue one after another, so others are not kept waiting by a long text.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from ishowtts_ops.daemon import failures
from ishowtts_ops.daemon.audio import ENCODERS
from ishowtts_ops.daemon.auth import CALLER
from ishowtts_ops.daemon.delivery import Delivery, encoded
from ishowtts_ops.daemon.deny import deny
from ishowtts_ops.daemon.engine import SAMPLE_RATE
from ishowtts_ops.daemon.failures import (
    BadInput,
    CallerGone,
    Crowded,
    NotThere,
    QueueFull,
    RateLimited,
    Refusal,
)
from ishowtts_ops.daemon.routes_speech import unheard
from ishowtts_ops.daemon.schema import SpeechBody, read_json, validate
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.sse import account
from ishowtts_ops.daemon.text import pieces

PATH = "/v1/audio/stream"
SUBPROTOCOL = "ishowtts"
"""That there is one at all is for pages, which send their key as another."""
DEFAULTS = {"response_format": "pcm", "fallback": True}
"""Where they differ from POST /v1/audio/speech: what comes here is a live chat's."""
MOST_WAITING = 32
"""Texts that one connection may have waiting."""
MAX_ID_CHARS = 128
LONGEST_SENTENCE = 200
GOING_AWAY = 1001
LOOK_S = 0.25
"""How often a silent connection looks whether the daemon goes down."""


def add_websocket(app: FastAPI, service: Service) -> None:
    """The route."""

    @app.websocket(PATH)
    async def stream(socket: WebSocket) -> None:
        request_id: str = socket.scope["state"]["request_id"]
        try:
            with service.sockets.held(CALLER.get(), service.settings.daemon):
                # Browsers give up where none of what they offer is taken.
                offered = socket.scope.get("subprotocols", ())
                await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
                await Session(service, socket).run()
        except Crowded as crowded:
            service.refused(crowded, request_id)
            await deny(socket.scope, socket.send, crowded)

    @app.get(PATH, include_in_schema=False)
    async def plain() -> None:
        raise NotThere(
            "This is a WebSocket, which a plain request does not open.",
            f"Connect to ws://HOST:PORT{PATH}.",
            code="websocket_only",
        )

    @app.websocket("/{path:path}")
    async def nowhere(socket: WebSocket) -> None:
        refusal = NotThere(
            f"There is no WebSocket at {socket.url.path}.", f"Connect to {PATH}.", code="not_found"
        )
        await deny(socket.scope, socket.send, refusal)


@dataclass(eq=False)
class Utterance:
    """One text that was asked for."""

    id: str
    body: SpeechBody
    sentences: list[str]
    patience: float
    asked: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    delivery: Delivery | None = field(default=None, repr=False)

    def cancel(self) -> None:
        self.cancelled = True
        if self.delivery:
            self.delivery.cancel()


class Session:
    """One connection."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service = service
        self._socket = socket
        self._request_id: str = socket.scope["state"]["request_id"]
        self._spend: Callable[[], float] = socket.scope["state"].get("spend", lambda: 0.0)
        self._waiting: deque[Utterance] = deque()
        self._current: Utterance | None = None
        self._more = asyncio.Event()
        self._count = 0

    async def run(self) -> None:
        """Until one of the two sides ends it."""
        tasks = [asyncio.create_task(work()) for work in (self._listen, self._speak)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(WebSocketDisconnect, OSError, RuntimeError):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            self._cancel(None)
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---- in ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            known = ""
            try:
                if message.get("text") is None:
                    raise BadInput("Messages are JSON text.", code="invalid_json")
                data = read_json(message["text"])
                known = self._id(data)
                self._obey(known, data)
            except Refusal as refusal:
                self._service.refused(refusal, self._request_id)
                await self._error(known, refusal, self._request_id)

    def _id(self, data: Any) -> str:
        if not isinstance(data, dict):
            raise BadInput("A message must be a JSON object.", code="invalid_json")
        known = data.get("id", "")
        if not isinstance(known, str) or len(known) > MAX_ID_CHARS or not known.isprintable():
            raise BadInput(f"`id` must be a text of at most {MAX_ID_CHARS} characters.", param="id")
        return known

    def _obey(self, known: str, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if kind == "cancel":
            self._cancel(known if "id" in data else None)
        elif kind == "speak":
            self._enqueue(known, data)
        else:
            raise BadInput("`type` must be speak or cancel.", param="type")

    def _enqueue(self, known: str, data: dict[str, Any]) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise QueueFull(
                f"{MOST_WAITING} texts of this connection are waiting, which is the limit.",
                "Wait for an end.",
            )
        wait = self._spend()
        if wait > 0:
            raise RateLimited(
                "Too many requests in a short time.",
                "Try again after the time in retry_after.",
                retry_after=wait,
            )
        fields = {
            name: value
            for name, value in data.items()
            if name not in ("type", "id") and (value is not None or name == "input")
        }
        body = validate(SpeechBody, {**DEFAULTS, **fields})
        if body.stream_format is not None:
            raise BadInput("`stream_format` has no meaning here.", param="stream_format")
        # All that can be known to be wrong is said now, not when its turn comes.
        text = self._service.check(body, chat=True)
        sentences = pieces(text, LONGEST_SENTENCE, together=0)
        patience = (body.deadline_ms or self._service.settings.daemon.deadline_ms) / 1000
        self._waiting.append(Utterance(known, body, sentences, patience))
        self._more.set()

    def _cancel(self, known: str | None) -> None:
        current = [self._current] if self._current else []
        for utterance in [*current, *self._waiting]:
            if known is None or utterance.id == known:
                utterance.cancel()

    # ---- out ---------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._more.wait(), LOOK_S)
            while self._waiting:
                self._current = self._waiting.popleft()
                await self._utter(self._current)
                self._current = None
            self._more.clear()
            if self._service.primary.condition.draining:
                await self._socket.close(GOING_AWAY, "the daemon is going down")
                return

    async def _utter(self, utterance: Utterance) -> None:
        try:
            for index, sentence in enumerate(utterance.sentences):
                if utterance.cancelled:
                    break
                await self._sentence(utterance, index, sentence)
        except CallerGone:
            pass
        except Refusal as refusal:
            await self._error(utterance.id, refusal, f"{self._request_id}.{self._count}")
            return
        kind = "cancelled" if utterance.cancelled else "end"
        await self._tell(kind, utterance.id)

    async def _sentence(self, utterance: Utterance, index: int, sentence: str) -> None:
        delivery = utterance.delivery = await self._admit(utterance, index, sentence)
        try:
            if utterance.cancelled:
                return
            first = await delivery.next()
            format = utterance.body.response_format
            if index == 0:
                await self._tell(
                    "begin",
                    utterance.id,
                    sentences=len(utterance.sentences),
                    format=format,
                    sample_rate=SAMPLE_RATE,
                )
            await self._tell(
                "sentence",
                utterance.id,
                index=index,
                text=sentence,
                request_id=delivery.admitted.job.id,
                engine=delivery.admitted.worker.engine.name,
                voice=delivery.admitted.job.request.voice.id,
                fallback=delivery.admitted.substituted,
                ignored=unheard(self._service, delivery, utterance.body),
            )
            async for data in encoded(delivery, first, ENCODERS[format]()):
                await self._socket.send_bytes(data)
            await self._tell("sentence_end", utterance.id, index=index, **account(delivery))
        finally:
            utterance.delivery = None
            delivery.close()

    async def _admit(self, utterance: Utterance, index: int, sentence: str) -> Delivery:
        """The deadline is that of the first sentence, from when it was asked for; the others have
        the same from when their turn comes, and wait for a full queue."""
        since = time.monotonic() if index else utterance.asked
        while True:
            left = utterance.patience - (time.monotonic() - since)
            patience = max(50, min(600_000, round(left * 1000)))
            body = utterance.body.model_copy(
                update={"input": sentence, "normalize": False, "deadline_ms": patience}
            )
            self._count += 1
            request_id = f"{self._request_id}.{self._count}"
            admit = functools.partial(self._service.admit, body, request_id)
            try:
                return Delivery(admit)
            except QueueFull as full:
                wait = full.retry_after or 1.0
                if index == 0 or wait > left or utterance.cancelled:
                    self._service.refused(full, request_id)
                    raise
                await asyncio.sleep(min(wait, 1.0))
            except Refusal as refusal:
                self._service.refused(refusal, request_id)
                raise

    async def _error(self, known: str, refusal: Refusal, request_id: str) -> None:
        extra = {"retry_after": refusal.retry_after} if refusal.retry_after else {}
        body = failures.body_of(refusal)
        await self._tell("error", known, **body, **extra, request_id=request_id)

    async def _tell(self, kind: str, known: str, **facts: Any) -> None:
        await self._socket.send_json({"type": kind, "id": known, **facts})
