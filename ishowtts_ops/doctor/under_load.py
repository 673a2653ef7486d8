"""Loads the box for a few seconds and watches it: `doctor --under-load`.

Where the daemon is ready it speaks, one request after another, as it does on air; while somebody is
being served, nothing is added and their speech is watched. Where no daemon can speak, the engine's
interpreter keeps the GPU busy. Neither changes a clock or a mode, and all of it ends within
`LIMIT_S`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ishowtts_ops.client import DaemonClient
from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.burn import Burnt, burn
from ishowtts_ops.facts.daemon_health import DaemonHealth
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.facts.gather import Facts
from ishowtts_ops.facts.load import EVERY_S, Watched, watch
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

LIMIT_S = 20.0
SPEAK_S = 8.0
"""Requests are made for so long; the last one may take a little longer."""
MOST_REQUESTS = 100
"""An engine that is done in no time shall not fill the journal."""
TEXT = (
    "This is a short test of the box under load: it speaks for a few seconds while clocks, "
    "temperatures and rails are watched."
)


@dataclass(frozen=True)
class Load:
    """What loaded the box and what was seen.

    Attributes:
        kind: speech (requests of ours), live (those of others) or burn.
        rtf: engine seconds per second of speech, over all requests.
        audio_s: speech made.
        burnt: what the GPU computed.
        trouble: why the load ended early, a clause; empty when it did not.
    """

    kind: str
    watched: Watched
    rtf: float | None = None
    audio_s: float = 0.0
    requests: int = 0
    burnt: Burnt | None = None
    trouble: str = ""


def put_under_load(
    host: Host,
    settings: Settings,
    facts: Facts,
    *,
    seconds: float = SPEAK_S,
    limit_s: float = LIMIT_S,
    every_s: float = EVERY_S,
) -> Maybe[Load]:
    """Load the box and watch it; Unknown with the reason where nothing can load it."""
    health = facts.daemon
    if isinstance(facts.clocks, Unknown):
        return facts.clocks

    def watched(work: Callable[[], None]) -> Maybe[Watched]:
        silent = [n for n in ("thermal", "rails") if isinstance(getattr(facts, n), Unknown)]
        return watch(host, work, limit_s, every_s=every_s, without=silent)

    if isinstance(health, DaemonHealth) and health.ready:
        if health.queue_depth > 0:
            found = watched(lambda: time.sleep(seconds))
            return found if isinstance(found, Unknown) else Load("live", found)
        speech = _Speech(settings, seconds, limit_s)
        return speech.result(watched(speech.work))
    if isinstance(health, DaemonHealth) and health.status in ("warming", "draining"):
        return Unknown(f"the daemon is {health.status}; ask again when it is ready")
    if settings.engine.kind != "f5":
        return Unknown("no daemon speaks here, and its engine does not use the GPU")
    burning = _Burning(host, settings, seconds, limit_s)
    return burning.result(watched(burning.work))


class _Speech:
    """Requests to the daemon, one after another, until their time is over."""

    def __init__(self, settings: Settings, seconds: float, limit_s: float) -> None:
        self._settings = settings
        self._text = TEXT[: settings.daemon.max_text_chars]
        self._seconds = seconds
        self._limit_s = limit_s
        self._engine_s = 0.0
        self._audio_s = 0.0
        self._requests = 0
        self._trouble = ""

    def work(self) -> None:
        began = time.monotonic()
        try:
            with DaemonClient.of(self._settings, self._limit_s) as client:
                while self._requests < MOST_REQUESTS:
                    gone = time.monotonic() - began
                    if self._requests and gone >= self._seconds:
                        break
                    left_ms = max(100, round(1000 * (self._limit_s - gone)))
                    spoken = client.speak(self._text, deadline_ms=left_ms)
                    self._requests += 1
                    if spoken.timings is not None:
                        self._engine_s += spoken.timings.infer
                        self._audio_s += spoken.timings.audio_seconds
        except OpsError as error:
            self._trouble = error.message.rstrip(".")

    def result(self, watched: Maybe[Watched]) -> Maybe[Load]:
        if isinstance(watched, Unknown):
            return watched
        trouble = self._trouble
        if not watched.ended and not trouble:
            trouble = f"a request took longer than {self._limit_s:g} s"
        if trouble and not self._requests:
            return Unknown(f"the daemon did not speak: {trouble}")
        rtf = self._engine_s / self._audio_s if self._audio_s else None
        return Load("speech", watched, rtf, self._audio_s, self._requests, trouble=trouble)


class _Burning:
    """The GPU kept busy by the engine's interpreter."""

    def __init__(self, host: Host, settings: Settings, seconds: float, limit_s: float) -> None:
        self._host = host
        self._settings = settings
        self._seconds = seconds
        self._limit_s = limit_s
        self._answer: Maybe[Burnt] = Unknown(f"the engine took longer than {limit_s:g} s")

    def work(self) -> None:
        python = in_use(self._host, self._settings)
        self._answer = burn(self._host, python, self._seconds, self._limit_s - 0.5)

    def result(self, watched: Maybe[Watched]) -> Maybe[Load]:
        if isinstance(watched, Unknown):
            return watched
        if isinstance(self._answer, Unknown):
            reason = self._answer.reason
            return Unknown(f"no daemon speaks, and the GPU could not be kept busy: {reason}")
        return Load("burn", watched, burnt=self._answer)
