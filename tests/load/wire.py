"""The smallest HTTP/1.1 client that can count: what it costs must not be taken for the daemon's."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back; `whole` is false when the connection ended before the answer did.

    Attributes:
        first_audio_s: until the first piece of a streamed body was read whole; of others, all.
    """

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    whole: bool
    first_byte_s: float
    total_s: float
    first_audio_s: float

    def seconds(self, name: str) -> float:
        return float(self.headers[f"x-ishowtts-{name}-seconds"])


class Wire:
    """One connection, kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> Answer:
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: daemon\r\n\r\n".encode())

    async def speak(self, **fields: Any) -> Answer:
        return await self._ask(speech_request(**fields))

    async def leave_after_asking(self, **fields: Any) -> None:
        """A caller who hangs up before the answer."""
        await self._connected()
        assert self._writer
        self._writer.write(speech_request(**fields))
        await self._writer.drain()
        self.close()

    def close(self) -> None:
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None

    async def connect(self) -> None:
        await self._connected()

    async def _connected(self) -> None:
        stale = self._reader is not None and self._reader.at_eof()
        if self._writer is None or self._writer.is_closing() or stale:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def _ask(self, raw: bytes) -> Answer:
        await self._connected()
        assert self._reader and self._writer
        began = time.perf_counter()
        self._writer.write(raw)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        first = time.perf_counter()
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        whole, piece = True, 0.0
        try:
            if "content-length" in headers:
                body = await self._reader.readexactly(int(headers["content-length"]))
            else:
                body, piece = await self._chunks()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            body, whole = getattr(error, "partial", b""), False
        ended = time.perf_counter()
        if not whole or headers.get("connection") == "close":
            self.close()
        piece = piece or ended
        took = (first - began, ended - began, piece - began)
        return Answer(int(head[0].split()[1]), headers, body, whole, *took)

    async def _chunks(self) -> tuple[bytes, float]:
        """The body, and when its first piece was there."""
        assert self._reader
        parts, first = [], 0.0
        while size := int(await self._reader.readline(), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
            first = first or time.perf_counter()
        await self._reader.readexactly(2)
        return b"".join(parts), first


def speech_request(**fields: Any) -> bytes:
    body = json.dumps(fields).encode()
    return (
        b"POST /v1/audio/speech HTTP/1.1\r\nHost: daemon\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
