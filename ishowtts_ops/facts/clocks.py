"""CPU, GPU and memory clocks as sysfs has them: what is locked, and where.

A clock is *locked* when it can only run at one rate. CPU rates are kHz, GPU and EMC rates Hz, as in
sysfs. The EMC clock is behind debugfs, which only root may read; without root it is Unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

CPU_ROOT = "/sys/devices/system/cpu"
EMC_CLOCK = "/sys/kernel/debug/bpmp/debug/clk/emc"
EMC_CAPS = ("/sys/kernel/nvpmodel_clk_cap/emc", "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap")
"""Where the power mode caps the EMC clock: R36, and R35 (0 = not capped)."""
GPU_PATTERNS = (
    "/sys/class/devfreq/*.gpu",
    "/sys/class/devfreq/*.ga10b",
    "/sys/class/devfreq/gpu-gpc-*",
    "/sys/devices/*.ga10b/devfreq/*.ga10b",
    "/sys/devices/platform/*.gpu/devfreq/*.gpu",
    "/sys/devices/platform/*/*.gpu/devfreq/*.gpu",
)
"""R36, R35, Thor on R38, then the same devices where the class folder lacks them."""
GPU_PARTS = ("/sys/class/devfreq/gpu-gpc-*", "/sys/class/devfreq/gpu-nvd-*")
"""Thor's GPU has a devfreq device for each of its clocks; a lock has to hold all of them."""
EMC_TOLERANCE = 0.01
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class CpuPolicy:
    """One cluster: the cores that share a clock. Rates in kHz.

    Attributes:
        path: its cpufreq folder.
        cores: its online cores.
        hw_max_khz: what the hardware offers, whatever the power mode.
    """

    path: str
    cores: tuple[int, ...]
    min_khz: Maybe[int]
    max_khz: Maybe[int]
    hw_max_khz: Maybe[int]
    cur_khz: Maybe[int]
    governor: Maybe[str]

    @property
    def locked(self) -> Maybe[bool]:
        return _pinned(self.min_khz, self.max_khz)


@dataclass(frozen=True)
class GpuClock:
    """The GPU's devfreq device. Rates in Hz.

    Attributes:
        others: further devices of the same GPU, each with its own rates: Thor's video engines.
    """

    path: str
    min_hz: Maybe[int]
    max_hz: Maybe[int]
    hw_max_hz: Maybe[int]
    cur_hz: Maybe[int]
    governor: Maybe[str]
    others: tuple[GpuClock, ...] = ()

    @property
    def locked(self) -> Maybe[bool]:
        own = _pinned(self.min_hz, self.max_hz)
        return _all([own, *(other.locked for other in self.others)])

    @property
    def loosest(self) -> GpuClock:
        """The device to show when the lock is not whole: the first that is not locked."""
        if _pinned(self.min_hz, self.max_hz) is not True:
            return self
        return next((other for other in self.others if other.locked is not True), self)


@dataclass(frozen=True)
class EmcClock:
    """The memory controller's clock. Rates in Hz.

    Attributes:
        cap_path: where the power mode caps it; the first of EMC_CAPS when this kernel has none.
        cap_hz: the power mode's cap; None when it sets none.
        override: the driver's own lock flag (mrq_rate_locked).
    """

    cap_path: str
    cap_hz: Maybe[int | None]
    rate_hz: Maybe[int]
    min_hz: Maybe[int]
    max_hz: Maybe[int]
    override: Maybe[bool]

    @property
    def top_hz(self) -> Maybe[int]:
        """The highest rate that the hardware and the power mode allow."""
        if isinstance(self.max_hz, Unknown):
            return self.max_hz
        if isinstance(self.cap_hz, int):
            return min(self.cap_hz, self.max_hz)
        return self.max_hz

    @property
    def locked(self) -> Maybe[bool]:
        """Held at the highest rate allowed? On R36 by the flag (min and max differ even then), on
        R39 by min = max."""
        if self.override is False:
            pinned = _pinned(self.min_hz, self.max_hz)
            return pinned if pinned is True else False
        if isinstance(self.override, Unknown):
            pinned = _pinned(self.min_hz, self.max_hz)
            return True if pinned is True else self.override
        rate, top = self.rate_hz, self.top_hz
        if isinstance(rate, Unknown):
            return rate
        if isinstance(top, Unknown):
            return top
        return rate >= top * (1 - EMC_TOLERANCE)


@dataclass(frozen=True)
class ClockFacts:
    """All clocks that matter to speech.

    Attributes:
        online: cores that run; Unknown where the kernel does not say.
        idle_states_off: are all idle states of all online cores switched off?
    """

    online: Maybe[tuple[int, ...]]
    cpus: tuple[CpuPolicy, ...]
    gpu: Maybe[GpuClock]
    emc: EmcClock
    idle_states_off: Maybe[bool]

    @property
    def cpu_locked(self) -> Maybe[bool]:
        if not self.cpus:
            return Unknown(f"{CPU_ROOT} shows no clock of an online core")
        return _all([policy.locked for policy in self.cpus])

    @property
    def gpu_locked(self) -> Maybe[bool]:
        return self.gpu if isinstance(self.gpu, Unknown) else self.gpu.locked

    @property
    def emc_locked(self) -> Maybe[bool]:
        return self.emc.locked

    @property
    def locked(self) -> Maybe[bool]:
        """CPU, GPU and EMC all locked? An EMC that may not be read does not hide the others'
        answer when that is no, but it does keep the answer from being yes."""
        return _all([self.cpu_locked, self.gpu_locked, self.emc_locked])

    @property
    def loose(self) -> tuple[str, ...]:
        """Which of CPU, GPU and EMC are known not to be locked."""
        states = (("CPU", self.cpu_locked), ("GPU", self.gpu_locked), ("EMC", self.emc_locked))
        return tuple(name for name, state in states if state is False)


def read(host: Host) -> ClockFacts:
    """Read all clocks; never raises."""
    online = online_cores(host)
    return ClockFacts(
        online,
        _policies(host, online),
        read_gpu(host),
        read_emc(host),
        _idle_states_off(host, online),
    )


def online_cores(host: Host) -> Maybe[tuple[int, ...]]:
    path = f"{CPU_ROOT}/online"
    listing = sysfs.text(host, path)
    if isinstance(listing, Unknown):
        return listing
    cores = sysfs.parse_ranges(listing)
    return cores or Unknown(f"{path} holds {listing[:40]!r}, which names no cores")


def gpu_folder(host: Host) -> Maybe[str]:
    """The GPU's devfreq folder."""
    for pattern in GPU_PATTERNS:
        for path in sysfs.glob(host, pattern):
            if sysfs.exists(host, f"{path}/max_freq"):
                return path
    return Unknown("there is no GPU clock in /sys/class/devfreq, so its driver may not be up yet")


def gpu_folders(host: Host) -> tuple[str, ...]:
    """Every devfreq folder of the GPU, the one that computes first; empty where there is none."""
    first = gpu_folder(host)
    if isinstance(first, Unknown):
        return ()
    parts = [path for pattern in GPU_PARTS for path in sysfs.glob(host, pattern)]
    if first not in parts:
        return (first,)
    return tuple(path for path in parts if sysfs.exists(host, f"{path}/max_freq"))


def read_gpu(host: Host) -> Maybe[GpuClock]:
    path = gpu_folder(host)
    if isinstance(path, Unknown):
        return path
    others = (_gpu(host, other) for other in gpu_folders(host) if other != path)
    return replace(_gpu(host, path), others=tuple(others))


def _gpu(host: Host, path: str) -> GpuClock:
    return GpuClock(
        path,
        sysfs.number(host, f"{path}/min_freq"),
        sysfs.number(host, f"{path}/max_freq"),
        _highest(host, f"{path}/available_frequencies"),
        sysfs.number(host, f"{path}/cur_freq"),
        sysfs.text(host, f"{path}/governor"),
    )


def read_emc(host: Host) -> EmcClock:
    flag = sysfs.number(host, f"{EMC_CLOCK}/mrq_rate_locked")
    cap_path = next((path for path in EMC_CAPS if sysfs.exists(host, path)), EMC_CAPS[0])
    return EmcClock(
        cap_path,
        _cap(sysfs.number(host, cap_path)),
        sysfs.number(host, f"{EMC_CLOCK}/rate"),
        sysfs.number(host, f"{EMC_CLOCK}/min_rate"),
        sysfs.number(host, f"{EMC_CLOCK}/max_rate"),
        flag if isinstance(flag, Unknown) else flag != 0,
    )


def _cap(value: Maybe[int]) -> Maybe[int | None]:
    if isinstance(value, Unknown):
        return value
    return None if value <= 0 or value >= _UNLIMITED else value


def _policies(host: Host, online: Maybe[tuple[int, ...]]) -> tuple[CpuPolicy, ...]:
    folders = sysfs.glob(host, f"{CPU_ROOT}/cpufreq/policy*")
    if not folders:
        folders = sysfs.glob(host, f"{CPU_ROOT}/cpu[0-9]*/cpufreq")
    leaders = [_leader(path) for path in folders]
    policies = []
    for path, leader in zip(folders, leaders, strict=True):
        cores = _cores(host, path, leader, leaders)
        if isinstance(online, tuple):
            cores = tuple(core for core in cores if core in online)
        if cores:
            policies.append(_policy(host, path, cores))
    return tuple(sorted(policies, key=lambda policy: policy.cores))


def _policy(host: Host, path: str, cores: tuple[int, ...]) -> CpuPolicy:
    return CpuPolicy(
        path,
        cores,
        sysfs.number(host, f"{path}/scaling_min_freq"),
        sysfs.number(host, f"{path}/scaling_max_freq"),
        sysfs.number(host, f"{path}/cpuinfo_max_freq"),
        sysfs.number(host, f"{path}/scaling_cur_freq"),
        sysfs.text(host, f"{path}/scaling_governor"),
    )


def _leader(path: str) -> int:
    numbers = re.findall(r"(?:policy|cpu)([0-9]+)", path)
    return int(numbers[-1]) if numbers else 0


def _cores(host: Host, path: str, leader: int, leaders: list[int]) -> tuple[int, ...]:
    """The cores of a policy: as the kernel lists them, else from its leader up to the next one's,
    since Orin's clusters are led by cores 0, 4 and 8."""
    listing = sysfs.text(host, f"{path}/related_cpus")
    if isinstance(listing, str):
        cores = sysfs.parse_ranges(",".join(listing.split()))
        if cores:
            return cores
    after = min((other for other in leaders if other > leader), default=leader + 4)
    return tuple(range(leader, after))


def _idle_states_off(host: Host, online: Maybe[tuple[int, ...]]) -> Maybe[bool]:
    if isinstance(online, Unknown):
        return online
    states: list[Maybe[bool]] = []
    for core in online:
        for path in sysfs.glob(host, f"{CPU_ROOT}/cpu{core}/cpuidle/state*/disable"):
            found = sysfs.number(host, path)
            states.append(found if isinstance(found, Unknown) else found != 0)
    return _all(states) if states else Unknown("the kernel shows no idle states")


def _highest(host: Host, path: str) -> Maybe[int]:
    listing = sysfs.text(host, path)
    if isinstance(listing, Unknown):
        return listing
    steps = [int(word) for word in listing.split() if re.fullmatch(r"[0-9]{1,20}", word)]
    return max(steps) if steps else Unknown(f"{path} lists no rates")


def _pinned(low: Maybe[int], high: Maybe[int]) -> Maybe[bool]:
    if isinstance(low, Unknown):
        return low
    if isinstance(high, Unknown):
        return high
    return low == high and high > 0


def _all(states: list[Maybe[bool]]) -> Maybe[bool]:
    """And over three values: one no is a no, else one unknown is unknown."""
    if any(state is False for state in states):
        return False
    return next((state for state in states if isinstance(state, Unknown)), True)
