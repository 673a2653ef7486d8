"""Speech as server-sent events, with OpenAI's names:

    data: {"type": "speech.audio.delta", "audio": "<base64>"}
    data: {"type": "speech.audio.done", "usage": {...}, "timings": {...}}

What fails in the middle is said, as `{"type": "error", "error": {...}}`, and then there is no
`done`. `usage` counts characters in and tokens of 20 ms of audio out; `timings` are ours.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ishowtts_ops.daemon import failures
from ishowtts_ops.daemon.audio import Encoder
from ishowtts_ops.daemon.delivery import Delivery, SpeechStream
from ishowtts_ops.daemon.engine import Samples
from ishowtts_ops.daemon.failures import CallerGone, Refusal

CONTENT_TYPE = "text/event-stream"
TOKENS_A_SECOND = 50


class SpeechEvents(SpeechStream):
    """See the module."""

    def __init__(
        self, delivery: Delivery, first: Samples, encoder: Encoder, headers: Mapping[str, str]
    ) -> None:
        super().__init__(delivery, first, encoder, headers)
        self.headers["content-type"] = CONTENT_TYPE

    async def _bodies(self) -> AsyncIterator[bytes]:
        try:
            async for data in super()._bodies():
                audio = base64.b64encode(data).decode()
                yield event({"type": "speech.audio.delta", "audio": audio})
        except CallerGone:
            raise
        except Refusal as refusal:
            yield event({"type": "error", **failures.body_of(refusal)})
            return
        yield event({"type": "speech.audio.done", **account(self._delivery)})


def event(data: Mapping[str, Any]) -> bytes:
    """One event of the stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def account(delivery: Delivery) -> dict[str, Any]:
    """What a finished speech took."""
    timings = delivery.timings
    assert timings is not None, "it is finished"
    characters = len(delivery.admitted.job.request.text)
    tokens = round(timings.audio_seconds * TOKENS_A_SECOND)
    return {
        "usage": {
            "input_tokens": characters,
            "output_tokens": tokens,
            "total_tokens": characters + tokens,
        },
        "timings": {**dataclasses.asdict(timings), "rtf": timings.rtf},
    }
