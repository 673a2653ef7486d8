"""Is this an idle moment? A measurement by the calendar never disturbs a live stream."""

from __future__ import annotations

import time
from collections.abc import Callable

from ishowtts_ops.config import Settings
from ishowtts_ops.facts.daemon_health import DaemonHealth, read_daemon_health
from ishowtts_ops.facts.value import Maybe, Unknown

POLL_S = 1.0

Asking = Callable[[], Maybe[DaemonHealth]]


def why_not_idle(
    settings: Settings,
    quiet_s: float,
    *,
    ask: Asking | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Watch the daemon for `quiet_s` seconds; a clause that says why now is no time to measure, or
    nothing.

    Args:
        ask: gives the daemon's health; by default this box's daemon is asked.
    """
    look = ask or (lambda: read_daemon_health(settings))
    first = look()
    if isinstance(first, Unknown):
        return f"the daemon cannot be asked: {first.reason}"
    if not first.ready:
        return f"the daemon is {first.status}"
    asked = sum(first.outcomes.values())
    end = time.monotonic() + quiet_s
    now: Maybe[DaemonHealth] = first
    while True:
        if isinstance(now, Unknown):
            return f"the daemon cannot be asked: {now.reason}"
        if now.queue_depth:
            return f"{now.queue_depth} requests are waiting"
        if sum(now.outcomes.values()) > asked:
            return f"somebody is using it: a request came within {quiet_s:.0f} s"
        left = end - time.monotonic()
        if left <= 0:
            return ""
        sleep(min(POLL_S, left))
        now = look()


def wait_for_idle(settings: Settings, quiet_s: float, patience_s: float) -> str:
    """Wait for an idle moment; why there was none in `patience_s` seconds, or nothing."""
    end = time.monotonic() + patience_s
    while True:
        why = why_not_idle(settings, quiet_s)
        if not why or time.monotonic() >= end:
            return why
        time.sleep(POLL_S)
