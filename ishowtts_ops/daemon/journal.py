"""The log: one line per event, `key=value` behind the words, and never a text that somebody wanted
spoken, nor a key. Under systemd the lines go to the journal by its native protocol, which keeps the
pairs as fields of the entry: `journalctl -u ishowtts-tts ISHOWTTS_ID=…` finds one request. Where
that is not to be had they go to stderr."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import struct
import sys

from ishowtts_ops.sdnotify import SYSLOG, Formatter
from ishowtts_ops.sdnotify import line as line

SOCKET = "/run/systemd/journal/socket"
_PAIR = re.compile(r' ([a-z][a-z0-9_]*)=("(?:[^"\\\\]|\\\\.)*"|[^ "=]+)')
_MOST_BYTES = 100_000
"""Longer entries (no traceback is) do not fit a datagram everywhere."""


class _Native(logging.Handler):
    """systemd's native journal protocol: one datagram an entry, fields as NAME=value lines."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.connect(path)
        # A journal that is stuck must not stop the speech.
        self._socket.settimeout(0.2)
        self.plain = logging.StreamHandler(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)[:_MOST_BYTES]
        rows = [_row("MESSAGE", text), _row("PRIORITY", str(SYSLOG.get(record.levelno, 3)))]
        rows += [_row("SYSLOG_IDENTIFIER", "ishowtts-ops"), _row("LOGGER", record.name)]
        rows += [
            _row(f"ISHOWTTS_{key.upper()}", value) for key, value in pairs(record.getMessage())
        ]
        try:
            self._socket.send(b"".join(rows))
        except OSError:
            self.plain.emit(record)


def _row(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", errors="replace")
    if b"\n" not in raw:
        return b"%s=%s\n" % (name.encode(), raw)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(raw)), raw)


def pairs(text: str) -> list[tuple[str, str]]:
    """What `line` put behind the words."""
    found = _PAIR.findall(text.split("\n", 1)[0])
    return [(key, json.loads(value) if value.startswith('"') else value) for key, value in found]


def _native() -> _Native | None:
    """The journal itself, when stderr is connected to it: JOURNAL_STREAM names stderr's device and
    inode then (systemd.exec(5)), and something else when it was only inherited."""
    try:
        info = os.fstat(2)
        if os.environ.get("JOURNAL_STREAM") != f"{info.st_dev}:{info.st_ino}":
            return None
        return _Native(SOCKET)
    except OSError:
        return None


def setup(level: int = logging.INFO) -> None:
    """Send all logging to the journal or to stderr."""
    native = _native()
    handler: logging.Handler = native or logging.StreamHandler(sys.stderr)
    if native:
        native.setFormatter(logging.Formatter("%(message)s"))
        native.plain.setFormatter(Formatter(journal=True))
    else:
        handler.setFormatter(Formatter(journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its start and stop lines, and its words for what is no HTTP, say nothing that ours do not.
    server = logging.getLogger("uvicorn.error")
    server.setLevel(logging.ERROR)
    server.addFilter(_is_no_refused_socket)


def _is_no_refused_socket(record: logging.LogRecord) -> bool:
    """uvicorn takes a WebSocket that was answered with a status of HTTP for one that was forgotten,
    and calls every such refusal an error. It is answered, and booked."""
    return not record.getMessage().startswith("ASGI callable returned without completing handshake")
