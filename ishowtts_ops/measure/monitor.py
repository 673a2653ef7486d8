"""One look at everything that moves: clocks, heat, power, memory, GPU load, the daemon.

Read from sysfs and the daemon; the GPU's load see `gpu_load`. Nothing here raises for what a box
answers, and what cannot be known says why.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import psutil

from ishowtts_ops.client import DaemonClient
from ishowtts_ops.config import Settings
from ishowtts_ops.facts import rails as rail_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.daemon_health import DaemonHealth
from ishowtts_ops.facts.fan import FULL_PWM, FanFacts
from ishowtts_ops.facts.gather import Facts, gather
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.memory import Memory
from ishowtts_ops.facts.parallel import Job, in_parallel
from ishowtts_ops.facts.power import PowerFacts
from ishowtts_ops.facts.rails import RailFacts
from ishowtts_ops.facts.systemd import Systemd
from ishowtts_ops.facts.thermal import ThermalFacts
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.measure.gpu_load import TEGRASTATS_LIMIT_S, GpuLoad, Jtop, gpu_load

DAEMON_UNIT = "ishowtts-tts.service"
SUBJECTS = ("identity", "power", "clocks", "thermal", "rails", "fan", "memory", "systemd", "daemon")
METRICS_LIMIT_S = 2.0


@dataclass(frozen=True)
class DaemonPulse:
    """The daemon's own figures.

    Attributes:
        first_audio_s: average from admission to first audio, over the requests since the last
            reading, or since its start; None where there were none.
        spoken: requests answered with speech since its start.
        refused: requests that were not, by why.
    """

    status: str
    engine: str
    device: str
    recent_rtf: float | None
    queue_depth: int
    queue_limit: int
    first_audio_s: float | None
    spoken: int
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """A box at one moment.

    Attributes:
        at: local time, ISO 8601.
        locked: True, False, or why it is not known.
        temperatures: °C by zone. rails: mW by label.
        restarts: automatic ones of the daemon since it was started by hand or at boot.
        rss: of the daemon, bytes.
        events: over-current events since boot, by number.
    """

    at: str
    name: str
    jetson: bool
    mode: Maybe[str]
    locked: Maybe[bool]
    loose: tuple[str, ...]
    clocks: Maybe[ClockFacts]
    temperatures: Mapping[str, float]
    throttles: tuple[str, ...]
    rails: Mapping[str, int]
    events: Mapping[str, int]
    fan_percent: Maybe[int]
    fan_rpm: Maybe[int]
    memory: Maybe[Memory]
    gpu_load: Maybe[GpuLoad]
    cpu_percent: tuple[float, ...]
    daemon: Maybe[DaemonPulse]
    unit: Maybe[str]
    restarts: int
    rss: int | None

    def to_json(self) -> dict[str, Any]:
        """Flat and small, one line of a log; what is not known is null."""
        clocks = self.clocks if isinstance(self.clocks, ClockFacts) else None
        gpu = clocks.gpu if clocks and not isinstance(clocks.gpu, Unknown) else None
        memory = self.memory if isinstance(self.memory, Memory) else None
        pulse = self.daemon if isinstance(self.daemon, DaemonPulse) else None
        return {
            "at": self.at,
            "name": self.name,
            "mode": _known(self.mode),
            "locked": _known(self.locked),
            "loose": list(self.loose),
            "cpu_khz": [_known(policy.cur_khz) for policy in clocks.cpus] if clocks else [],
            "gpu_hz": _known(gpu.cur_hz) if gpu else None,
            "emc_hz": _known(clocks.emc.rate_hz) if clocks else None,
            "temperatures": dict(self.temperatures),
            "throttles": list(self.throttles),
            "rails_mw": dict(self.rails),
            "over_current_events": dict(self.events),
            "fan_percent": _known(self.fan_percent),
            "fan_rpm": _known(self.fan_rpm),
            "memory_total": memory.total if memory else None,
            "memory_available": memory.available if memory else None,
            "swap_used": memory.swap_used if memory else None,
            "gpu_percent": self.gpu_load.percent if isinstance(self.gpu_load, GpuLoad) else None,
            "gpu_source": self.gpu_load.source if isinstance(self.gpu_load, GpuLoad) else None,
            "cpu_percent": list(self.cpu_percent),
            "unit": _known(self.unit),
            "restarts": self.restarts,
            "rss": self.rss,
            "daemon": None if pulse is None else {**vars(pulse), "refused": dict(pulse.refused)},
        }


class Monitor:
    """Takes readings of one box.

    Args:
        jtop: an open connection to jtop's service; see `jtop_connection`.
    """

    def __init__(self, host: Host, settings: Settings, jtop: Jtop | None = None) -> None:
        self._host = host.read_only()
        self._settings = settings
        self._jtop = jtop
        self._first_audio = (0.0, 0)
        psutil.cpu_percent(percpu=True)

    def read(self) -> Reading:
        """Look now; takes at most a few seconds, however broken the box is."""
        host = self._host
        found = gather(host, self._settings, units=(DAEMON_UNIT,), only=SUBJECTS)
        jobs = {
            "gpu": Job(self._gpu_load, TEGRASTATS_LIMIT_S * 2 + 1),
            "metrics": Job(self._metrics, METRICS_LIMIT_S * 2),
        }
        more = in_parallel(jobs)
        return self._reading(found, more["gpu"], more["metrics"])

    def _reading(self, found: Facts, gpu: Maybe[GpuLoad], metrics: Maybe[str]) -> Reading:
        who = found.identity if isinstance(found.identity, Identity) else None
        clocks = found.clocks
        heat = found.thermal if isinstance(found.thermal, ThermalFacts) else ThermalFacts((), ())
        supply = found.rails if isinstance(found.rails, RailFacts) else None
        fan = found.fan if isinstance(found.fan, FanFacts) else None
        jetson = who is not None and who.is_jetson
        unit, restarts, pid = _unit(found.systemd)
        events = supply.events if supply and isinstance(supply.events, dict) else {}
        return Reading(
            at=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
            name=who.name if who and jetson else "this machine (no Jetson)",
            jetson=jetson,
            mode=found.power.mode_name if isinstance(found.power, PowerFacts) else found.power,
            locked=clocks.locked if isinstance(clocks, ClockFacts) else clocks,
            loose=clocks.loose if isinstance(clocks, ClockFacts) else (),
            clocks=clocks,
            temperatures={
                zone.name: zone.temperature_mc / 1000
                for zone in heat.zones
                if isinstance(zone.temperature_mc, int)
            },
            throttles=tuple(device.name for device in heat.active_throttles),
            rails={
                rail.label: rail.milliwatt
                for rail in (supply.rails if supply else ())
                if isinstance(rail.milliwatt, int)
            },
            events={
                f"OC{number} {rail_facts.MEANING[number]}": count
                for number, count in events.items()
                if count
            },
            fan_percent=round(100 * fan.pwm / FULL_PWM)
            if fan and isinstance(fan.pwm, int)
            else Unknown("no fan that can be read"),
            fan_rpm=fan.rpm if fan else Unknown("no fan that can be read"),
            memory=found.memory,
            gpu_load=gpu,
            cpu_percent=tuple(psutil.cpu_percent(percpu=True)),
            daemon=self._pulse(found.daemon, metrics),
            unit=unit,
            restarts=restarts,
            rss=_rss(pid),
        )

    def _pulse(self, health: Maybe[DaemonHealth], metrics: Maybe[str]) -> Maybe[DaemonPulse]:
        if isinstance(health, Unknown):
            return health
        outcomes = dict(health.outcomes)
        spoken = outcomes.pop("ok", 0)
        return DaemonPulse(
            status=health.status,
            engine=health.engine,
            device=health.device,
            recent_rtf=health.recent_rtf,
            queue_depth=health.queue_depth,
            queue_limit=health.queue_limit,
            first_audio_s=self._average(metrics) if isinstance(metrics, str) else None,
            spoken=spoken,
            refused=outcomes,
        )

    def _average(self, metrics: str) -> float | None:
        """First audio since the last reading; the last known average while nobody speaks."""
        total, count = parse_first_audio(metrics)
        before, known = self._first_audio
        if count > known:
            self._first_audio = (total, count)
            return (total - before) / (count - known)
        if count < known:  # it was started anew
            self._first_audio = (0.0, 0)
        return total / count if count else None

    def _metrics(self) -> str:
        with DaemonClient.of(self._settings, METRICS_LIMIT_S, self._host.root) as client:
            return client.metrics()

    def _gpu_load(self) -> Maybe[GpuLoad]:
        return gpu_load(self._host, self._jtop)


def parse_first_audio(metrics: str) -> tuple[float, int]:
    """(seconds in all, requests) of the daemon's histogram of first audio, over all engines."""
    figures = {"sum": 0.0, "count": 0.0}
    for kind, value in re.findall(
        r"^ishowtts_first_audio_seconds_(sum|count)\{[^}]*\}\s+([0-9.eE+-]{1,40})$",
        metrics,
        re.MULTILINE,
    ):
        with contextlib.suppress(ValueError):
            figures[kind] += float(value)
    return figures["sum"], int(figures["count"])


def _unit(systemd: Maybe[Systemd]) -> tuple[Maybe[str], int, int]:
    """(state, restarts, pid) of the daemon's unit."""
    if isinstance(systemd, Unknown):
        return systemd, 0, 0
    if isinstance(systemd.units, Unknown):
        return systemd.units, 0, 0
    unit = systemd.units[DAEMON_UNIT]
    state = unit.active if unit.installed else "not installed"
    return state, unit.restarts, unit.pid


def _rss(pid: int) -> int | None:
    if not pid:
        return None
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _known(value: Any) -> Any:
    return None if isinstance(value, Unknown) else value
