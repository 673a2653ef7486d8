"""Answers of those who stand before the routes: a refusal in the one JSON shape, to a request or to
a WebSocket that is not opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from starlette.types import Scope, Send

from ishowtts_ops.daemon import failures
from ishowtts_ops.daemon.failures import Refusal

POLICY_VIOLATION = 1008
HTTP_RESPONSE = "websocket.http.response"
"""ASGI's extension by which a WebSocket is answered with a status of HTTP."""

Book = Callable[[Refusal, str], None]
"""Told of a refusal before there is a route, and of its request's id."""


async def deny(
    scope: Scope, send: Send, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> None:
    """Send it.

    Args:
        headers: more of them.
    """
    row = failures.answer_for(refusal)
    prefix = "http.response"
    if scope["type"] == "websocket":
        if HTTP_RESPONSE not in scope.get("extensions", {}):
            # Before it was accepted, which a client sees as status 403.
            close = {
                "type": "websocket.close",
                "code": POLICY_VIOLATION,
                "reason": refusal.code or row.code,
            }
            await send(close)
            return
        prefix = HTTP_RESPONSE
    body = json.dumps(failures.body_of(refusal)).encode()
    rows = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        # What was not read of the body must not be taken for the next request.
        "connection": "close",
        **failures.headers_of(refusal),
        **(headers or {}),
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in rows.items()]
    await send({"type": f"{prefix}.start", "status": row.status, "headers": raw})
    await send({"type": f"{prefix}.body", "body": body})
