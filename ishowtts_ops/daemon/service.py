"""What the daemon offers its callers, apart from HTTP: admission, and the state of things."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from typing import Any

import ishowtts_ops
from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.daemon import batch_trial, journal, limits
from ishowtts_ops.daemon.accounts import Accounts
from ishowtts_ops.daemon.auth import CALLER
from ishowtts_ops.daemon.boot import WARM_UP_TEXT
from ishowtts_ops.daemon.chat import speakable
from ishowtts_ops.daemon.engine import SAMPLE_RATE, SynthesisRequest, Voice
from ishowtts_ops.daemon.failures import (
    Draining,
    NotReady,
    Refusal,
    UnknownModel,
    answer_for,
)
from ishowtts_ops.daemon.job import Job, Priority, Reply
from ishowtts_ops.daemon.metrics import Metrics
from ishowtts_ops.daemon.schema import OPENAI_MODELS, SpeechBody
from ishowtts_ops.daemon.sockets import Sockets
from ishowtts_ops.daemon.voices import Voices
from ishowtts_ops.daemon.worker import Worker

log = logging.getLogger(__name__)

PRIORITIES = {"interactive": Priority.INTERACTIVE, "batch": Priority.BATCH}


class Admitted:
    """A request that will be answered by an engine.

    Attributes:
        job, worker: who speaks it now: this changes when the fallback takes it over.
        substituted: true when the fallback speaks in the engine's place.
    """

    def __init__(self, job: Job, worker: Worker, substituted: bool) -> None:
        self.job = job
        self.worker = worker
        self.substituted = substituted


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
        self._started = time.monotonic()
        self._settings_sha256 = _sha256(settings.model_dump_json())
        self._manifest_sha256 = _sha256(manifest.model_dump_json())
        self._nfe = manifest.nfe
        self.usual: dict[str, float] = {
            "nfe": manifest.nfe,
            "cfg_strength": manifest.cfg_strength,
        }
        self.accounts = Accounts(metrics)
        self.sockets = Sockets()
        self._publish()

    # ---- speech ------------------------------------------------------------------------------

    def admit(
        self,
        body: SpeechBody,
        request_id: str,
        reply: Reply,
        *,
        chat: bool = False,
        whole: bool = False,
    ) -> Admitted:
        """Check everything, then queue.

        Args:
            chat: the text is a line of chat.
            whole: the caller waits for all of it.

        Raises:
            Refusal: the request cannot be spoken (now).
        """
        voice = self.voices.speaker(body.voice_id)
        worker, substituted = self._worker_for(body)
        text = self._text(body, voice, worker, chat)
        _refuse_unready(worker)
        daemon = self.settings.daemon
        tuning = body.tuning()
        seconds = limits.predicted(
            worker.engine, text, voice, body.speed, daemon.max_audio_seconds, tuning.fix_duration
        )
        job = Job(
            id=request_id,
            request=SynthesisRequest(text, voice, body.speed, body.nfe, body.seed, tuning),
            reply=reply,
            deadline=time.monotonic() + (body.deadline_ms or daemon.deadline_ms) / 1000,
            predicted_seconds=seconds,
            caller=CALLER.get(),
            priority=PRIORITIES[body.priority],
            whole=whole,
        )
        admitted = Admitted(job, worker, substituted)
        if worker is self.primary and self._may_fall_back(body):
            job.rescue = lambda refusal: self._rescue(admitted, refusal)
        worker.submit(job)
        if substituted:
            self.metrics.fell_back()
        return admitted

    def check(self, body: SpeechBody, *, chat: bool = False) -> str:
        """The text as engines are given it, when nothing is wrong with the request itself.

        Raises:
            Refusal: it can never be spoken.
        """
        voice = self.voices.speaker(body.voice_id)
        return self._text(body, voice, self._worker_for(body)[0], chat)

    def audition(self, voice: Voice, request_id: str, reply: Reply) -> Admitted:
        """Have the engine say a few words with a voice that is not on offer yet.

        Raises:
            Refusal: not now.
        """
        worker = self.primary
        _refuse_unready(worker)
        job = Job(
            id=request_id,
            request=SynthesisRequest(WARM_UP_TEXT, voice),
            reply=reply,
            deadline=time.monotonic() + self.settings.daemon.deadline_ms / 1000,
            predicted_seconds=worker.engine.predict_seconds(WARM_UP_TEXT, voice, 1.0),
            caller=CALLER.get(),
        )
        worker.submit(job)
        return Admitted(job, worker, False)

    def _text(self, body: SpeechBody, voice: Voice, worker: Worker, chat: bool) -> str:
        how = self.settings.daemon.normalize
        wanted = chat if body.normalize is None else body.normalize
        if how != "chat":
            wanted = how == "always" and body.normalize is not False
        return speakable(
            body.input,
            self.settings.daemon.max_text_chars,
            chat=wanted,
            by_example=worker.engine.needs_reference,
            language=voice.language,
        )

    def _may_fall_back(self, body: SpeechBody) -> bool:
        policy = self.settings.daemon.fallback
        return policy == "always" or (policy == "chat" and body.fallback)

    def _rescue(self, admitted: Admitted, refusal: Refusal) -> bool:
        """The engine failed before anything of a job was sent: let the fallback speak it. Runs on
        whichever thread ended the job."""
        fallback, failed = self.fallback, admitted.job
        if fallback is None or not fallback.condition.snapshot().ready or failed.gone.is_set():
            return False
        job = Job(
            id=failed.id,
            request=failed.request,
            reply=failed.reply,
            deadline=failed.deadline,
            predicted_seconds=failed.predicted_seconds,
            caller=failed.caller,
            priority=failed.priority,
            whole=failed.whole,
            admitted=failed.admitted,
        )
        admitted.job, admitted.worker, admitted.substituted = job, fallback, True
        try:
            fallback.submit(job)
        except Refusal:
            return False
        if failed.gone.is_set():
            fallback.cancel(job)
        self.metrics.fell_back()
        code = refusal.code or answer_for(refusal).code
        log.warning(journal.line("handed to the fallback", id=job.id, code=code))
        return True

    def _worker_for(self, body: SpeechBody) -> tuple[Worker, bool]:
        fallback = self.fallback
        if body.model is None or body.model in (self.primary.engine.name, *OPENAI_MODELS):
            ready = self.primary.condition.snapshot().ready
            if (
                self._may_fall_back(body)
                and not ready
                and fallback
                and fallback.condition.snapshot().ready
            ):
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

    def take_over(self, settings: Settings, manifest: Manifest, voices: Voices) -> None:
        """Other settings and voices from now on; the voices were auditioned already."""
        self.settings, self.voices = settings, voices
        self._settings_sha256 = _sha256(settings.model_dump_json())
        self._manifest_sha256 = _sha256(manifest.model_dump_json())

    # ---- accounts ----------------------------------------------------------------------------

    def refused(self, refusal: Refusal, request_id: str) -> None:
        """Book a request that was never admitted."""
        self.accounts.refused(refusal, request_id)

    # ---- state -------------------------------------------------------------------------------

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests are welcome, and the whole story as JSON values."""
        self.accounts.flush()
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
            "voices_aside": [dataclasses.asdict(one) for one in self.voices.asides],
            "nfe": self._nfe,
            "queue": {
                "depth": len(worker.queue),
                "limit": worker.queue.limit,
                "limit_seconds": worker.queue.seconds,
                "busy": worker.queue.running is not None,
                "wait_seconds": round(worker.queue.wait_seconds(), 3),
            },
            "recent_rtf": round(worker.pace.rtf, 4),
            "progress_age_seconds": round(worker.pulse.age(), 3),
            "canaries": worker.canaries,
            "batch": batch_trial.story(worker.batching, self.settings.daemon.batch),
            "fallback": self._fallback_story(),
            "version": ishowtts_ops.__version__,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "settings_sha256": self._settings_sha256,
            "manifest_sha256": self._manifest_sha256,
        }
        return now.ready, story

    def _fallback_story(self) -> dict[str, Any] | None:
        if self.fallback is None:
            return None
        now = self.fallback.condition.snapshot()
        speaking = now.ready and not self.primary.condition.snapshot().ready
        return {
            "engine": self.fallback.engine.name,
            "ready": now.ready,
            "speaks_instead": speaking and self.settings.daemon.fallback != "never",
            "for": self.settings.daemon.fallback,
        }

    def _publish(self) -> None:
        worker, metrics = self.primary, self.metrics
        metrics.info.info({"version": ishowtts_ops.__version__, "engine": worker.engine.name})
        for one in (worker, self.fallback):
            if one is not None:
                metrics.expect(one.engine.name)
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
        metrics.counter(
            "ishowtts_canaries",
            "Canaries the idle engine has spoken since the start.",
            lambda: float(worker.canaries),
        )
        metrics.gauge(
            "ishowtts_batch_most",
            "How many requests may be computed together; 1 is one by one.",
            lambda: float(worker.batching.most),
        )
        metrics.gauge(
            "ishowtts_batch_gain_ratio",
            "Speech per second of the best batch that was measured, over one by one; NaN before.",
            lambda: max(worker.batching.gains.values(), default=float("nan")),
        )
        metrics.gauge(
            "ishowtts_websockets", "WebSockets that are open.", lambda: float(len(self.sockets))
        )
        metrics.gauge("ishowtts_voices", "Voices on offer.", lambda: float(len(self.voices)))
        metrics.gauge(
            "ishowtts_voices_aside",
            "Voices that should be on offer and cannot be used; /readyz says why.",
            lambda: float(len(self.voices.asides)),
        )


def _refuse_unready(worker: Worker) -> None:
    now = worker.condition.snapshot()
    if now.status == "draining":
        raise Draining(
            "The daemon is going down.", "Try again shortly.", retry_after=worker.restart_seconds
        )
    if not now.ready:
        raise NotReady(
            f"The daemon is not ready: {'; '.join(now.reasons)}.",
            "GET /readyz says when it is.",
            retry_after=worker.restart_seconds,
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
