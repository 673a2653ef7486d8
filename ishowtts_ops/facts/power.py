"""The power mode: which one is set, which one would be best, and is it really in force.

Three things must agree: the status file (which mode was asked for last), the conf (what that mode
allows) and the caps in sysfs (what the kernel allows now). `nvpmodel -q` compares none of them, so
it is not asked. CPU rates are kHz, GPU and EMC rates Hz.
"""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.config import RUN_DIR
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts import clocks as clock_facts
from ishowtts_ops.facts import identity as identity_facts
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.modules import ALL_MODULES, Module
from ishowtts_ops.facts.nvpmodel import (
    CONF_PATH,
    STATUS_PATH,
    Conf,
    Mode,
    Setting,
    best_mode,
    parse_conf,
    parse_status,
    uncapped,
)
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

RATE_TOLERANCE = 0.03
"""Drivers round a cap to a rate of their table; the tables' steps are wider than this."""
STAGED_PATH = f"{RUN_DIR}/mode-staged"
"""The id of the mode that nvpmodel wanted a reboot for; gone with the next boot."""
POLICY_MAX = "max"
POLICY_LEAVE = "leave"


@dataclass(frozen=True)
class Cap:
    """One limit of a mode: what should be and what is.

    Attributes:
        what: "CPU 0-3", "GPU", "EMC", "cores online" or "GPU power gating".
        path: where `found` was read.
        unit: "kHz", "Hz", "mask" or "cores".
    """

    what: str
    path: str
    unit: str
    wanted: Maybe[int]
    found: Maybe[int]

    @property
    def agrees(self) -> Maybe[bool]:
        if isinstance(self.found, Unknown):
            return self.found
        if isinstance(self.wanted, Unknown):
            return self.wanted
        if self.unit in ("mask", "cores"):
            return self.found == self.wanted
        return abs(self.found - self.wanted) <= self.wanted * RATE_TOLERANCE

    @property
    def lower(self) -> bool:
        """Known to be below what it should be (for a mask: more of the GPU is switched off)?"""
        if self.agrees is not False:
            return False
        assert isinstance(self.found, int) and isinstance(self.wanted, int)
        if self.unit == "mask":
            return self.found.bit_count() > self.wanted.bit_count()
        return self.found < self.wanted

    def __str__(self) -> str:
        return (
            f"{self.what}: {shown(self.found, self.unit)} instead of "
            f"{shown(self.wanted, self.unit)}"
        )


@dataclass(frozen=True)
class PowerFacts:
    """The power mode of a box.

    Attributes:
        conf_path: the file that /etc/nvpmodel.conf leads to.
        mode_id: what the status file says.
        mode: that mode in the conf.
        conf_fits: is the conf one of this module's?
        caps: the mode's limits against sysfs; empty when the mode is not known.
        effective: the mode whose limits are really in force. It is another one than `mode` while a
            mode that needs a reboot is staged.
        ceilings: the hardware's own limits against the module's table. Old firmware keeps an Orin
            Nano at non-super rates although its mode is called MAXN_SUPER.
        staged_id: the mode that waits for a reboot, as far as it was staged from here.
    """

    conf_path: Maybe[str]
    conf: Maybe[Conf]
    mode_id: Maybe[int]
    mode: Maybe[Mode]
    conf_fits: Maybe[bool]
    caps: tuple[Cap, ...]
    effective: Maybe[Mode]
    ceilings: tuple[Cap, ...]
    staged_id: int | None = None

    @property
    def mode_name(self) -> Maybe[str]:
        return self.mode.name if isinstance(self.mode, Mode) else self.mode

    @property
    def best(self) -> Maybe[Mode]:
        return best_mode(self.conf) if isinstance(self.conf, Conf) else self.conf

    @property
    def off(self) -> tuple[Cap, ...]:
        """Limits of the mode that are known not to be in force."""
        return tuple(cap for cap in self.caps if cap.agrees is False)

    @property
    def in_force(self) -> Maybe[bool]:
        """Does the kernel hold what the mode says? Unknown when something could not be read."""
        if self.off:
            return False
        if isinstance(self.mode, Unknown):
            return self.mode
        unread = (cap.agrees for cap in self.caps if isinstance(cap.agrees, Unknown))
        return next(unread, True)

    @property
    def reboot_pending(self) -> Maybe[bool]:
        """Is a mode staged that takes effect with the next boot? Then the GPU's power gating is not
        that of the mode in the status file; the kernel fixes it at the GPU's first use. A mode
        without power gating, as Thor's, may need a reboot all the same, when nvpmodel said so."""
        for cap in self.caps:
            if cap.unit == "mask":
                return cap.agrees if isinstance(cap.agrees, Unknown) else not cap.agrees
        if self.staged_id is not None and self.staged_id == self.mode_id and self.off:
            return True
        return self.mode if isinstance(self.mode, Unknown) else False

    @property
    def low_ceilings(self) -> tuple[Cap, ...]:
        """The trap: the hardware offers less than this module should."""
        return tuple(cap for cap in self.ceilings if cap.lower)


def read(
    host: Host, *, identity: Identity | None = None, clocks: ClockFacts | None = None
) -> PowerFacts:
    """Read the power mode; starts no process and never raises.

    Args:
        identity, clocks: when they have been read already.
    """
    identity = identity or identity_facts.read(host)
    clocks = clocks or clock_facts.read(host)
    conf_path = _conf_path(host)
    data = sysfs.raw(host, CONF_PATH)
    conf = data if isinstance(data, Unknown) else parse_conf(data)
    if isinstance(data, Unknown) and isinstance(conf_path, Unknown):
        conf = conf_path  # which knows where a link leads
    mode_id = read_status(host)
    mode = _mode(conf, mode_id)
    module = _variant(identity.module, conf_path)
    caps: tuple[Cap, ...] = ()
    if isinstance(conf, Conf) and isinstance(mode, Mode):
        caps = caps_of(host, conf, mode, clocks, module)
    return PowerFacts(
        conf_path,
        conf,
        mode_id,
        mode,
        _conf_fits(identity.module, conf_path),
        caps,
        _effective(host, conf, mode, clocks, module),
        _ceilings(clocks, module) if isinstance(module, Module) else (),
        _staged(host),
    )


def _staged(host: Host) -> int | None:
    found = sysfs.number(host, STAGED_PATH)
    return found if isinstance(found, int) else None


def read_status(host: Host) -> Maybe[int]:
    """The mode's id in the status file."""
    data = sysfs.raw(host, STATUS_PATH)
    if isinstance(data, Unknown):
        gone = not sysfs.exists(host, STATUS_PATH)
        return Unknown(f"no power mode was set yet: {data.reason}") if gone else data
    return parse_status(data)


def wanted_mode(conf: Conf, policy: str, box: str = "this box") -> Mode | None:
    """The mode that a policy asks for.

    Args:
        policy: `max`, `leave`, or a mode's name (any case, with or without `MODE_`).
        box: what to call the box in the message.

    Returns:
        None for `leave`.

    Raises:
        UsageError: there is no such mode; lists those there are.
        OpsError: the conf is damaged, and its best mode may be what was lost.
    """
    if policy == POLICY_LEAVE:
        return None
    if policy == POLICY_MAX:
        best = best_mode(conf)
        if conf.problems and not best.name.startswith("MAXN"):
            raise OpsError(
                f"{CONF_PATH} is damaged ({conf.problems[0]}), so its most capable mode is not"
                " known.",
                "Restore it (it belongs to the nvidia-l4t-nvpmodel package), or name a mode.",
            )
        return best
    found = conf.find(policy)
    if found is None:
        raise UsageError(
            f"There is no power mode {policy!r} on {box}.",
            f"Its modes are {conf.names}; `max` and `leave` will do as well.",
        )
    return found


def caps_of(
    host: Host, conf: Conf, mode: Mode, clocks: ClockFacts, module: Maybe[Module]
) -> tuple[Cap, ...]:
    """A mode's limits, each against what the kernel has now."""
    found = [*_cpu_caps(conf, mode, clocks), _gpu_cap(conf, mode, clocks)]
    found += [_emc_cap(mode, clocks, module), _cores_cap(mode, clocks), _mask_cap(host, conf, mode)]
    return tuple(cap for cap in found if cap is not None)


def shown(value: Maybe[int], unit: str) -> str:
    """A number for a person."""
    if isinstance(value, Unknown):
        return str(value)
    if unit == "kHz":
        return f"{value / 1000:.0f} MHz"
    if unit == "Hz":
        return f"{value / 1_000_000:.0f} MHz"
    return str(value)


def _conf_path(host: Host) -> Maybe[str]:
    if not sysfs.exists(host, CONF_PATH):
        leads = host.is_symlink(CONF_PATH)
        to = f" leads to {host.readlink(CONF_PATH)}, which" if leads else ""
        return Unknown(f"{CONF_PATH}{to} is not there")
    real = host.path(CONF_PATH)
    return host.box_path(real.resolve() if host.root == real.parents[-1] else real)


def _mode(conf: Maybe[Conf], mode_id: Maybe[int]) -> Maybe[Mode]:
    if isinstance(mode_id, Unknown):
        return mode_id
    if isinstance(conf, Unknown):
        return conf
    found = conf.mode(mode_id)
    return found or Unknown(f"{STATUS_PATH} names mode {mode_id}, which the conf does not have")


def _effective(
    host: Host, conf: Maybe[Conf], mode: Maybe[Mode], clocks: ClockFacts, module: Maybe[Module]
) -> Maybe[Mode]:
    """The mode that fits the kernel's limits, the one of the status file before others."""
    if isinstance(conf, Unknown):
        return conf
    first = [mode] if isinstance(mode, Mode) else []
    for candidate in (*first, *conf.modes):
        caps = caps_of(host, conf, candidate, clocks, module)
        if caps and all(cap.agrees is True for cap in caps):
            return candidate
    return Unknown("the limits in force are those of no mode, or some could not be read")


def _conf_fits(module: Maybe[Module], conf_path: Maybe[str]) -> Maybe[bool]:
    if isinstance(module, Unknown):
        return module
    if isinstance(conf_path, Unknown):
        return conf_path
    variant = _variant(module, conf_path)
    return isinstance(variant, Module) and variant.conf_file == conf_path.rsplit("/", 1)[-1]


def _variant(module: Maybe[Module], conf_path: Maybe[str]) -> Maybe[Module]:
    """The module in the shape that its conf is for: the super conf promises super rates."""
    if isinstance(module, Unknown) or isinstance(conf_path, Unknown):
        return module
    name = conf_path.rsplit("/", 1)[-1]
    same = (m for m in ALL_MODULES if set(m.skus) & set(module.skus) and m.conf_file == name)
    return next(same, module)


def _cpu_caps(conf: Conf, mode: Mode, clocks: ClockFacts) -> list[Cap | None]:
    found: list[Cap | None] = []
    for policy in clocks.cpus:
        setting = next(
            (
                setting
                for core in policy.cores
                for setting in mode.settings
                if setting.arg == "MAX_FREQ" and f"/cpu{core}/" in (conf.path(setting) or "")
            ),
            None,
        )
        if setting is not None:
            cores = f"{policy.cores[0]}-{policy.cores[-1]}"
            path = f"{policy.path}/scaling_max_freq"
            wanted = _wanted(setting, policy.hw_max_khz)
            found.append(Cap(f"CPU {cores}", path, "kHz", wanted, policy.max_khz))
    return found


def _gpu_cap(conf: Conf, mode: Mode, clocks: ClockFacts) -> Cap | None:
    setting = _max_of(mode, "GPU")
    if setting is None:
        return None
    gpu = clocks.gpu
    if isinstance(gpu, Unknown):
        return Cap("GPU", conf.path(setting) or "", "Hz", _wanted(setting, gpu), gpu)
    wanted = _wanted(setting, gpu.hw_max_hz)
    return Cap("GPU", f"{gpu.path}/max_freq", "Hz", wanted, gpu.max_hz)


def _emc_cap(mode: Mode, clocks: ClockFacts, module: Maybe[Module]) -> Cap | None:
    """Both sides are rates: no cap counts as the highest rate there is, where that is known."""
    setting = _max_of(mode, "EMC")
    if setting is None:
        return None
    cap = clocks.emc.cap_hz
    top: Maybe[int] = clocks.emc.max_hz
    if isinstance(top, Unknown) and isinstance(module, Module) and module.max_emc_hz is not None:
        top = module.max_emc_hz
    free = setting.number is not None and uncapped("EMC", setting.number)
    if cap is None and free:
        return None
    found: Maybe[int]
    if isinstance(cap, int):
        found = cap if isinstance(top, Unknown) else min(cap, top)
    else:
        found = top if cap is None else cap
    return Cap("EMC", clocks.emc.cap_path, "Hz", _wanted(setting, top), found)


def _cores_cap(mode: Mode, clocks: ClockFacts) -> Cap | None:
    wanted = mode.cores_online
    if wanted is None:
        return None
    online = clocks.online
    found = online if isinstance(online, Unknown) else len(online)
    return Cap("cores online", f"{clock_facts.CPU_ROOT}/online", "cores", wanted, found)


def _mask_cap(host: Host, conf: Conf, mode: Mode) -> Cap | None:
    for setting in mode.settings:
        if setting.arg == "TPC_PG_MASK" and setting.number is not None:
            path = conf.path(setting)
            if path is not None:
                found = sysfs.number(host, path)
                return Cap("GPU power gating", path, "mask", setting.number, found)
    return None


def _max_of(mode: Mode, param: str) -> Setting | None:
    same = (s for s in mode.settings if s.param == param and s.arg == "MAX_FREQ")
    return next(same, None)


def _wanted(setting: Setting, hardware: Maybe[int]) -> Maybe[int]:
    """The rate that a MAX_FREQ comes to on this hardware."""
    value = setting.number
    if value is None:
        return Unknown(f"the conf sets {setting.param} MAX_FREQ to {setting.value[:20]!r}")
    if uncapped(setting.param, value):
        return hardware
    return value if isinstance(hardware, Unknown) else min(value, hardware)


def _ceilings(clocks: ClockFacts, module: Module) -> tuple[Cap, ...]:
    found = []
    if module.max_cpu_khz is not None:
        for policy in clocks.cpus[:1]:
            path = f"{policy.path}/cpuinfo_max_freq"
            found.append(Cap("CPU", path, "kHz", module.max_cpu_khz, policy.hw_max_khz))
    gpu = clocks.gpu
    if module.max_gpu_hz is not None and not isinstance(gpu, Unknown):
        path = f"{gpu.path}/available_frequencies"
        found.append(Cap("GPU", path, "Hz", module.max_gpu_hz, gpu.hw_max_hz))
    if module.max_emc_hz is not None:
        path = f"{clock_facts.EMC_CLOCK}/max_rate"
        found.append(Cap("EMC", path, "Hz", module.max_emc_hz, clocks.emc.max_hz))
    return tuple(found)
