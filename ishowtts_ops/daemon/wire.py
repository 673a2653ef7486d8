"""A connection before there is a request: its head is bounded, too many connections are told so,
and what is no HTTP gets the one JSON shape of errors as well.

uvicorn bounds none of these: a head that never ends would be kept in memory to its last byte.
"""

from __future__ import annotations

import asyncio
import json
import os
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ishowtts_ops.daemon import failures
from ishowtts_ops.daemon.auth import is_loopback
from ishowtts_ops.daemon.deny import deny
from ishowtts_ops.daemon.failures import BadInput, Crowded, HeadTooLarge, Refusal

MAX_HEAD_BYTES = 1 << 16
"""Request line and headers; also trailers. Servers commonly take 8 to 64 KiB."""
MOST_CONNECTIONS = 1024
"""Far more than the queue and all listeners of a stream's page need, and a few megabytes."""
MOST_OF_ONE_ADDRESS = 256
"""So that no other machine takes all of them. This machine's own programs, and a proxy among
them, may."""
CROWDED_RETRY_S = 5.0
LINGER_S = 2.0
"""For a client who is still sending to read why it is not heard. Closed at once, the connection
would be reset, and the answer lost."""
EVEN_IN_A_CROWD = ("/livez", "/readyz", "/api/health", "/metrics")


class Guarded(HttpToolsProtocol):
    """See the module.

    Attributes:
        book: told of a refusal, and of its request's id.
    """

    @staticmethod
    def book(refusal: Refusal, request_id: str) -> None:
        """Nobody keeps books."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._undigested = 0
        self._deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        there = len(self.connections)
        if there > 2 * MOST_CONNECTIONS:
            self._deaf = True
            transport.abort()
        elif there > MOST_OF_ONE_ADDRESS and self._is_crowded(there):
            self._app, self.app = self.app, self._turned_away

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._undigested += len(data)
        super().data_received(data)
        if self._undigested > MAX_HEAD_BYTES and not self._deaf:
            self._end(
                HeadTooLarge(
                    f"The head of the request is larger than {MAX_HEAD_BYTES} bytes.",
                    "Send texts in the body.",
                )
            )

    def on_headers_complete(self) -> None:
        self._undigested = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # Whoever reads the body counts it.
        self._undigested = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._undigested = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser does not understand."""
        words = "What came is not HTTP/1.1 as this daemon understands it."
        hint = "Its port speaks plain HTTP; for HTTPS put a proxy before it."
        self._end(BadInput(words, hint, code="invalid_http"))

    def _end(self, refusal: Refusal) -> None:
        """Answer, and hear no more of this connection."""
        self._deaf = True
        request_id = os.urandom(16).hex()
        self.book(refusal, request_id)
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                # That answer must not seem to go on with this one.
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        status = failures.answer_for(refusal).status
        body = json.dumps(failures.body_of(refusal)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: close\r\nx-request-id: {request_id}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    # ---- crowds ------------------------------------------------------------------------------

    def _is_crowded(self, there: int) -> bool:
        if there > MOST_CONNECTIONS:
            return True
        if self.client is None or is_loopback(self.client[0]):
            return False
        clients = [getattr(other, "client", None) for other in self.connections]
        ours = [client for client in clients if client and client[0] == self.client[0]]
        return len(ours) > MOST_OF_ONE_ADDRESS

    async def _turned_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") in EVEN_IN_A_CROWD:
            await self._app(scope, receive, send)
            return
        refusal = Crowded(
            "Too many connections are open.",
            "Close those that are not needed, or try again after the time in Retry-After.",
            retry_after=CROWDED_RETRY_S,
        )
        request_id = os.urandom(16).hex()
        self.book(refusal, request_id)
        await deny(scope, send, refusal, {"x-request-id": request_id})
