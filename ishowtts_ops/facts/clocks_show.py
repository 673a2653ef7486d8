"""The output of `jetson_clocks --show`, for reports and cross-checks.

Its format changes by release: R35 and R36 print `Online=` per core and EMC's `FreqOverride`, R39
prints the offline cores in its heading and shows a locked EMC as min = max. On Thor the GPU has two
lines, gpu-gpc-0 and gpu-nvd-0, as in devfreq. The lock is judged from
sysfs (`facts.clocks`); this is what the tool itself believes. CPU rates kHz, others Hz.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Maybe, Unknown

_RATES = re.compile(r"MinFreq=([0-9]{1,20}) MaxFreq=([0-9]{1,20}) CurrentFreq=([0-9]{1,20})")
_NAME = re.compile(r"(cpu[0-9]{1,3}|GPU|gpu-[a-z]{3}-[0-9]|EMC|[A-Z][A-Z0-9]*_[A-Z0-9]+):?\s")
_CUT = Unknown("the output of `jetson_clocks --show` is cut off")


@dataclass(frozen=True)
class ShownClock:
    """One line: a clock with its limits.

    Attributes:
        online: `Online=`; None where the release prints none.
        override: `FreqOverride=`; None where there is none.
        idle_states: name and whether it is enabled.
    """

    name: str
    min: int
    max: int
    cur: int
    online: bool | None
    override: bool | None
    governor: str | None
    idle_states: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class ShowReport:
    """What `jetson_clocks --show` said.

    Attributes:
        gpus: the GPU's clocks: one, or Thor's two.
        online: cores that its heading lists; None on R35, which has no heading.
        lists_offline: does the heading list offline cores too (R39)?
        mode: the power mode's name, when it got that far.
    """

    cpus: tuple[ShownClock, ...]
    gpus: tuple[ShownClock, ...]
    emc: ShownClock | None
    engines: tuple[ShownClock, ...]
    online: tuple[int, ...] | None
    lists_offline: bool
    active_tpcs: int | None
    mode: str | None

    @property
    def cpu_locked(self) -> Maybe[bool]:
        """Offline cores show min and max apart and are left out."""
        cpus = [cpu for cpu in self.cpus if self._counts(cpu)]
        if any(cpu.min != cpu.max for cpu in cpus):
            return False
        whole = bool(self.gpus)
        if self.online is not None:
            whole = whole and len(cpus) == len(self.online)
        return True if cpus and whole else _CUT

    @property
    def gpu_locked(self) -> Maybe[bool]:
        if any(not gpu.min == gpu.max > 0 for gpu in self.gpus):
            return False
        # Thor's second line may be what was cut off; the memory's line follows the last of them.
        whole = bool(self.gpus) and (self.gpus[0].name == "GPU" or self.emc is not None)
        return True if whole else _CUT

    @property
    def emc_locked(self) -> Maybe[bool]:
        if self.emc is None:
            return _CUT
        if self.emc.override is not None:
            return self.emc.override
        pinned = self.emc.min == self.emc.max > 0
        return pinned if pinned or self.lists_offline else _CUT

    def _counts(self, cpu: ShownClock) -> bool:
        if self.online is not None:
            return int(cpu.name[3:]) in self.online
        return cpu.online is not False


def parse_show(output: str) -> Maybe[ShowReport]:
    """Parse the output of any release.

    Returns:
        Unknown when no clock can be read from it. A line that is cut off is left out, so that half
        a number is never taken for a rate.
    """
    lines = output.splitlines()
    clocks = [clock for clock in map(_clock, lines) if clock is not None]
    if not clocks:
        first = next((line.strip() for line in lines if line.strip()), "")
        said = f": it says {first[:60]!r}" if first else ", its output is empty"
        return Unknown(f"`jetson_clocks --show` shows no clock{said}")
    cpus = {clock.name: clock for clock in clocks if clock.name.startswith("cpu")}
    others = {clock.name: clock for clock in clocks if not clock.name.startswith("cpu")}
    online, lists_offline = _heading(lines)
    return ShowReport(
        tuple(cpus.values()),
        tuple(others.pop(name) for name in list(others) if name.lower().startswith("gpu")),
        others.pop("EMC", None),
        tuple(others.values()),
        online,
        lists_offline,
        _tpcs(lines),
        _mode(lines),
    )


def _clock(line: str) -> ShownClock | None:
    name, rates = _NAME.match(line), _RATES.search(line)
    if name is None or rates is None:
        return None
    rest = line[rates.end() :]
    idle = re.search(r"IdleStates:(.*)", rest)
    states = re.findall(r"(\S+)=([01])(?=\s)", idle[1] if idle else "")
    governor = re.search(r"Governor=(\S+)\s", line)
    return ShownClock(
        name[1],
        int(rates[1]),
        int(rates[2]),
        int(rates[3]),
        _flag(r"\bOnline=([01])\s", line),
        _flag(r"\bFreqOverride=([01])(?![0-9])", rest),
        governor[1] if governor else None,
        tuple((state, value == "1") for state, value in states),
    )


def _flag(pattern: str, line: str) -> bool | None:
    found = re.search(pattern, line)
    return found[1] == "1" if found else None


def _heading(lines: list[str]) -> tuple[tuple[int, ...] | None, bool]:
    for line in lines:
        match = re.match(r"Online CPUs: ([0-9,-]+?)(, Offline CPUs:.*)?\s*$", line)
        if match is not None:
            return sysfs.parse_ranges(match[1]), match[2] is not None
    return None, False


def _tpcs(lines: list[str]) -> int | None:
    for line in lines:
        match = re.fullmatch(r"Active GPU TPCs: ([0-9]{1,3})\s*", line)
        if match is not None:
            return int(match[1])
    return None


def _mode(lines: list[str]) -> str | None:
    for line in lines:
        match = re.fullmatch(r"NV Power Mode: (\S+)\s*", line)
        if match is not None:
            return match[1]
    return None
