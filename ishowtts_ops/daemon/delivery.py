"""The caller's end of a job, on the event loop: pieces of speech as they come, or the failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ishowtts_ops.daemon.audio import Encoder
from ishowtts_ops.daemon.engine import SAMPLE_RATE, Samples, Timings
from ishowtts_ops.daemon.failures import CallerGone, Refusal
from ishowtts_ops.daemon.job import Chunk, Done, Event, Failed, Reply

if TYPE_CHECKING:
    from ishowtts_ops.daemon.service import Admitted

Admit = Callable[[Reply], "Admitted"]
"""Checks a request and queues it; raises Refusal."""


class Delivery:
    """Admits a request and receives its speech. `close` must be called in the end.

    Args:
        receive: the caller's messages, watched for their leaving, which cancels the job at once,
            also between pieces; None where somebody else watches and calls `cancel`.

    Raises:
        Refusal: it was not admitted.
    """

    def __init__(self, admit: Admit, receive: Receive | None = None) -> None:
        loop = asyncio.get_running_loop()
        # The reply knows the queue alone: with a way from the job back to here, its speech would
        # stay in memory until the collector comes, and the collector would come often.
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        events = self._events
        self.timings: Timings | None = None
        self._held: tuple[Samples, ...] = ()
        self.admitted = admit(
            lambda event: _ignore(loop.call_soon_threadsafe(events.put_nowait, event)),
        )
        self._over = False
        # Also when the engine hangs, those who still wait get their answer on time.
        left = self.admitted.job.deadline - time.monotonic()
        self._deadline = loop.call_later(max(0.0, left), self._expire)
        if receive:
            # Ends by itself: a server says `disconnect` also once the answer is out.
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
            self.timings, self._held = event.timings, event.held
            return None
        refusal = event.refusal
        try:
            raise refusal
        finally:
            # Its traceback has this frame, which must not have it.
            del event, refusal

    async def rest(self) -> list[Samples]:
        """All pieces that are left, once the last is there; closes.

        Raises:
            Refusal: there are none.
        """
        parts: list[Samples] = []
        try:
            while (samples := await self.next()) is not None:
                parts.append(samples)
        finally:
            self.close()
        return [*parts, *self._held]

    def cancel(self) -> None:
        """Nobody wants it any more: `next` raises CallerGone."""
        self.admitted.worker.cancel(self.admitted.job)
        self._events.put_nowait(Failed(CallerGone("The caller left.")))

    def close(self) -> None:
        """Let go; a job that is not over is cancelled."""
        self._deadline.cancel()
        if not self._over:
            self._over = True
            self.admitted.worker.cancel(self.admitted.job)

    def _expire(self) -> None:
        self.admitted.worker.expire(self.admitted.job)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        del self._watcher
        if not self._over:
            self.cancel()


async def encoded(
    delivery: Delivery, first: Samples | None, encoder: Encoder
) -> AsyncIterator[bytes]:
    """A job's speech as bytes, as they come; none of them empty.

    Args:
        first: a piece that was taken out of the delivery already.

    Raises:
        Refusal: there will be no more.
    """
    data = encoder.start(SAMPLE_RATE, None)
    samples = first if first is not None else await delivery.next()
    while samples is not None:
        data += await _chunk(encoder, samples)
        if data:
            yield data
            data = b""
        samples = await delivery.next()
    if data := data + encoder.finish():
        yield data


async def whole(encoder: Encoder, parts: list[Samples]) -> bytes:
    """Speech whose length is known, as one file."""
    data = [encoder.start(SAMPLE_RATE, sum(map(len, parts)))]
    for samples in parts:
        data.append(await _chunk(encoder, samples))
    return b"".join([*data, encoder.finish()])


async def _chunk(encoder: Encoder, samples: Samples) -> bytes:
    if not encoder.heavy:
        return encoder.chunk(samples)
    # Ten seconds of Opus are tens of milliseconds of work: health answers must not wait for it.
    return await asyncio.to_thread(encoder.chunk, samples)


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
        self._first = first
        self._encoder = encoder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for data in self._bodies():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (Refusal, OSError):
            # Booked already where it happened (the worker, or the caller who left).
            return
        finally:
            self._delivery.close()

    def _bodies(self) -> AsyncIterator[bytes]:
        return encoded(self._delivery, self._first, self._encoder)


def _ignore(_: object) -> None:
    pass
