"""What the daemon offers its callers, apart from HTTP: admission, and the state of things."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from typing import Any

import ishowtts_ops
from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import SAMPLE_RATE, SynthesisRequest, Timings, Voice
from ishowtts_ops.daemon.failures import (
    BadInput,
    Draining,
    NotReady,
    Refusal,
    UnknownModel,
    answer_for,
)
from ishowtts_ops.daemon.job import Job, Reply
from ishowtts_ops.daemon.metrics import Metrics
from ishowtts_ops.daemon.schema import SpeechBody
from ishowtts_ops.daemon.text import clean
from ishowtts_ops.daemon.voices import Voices
from ishowtts_ops.daemon.worker import RESTART_S, Worker

log = logging.getLogger(__name__)

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that OpenAI's clients send by default; they mean this daemon's own engine."""

MAX_AUDIO_SECONDS = 600.0
"""The longest speech of one request, by prediction: holds for any script, unlike characters."""


@dataclass(frozen=True)
class Admitted:
    """A request that will be answered by an engine.

    Attributes:
        substituted: true when the fallback speaks in the engine's place.
    """

    job: Job
    worker: Worker
    substituted: bool


class Service:
    """See the module.

    Args:
        fallback: speaks while `primary` cannot, for those who allow it.
    """

    def __init__(
        self,
        settings: Settings,
        manifest: Manifest,
        voices: Voices,
        metrics: Metrics,
        primary: Worker,
        fallback: Worker | None,
    ) -> None:
        self.settings = settings
        self.voices = voices
        self.metrics = metrics
        self.primary = primary
        self.fallback = fallback
        self._started = time.time()
        self._settings_sha256 = _sha256(settings.model_dump_json())
        self._manifest_sha256 = _sha256(manifest.model_dump_json())
        self._nfe = manifest.nfe
        self._publish()

    # ---- speech ------------------------------------------------------------------------------

    def admit(self, body: SpeechBody, request_id: str, reply: Reply) -> Admitted:
        """Check everything, then queue.

        Raises:
            Refusal: the request cannot be spoken (now).
        """
        text = clean(body.input, self.settings.daemon.max_text_chars)
        worker, substituted = self._worker_for(body)
        voice = self.voices.get(body.voice_id)
        _refuse_unready(worker)
        seconds = _predicted(worker, text, voice, body.speed)
        patience = (body.deadline_ms or self.settings.daemon.deadline_ms) / 1000
        job = Job(
            id=request_id,
            request=SynthesisRequest(text, voice, body.speed, body.nfe, body.seed),
            reply=reply,
            deadline=time.monotonic() + patience,
            predicted_seconds=seconds,
        )
        worker.submit(job)
        if substituted:
            self.metrics.fell_back()
        return Admitted(job, worker, substituted)

    def _worker_for(self, body: SpeechBody) -> tuple[Worker, bool]:
        fallback = self.fallback
        if body.model is None or body.model in (self.primary.engine.name, *OPENAI_MODELS):
            ready = self.primary.condition.snapshot().ready
            if body.fallback and not ready and fallback and fallback.condition.snapshot().ready:
                return fallback, True
            return self.primary, False
        if fallback and body.model == fallback.engine.name:
            return fallback, False
        raise UnknownModel(body.model, self.models)

    @property
    def models(self) -> list[str]:
        """Engines that can be asked for by name."""
        workers = [self.primary, *([self.fallback] if self.fallback else [])]
        return [worker.engine.name for worker in workers]

    # ---- accounts ----------------------------------------------------------------------------

    def refused(self, refusal: Refusal, request_id: str) -> None:
        """Book a request that was never admitted."""
        row = answer_for(refusal)
        self.metrics.refused("none", row.outcome)
        code = refusal.code or row.code
        log.info(journal.line("refused", id=request_id, code=code, param=refusal.param))

    def ended(self, worker: Worker, job: Job, outcome: Refusal | Timings) -> None:
        """Book the end of an admitted job."""
        engine = worker.engine.name
        facts: dict[str, str | float | bool | None] = {
            "id": job.id,
            "engine": engine,
            "voice": job.request.voice.id,
            "chars": len(job.request.text),
        }
        if isinstance(outcome, Refusal):
            row = answer_for(outcome)
            self.metrics.refused(engine, row.outcome)
            level = logging.ERROR if row.status == 500 else logging.INFO
            why = outcome.message if row.status == 500 else None
            log.log(level, journal.line("not spoken", **facts, code=row.code, why=why))
            return
        self.metrics.spoken(engine, outcome)
        log.info(
            journal.line(
                "spoken",
                **facts,
                queue_s=outcome.queue,
                infer_s=outcome.infer,
                first_audio_s=outcome.first_audio,
                audio_s=outcome.audio_seconds,
                rtf=outcome.rtf,
            )
        )

    # ---- state -------------------------------------------------------------------------------

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests are welcome, and the whole story as JSON values."""
        worker = self.primary
        now = worker.condition.snapshot()
        story = {
            "status": now.status,
            "ready": now.ready,
            "stage": now.stage,
            "reasons": list(now.reasons),
            "engine": worker.engine.name,
            "device": worker.engine.device,
            "source": worker.engine.source,
            "sample_rate": SAMPLE_RATE,
            "voices": self.voices.ids,
            "default_voice": self.voices.default.id,
            "nfe": self._nfe,
            "queue": {
                "depth": len(worker.queue),
                "limit": worker.queue.limit,
                "busy": worker.queue.running is not None,
                "wait_seconds": round(worker.queue.wait_seconds(), 3),
            },
            "recent_rtf": round(worker.pace.rtf, 4),
            "progress_age_seconds": round(worker.pulse.age(), 3),
            "canaries": worker.canaries,
            "fallback": self._fallback_story(),
            "version": ishowtts_ops.__version__,
            "uptime_seconds": round(time.time() - self._started, 1),
            "settings_sha256": self._settings_sha256,
            "manifest_sha256": self._manifest_sha256,
        }
        return now.ready, story

    def _fallback_story(self) -> dict[str, Any] | None:
        if self.fallback is None:
            return None
        now = self.fallback.condition.snapshot()
        return {"engine": self.fallback.engine.name, "ready": now.ready}

    def _publish(self) -> None:
        worker, metrics = self.primary, self.metrics
        metrics.info.info({"version": ishowtts_ops.__version__, "engine": worker.engine.name})
        metrics.gauge(
            "ishowtts_ready",
            "1 when requests are welcome.",
            lambda: float(worker.condition.snapshot().ready),
        )
        metrics.gauge(
            "ishowtts_queue_depth", "Requests that wait.", lambda: float(len(worker.queue))
        )
        metrics.gauge(
            "ishowtts_queue_predicted_seconds",
            "Predicted engine time of all requests that wait or are being spoken.",
            worker.queue.wait_seconds,
        )
        metrics.gauge(
            "ishowtts_recent_real_time_factor_ratio",
            "Recent engine seconds per second of speech.",
            lambda: worker.pace.rtf,
        )
        metrics.gauge(
            "ishowtts_progress_age_seconds",
            "Since the engine thread last made progress.",
            worker.pulse.age,
        )
        metrics.gauge(
            "ishowtts_canaries_passed",
            "Canaries the idle engine has spoken since the start.",
            lambda: float(worker.canaries),
        )
        metrics.gauge("ishowtts_voices", "Voices on offer.", lambda: float(len(self.voices)))


def _refuse_unready(worker: Worker) -> None:
    now = worker.condition.snapshot()
    if now.status == "draining":
        raise Draining("The daemon is going down.", "Try again shortly.", retry_after=RESTART_S)
    if not now.ready:
        raise NotReady(
            f"The daemon is not ready: {'; '.join(now.reasons)}.",
            "GET /readyz says when it is.",
            retry_after=RESTART_S,
        )


def _predicted(worker: Worker, text: str, voice: Voice, speed: float) -> float:
    seconds = worker.engine.predict_seconds(text, voice, speed)
    if seconds > MAX_AUDIO_SECONDS:
        raise BadInput(
            f"`input` would take about {seconds:.0f} s to speak; the limit is "
            f"{MAX_AUDIO_SECONDS:.0f} s.",
            "Split the text and send its parts one after another.",
            param="input",
            code="input_too_long",
        )
    return seconds


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
