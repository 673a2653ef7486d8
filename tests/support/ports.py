"""TCP ports for servers that are processes of their own and must be told theirs."""

from __future__ import annotations

import contextlib
import random
import socket

_ANY = random.SystemRandom()
"""Hypothesis seeds the module's own generator: test processes side by side would then agree."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on. It lies below those that the
    kernel gives to outgoing connections, which could otherwise take it before the server does."""
    while True:
        port = _ANY.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
