"""Prometheus metrics, in base units. Every figure of a request comes from its one `Timings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from ishowtts_ops.daemon.engine import Timings
from ishowtts_ops.daemon.metrics_lives import CAUSES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RATIOS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)


class Metrics:
    """The daemon's registry; one per daemon, so that two never add up."""

    def __init__(self) -> None:
        # A second series beside each, of when it began, which as a gauge says nothing to anybody.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "ishowtts_requests",
            "Speech requests by how they ended.",
            ("outcome", "engine"),
            registry=registry,
        )
        self._waited = Histogram(
            "ishowtts_queue_wait_seconds",
            "From admission until the engine took the request.",
            ("engine",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_audio = Histogram(
            "ishowtts_first_audio_seconds",
            "From admission until the first audio left the engine.",
            ("engine",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._synthesis = Histogram(
            "ishowtts_synthesis_seconds",
            "Engine time per request.",
            ("engine",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._rtf = Histogram(
            "ishowtts_real_time_factor_ratio",
            "Engine seconds per second of speech.",
            ("engine",),
            buckets=_RATIOS,
            registry=registry,
        )
        self._audio = Counter(
            "ishowtts_audio_seconds",
            "Seconds of speech made.",
            ("engine",),
            registry=registry,
        )
        self._fallbacks = Counter(
            "ishowtts_fallbacks",
            "Requests spoken by the fallback because the engine was not ready.",
            registry=registry,
        )
        self._drops = Counter(
            "ishowtts_drops",
            "Requests that were not spoken, by the code of their error.",
            ("reason",),
            registry=registry,
        )
        self._batch = Histogram(
            "ishowtts_batch_size",
            "Requests computed together, of those that were.",
            buckets=(1, 2, 3, 4, 6, 8, 12, 16),
            registry=registry,
        )
        self._restarts = Counter(
            "ishowtts_restarts",
            "Ends of earlier daemons on this box, by cause; `killed` did not say why.",
            ("cause",),
            registry=registry,
        )
        self._reloads = Counter(
            "ishowtts_reloads", "Answers to SIGHUP.", ("outcome",), registry=registry
        )
        # What was never there does not increase: the first refusal would raise no alert.
        for outcome in ("done", "refused"):
            self._reloads.labels(outcome)
        for cause in CAUSES:
            self._restarts.labels(cause)
        self.info = Info("ishowtts_daemon", "What is running.", registry=registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A counter that is kept elsewhere and read when it is asked for; `_total` is appended."""
        self.registry.register(_Counted(name, text, read))

    def expect(self, engine: str) -> None:
        """Begin an engine's counts at zero, for the same reason as those of reloads."""
        for outcome in ("ok", "failed"):
            self._requests.labels(outcome, engine)

    def spoken(self, engine: str, timings: Timings) -> None:
        self._requests.labels("ok", engine).inc()
        self._waited.labels(engine).observe(timings.queue)
        self._first_audio.labels(engine).observe(timings.first_audio)
        self._synthesis.labels(engine).observe(timings.infer)
        self._rtf.labels(engine).observe(timings.rtf)
        self._audio.labels(engine).inc(timings.audio_seconds)

    def refused(self, engine: str, outcome: str, code: str) -> None:
        self._requests.labels(outcome, engine).inc()
        self._drops.labels(code).inc()

    def batched(self, size: int) -> None:
        self._batch.observe(size)

    def restarts(self, causes: Mapping[str, int]) -> None:
        """Those before this daemon; told once."""
        for cause, count in causes.items():
            self._restarts.labels(cause).inc(count)

    def reloaded(self, outcome: str) -> None:
        self._reloads.labels(outcome).inc()

    def fell_back(self) -> None:
        self._fallbacks.inc()

    def render(self) -> bytes:
        """The text exposition format, as CONTENT_TYPE says."""
        return generate_latest(self.registry)


class _Counted(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())
