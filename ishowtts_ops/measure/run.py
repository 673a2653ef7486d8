"""A run: a benchmark's samples and the machine they were taken on, as values that become JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ishowtts_ops.errors import OpsError
from ishowtts_ops.measure.fingerprint import Fingerprint
from ishowtts_ops.measure.others import OTHERS
from ishowtts_ops.measure.stats import Summary, summarize

RUN_VERSION = 1
METRICS = ("rtf", "engine_s", "total_s", "first_audio_s")
TITLES = {"rtf": "RTF", "engine_s": "engine", "total_s": "total", "first_audio_s": "first audio"}


@dataclass(frozen=True)
class Sample:
    """One pass of a workload. Times in seconds.

    Attributes:
        at_s: when it began, since the run began.
        engine_s: engine time, summed over its utterances.
        total_s: from sending each request to its last byte, summed.
        first_audio_s: from a request to its first audio where it is made, the median over its
            utterances: through HTTP as the daemon measures it, from admission on. What a caller
            waits is in `Run.extra`, first_audio_at_socket_s.
        queue_s: waiting behind others' requests, summed.
        audio_s: speech made.
    """

    at_s: float
    engine_s: float
    total_s: float
    first_audio_s: float
    queue_s: float
    audio_s: float

    @property
    def rtf(self) -> float:
        """Engine seconds per second of speech."""
        return self.engine_s / self.audio_s


@dataclass(frozen=True)
class MemoryUse:
    """Bytes held by what was measured; None where nobody could say.

    Attributes:
        rss_before, rss_after: resident memory of the daemon (or of this process, in process).
        device_peak: the GPU allocator's peak, in process only.
    """

    rss_before: int | None = None
    rss_after: int | None = None
    device_peak: int | None = None


@dataclass(frozen=True)
class Run:
    """Everything about one benchmark run.

    Attributes:
        started: UTC, ISO 8601, to the second.
        kind: quick, extended, or custom (another number of passes).
        door: http or in-process.
        engine, device: as what was measured names itself.
        warm_up: passes that were spoken before and not counted.
        fingerprint: the machine and the software, before and after.
        marks: why this run must not be a baseline; empty when it may.
        floor_s: the least engine time a pass can take on this GPU; None where that is not known.
        extra: counts and fidelity, where a side measures them.
    """

    id: str
    started: str
    kind: str
    workload: str
    workload_key: str
    door: str
    engine: str
    device: str
    warm_up: int
    samples: tuple[Sample, ...]
    fingerprint: Fingerprint
    marks: tuple[str, ...] = ()
    memory: MemoryUse = MemoryUse()
    floor_s: float | None = None
    note: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fit_for_baseline(self) -> bool:
        return not self.marks

    @property
    def place(self) -> tuple[str, str, str]:
        """What a baseline belongs to: the work, the engine and the way it was asked."""
        return (self.workload_key, self.engine, self.door)

    def values(self, metric: str) -> list[float]:
        """One figure of every pass; see METRICS."""
        return [float(getattr(sample, metric)) for sample in self.samples]

    def summary(self, metric: str) -> Summary:
        return summarize(self.values(metric))

    @property
    def above_floor(self) -> float | None:
        """Median engine time as a multiple of the floor."""
        return self.summary("engine_s").median / self.floor_s if self.floor_s else None

    def with_samples(self, more: Run) -> Run:
        """This run continued by another of the same work."""
        shifted = [
            dataclasses.replace(sample, at_s=sample.at_s + self.samples[-1].at_s)
            for sample in more.samples
        ]
        marks = tuple(dict.fromkeys([*self.marks, *more.marks]))
        joined = self.fingerprint.until(more.fingerprint)
        return dataclasses.replace(
            self,
            kind="custom",
            samples=(*self.samples, *shifted),
            marks=marks,
            fingerprint=joined,
            memory=dataclasses.replace(self.memory, rss_after=more.memory.rss_after),
            extra={**self.extra, **self._others_with(more)},
        )

    def _others_with(self, more: Run) -> dict[str, float]:
        """What others had of the processors over both runs."""
        both = [run for run in (self, more) if OTHERS in run.extra]
        passes = sum(len(run.samples) for run in both)
        had = sum(float(run.extra[OTHERS]) * len(run.samples) for run in both)
        return {OTHERS: round(had / passes, 3)} if both else {}

    def to_json(self) -> dict[str, Any]:
        """For history and files; summaries are there for readers and ignored on the way back."""
        body = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        body["samples"] = [dataclasses.asdict(sample) for sample in self.samples]
        body["fingerprint"] = self.fingerprint.to_json()
        body["memory"] = dataclasses.asdict(self.memory)
        body["marks"] = list(self.marks)
        body["extra"] = dict(self.extra)
        body["summary"] = {m: dataclasses.asdict(self.summary(m)) for m in METRICS}
        return {"version": RUN_VERSION, **body}


def from_json(body: Any) -> Run:
    """The inverse of `Run.to_json`.

    Raises:
        OpsError: it is not a run, or of a version that this program does not know.
    """
    try:
        if body["version"] != RUN_VERSION:
            raise OpsError(
                f"A run of version {body['version']} cannot be read; this program knows"
                f" {RUN_VERSION}.",
                "Use the release of ishowtts-ops that wrote it.",
            )
        fields = {f.name: body[f.name] for f in dataclasses.fields(Run)}
        fields["samples"] = tuple(Sample(**row) for row in body["samples"])
        fields["fingerprint"] = Fingerprint.from_json(body["fingerprint"])
        fields["memory"] = MemoryUse(**body["memory"])
        fields["marks"] = tuple(body["marks"])
        if not fields["samples"]:
            raise ValueError("no samples")
        return Run(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise OpsError(f"This is not a run: {error!r} in its record.") from None


def ratio_text(value: float) -> str:
    """A real-time factor with as many digits as mean something: 0.1692, 0.000275."""
    return f"{value:.4f}" if value >= 0.01 else f"{value:.3g}"


def figure_text(metric: str, value: float) -> str:
    """One figure with its unit: "0.1692" of `rtf`, "31.4 ms" or "1.20 s" of the others."""
    return ratio_text(value) if metric == "rtf" else time_text(value)


def time_text(seconds: float) -> str:
    """ "1.20 s", "31.4 ms"."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def dumps(run: Run) -> str:
    """One line of JSON."""
    return json.dumps(run.to_json(), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
