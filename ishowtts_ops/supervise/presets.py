"""Services that we know how to ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ishowtts_ops.config import ISHOWTTS_URL, BackendRequest


@dataclass(frozen=True)
class Preset:
    """What a service answers to; see `config.Backend` for the fields."""

    url: str | None = None
    health: tuple[str, ...] = ()
    warmup: tuple[BackendRequest, ...] = ()
    canary: BackendRequest | None = None


def _speak(text: str) -> BackendRequest:
    return BackendRequest(method="POST", path="/api/tts", body={"text": text}, expect="audio")


PRESETS: Mapping[str, Preset] = {
    "none": Preset(),
    # iShowTTS's backend listens on port 27121 of all addresses and takes one request at a time. Its
    # /api/health is always "ok", so only /api/tts tells whether it can speak.
    "ishowtts": Preset(
        url=ISHOWTTS_URL,
        health=("/api/health",),
        # Short, usual and long, and both scripts that its chat is written in: each length is
        # another shape for the model's first run.
        warmup=(
            _speak("Hello."),
            _speak("你好，欢迎来到直播间，今天也请多多关照。"),
            _speak("Thank you all for watching, and welcome to everybody who has just joined us."),
            _speak(
                "This longer text warms up what a long message of the chat needs: it has several"
                " clauses, a number such as 27, and goes on until nobody would listen any more."
            ),
        ),
        canary=_speak("Still here."),
    ),
}
