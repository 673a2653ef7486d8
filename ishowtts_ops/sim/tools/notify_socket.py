"""The receiving end of sd_notify."""

from __future__ import annotations

import array
import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

from .box import Box
from .unitstate import RUN

_LONGEST = 100
"""Addresses of Unix sockets are limited to 107 bytes; below this the box's own folder serves."""


class NotifySocket:
    """A bound datagram socket; `path` goes into NOTIFY_SOCKET."""

    def __init__(self, box: Box, unit: str) -> None:
        folder = box.path(f"{RUN}/notify")
        path = folder / f"{unit}.{os.getpid()}"
        self._temporary = ""
        if len(str(path)) > _LONGEST:
            self._temporary = tempfile.mkdtemp(prefix="ists-", dir="/tmp")
            path = Path(self._temporary) / "n"
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def messages(self) -> list[tuple[str, str]]:
        """What has come in since the last call, as (name, value), oldest first."""
        found: list[tuple[str, str]] = []
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(64))
            except BlockingIOError:
                return found
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    # Closing is the answer that sd_notify_barrier waits for.
                    handles = array.array("i")
                    handles.frombytes(payload[: len(payload) - len(payload) % handles.itemsize])
                    for handle in handles:
                        os.close(handle)
            for line in data.decode("utf-8", errors="replace").splitlines():
                name, equals, value = line.partition("=")
                if equals:
                    found.append((name, value))

    def close(self) -> None:
        self.socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
