"""The short way to the one endpoint whose every millisecond counts.

The framework's own way there leads through a dozen layers, which together cost as much as all of
ours. The route is still the framework's, for its description and for every other method.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from ishowtts_ops.daemon.failures import Refusal

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
OnError = Callable[[Request, Exception], Awaitable[Response]]


class Direct:
    """POST of one path goes to its endpoint, everything else to the application.

    Args:
        refused, bug: make the answers to a refusal and to any other exception, as the application
            does.
    """

    def __init__(
        self, app: ASGIApp, path: str, endpoint: Endpoint, refused: OnError, bug: OnError
    ) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint
        self._refused = refused
        self._bug = bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != self._path or scope.get("method") != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request)
        except Refusal as refusal:
            response = await self._refused(request, refusal)
        except ClientDisconnect:
            # In the middle of its own request: nobody is there to be answered.
            return
        except Exception as error:
            log.exception("a bug in the daemon id=%s", request.state.request_id)
            response = await self._bug(request, error)
        await response(scope, receive, send)
