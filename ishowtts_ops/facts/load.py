"""A box watched while it works: clocks, temperatures, throttles, rails and over-current counters,
sampled a few times a second, and how far the counters rose.

Many faults show only then: heat needs minutes of work or a few seconds of it in a closed case, and
a weak supply gives way only when the GPU draws.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ishowtts_ops.facts import clocks as clock_facts
from ishowtts_ops.facts import rails as rail_facts
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts import thermal as thermal_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.parallel import Job, in_parallel
from ishowtts_ops.facts.rails import RailFacts
from ishowtts_ops.facts.thermal import ThermalFacts
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

EVERY_S = 0.25
LAST_LOOK_S = 2.0
"""What the looks before and after the load may take together; each takes milliseconds."""


@dataclass(frozen=True)
class Sample:
    """The box at one moment of the load.

    Attributes:
        at_s: since the load began.
        cpu_khz: the slowest cluster as *measured* (cpuinfo_cur_freq, root only): over-current
            throttling shows nowhere else.
        cpu_share: that rate as a share of the one set, 0 to 1.
        gpu_hz: the GPU's devfreq rate.
        hottest_mc: the hottest zone, m°C, and its name.
        throttles: thermal throttles at work.
        alarms: rails above their limit.
        milliwatt: by rail.
    """

    at_s: float
    cpu_khz: Maybe[int]
    cpu_share: Maybe[float]
    gpu_hz: Maybe[int]
    hottest_mc: Maybe[int]
    hottest: str
    throttles: tuple[str, ...]
    alarms: tuple[str, ...]
    milliwatt: dict[str, int]


@dataclass(frozen=True)
class Watched:
    """A stretch of load.

    Attributes:
        seconds: how long it was watched.
        before: the box right before it.
        events: over-current events by counter in that time (not since boot).
        events_path: the hwmon folder of the counters.
        gpu_max_hz: what the GPU may run at.
        ended: did the work end within its time?
    """

    seconds: float
    before: Sample
    samples: tuple[Sample, ...]
    events: Maybe[dict[int, int]]
    gpu_max_hz: Maybe[int]
    ended: bool
    events_path: str = ""

    def first_throttle(self) -> Sample | None:
        """When heat first held a clock down."""
        return next((sample for sample in self.samples if sample.throttles), None)

    def first_alarm(self) -> Sample | None:
        """When a rail was first above its limit."""
        return next((sample for sample in self.samples if sample.alarms), None)

    def hottest(self) -> Sample | None:
        known = [s for s in self.samples if isinstance(s.hottest_mc, int)]
        return max(known, key=_heat, default=None)

    def slowest_cpu(self) -> Sample | None:
        known = [s for s in self.samples if isinstance(s.cpu_share, float)]
        return min(known, key=_share, default=None)

    def slowest_gpu(self) -> Sample | None:
        known = [s for s in self.samples if isinstance(s.gpu_hz, int) and s.gpu_hz > 0]
        return min(known, key=_rate, default=None)

    def peak_milliwatt(self) -> int | None:
        """The most that all rails together drew; None where nothing measures it. VDD_IN alone,
        where a board has it: it feeds the others."""
        sums = [
            sample.milliwatt.get("VDD_IN", sum(sample.milliwatt.values()))
            for sample in self.samples
            if sample.milliwatt
        ]
        return max(sums, default=None)


def watch(
    host: Host,
    work: Callable[[], None],
    limit_s: float,
    *,
    every_s: float = EVERY_S,
    clock: Callable[[], float] = time.monotonic,
    without: Collection[str] = (),
) -> Maybe[Watched]:
    """Sample a box until the work, done in a thread of its own, ends or its time is over.

    Args:
        work: loads the box; what it raises ends it and is its caller's to remember.
        limit_s: after this it is left alone; it must come to an end by itself.
        without: "thermal" or "rails" where these give no answer, and would hang each look.

    Returns:
        Unknown where a look at the box gave no answer.
    """
    watcher = _Watcher(host, frozenset(without), clock)
    job = Job(lambda: watcher.watch(work, limit_s, every_s), limit_s + LAST_LOOK_S, "watching it")
    found: Maybe[Watched] = in_parallel({"load": job})["load"]
    return found


class _Watcher:
    """Looks at a box again and again."""

    def __init__(self, host: Host, without: frozenset[str], clock: Callable[[], float]) -> None:
        self._host = host
        self._without = without
        self._clock = clock

    def watch(self, work: Callable[[], None], limit_s: float, every_s: float) -> Watched:
        clock = self._clock
        counted = self._rails()
        before = self._sample(clock_facts.read(self._host), counted, 0.0)
        thread = threading.Thread(target=work, name="load", daemon=True)
        began = clock()
        thread.start()
        samples: list[Sample] = []
        while thread.is_alive() and clock() - began < limit_s:
            clocks, rails = clock_facts.read(self._host), self._rails()
            samples.append(self._sample(clocks, rails, clock() - began))
            thread.join(max(0.0, min(every_s, limit_s - (clock() - began))))
        # Once more: what happened in the last moment shows now, and the counters keep it for good.
        clocks, rails = clock_facts.read(self._host), self._rails()
        samples.append(self._sample(clocks, rails, clock() - began))
        gpu = clocks.gpu
        top: Maybe[int] = gpu if isinstance(gpu, Unknown) else gpu.max_hz
        seconds = clock() - began
        ended = not thread.is_alive()
        return Watched(
            seconds,
            before,
            tuple(samples),
            rails.since(counted),
            top,
            ended,
            rails.events_path,
        )

    def _rails(self) -> RailFacts:
        if "rails" in self._without:
            return RailFacts((), Unknown("the power rails give no answer"))
        return rail_facts.read(self._host)

    def _thermal(self) -> ThermalFacts:
        return (
            ThermalFacts((), ()) if "thermal" in self._without else thermal_facts.read(self._host)
        )

    def _sample(self, clocks: ClockFacts, rails: RailFacts, at_s: float) -> Sample:
        thermal = self._thermal()
        hottest = thermal.hottest
        khz, share = _cpu(self._host, clocks)
        gpu = clocks.gpu
        return Sample(
            at_s,
            khz,
            share,
            gpu if isinstance(gpu, Unknown) else gpu.cur_hz,
            hottest if isinstance(hottest, Unknown) else hottest.temperature_mc,
            "" if isinstance(hottest, Unknown) else hottest.name,
            tuple(device.name for device in thermal.active_throttles),
            tuple(rail.label for rail in rails.alarms),
            {r.label: r.milliwatt for r in rails.rails if isinstance(r.milliwatt, int)},
        )


def _cpu(host: Host, clocks: ClockFacts) -> tuple[Maybe[int], Maybe[float]]:
    """The locked cluster that runs slowest against what is set."""
    slowest: tuple[float, int] | None = None
    why = Unknown("no CPU cluster is locked")
    for policy in clocks.cpus:
        if policy.locked is not True or not isinstance(policy.max_khz, int):
            continue
        measured = sysfs.number(host, f"{policy.path}/cpuinfo_cur_freq")
        if isinstance(measured, Unknown):
            why = measured
        elif measured > 0 and policy.max_khz > 0:
            share = measured / policy.max_khz
            slowest = min(slowest or (share, measured), (share, measured))
    return (why, why) if slowest is None else (slowest[1], slowest[0])


def _heat(sample: Sample) -> int:
    return sample.hottest_mc if isinstance(sample.hottest_mc, int) else 0


def _share(sample: Sample) -> float:
    return sample.cpu_share if isinstance(sample.cpu_share, float) else 1.0


def _rate(sample: Sample) -> int:
    return sample.gpu_hz if isinstance(sample.gpu_hz, int) else 0
