"""From a process to a daemon that can speak: load the engine, then let every voice say something
and listen to it."""

from __future__ import annotations

import logging
import time

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import (
    Audio,
    Cancelled,
    DeviceLost,
    OutOfMemory,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.failures import Refusal
from ishowtts_ops.daemon.voices import Voices
from ishowtts_ops.daemon.worker import Worker
from ishowtts_ops.errors import OpsError

log = logging.getLogger(__name__)

WARM_UP_TEXT = "This voice is ready to speak."
SHORTEST_S, LONGEST_S = 0.2, 60.0
"""What a few words can take at all; outside, the engine does not speak them."""


def boot(worker: Worker, voices: Voices) -> Voice:
    """Runs on the engine's thread. A voice that does not speak is put aside, as long as others do:
    one bad recording must not keep the box silent.

    Returns:
        the voice for canaries.

    Raises:
        OpsError: the engine cannot be loaded, or no voice speaks.
    """
    began = time.monotonic()
    load(worker)
    _hear_all(worker, voices)
    worker.engine.keep(voices.contents)
    spent = time.monotonic() - began
    worker.condition.warmed_up(f"ready: {worker.engine.name} with {len(voices)} voices")
    log.info(journal.line("warm", engine=worker.engine.name, seconds=spent, rtf=worker.pace.rtf))
    return voices.default


def _hear_all(worker: Worker, voices: Voices) -> None:
    heard: list[Voice] = []
    first: OpsError | None = None
    # One that is put aside may uncover another of the same id.
    while waiting := [voice for voice in voices if all(voice is not one for one in heard)]:
        voice = waiting[0]
        heard.append(voice)
        worker.condition.stage(f"warming voice {voice.id} ({len(heard)} of {len(voices)})")
        try:
            audio = audition(worker, voice)
        except (Cancelled, DeviceLost, OutOfMemory):
            raise
        except OpsError as error:
            first = first or error
            if not voices.put_aside(voice, error.message):
                raise first from None
        else:
            log.info(journal.line("voice is warm", voice=voice.id, audio_s=audio.seconds))


def load(worker: Worker) -> None:
    """Load the engine, its progress shown as the daemon's stage."""

    def progress(doing: str) -> None:
        worker.beat(doing)
        worker.condition.stage(f"loading {worker.engine.name}: {doing}")

    worker.condition.stage(f"loading {worker.engine.name}")
    worker.engine.load(progress)


def audition(worker: Worker, voice: Voice) -> Audio:
    """Prepare a voice, let it speak, and listen; on the engine's thread.

    Raises:
        OpsError: it does not speak.
    """
    worker.engine.warm(voice, worker.beat)
    try:
        audio = worker.audition(SynthesisRequest(WARM_UP_TEXT, voice))
    except Refusal as refusal:
        raise OpsError(f"Voice {voice.id!r} did not pass its warm-up: {refusal.message}") from None
    if not SHORTEST_S <= audio.seconds <= LONGEST_S:
        raise OpsError(
            f"Voice {voice.id!r} did not pass its warm-up: it took {audio.seconds:.1f} s to say "
            f"{WARM_UP_TEXT!r}.",
            "Compare the voice's transcript with its recording.",
        )
    return audio
