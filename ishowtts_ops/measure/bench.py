"""Runs a workload: warm up, measure every pass, look at the machine meanwhile."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from ishowtts_ops.errors import OpsError
from ishowtts_ops.measure.doors import Door, Spoken
from ishowtts_ops.measure.fingerprint import Fingerprint, Moment, Value, marks
from ishowtts_ops.measure.history import utc_now
from ishowtts_ops.measure.run import MemoryUse, Run, Sample
from ishowtts_ops.measure.workloads import Workload

QUICK_PASSES = 1
EXTENDED_PASSES = 20
WARM_UP = 3
STREAMED = 5


class Disturbed(OpsError):
    """A run that gave way to others before it was complete."""


@dataclass(frozen=True)
class Watch:
    """How a run looks at its machine.

    Attributes:
        look: clocks, heat and power now.
        glance: what spoils a run, between passes; cheap.
        software: what differs only when somebody changes it.
    """

    look: Callable[[], Moment]
    glance: Callable[[], Sequence[str]]
    software: dict[str, Value]


@dataclass(frozen=True)
class Plan:
    """How a run goes.

    Attributes:
        passes: how often the workload is spoken; counted.
        warm_up: before them; not counted.
        streamed: after them, to see when the first audio is at the caller's socket.
        gives_way: stop with `Disturbed` as soon as somebody else uses the engine.
    """

    passes: int = EXTENDED_PASSES
    warm_up: int = WARM_UP
    streamed: int = STREAMED
    gives_way: bool = False

    @property
    def kind(self) -> str:
        return {QUICK_PASSES: "quick", EXTENDED_PASSES: "extended"}.get(self.passes, "custom")


Progress = Callable[[int, int, Sample | None], None]
"""Told (done, of all, the sample) after every pass; the warm-up has no sample."""


def measure(
    door: Door,
    workload: Workload,
    plan: Plan,
    watch: Watch,
    progress: Progress = lambda *_: None,
    *,
    floor_s: Callable[[Sequence[float], Moment], float | None] = lambda *_: None,
    note: str = "",
) -> Run:
    """Speak the workload and keep what it took.

    Args:
        floor_s: the least engine time of a pass, from the length of each utterance and the machine.

    Raises:
        OpsError: something was not spoken; there is no half a run.
        Disturbed: somebody else came, and the plan gives way.
    """
    before = watch.look()
    started = utc_now()
    first_memory = door.memory()
    all_of_them = plan.warm_up + plan.passes
    for number in range(plan.warm_up):
        _one_pass(door, workload, 0.0, plan)
        progress(number + 1, all_of_them, None)
    began = time.perf_counter()
    samples: list[Sample] = []
    lengths: list[float] = []
    seen: list[str] = []
    for number in range(plan.passes):
        sample, lengths = _one_pass(door, workload, time.perf_counter() - began, plan)
        samples.append(sample)
        seen += watch.glance()
        progress(plan.warm_up + number + 1, all_of_them, sample)
    at_socket = _streamed(door, workload, plan)
    others = door.others()
    after = watch.look()
    memory = door.memory()
    found = Fingerprint(watch.software, before, after, tuple(dict.fromkeys(seen)))
    spoiled = list(marks(found)) + ([others] if others else [])
    return Run(
        id=f"{started.replace('-', '').replace(':', '').rstrip('Z')}-{secrets.token_hex(3)}",
        started=started,
        kind=plan.kind,
        workload=workload.name,
        workload_key=workload.key,
        door=door.name,
        engine=door.engine,
        device=door.device,
        warm_up=plan.warm_up,
        samples=tuple(samples),
        fingerprint=found,
        marks=tuple(spoiled),
        memory=MemoryUse(first_memory.rss_after, memory.rss_after, memory.device_peak),
        floor_s=floor_s(lengths, after),
        note=note,
        extra={"first_audio_at_socket_s": at_socket} if at_socket else {},
    )


def _streamed(door: Door, workload: Workload, plan: Plan) -> list[float]:
    """First audio at the caller's end, of the first utterance."""
    found = [
        door.stream_once(workload.utterances[0], workload.seed, workload.nfe)
        for _ in range(min(plan.streamed, plan.passes))
    ]
    return [seconds for seconds in found if seconds is not None]


def _one_pass(
    door: Door, workload: Workload, at_s: float, plan: Plan
) -> tuple[Sample, list[float]]:
    spoken: list[Spoken] = []
    for utterance in workload.utterances:
        if plan.gives_way:
            others = door.others()
            if others:
                raise Disturbed(
                    f"Stopped, to give way: {others}.", "It is tried again at its next time."
                )
        spoken.append(door.speak(utterance, workload.seed, workload.nfe))
    sample = Sample(
        at_s=at_s,
        engine_s=sum(one.engine_s for one in spoken),
        total_s=sum(one.total_s for one in spoken),
        first_audio_s=median(one.first_audio_s for one in spoken),
        queue_s=sum(one.queue_s for one in spoken),
        audio_s=sum(one.audio_s for one in spoken),
    )
    return sample, [one.audio_s for one in spoken]
