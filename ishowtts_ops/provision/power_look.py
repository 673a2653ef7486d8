"""A box and its power policy side by side: what is, what is asked for, and what differs.

Reads only, and starts no process.
"""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.config import Power
from ishowtts_ops.errors import NotAJetson, OpsError, UsageError
from ishowtts_ops.facts import clocks as clock_facts
from ishowtts_ops.facts import identity as identity_facts
from ishowtts_ops.facts import power as power_facts
from ishowtts_ops.facts import thermal as thermal_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.nvpmodel import Mode
from ishowtts_ops.facts.parallel import FILE_LIMIT_S, Job, in_parallel
from ishowtts_ops.facts.power import PowerFacts, shown
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind, Host


@dataclass(frozen=True)
class Situation:
    """A box and what a power policy asks of it.

    Attributes:
        target: the mode that the policy asks for; None when it asks for none or it is not known.
        trouble: why it is not known, as a sentence; empty when it is.
        throttled: heat holds a clock down, so that limits are lower for a while.
    """

    identity: Identity
    clocks: ClockFacts
    power: PowerFacts
    target: Mode | None
    trouble: str
    throttled: bool

    @property
    def mode_wrong(self) -> bool:
        """Would `nvpmodel -m` help? Not when the mode is staged already, nor against heat."""
        if self.target is None:
            return False
        if self.power.mode_id != self.target.id:
            return True
        if self.power.in_force is not False or self.power.reboot_pending is True:
            return False
        return not (self.throttled and all(cap.lower for cap in self.power.off))

    @property
    def staged(self) -> bool:
        """Is the target waiting for a reboot?"""
        same = self.target is not None and self.power.mode_id == self.target.id
        return same and self.power.reboot_pending is True

    @property
    def clocks_held(self) -> bool:
        """An EMC that may not be read is given the benefit of the doubt; CPU and GPU are not."""
        clocks = self.clocks
        both = clocks.cpu_locked is True and clocks.gpu_locked is True
        return both and clocks.emc_locked is not False

    @property
    def summary(self) -> str:
        """The mode in force and the clocks, in one line."""
        mode = self.power.effective
        known = mode if isinstance(mode, Mode) else self.power.mode
        name = known.name if isinstance(known, Mode) else "mode unknown"
        return f"{name}; {describe(self.clocks)}"


def look(host: Host, settings: Power) -> Situation:
    """Read the box and judge it by the policy; starts no process.

    Raises:
        UsageError: the policy names a mode that the box does not have.
    """
    identity = identity_facts.read(host)
    clocks = clock_facts.read(host)
    power = power_facts.read(host, identity=identity, clocks=clocks)
    target: Mode | None = None
    trouble = ""
    if settings.mode != power_facts.POLICY_LEAVE:
        try:
            if isinstance(power.conf, Unknown):
                trouble = f"The power mode cannot be chosen: {power.conf.reason}."
            else:
                target = power_facts.wanted_mode(power.conf, settings.mode, identity.name)
        except UsageError:
            raise
        except OpsError as error:
            trouble = error.message
    return Situation(identity, clocks, power, target, trouble, _throttled(host))


def _throttled(host: Host) -> bool:
    """Sensors sit on buses that can hang, and a lock must not wait for them."""
    job = Job(lambda: thermal_facts.read(host).throttled, FILE_LIMIT_S)
    return in_parallel({"thermal": job})["thermal"] is True


def require_jetson(identity: Identity) -> None:
    """Raises NotAJetson for a box that is none."""
    if not identity.is_jetson:
        raise NotAJetson(
            "This box is not an NVIDIA Jetson, so it has no power mode and no clocks to lock.",
            "`ishowtts-ops demo` shows the whole thing on a simulated Jetson.",
        )


def require_running(host: Host) -> None:
    """Raises OpsError for a root file system that is not running."""
    if host.kind is BoxKind.OFFLINE:
        raise OpsError(
            f"The box in {host.root} is not running, so its clocks cannot be locked.",
            "Boot it: the ishowtts-clocks unit locks them at every boot.",
        )


def describe(clocks: ClockFacts) -> str:
    """CPU, GPU and EMC in one line: `CPU locked at 2202 MHz, GPU 306 to 1300 MHz, …`."""
    parts = []
    for policy in clocks.cpus[:1]:
        parts.append(_span("CPU", clocks.cpu_locked, policy.min_khz, policy.max_khz, "kHz"))
    if isinstance(clocks.gpu, Unknown):
        parts.append(f"GPU {clocks.gpu}")
    else:
        gpu = clocks.gpu.loosest
        parts.append(_span("GPU", clocks.gpu_locked, gpu.min_hz, gpu.max_hz, "Hz"))
    emc = clocks.emc
    parts.append(_span("EMC", clocks.emc_locked, emc.min_hz, emc.top_hz, "Hz"))
    return ", ".join(parts)


def _span(name: str, locked: Maybe[bool], low: Maybe[int], high: Maybe[int], unit: str) -> str:
    if isinstance(locked, Unknown):
        return f"{name} {locked}"
    if locked:
        return f"{name} locked at {shown(high, unit)}"
    return f"{name} {shown(low, unit).removesuffix(' MHz')} to {shown(high, unit)}"
