"""The HTTP server itself: its socket, and uvicorn with our own idea of signals."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from ishowtts_ops.daemon.deny import Book
from ishowtts_ops.daemon.patience import patient
from ishowtts_ops.daemon.routes_speech import MAX_BODY_BYTES
from ishowtts_ops.errors import OpsError

KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection (httpx: 5 s, browsers: a minute), so that it is never
we who close it just as the next request comes."""
PING_S = 20.0
"""Proxies commonly end a WebSocket on which nothing passes for a minute."""
LAST_WORDS_S = 1
"""For answers that are on their way out when the daemon ends, and for the engine's thread."""


class Server(uvicorn.Server):
    """uvicorn, which tells of its start and of signals instead of acting by itself.

    Args:
        on_started: the socket answers.
        on_signal: given its number; called as a signal handler, in the middle of anything.
        client_seconds: how long a client may let us wait; see `patience`.
        book: told of what was refused before there was a request, and of its id.
    """

    def __init__(
        self,
        app: ASGIApp,
        on_started: Callable[[], None],
        on_signal: Callable[[int], None],
        client_seconds: float,
        book: Book,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=patient(client_seconds, book),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="auto",
            ws_max_size=MAX_BODY_BYTES,
            ws_per_message_deflate=False,
            # A client who plays what it gets before it reads on answers a ping minutes later: what
            # it reads is what tells that it lives, see `patience`. Pings are still sent.
            ws_ping_interval=min(PING_S, client_seconds / 3),
            ws_ping_timeout=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_WORDS_S,
        )
        super().__init__(config)
        self._on_started = on_started
        self._on_signal = on_signal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_signal(sig)

    @property
    def answering(self) -> bool:
        """Is any answer not yet sent whole?"""
        return bool(self.server_state.tasks)

    def leave(self) -> None:
        """End when the answers under way are out."""
        self.should_exit = True

    def leave_at_once(self) -> None:
        self.force_exit = True
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections.

    Raises:
        OpsError: another has it, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise OpsError(
            f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}.",
            f"`ss -ltnp sport = :{port}` shows who does; daemon.port chooses another port.",
        ) from None
