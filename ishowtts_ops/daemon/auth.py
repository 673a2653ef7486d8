"""Who asks: API keys, hashed at rest and compared in constant time, and the name a caller goes by.

The gate stands before all routes, behind what gives requests their ids and answers the preflights
of browsers, which carry no key. `/livez`, `/api/health` and the page's own files are open: they
say nothing that a port scan does not. Everything else wants a key from those who come over the
network (`daemon.api_keys_for: network`) or from everybody (`everyone`), once there are keys.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import hmac
import ipaddress
import logging
import secrets
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from ishowtts_ops.config import ApiKey
from ishowtts_ops.config import Daemon as DaemonSettings
from ishowtts_ops.daemon import hosts, journal
from ishowtts_ops.daemon.deny import Book, deny
from ishowtts_ops.daemon.failures import ForeignOrigin, RateLimited, Refusal, Unauthorized
from ishowtts_ops.daemon.ratelimit import RateLimit

log = logging.getLogger(__name__)

CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="")
"""A key's name, else an address: whose request is being handled."""

OPEN = ("/", "/livez", "/api/health")
OPEN_BELOW = ("/web/",)
SPEECH = ("/v1/audio/speech", "/api/tts")
"""Paths whose requests count for the rate limit; a WebSocket's opening, each of its texts, and
changes of voices do too."""
KEY_PROTOCOL = "ishowtts-key."
"""A subprotocol by which a page's WebSocket carries a key: browsers let it set no headers."""
KEYS_REMEMBERED = 256
GUESSES_PER_MINUTE = 30
"""Wrong keys of one address, which cost time to check."""
ALONE_S = 0.005
"""Since the last request for speech: its checking is over by then."""
MOST_SCRYPT_BYTES = 256 << 20


class Keys:
    """Recognises keys. Answers are remembered under a hash that only this process can make, so that
    a slow hash is computed once for a key and not once for a request."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, str | None] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def is_remembered(self, key: bytes) -> bool:
        """Was it looked at lately? Then `name_of` costs nothing."""
        return self._mark(key) in self._known

    def _mark(self, key: bytes) -> bytes:
        return hmac.digest(self._secret, key, "sha256")

    async def name_of(self, key: bytes) -> str | None:
        """Whose key that is; None when it is nobody's."""
        mark = self._mark(key)
        if mark not in self._known:
            name = await asyncio.to_thread(self._look, key)
            if len(self._known) >= KEYS_REMEMBERED:
                self._known.clear()
            self._known[mark] = name
        return self._known[mark]

    def _look(self, key: bytes) -> str | None:
        found = None
        # All of them, whatever was found: the time must not tell which one it was.
        for each in self._keys:
            if matches(each.hash, key):
                found = each.name
        return found


def matches(stored: str, key: bytes) -> bool:
    """Does a key belong to a hash of the configuration?"""
    kind, _, rest = stored.partition(":")
    if kind == "sha256":
        return hmac.compare_digest(hashlib.sha256(key).hexdigest(), rest)
    n, r, p, salt, digest = rest.split(":")
    wanted = bytes.fromhex(digest)
    try:
        made = hashlib.scrypt(
            key,
            salt=bytes.fromhex(salt),
            n=int(n),
            r=int(r),
            p=int(p),
            dklen=len(wanted),
            maxmem=MOST_SCRYPT_BYTES,
        )
    except (ValueError, MemoryError) as error:
        log.error(journal.line("a key's scrypt parameters cannot be used", why=str(error)))
        return False
    return hmac.compare_digest(made, wanted)


def scrypt_hash(key: str) -> str:
    """What the configuration wants for a key that a person thought up."""
    salt = secrets.token_bytes(16)
    made = hashlib.scrypt(key.encode(), salt=salt, n=16384, r=8, p=1, dklen=32)
    return f"scrypt:16384:8:1:{salt.hex()}:{made.hex()}"


class Gate:
    """ASGI middleware: names the caller, asks for the key, keeps the rate.

    Args:
        book: told of every refusal, and of its request's id.
    """

    def __init__(self, app: ASGIApp, settings: DaemonSettings, book: Book) -> None:
        self._app = app
        self._book = book
        self._turn = asyncio.Lock()
        self._last = 0.0
        self._guesses = RateLimit(GUESSES_PER_MINUTE)
        self.configure(settings)

    def configure(self, settings: DaemonSettings) -> None:
        """Take other settings from now on."""
        self._keys = Keys(settings.api_keys)
        self._everyone = settings.api_keys_for == "everyone"
        self._rate = RateLimit(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else "local"
        path: str = scope["path"]
        caller = address
        name = None
        if self._keys and not _is_open(path):
            key = _key_of(scope)
            if key is not None:
                # A known key is let in whatever others at that address try.
                if not self._keys.is_remembered(key):
                    wait = self._guesses.wait(address)
                    if wait > 0:
                        await self._refuse(scope, send, _too_many_guesses(wait))
                        return
                name = await self._keys.name_of(key)
                if name is None:
                    self._guesses.spend(address)
            needed = self._everyone or not is_loopback(address)
            if name is None and (needed or key is not None):
                await self._refuse(scope, send, _unknown() if key else _missing())
                return
            caller = name or address
        if name is None and not _is_open(path) and not hosts.is_ours(hosts.host_of(scope)):
            await self._refuse(scope, send, _strange_name(hosts.host_of(scope)))
            return
        if self._rate and _is_work(scope, path):
            wait = self._rate.wait(caller)
            if wait > 0:
                await self._refuse(scope, send, _too_many(wait))
                return
            self._rate.spend(caller)
        CALLER.set(caller)
        if scope["type"] == "websocket":
            scope.setdefault("state", {})["spend"] = lambda: self._spend(caller)
        if path in SPEECH:
            await self._take_turn()
        await self._app(scope, receive, send)

    async def _take_turn(self) -> None:
        """One a turn of the event loop: checking takes half a millisecond, and of two hundred that
        come at once all would have their turn before anybody else, health included. Whoever comes
        alone need not wait for one."""
        before, self._last = self._last, time.monotonic()
        if self._last - before < ALONE_S or self._turn.locked():
            async with self._turn:
                await asyncio.sleep(0)

    def _spend(self, caller: str) -> float:
        """One more text on a WebSocket: 0, or after how many seconds it may come."""
        wait = self._rate.wait(caller)
        if wait <= 0:
            self._rate.spend(caller)
        return wait

    async def _refuse(self, scope: Scope, send: Send, refusal: Refusal) -> None:
        self._book(refusal, scope["state"]["request_id"])
        wanted = {"www-authenticate": "Bearer"} if isinstance(refusal, Unauthorized) else {}
        await deny(scope, send, refusal, wanted)


def _missing() -> Unauthorized:
    return Unauthorized("This daemon wants an API key.", "Send it as `Authorization: Bearer KEY`.")


def _unknown() -> Unauthorized:
    return Unauthorized(
        "The API key is not known here.",
        "`ishowtts-ops config key NAME` makes one, on the daemon's box.",
        code="invalid_api_key",
    )


def _strange_name(host: str) -> ForeignOrigin:
    return ForeignOrigin(
        f"Under the name {host[:100]!r} this daemon wants an API key.",
        "Ask by its address, or have the proxy send that as Host.",
        code="foreign_host",
    )


def _too_many_guesses(wait: float) -> RateLimited:
    return RateLimited(
        "Too many wrong API keys came from this address.",
        "Try again after the time in Retry-After.",
        code="too_many_guesses",
        retry_after=wait,
    )


def _too_many(wait: float) -> RateLimited:
    return RateLimited(
        "Too many requests in a short time.",
        "Try again after the time in Retry-After.",
        retry_after=wait,
    )


def _key_of(scope: Scope) -> bytes | None:
    given: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:].strip())
        if name == b"x-api-key":
            given = bytes(value.strip())
    for name in scope.get("subprotocols", ()):
        if name.startswith(KEY_PROTOCOL):
            given = given or name.removeprefix(KEY_PROTOCOL).encode()
    return given or None


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(OPEN_BELOW)


def _is_work(scope: Scope, path: str) -> bool:
    return (
        scope["type"] == "websocket"
        or path in SPEECH
        or (scope.get("method") in ("POST", "PUT", "DELETE"))
    )


def is_loopback(address: str) -> bool:
    """Is it this machine's own?"""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address == "local"
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
