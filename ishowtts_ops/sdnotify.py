"""What a service says to systemd, sd-daemon(3): messages to its manager and lines for the journal.

Outside systemd (no NOTIFY_SOCKET, no JOURNAL_STREAM) messages go nowhere and lines carry their time
and level instead.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping

try:
    from systemd import daemon as systemd
except ImportError:
    systemd = None

SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
"""syslog(3)'s priorities of Python's levels; what is worse has an error's."""


class Notifier:
    """Messages to the service manager named by NOTIFY_SOCKET.

    Attributes:
        watchdog_period: seconds of WatchdogSec=; None when nobody waits for `watchdog`.
    """

    def __init__(self) -> None:
        self.watchdog_period = watchdog_period(os.environ)

    @property
    def listening(self) -> bool:
        """Is there a manager?"""
        return bool(os.environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        self._send("READY=1", _status(status))

    def status(self, text: str) -> None:
        self._send(_status(text))

    def extend(self, seconds: float) -> None:
        """Ask for more time in the present phase (start or stop)."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def reloading(self) -> None:
        """SIGHUP was heard; `ready` ends it."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={usec}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", _status(status))

    def _send(self, *lines: str) -> None:
        if not self.listening:
            return
        with contextlib.suppress(OSError):
            _send("\n".join(lines))


def send_plainly(message: str) -> None:
    """sd_notify(3) without its library: one datagram.

    Raises:
        OSError: the manager's socket is not there.
    """
    address = os.environ["NOTIFY_SOCKET"]
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(message.encode(), address)


# systemd-python has to be compiled, so an environment may lack it.
_send: Callable[[str], object] = systemd.notify if systemd else send_plainly


def _status(text: str) -> str:
    # A line break would begin another assignment.
    return "STATUS=" + " ".join(text.split())


def watchdog_period(env: Mapping[str, str]) -> float | None:
    """Seconds of WatchdogSec=, or None when no watchdog watches *this* process: WATCHDOG_PID names
    the process that is meant, and is inherited by others (sd_watchdog_enabled(3))."""
    pid = env.get("WATCHDOG_PID")
    if pid is not None and pid != str(os.getpid()):
        return None
    try:
        period = int(env.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return period if period > 0 else None


class Formatter(logging.Formatter):
    """systemd reads `<3>` at the start of a line as its priority (sd-daemon(3)); a terminal gets
    time and level instead, which the journal has by itself."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        prefix = f"<{SYSLOG.get(record.levelno, 3)}>"
        return "\n".join(prefix + line for line in text.splitlines())


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all logging to stderr, which is the journal under systemd."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def line(words: str, **facts: str | float | bool | None) -> str:
    """One event as text: `spoken id=… voice=… rtf=0.12`; absent facts are left out."""
    pairs = (f"{key}={_value(value)}" for key, value in facts.items() if value is not None)
    return " ".join((words, *pairs))


def _value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    plain = text.isprintable() and not any(char in text for char in ' "=')
    return text if plain and text else json.dumps(text, ensure_ascii=False)
