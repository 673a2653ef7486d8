"""The caller's end of a job, on the event loop: pieces of speech as they come, or the failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ishowtts_ops.daemon.audio import Encoder
from ishowtts_ops.daemon.engine import SAMPLE_RATE, Samples, Timings
from ishowtts_ops.daemon.failures import CallerGone, Refusal
from ishowtts_ops.daemon.job import Chunk, Done, Event, Failed
from ishowtts_ops.daemon.schema import SpeechBody
from ishowtts_ops.daemon.service import Service


class Delivery:
    """Admits a request and receives its speech. Watches the caller: one who leaves cancels the
    job at once, also between pieces. `close` must be called in the end.

    Raises:
        Refusal: it was not admitted.
    """

    def __init__(
        self, service: Service, body: SpeechBody, request_id: str, receive: Receive
    ) -> None:
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.timings: Timings | None = None
        self.admitted = service.admit(
            body,
            request_id,
            lambda event: _ignore(loop.call_soon_threadsafe(self._events.put_nowait, event)),
        )
        job, worker = self.admitted.job, self.admitted.worker
        self._over = False
        # Also when the engine hangs, those who still wait get their answer on time.
        left = job.deadline - time.monotonic()
        self._deadline = loop.call_later(max(0.0, left), worker.expire, job)
        self._watcher = loop.create_task(self._watch(receive))

    async def next(self) -> Samples | None:
        """The next piece of speech, None after the last.

        Raises:
            Refusal: there will be no more.
        """
        event = await self._events.get()
        if isinstance(event, Chunk):
            return event.samples
        self._over = True
        if isinstance(event, Done):
            self.timings = event.timings
            return None
        raise event.refusal

    def close(self) -> None:
        """Let go; a job that is not over is cancelled."""
        self._deadline.cancel()
        self._watcher.cancel()
        if not self._over:
            self._over = True
            self.admitted.worker.cancel(self.admitted.job)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.admitted.worker.cancel(self.admitted.job)
        self._events.put_nowait(Failed(CallerGone("The caller left.")))


class SpeechStream(Response):
    """Speech sent as it is made. Its first piece exists already, so a request that fails before any
    audio was answered with its own status; one that fails later is cut off without the end mark,
    which every HTTP client reports as an error."""

    def __init__(
        self, delivery: Delivery, first: Samples, encoder: Encoder, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status_code=200, headers=headers, media_type=encoder.content_type)
        del self.headers["content-length"]
        self._delivery = delivery
        self._first: Samples | None = first
        self._encoder = encoder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoder = self._encoder
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            data = encoder.start(SAMPLE_RATE, None)
            samples = self._first
            while samples is not None:
                data += encoder.chunk(samples)
                await send({"type": "http.response.body", "body": data, "more_body": True})
                data = b""
                samples = await self._delivery.next()
            await send({"type": "http.response.body", "body": encoder.finish()})
        except (Refusal, OSError):
            # Booked already where it happened (the worker, or the caller who left).
            return
        finally:
            self._delivery.close()


def _ignore(_: object) -> None:
    pass
