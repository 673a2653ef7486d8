"""All facts of a box at once, each probe in a thread of its own and within its own time; one that
is late costs its own fact only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ishowtts_ops.config import Settings
from ishowtts_ops.facts import clocks as clock_facts
from ishowtts_ops.facts import fan as fan_facts
from ishowtts_ops.facts import identity as identity_facts
from ishowtts_ops.facts import power as power_facts
from ishowtts_ops.facts import rails as rail_facts
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts import thermal as thermal_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.daemon_health import HEALTH_LIMIT_S, DaemonHealth, read_daemon_health
from ishowtts_ops.facts.disk import Disk, read_disk
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.facts.fan import FanFacts
from ishowtts_ops.facts.gpu import Gpu, read_gpu
from ishowtts_ops.facts.history import HistoryFacts, read_history
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.memory import Memory, read_memory
from ishowtts_ops.facts.parallel import FILE_LIMIT_S, Job, in_parallel
from ishowtts_ops.facts.power import PowerFacts
from ishowtts_ops.facts.python_env import (
    QUICK_LIMIT_S,
    THOROUGH_LIMIT_S,
    PythonEnv,
    read_python_env,
)
from ishowtts_ops.facts.rails import RailFacts
from ishowtts_ops.facts.rivals import RivalFacts
from ishowtts_ops.facts.systemd import QUERY_LIMIT_S, Systemd, read_systemd
from ishowtts_ops.facts.thermal import ThermalFacts
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.facts.voices import VoiceFacts, read_voices
from ishowtts_ops.host import Host

_SAID = {
    "identity": "what the box is",
    "power": "the power mode",
    "thermal": "temperatures",
    "rails": "the power rails",
    "fan": "the fan",
    "rivals": "who else sets clocks",
    "gpu": "the GPU's load and clients",
    "systemd": "the units' states",
    "python_env": "the engine's packages",
    "disk": "free space",
    "daemon": "the daemon's health",
    "voices": "the voices' recordings",
    "history": "the history of benchmarks",
}


@dataclass(frozen=True)
class Facts:
    """What is known of a box, by subject; each a value or Unknown with its reason.

    Attributes:
        seconds: how long each probe took.
    """

    identity: Maybe[Identity]
    power: Maybe[PowerFacts]
    clocks: Maybe[ClockFacts]
    thermal: Maybe[ThermalFacts]
    rails: Maybe[RailFacts]
    fan: Maybe[FanFacts]
    rivals: Maybe[RivalFacts]
    memory: Maybe[Memory]
    gpu: Maybe[Gpu]
    systemd: Maybe[Systemd]
    python_env: Maybe[PythonEnv]
    disk: Maybe[Disk]
    daemon: Maybe[DaemonHealth]
    voices: Maybe[VoiceFacts]
    history: Maybe[HistoryFacts]
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)


def gather(
    host: Host,
    settings: Settings,
    *,
    units: Sequence[str] = (),
    thorough: bool = False,
    only: Sequence[str] | None = None,
    patience: float = 1.0,
) -> Facts:
    """Find out everything, side by side. Changes nothing and never raises for what the box answers.

    Args:
        units: names of the systemd units to ask about.
        thorough: see `read_python_env`.
        only: subjects (fields of `Facts`) to look at; the others are Unknown.
        patience: scales every probe's time limit.
    """
    jobs = _jobs(host, settings, tuple(units), thorough)
    asked = {
        name: Job(job.call, job.limit_s * patience, f"reading {_SAID.get(name, name)}")
        for name, job in jobs.items()
        if only is None or name in only
    }
    seconds: dict[str, float] = {}
    found = in_parallel(asked, seconds)
    left_out = Unknown("it was not asked for")
    return Facts(**{name: found.get(name, left_out) for name in jobs}, seconds=seconds)


def _jobs(host: Host, settings: Settings, units: Sequence[str], thorough: bool) -> dict[str, Job]:
    python = in_use(host, settings)
    python_limit = THOROUGH_LIMIT_S if thorough else QUICK_LIMIT_S
    return {
        "identity": Job(lambda: identity_facts.read(host), FILE_LIMIT_S),
        "power": Job(lambda: power_facts.read(host), FILE_LIMIT_S),
        "clocks": Job(lambda: clock_facts.read(host), FILE_LIMIT_S),
        "thermal": Job(lambda: thermal_facts.read(host), FILE_LIMIT_S),
        "rails": Job(lambda: rail_facts.read(host), FILE_LIMIT_S),
        "fan": Job(lambda: fan_facts.read(host), FILE_LIMIT_S),
        "rivals": Job(lambda: rival_facts.read(host), QUERY_LIMIT_S * 3),
        "memory": Job(lambda: read_memory(host), FILE_LIMIT_S),
        "gpu": Job(lambda: read_gpu(host), FILE_LIMIT_S * 2),
        "systemd": Job(lambda: read_systemd(host, units), QUERY_LIMIT_S * 3),
        "python_env": Job(
            lambda: read_python_env(host, python, thorough=thorough), python_limit + 1
        ),
        "disk": Job(lambda: read_disk(host), FILE_LIMIT_S),
        "daemon": Job(lambda: read_daemon_health(settings), HEALTH_LIMIT_S),
        "voices": Job(lambda: read_voices(host), FILE_LIMIT_S * 2),
        "history": Job(lambda: read_history(host), FILE_LIMIT_S),
    }
