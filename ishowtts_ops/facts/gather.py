"""All facts of a box at once, each probe in a thread of its own and within its own time.

A read of sysfs can hang for good inside the kernel (a dead I²C device, a wedged driver), and no
signal ends it. So a probe that is late is left behind in a daemon thread, which does not keep the
program from ending, and its fact is Unknown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import clocks as clock_facts
from ishowtts_ops.facts import fan as fan_facts
from ishowtts_ops.facts import identity as identity_facts
from ishowtts_ops.facts import power as power_facts
from ishowtts_ops.facts import rails as rail_facts
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts import thermal as thermal_facts
from ishowtts_ops.facts.asking import clause
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.daemon_health import HEALTH_LIMIT_S, DaemonHealth, read_daemon_health
from ishowtts_ops.facts.disk import Disk, read_disk
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.facts.fan import FanFacts
from ishowtts_ops.facts.gpu import Gpu, read_gpu
from ishowtts_ops.facts.history import HistoryFacts, read_history
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.memory import Memory, read_memory
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

T = TypeVar("T")

FILE_LIMIT_S = 4.0
"""For a probe that reads files only."""

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

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Something to find out, and how long it may take (seconds). `what` is what hangs when it takes
    longer."""

    call: Callable[[], Any]
    limit_s: float
    what: str = "it"


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


def in_parallel(jobs: Mapping[str, Job], seconds: dict[str, float] | None = None) -> dict[str, Any]:
    """Run jobs side by side; each answers within its limit, or is Unknown.

    Args:
        seconds: filled with how long each took.

    Returns:
        what each call returned, or Unknown when it was late or raised.
    """
    runs = {name: _Run(name, job) for name, job in jobs.items()}
    for run in runs.values():
        run.start()
    answers = {name: run.answer() for name, run in runs.items()}
    if seconds is not None:
        seconds |= {name: run.seconds for name, run in runs.items()}
    return answers


class _Run:
    """One job in its thread."""

    def __init__(self, name: str, job: Job) -> None:
        self._name = name
        self._job = job
        self._begun = time.monotonic()
        self._answer: Any = None
        self._done = threading.Event()
        self.seconds = 0.0

    def start(self) -> None:
        self._begun = time.monotonic()
        threading.Thread(target=self._work, name=f"probe {self._name}", daemon=True).start()

    def _work(self) -> None:
        try:
            self._answer = self._job.call()
        except (OpsError, OSError) as error:
            self._answer = Unknown(clause(str(error)))
        except Exception as error:  # noqa: BLE001  one broken probe must not cost all the others
            _log.debug("probe %s failed", self._name, exc_info=True)
            self._answer = Unknown(f"{self._job.what} failed with {type(error).__name__}: {error}")
        self.seconds = time.monotonic() - self._begun
        self._done.set()

    def answer(self) -> Any:
        left = self._begun + self._job.limit_s - time.monotonic()
        if not self._done.wait(max(0.0, left)):
            self.seconds = time.monotonic() - self._begun
            return Unknown(f"{self._job.what} gave no answer in {self._job.limit_s:g} s")
        return self._answer
