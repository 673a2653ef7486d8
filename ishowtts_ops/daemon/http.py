"""The HTTP face: what all routes share. The routes themselves are in `routes_*.py`, the WebSocket
in `websocket.py`, the description in `openapi.py`."""

from __future__ import annotations

import os
import re

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ishowtts_ops
from ishowtts_ops.daemon import failures
from ishowtts_ops.daemon.deny import HTTP_RESPONSE, Book
from ishowtts_ops.daemon.direct import Direct
from ishowtts_ops.daemon.failures import Refusal
from ishowtts_ops.daemon.openapi import add_description
from ishowtts_ops.daemon.routes_ishowtts import add_ishowtts
from ishowtts_ops.daemon.routes_origins import Origins
from ishowtts_ops.daemon.routes_speech import SPEECH_PATH, add_speech
from ishowtts_ops.daemon.routes_state import add_state
from ishowtts_ops.daemon.routes_voices import add_voices
from ishowtts_ops.daemon.routes_web import add_page
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.websocket import add_websocket
from ishowtts_ops.host import Host

REQUEST_ID = "X-Request-Id"
_ID = REQUEST_ID.lower().encode()
_STARTS = ("http.response.start", "websocket.accept", f"{HTTP_RESPONSE}.start")
MOST_OF_PATH = 100
"""Characters of a wrong path that its answer repeats."""
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def build_app(service: Service, host: Host | None = None) -> ASGIApp:
    """The routes; see `outermost` for what every answer has.

    Args:
        host: the box whose clocks and temperatures are shown; None is this machine.
    """
    # FastAPI's interactive pages would load their scripts from elsewhere; boxes may be offline.
    app = FastAPI(
        title="ishowtts-ops",
        version=ishowtts_ops.__version__,
        openapi_url=None,
        redirect_slashes=False,
    )
    speech = add_speech(app, service)
    add_voices(app, service)
    add_ishowtts(app, service)
    add_websocket(app, service)
    add_state(app, service, host or Host.at("/"))
    add_page(app)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    add_description(app)
    return Direct(app, SPEECH_PATH, speech, _refused, _bug)


def outermost(app: ASGIApp, book: Book) -> ASGIApp:
    """What stands before everything, keys included: an id for every answer, and pages of other
    machines are kept out.

    Args:
        book: told of those, and of their requests' ids.
    """
    return RequestIds(Origins(app, book))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    row = failures.answer_for(error)
    return JSONResponse(failures.body_of(error), row.status, failures.headers_of(error))


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses: paths and methods that there are not."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:MOST_OF_PATH]
    if error.status_code == 404:
        code, words = (
            "not_found",
            f"There is nothing at {path}. GET /openapi.json has all there is.",
        )
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        code = "method_not_allowed"
        words = f"{request.method} is not for {path}, which takes {allowed}."
    else:
        code, words = "http_error", f"{error.detail}."
    body = failures.error_body(words, "invalid_request_error", code)
    return JSONResponse(body, error.status_code, error.headers)


async def _bug(_: Request, error: Exception) -> Response:
    body = failures.error_body(
        "The daemon has a bug; its journal says more.", "server_error", "bug"
    )
    return JSONResponse(body, 500)


class RequestIds:
    """Gives every request an id, the caller's own when it is well-formed, and returns it in the
    headers of every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _ID), b"").decode(
            "latin-1"
        )
        request_id = given if _GOOD_ID.fullmatch(given) else os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        if scope.get("method") == "HEAD":
            # Whatever can be got can be asked for like this; the server leaves the body out.
            scope = {**scope, "method": "GET"}

        async def with_id(message: Message) -> None:
            if message["type"] in _STARTS:
                message["headers"] = [*message.get("headers", ()), (_ID, request_id.encode())]
            await send(message)

        await self._app(scope, receive, with_id)
