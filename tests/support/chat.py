"""Somebody's chat, as a webhook: a real HTTP server that keeps what it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hook(BaseHTTPRequestHandler):
    """Answers the statuses that the server was given, then 204."""

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Chat)
        server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(server.statuses.pop(0) if server.statuses else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Chat(ThreadingHTTPServer):
    """Attributes:
    told: the documents that came, oldest first.
    statuses: what to answer the next of them with.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.told: list[dict[str, Any]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/box"

    def of(self, unit: str) -> list[dict[str, Any]]:
        return [item for item in self.told if item["unit"] == unit]


@contextlib.contextmanager
def open_chat() -> Iterator[Chat]:
    server = Chat()
    # The default looks for a request to stop every half second, which every user of it waits for.
    serve = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    serve.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
