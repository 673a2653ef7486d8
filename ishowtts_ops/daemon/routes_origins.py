"""Which pages may use the daemon from a browser: those of this machine.

A daemon on loopback is open to whoever runs on the box, and a browser there runs pages of the whole
internet. So a request that changes or costs something, and every WebSocket, is refused when its
Origin is another machine's. Pages of this machine on another port, as iShowTTS's own frontend is,
are told by CORS headers that they may.
"""

from __future__ import annotations

import urllib.parse

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ishowtts_ops.daemon.deny import Book, deny
from ishowtts_ops.daemon.failures import ForeignOrigin

ORIGIN = b"origin"
HARMLESS = ("GET", "HEAD")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Origins:
    """ASGI middleware; see the module.

    Args:
        book: told of every refusal, and of its request's id.
    """

    def __init__(self, app: ASGIApp, book: Book) -> None:
        self._app = app
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = scope.get("headers", ())
        if scope["type"] not in ("http", "websocket") or all(name != ORIGIN for name, _ in given):
            # Not from a page, as most are.
            await self._app(scope, receive, send)
            return
        headers = Headers(raw=given)
        origin = headers["origin"]
        if not is_ours(origin, headers.get("host", "")):
            await self._stranger(scope, receive, send)
        elif scope["type"] == "http":
            await self._ours(scope, receive, send, origin)
        else:
            await self._app(scope, receive, send)

    async def _stranger(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in HARMLESS:
            # Without CORS headers the browser keeps the answer from the page.
            await self._app(scope, receive, send)
        else:
            refusal = ForeignOrigin(
                "Pages of other machines may not use this daemon.",
                "Serve the page from this machine, or ask from its server.",
            )
            self._book(refusal, scope["state"]["request_id"])
            await deny(scope, send, refusal)

    async def _ours(self, scope: Scope, receive: Receive, send: Send, origin: str) -> None:
        async def with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = origin
                # Not `*`, which does not hold for requests that carry a key.
                names = {*headers.keys(), "x-request-id"}
                headers["Access-Control-Expose-Headers"] = ", ".join(sorted(names))
                headers.add_vary_header("Origin")
            await send(message)

        if scope["method"] == "OPTIONS":
            allowed = {
                "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
                "Access-Control-Allow-Headers": (
                    "Authorization, Content-Type, X-Api-Key, X-Request-Id"
                ),
                "Access-Control-Max-Age": "600",
            }
            await Response(status_code=204, headers=allowed)(scope, receive, with_cors)
        else:
            await self._app(scope, receive, with_cors)


def is_ours(origin: str, host: str) -> bool:
    """Is a page's origin on the machine that it asks by this Host header? Ports may differ."""
    try:
        page = urllib.parse.urlsplit(origin).hostname
        asked = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if page is None:
        return False
    return page == asked or (page in LOOPBACK and asked in LOOPBACK)
