"""How the daemon says it is: its `/livez`, `/readyz` and `/metrics`.

Asked over plain HTTP on the address of the settings, past any proxy of the environment. The
standard library's client does, and starts ten times faster than a full one.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from ishowtts_ops.config import API_KEY_VARIABLE, Settings, client_key
from ishowtts_ops.facts.value import Maybe, Unknown

ANSWER_LIMIT_S = 2.0
"""For one answer; the daemon's own takes milliseconds even while it speaks."""
HEALTH_LIMIT_S = 3 * ANSWER_LIMIT_S + 0.5
_LARGEST = 1 << 20

_SAMPLE = re.compile(
    r"^ishowtts_requests_total\{([^}]*)\}\s+([0-9.]+(?:[eE][+-]?[0-9]{1,3})?)", re.MULTILINE
)
_OUTCOME = re.compile(r'\boutcome="([a-z_]{1,40})"')


@dataclass(frozen=True)
class SomebodyElse(Unknown):
    """Another program has the daemon's port."""


@dataclass(frozen=True)
class NotRunning(Unknown):
    """Nobody listens on the daemon's port, and that is known."""


class _Queue(BaseModel):
    depth: int = 0
    limit: int = 0


class _Aside(BaseModel):
    id: str
    why: str = ""


class _Ready(BaseModel):
    """`/readyz`; what a version of the daemon leaves out gets its default."""

    status: str
    ready: bool
    stage: str = ""
    reasons: tuple[str, ...] = ()
    engine: str = ""
    device: str = ""
    version: str = ""
    nfe: int | None = None
    recent_rtf: float | None = None
    queue: _Queue = Field(default_factory=_Queue)
    voices: tuple[str, ...] = ()
    default_voice: str | None = None
    voices_aside: tuple[_Aside, ...] = ()


@dataclass(frozen=True)
class DaemonHealth:
    """A daemon that answers.

    Attributes:
        url: where it was asked.
        live: its own judgement: false when its engine thread hangs.
        status: warming, ready, failing or draining.
        stage: what it is doing.
        reasons: why it is not ready.
        device: where the engine computes, "cuda:0" or "cpu".
        recent_rtf: engine seconds per second of speech, lately; None before the first speech.
        default_voice: who speaks where nobody is asked for; None when not known.
        voices_aside: voices that should be on offer and cannot be used, by id, and why: a sentence.
        outcomes: requests by how they ended ("ok", "queue_full" …); empty when not known.
    """

    url: str
    live: bool
    status: str
    ready: bool
    stage: str
    reasons: tuple[str, ...]
    engine: str
    device: str
    version: str
    nfe: int | None
    recent_rtf: float | None
    queue_depth: int
    queue_limit: int
    voices: tuple[str, ...]
    default_voice: str | None
    voices_aside: Mapping[str, str]
    outcomes: Mapping[str, int]


def parse_ready(url: str, text: str, *, live: bool, metrics: str = "") -> Maybe[DaemonHealth]:
    """The daemon's answers as one value.

    Args:
        text: the body of `/readyz`, which is JSON whether it says 200 or 503.
        metrics: the body of `/metrics`.
    """
    try:
        told = _Ready.model_validate(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return SomebodyElse(f"what answers on {url} is not the daemon")
    return DaemonHealth(
        url=url,
        live=live,
        status=told.status,
        ready=told.ready,
        stage=told.stage,
        reasons=told.reasons,
        engine=told.engine,
        device=told.device,
        version=told.version,
        nfe=told.nfe,
        recent_rtf=told.recent_rtf or None,
        queue_depth=told.queue.depth,
        queue_limit=told.queue.limit,
        voices=told.voices,
        default_voice=told.default_voice,
        voices_aside={one.id: one.why for one in told.voices_aside},
        outcomes=parse_outcomes(metrics),
    )


def parse_outcomes(metrics: str) -> dict[str, int]:
    """Requests by outcome, summed over engines."""
    counts: dict[str, int] = {}
    for labels, value in _SAMPLE.findall(metrics):
        match = _OUTCOME.search(labels)
        try:
            count = int(float(value))
        except (ValueError, OverflowError):
            continue
        if match:
            counts[match[1]] = counts.get(match[1], 0) + count
    return counts


def read_daemon_health(
    settings: Settings, *, limit_s: float = ANSWER_LIMIT_S
) -> Maybe[DaemonHealth]:
    """Ask the daemon of this machine.

    Args:
        limit_s: for each of its three answers.

    Returns:
        NotRunning when nobody listens; Unknown when it does not answer, or is somebody else.
    """
    url = f"http://{settings.daemon.host}:{settings.daemon.port}"
    try:
        live_status, _ = _get(settings, "/livez", limit_s)
        ready_status, ready = _get(settings, "/readyz", limit_s)
    except ConnectionRefusedError:
        return NotRunning(f"nobody listens on {url}")
    except TimeoutError:
        return Unknown(f"{url} accepts connections and does not answer")
    except (OSError, http.client.HTTPException) as error:
        return Unknown(f"{url} gives no answer: {error}")
    if ready_status == 401:
        return Unknown(f"{url} wants an API key: see {API_KEY_VARIABLE} and daemon.api_key_file")
    try:
        status, body = _get(settings, "/metrics", limit_s)
        metrics = body if status == 200 else ""
    except (OSError, http.client.HTTPException):
        metrics = ""
    return parse_ready(url, ready, live=live_status == 200, metrics=metrics)


def _get(settings: Settings, path: str, limit_s: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection(
        settings.daemon.host, settings.daemon.port, timeout=limit_s
    )
    headers = {"Connection": "close"}
    if key := client_key(settings):
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_LARGEST).decode("utf-8", "replace")
    finally:
        connection.close()
