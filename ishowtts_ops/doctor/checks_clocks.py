"""Are CPU, GPU and memory held at the highest rate of the power mode?"""

from __future__ import annotations

from collections.abc import Callable

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Severity, by_hand, known, mend
from ishowtts_ops.facts.clocks import EMC_CLOCK, ClockFacts
from ishowtts_ops.facts.value import Maybe, Unknown

LOCK_LOST = 0.352 / 0.169
"""RTF without the lock by RTF with it, as measured on an AGX Orin 32 GB with all clocks loose."""


_SOURCES = {
    # Setting a mode drops the lock, and what sets the mode sets the lock.
    "clocks-gpu": ("power-mode",),
    "clocks-cpu": ("power-mode", "clocks-gpu"),
    "clocks-emc": ("power-mode", "clocks-gpu", "clocks-cpu"),
}
"""One lock, lost at once: the first of them tells it."""


def _gpu(exam: Examination) -> list[Finding]:
    gpu = known(exam.facts.clocks).gpu
    if isinstance(gpu, Unknown):
        return [_no_gpu(gpu)]
    loose = gpu.loosest
    low, high = _mhz(loose.min_hz), _mhz(loose.max_hz)
    evidence = (Evidence(f"{loose.path}/min_freq", low), Evidence(f"{loose.path}/max_freq", high))
    text = f"The GPU's clock is not locked: it may fall from {high} to {low}."
    return _judge(
        exam,
        "clocks-gpu",
        known(gpu.locked),
        text,
        f"The GPU is locked at {high}.",
        evidence,
        LOCK_LOST,
    )


def _no_gpu(gpu: Unknown) -> Finding:
    """Anybody may read devfreq, so a GPU that is not there is no matter of rights."""
    return Finding(
        "clocks-gpu",
        Severity.ERROR,
        f"The GPU is not up: {gpu.reason}.",
        (Evidence("/sys/class/devfreq", "no GPU"),),
        by_hand(
            "See what the kernel says about its driver, then reboot.",
            ("sudo", "journalctl", "-k", "-b", "--grep", "nvgpu"),
            ("sudo", "systemctl", "reboot"),
            needs_root=True,
            needs_reboot=True,
        ),
    )


def _cpu(exam: Examination) -> list[Finding]:
    clocks = known(exam.facts.clocks)
    locked = known(clocks.cpu_locked)
    # All clusters have the same limits as a rule, so one that shows the answer is enough.
    policy = next(p for p in clocks.cpus if locked or p.locked is not True)
    low, high = _mhz(policy.min_khz, 1000), _mhz(policy.max_khz, 1000)
    evidence = (
        Evidence(f"{policy.path}/scaling_min_freq", low),
        Evidence(f"{policy.path}/scaling_max_freq", high),
    )
    text = f"The CPU's clock is not locked: it may fall from {high} to {low}."
    fine = f"The CPU is locked at {high}."
    return _judge(exam, "clocks-cpu", locked, text, fine, evidence, None)


def _emc(exam: Examination) -> list[Finding]:
    emc = known(exam.facts.clocks).emc
    locked = known(emc.locked)
    rate = _mhz(emc.rate_hz)
    evidence = (
        Evidence(f"{EMC_CLOCK}/rate", rate),
        Evidence(f"{EMC_CLOCK}/mrq_rate_locked", _flag(emc.override)),
    )
    text = f"The memory's clock (EMC) is not locked: it runs at {rate} now and follows the load."
    fine = f"The memory's clock (EMC) is locked at {rate}."
    return _judge(exam, "clocks-emc", locked, text, fine, evidence, None)


def _judge(
    exam: Examination,
    check: str,
    locked: bool,
    text: str,
    fine: str,
    evidence: tuple[Evidence, ...],
    effect: float | None,
) -> list[Finding]:
    if locked:
        return [Finding(check, Severity.OK, fine, evidence)]
    if not exam.settings.power.lock_clocks:
        told = f"{text} The configuration asks for that (power.lock_clocks)."
        return [Finding(check, Severity.INFO, told, evidence)]
    remedy = mend("power", "Set the power mode and lock the clocks again.")
    return [Finding(check, Severity.ERROR, text, evidence, remedy, effect, because=_SOURCES[check])]


def _mhz(rate: Maybe[int], per_mhz: int = 1_000_000) -> str:
    return "unknown" if isinstance(rate, Unknown) else f"{rate / per_mhz:.0f} MHz"


def _flag(value: Maybe[bool]) -> str:
    return "unknown" if isinstance(value, Unknown) else str(int(value))


def loose(clocks: Maybe[ClockFacts]) -> bool:
    """Is any clock known not to be locked?"""
    return not isinstance(clocks, Unknown) and bool(clocks.loose)


def _check(name: str, title: str, run: Callable[[Examination], list[Finding]]) -> Check:
    return Check(name, "clocks", title, run, jetson=True)


CHECKS = (
    _check("clocks-gpu", "The GPU's clock is locked", _gpu),
    _check("clocks-cpu", "The CPU's clock is locked", _cpu),
    _check("clocks-emc", "The memory's clock is locked", _emc),
)
