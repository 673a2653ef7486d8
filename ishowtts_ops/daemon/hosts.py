"""By which names the daemon is asked.

A page of the internet may point its own name at 127.0.0.1 (DNS rebinding). To the browser of this
machine the daemon is then that page's own server: it may read all answers, and its Origin is that
of the Host that it asks. What it cannot do is to ask by another name than its own. So who has no
key must ask by an address, or by a name that no stranger can have.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import urllib.parse

from starlette.types import Scope

LOCAL_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
"""That no one can register."""


def host_of(scope: Scope) -> str:
    """The Host header; empty where there is none, as from old tools. No browser leaves it out."""
    given = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return bytes(given).decode("latin-1")


@functools.lru_cache(maxsize=64)
def is_ours(host: str) -> bool:
    """May somebody without a key ask by this Host?"""
    if not host:
        return True
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    name = name.removesuffix(".")
    return (
        "." not in name.split("%")[0]
        or name.endswith(LOCAL_ENDINGS)
        or name == socket.gethostname().lower()
        or _is_address(name)
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
