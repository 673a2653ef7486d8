"""Asks the service, each time in a thread of its own, so that it cannot keep us waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from ishowtts_ops.config import BackendRequest
from ishowtts_ops.supervise.audio import NotHeard, hear

MOST_BYTES = 64 << 20
"""No answer that we ask for is longer."""
BUSY = (429, 503)
"""Statuses of a service that works and has no time now."""
ASK_AGAIN_S = 0.5


class ProbeFailed(Exception):
    """The answer was not good; the message says why."""


@dataclass(frozen=True)
class Answer:
    """A good answer.

    Attributes:
        seconds: from asking to the last byte.
        audio_seconds: of speech in it, when audio was expected.
    """

    seconds: float
    audio_seconds: float | None


class Attempt:
    """A request under way.

    Args:
        limit: seconds it may take.
        patient: ask again while the service refuses the connection or says that it is busy.
        on_done: called from another thread when there is an outcome.
    """

    def __init__(
        self,
        client: httpx.Client,
        request: BackendRequest,
        limit: float,
        *,
        patient: bool,
        on_done: Callable[[], None],
    ) -> None:
        self.request = request
        self.limit = limit
        self.began = time.monotonic()
        self._answer: Answer | None = None
        self._failure: str | None = None
        self._left = threading.Event()
        self._last_refusal = ""
        self._client = client
        self._patient = patient
        self._on_done = on_done
        threading.Thread(target=self._run, name="probe", daemon=True).start()

    @property
    def answer(self) -> Answer | None:
        """The outcome when it was good."""
        return self._answer

    @property
    def failure(self) -> str | None:
        """Why it failed, in words; None while it has not. Being late is found out here: its thread
        may wait for bytes for longer."""
        if self._answer is None and self._failure is None and self.age > self.limit:
            self._left.set()
            self._failure = self._late()
        return self._failure

    @property
    def age(self) -> float:
        return time.monotonic() - self.began

    def abandon(self) -> None:
        """Nobody wants the outcome any more."""
        self._left.set()

    def _late(self) -> str:
        name = f"{self.request.method} {self.request.path}"
        last = f" (last: {self._last_refusal})" if self._last_refusal else ""
        return f"{name} gave no answer within {self.limit:g} s{last}"

    def _run(self) -> None:
        try:
            answer = self._ask()
        except ProbeFailed as error:
            self._failure = self._failure or str(error)
        else:
            # A verdict that was given stays given.
            if self._failure is None:
                self._answer = answer
        if not self._left.is_set():
            self._on_done()

    def _ask(self) -> Answer:
        while True:
            try:
                return _once(self._client, self.request, self.began + self.limit)
            except _NotNow as error:
                self._last_refusal = str(error)
                if not self._patient:
                    raise
            except httpx.TimeoutException:
                raise ProbeFailed(self._late()) from None
            if self._left.wait(ASK_AGAIN_S) or self.age > self.limit:
                raise ProbeFailed(self._late())


class Prober:
    """Asks one service.

    Args:
        on_done: see `Attempt`.
    """

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        # A new connection each time also shows that new ones are accepted; a proxy from the
        # environment is never meant for a service of this machine.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(limits=limits, trust_env=False)

    def ask(self, request: BackendRequest, limit: float, *, patient: bool = False) -> Attempt:
        """Begin to ask."""
        return Attempt(self._client, request, limit, patient=patient, on_done=self._on_done)


class _NotNow(ProbeFailed):
    """It may be different in a moment."""


def _once(client: httpx.Client, request: BackendRequest, end: float) -> Answer:
    """Ask once and judge the answer.

    Raises:
        ProbeFailed: the answer is not good.
        httpx.TimeoutException: it did not come in time.
    """
    name = f"{request.method} {request.path}"
    began = time.monotonic()
    left = max(end - began, 0.001)
    try:
        with client.stream(
            request.method,
            request.path,
            json=request.body,
            timeout=left,
            headers={"User-Agent": "ishowtts-ops supervise"},
        ) as response:
            body = _read(response, name, end)
    except httpx.TimeoutException:
        raise
    except httpx.ConnectError as error:
        raise _NotNow(f"{name}: no connection ({error})") from None
    except httpx.TransportError as error:
        raise ProbeFailed(f"{name} broke off ({error or type(error).__name__})") from None
    if response.status_code in BUSY:
        raise _NotNow(f"{name} answered {response.status_code}")
    if not response.is_success:
        raise ProbeFailed(f"{name} answered {response.status_code}{_excerpt(body)}")
    audio = _judge(request.expect, body, response.headers.get("Content-Type", ""), name)
    return Answer(time.monotonic() - began, audio)


def _read(response: httpx.Response, name: str, end: float) -> bytes:
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise ProbeFailed(f"{name} answered more than {MOST_BYTES >> 20} MiB")
        if time.monotonic() > end:
            raise httpx.ReadTimeout("the answer does not end")
    return b"".join(parts)


def _judge(expect: str, body: bytes, content_type: str, name: str) -> float | None:
    """Seconds of audio, where audio is expected."""
    if expect == "audio":
        try:
            return hear(body, content_type)
        except NotHeard as error:
            raise ProbeFailed(f"{name}: {error}") from None
    if expect == "json":
        try:
            json.loads(body)
        except ValueError:
            raise ProbeFailed(f"{name}: the answer is not JSON") from None
    wanted = expect.removeprefix("contains:")
    if wanted != expect and wanted not in body.decode("utf-8", errors="replace"):
        raise ProbeFailed(f"{name}: the answer does not contain {wanted!r}")
    return None


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", errors="replace").split())
    return f": {text}" if text else ""
