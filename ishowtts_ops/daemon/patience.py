"""How long the server waits for its clients.

uvicorn waits for ever for the rest of a request and for a reader who stopped reading. A few hundred
such connections, by malice or by a player that was paused over night, would use up all the daemon
has. Speech under way is not counted: while the engine works, nobody waits for the client.

A WebSocket may say nothing for hours. Its client counts as gone when bytes are on their way to it
and none is acknowledged for that long; there always are some, since pings are sent. Waiting for
their answers instead would end every player that is minutes behind, as one is who plays a piece
before it reads the next: pings come behind all the speech that it has not read yet.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import os
import socket
import struct
import sys
import termios
from typing import Any

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.deny import Book
from ishowtts_ops.daemon.wire import Guarded

log = logging.getLogger(__name__)

LOOKS = 4
"""At a WebSocket, in the time that it has."""
_BYTES_ACKED = slice(120, 128)
"""Of struct tcp_info: tcpi_bytes_acked, since Linux 4.1."""


class Patient(Guarded):
    """A connection that is cut off when its client lets us wait too long: for a request, from the
    connection or its first byte to its last; or with a full buffer, in which nothing moves.

    Attributes:
        seconds: too long.
    """

    seconds = 60.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._sending: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread = 0
        self._acked = 0
        self._moved = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._read()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect()

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._arrived()
        super().handle_websocket_upgrade()
        self._acked, self._moved = 0, self.loop.time()
        self._look_at_socket()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        self._read()
        super().resume_writing()

    def _expect(self) -> None:
        self._arrived()
        why = "does not send its request"
        self._sending = self.loop.call_later(self.seconds, self._cut, why)

    def _arrived(self) -> None:
        if self._sending:
            self._sending.cancel()
            self._sending = None

    def _read(self) -> None:
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def _await_reader(self) -> None:
        self._read()
        self._unread = self._waiting_bytes()
        self._reading = self.loop.call_later(self.seconds, self._look)

    def _look(self) -> None:
        if self._waiting_bytes() < self._unread:
            # Slow, and that is its right.
            self._await_reader()
        else:
            self._cut("does not read its answer")

    def _look_at_socket(self) -> None:
        if self.transport.is_closing():
            return
        acked, now = self._acked_bytes(), self.loop.time()
        if acked != self._acked or not self._waiting_bytes():
            self._acked, self._moved = acked, now
        elif now - self._moved >= self.seconds:
            self._cut("does not read its WebSocket")
            return
        self.loop.call_later(self.seconds / LOOKS, self._look_at_socket)

    def _acked_bytes(self) -> int:
        wire: socket.socket = self.transport.get_extra_info("socket")
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
        return int.from_bytes(info[_BYTES_ACKED], sys.byteorder)

    def _waiting_bytes(self) -> int:
        """Ours and the kernel's: its buffer holds megabytes and asks for more only when a third is
        gone, which takes a player of 64 kbit/s minutes."""
        kernel = array.array("i", [0])
        fcntl.ioctl(self._fileno(), termios.TIOCOUTQ, kernel)
        return self.transport.get_write_buffer_size() + kernel[0]

    def _cut(self, what: str) -> None:
        client = self.client[0] if self.client else None
        log.info(journal.line("a client is cut off", client=client, why=what))
        # With a reset: else the kernel would keep its megabytes, and offer them for minutes.
        with socket.socket(fileno=os.dup(self._fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _fileno(self) -> int:
        number: int = self.transport.get_extra_info("socket").fileno()
        return number


def patient(seconds: float, book: Book) -> type[Patient]:
    """The protocol with another patience, and with somebody who keeps books."""
    return type("Patient", (Patient,), {"seconds": seconds, "book": staticmethod(book)})
