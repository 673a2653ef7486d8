"""The power step: the right mode by name, then the clocks locked, then read back.

The order matters: `nvpmodel -m` rewrites every limit, so it undoes a lock; jetson_clocks locks at
the current mode's maximum. Nothing is believed but sysfs and the status file. The box is never
rebooted from here: a mode that needs it is staged, and the report says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.config import Power, Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import power as power_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.nvpmodel import STATUS_PATH, Conf, Mode, status_bytes
from ishowtts_ops.facts.power import Cap, shown
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind, Host
from ishowtts_ops.provision.power_look import (
    Situation,
    describe,
    look,
    require_jetson,
    require_running,
)
from ishowtts_ops.provision.power_status import PowerStatus, status
from ishowtts_ops.provision.power_tools import Outcome, await_reboot, max_clocks, set_mode, stage
from ishowtts_ops.provision.power_undo import RestoreReport, record_before, restore
from ishowtts_ops.steps import Change, Ledger, Progress, file_diff

__all__ = [
    "LockReport",
    "PowerStatus",
    "PowerStep",
    "RestoreReport",
    "Situation",
    "describe",
    "lock",
    "look",
    "record_before",
    "require_jetson",
    "require_running",
    "restore",
    "status",
]

WAIT_S = 45.0
"""How long a lock waits for a GPU that is not up yet (seconds)."""
LONGEST_PAUSE_S = 8.0
TRIES = 3
"""How often a tool that fails is called once the GPU is up."""


@dataclass(frozen=True)
class LockReport:
    """What `lock` found, did and left.

    Attributes:
        mode_before: name of the mode in the status file at the start.
        wanted: name of the mode that the policy asks for; None for `leave` or when it is not known.
        mode_changed: was a mode set or newly staged?
        reboot_needed: the wanted mode is staged and comes with the next boot. Until then the clocks
            are locked at the old mode's maximum.
        after: the box as read back.
        problems: sentences; empty when all is as it should be.
        waited_s: how long it waited for the GPU.
    """

    mode_before: Maybe[str]
    wanted: str | None
    mode_changed: bool
    reboot_needed: bool
    after: Situation
    problems: tuple[str, ...]
    waited_s: float

    @property
    def ok(self) -> bool:
        """Is everything done that can be done without a reboot?"""
        return not self.problems

    def data(self) -> dict[str, Any]:
        """For JSON: what a program asks of it, facts as they are."""
        clocks = self.after.clocks
        return {
            "ok": self.ok,
            "mode_before": self.mode_before,
            "mode_wanted": self.wanted,
            "mode": self.after.power.mode_name,
            "mode_changed": self.mode_changed,
            "reboot_needed": self.reboot_needed,
            "cpu_locked": clocks.cpu_locked,
            "gpu_locked": clocks.gpu_locked,
            "emc_locked": clocks.emc_locked,
            "summary": self.summary,
            "problems": list(self.problems),
            "waited_s": self.waited_s,
        }

    @property
    def summary(self) -> str:
        """The state it left, in one line."""
        mode = self.after.power.effective
        name = mode.name if isinstance(mode, Mode) else "mode unknown"
        staged = f" ({self.wanted} after a reboot)" if self.reboot_needed else ""
        return f"{name}{staged}; {describe(self.after.clocks)}"


def lock(
    host: Host,
    settings: Power,
    *,
    log: Progress,
    sleep: Callable[[float], None] = time.sleep,
    wait_s: float = WAIT_S,
) -> LockReport:
    """Set the mode that the policy asks for, lock the clocks, read both back.

    Idempotent. While the GPU is not up, or a tool failed, it tries again for `wait_s` seconds.

    Raises:
        NeedsRoot, NotAJetson: before anything was changed.
        UsageError: the policy names a mode that the box does not have.
        OpsError: the box is offline.
    """
    host.require_root("Setting the power mode and locking the clocks")
    require_running(host)
    start = look(host, settings)
    require_jetson(start.identity)
    attempt = _Attempt(host, settings, log)
    waited, pause = 0.0, 1.0
    after = attempt.once()
    while not attempt.done(after) and waited < wait_s:
        pause = min(pause, wait_s - waited, LONGEST_PAUSE_S)
        log(f"Not everything is in place yet, trying again in {pause:g} s")
        sleep(pause)
        waited += pause
        pause *= 2
        after = attempt.once()
    return LockReport(
        start.power.mode_name,
        after.target.name if after.target else None,
        attempt.mode_changed,
        attempt.reboot_needed,
        after,
        tuple(attempt.problems(after)),
        waited,
    )


class _Attempt:
    """Tries to bring a box to its policy; what it learnt from the tools is kept between tries."""

    def __init__(self, host: Host, settings: Power, log: Progress) -> None:
        self.host = host
        self.settings = settings
        self.log = log
        self.mode_changed = False
        self.reboot_needed = False
        self.mode_set = False
        self.tries = 0
        self.mode_problem = ""
        self.clock_problem = ""

    def once(self) -> Situation:
        now = look(self.host, self.settings)
        if (now.mode_wrong or now.staged) and not (self.mode_set or self.reboot_needed):
            self._mode(now)
            now = look(self.host, self.settings)
        if self.settings.lock_clocks and not now.clocks_held:
            self.log("Locking the clocks: jetson_clocks")
            self.clock_problem = max_clocks(self.host, fan=self.settings.fan)
            now = look(self.host, self.settings)
        self.tries += not isinstance(now.clocks.gpu, Unknown)
        return now

    def _mode(self, now: Situation) -> None:
        target = now.target
        assert target is not None
        before = now.power.effective
        shown_before = before.name if isinstance(before, Mode) else _name(now)
        self.log(f"Power mode: {shown_before} -> {target.name} (nvpmodel -m {target.id})")
        change = set_mode(self.host, target)
        self.mode_problem = change.problem
        if change.outcome is Outcome.SET:
            self.mode_set = self.mode_changed = True
        elif change.outcome is Outcome.NEEDS_REBOOT:
            self.reboot_needed = True
            self.mode_changed |= await_reboot(self.host, target)
            self.log(
                f"{target.name} needs a reboot, because the GPU has been used. It is staged and"
                " takes effect with the next one; nothing was rebooted."
            )

    def done(self, now: Situation) -> bool:
        """Is there nothing left that another try could mend?"""
        if self.tries >= TRIES:
            return True
        settled = not now.mode_wrong or self.mode_set or self.reboot_needed
        return settled and (now.clocks_held or not self.settings.lock_clocks)

    def problems(self, now: Situation) -> list[str]:
        found = [now.trouble] if now.trouble else []
        if now.mode_wrong and not self.reboot_needed:
            found.append(self.mode_problem or _not_in_force(now))
        if self.settings.lock_clocks:
            found += _clock_problems(now.clocks, self.clock_problem)
        return found


def _name(now: Situation) -> str:
    name = now.power.mode_name
    return name if isinstance(name, str) else "unknown"


def _not_in_force(now: Situation) -> str:
    off = "; ".join(str(cap) for cap in now.power.off)
    name = now.target.name if now.target else "its mode"
    return f"{name} is set but not in force: {off}."


def _clock_problems(clocks: ClockFacts, said: str) -> list[str]:
    """One sentence for everything that is not locked."""
    found = []
    if clocks.cpu_locked is not True:
        why = clocks.cpu_locked.reason if isinstance(clocks.cpu_locked, Unknown) else _cpu(clocks)
        found.append(f"The CPU clocks are not locked: {why}.")
    if clocks.gpu_locked is not True:
        gpu = clocks.gpu_locked
        why = gpu.reason if isinstance(gpu, Unknown) else _gpu(clocks)
        found.append(f"The GPU clock is not locked: {why}.")
    if clocks.emc_locked is False:
        found.append("The memory clock (EMC) is not locked.")
    if found and said:
        found[-1] += f" jetson_clocks said: {said.rstrip('.!')}."
    return found


def _cpu(clocks: ClockFacts) -> str:
    loose = next(policy for policy in clocks.cpus if policy.locked is not True)
    low, high = shown(loose.min_khz, "kHz"), shown(loose.max_khz, "kHz")
    return f"core {loose.cores[0]} may run at {low} to {high}"


def _gpu(clocks: ClockFacts) -> str:
    if isinstance(clocks.gpu, Unknown):
        return clocks.gpu.reason
    gpu = clocks.gpu.loosest
    return f"it may run at {shown(gpu.min_hz, 'Hz')} to {shown(gpu.max_hz, 'Hz')}"


class PowerStep:
    """Mode and clocks as the configuration asks for.

    Attributes:
        report: what the lock did, once the change was applied.
        sleep: how it waits for a GPU that is not up yet.
    """

    name = "power"
    title = "power mode and clock lock"

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings = settings
        self.ledger = ledger
        self.report: LockReport | None = None
        self.sleep: Callable[[float], None] = time.sleep

    def diff(self, host: Host) -> Change | None:
        """What `lock` would do; starts no process.

        Raises:
            NotAJetson: the box is none.
            UsageError: the policy names a mode that the box does not have.
        """
        policy = self.settings.power
        now = look(host, policy)
        require_jetson(now.identity)
        if host.kind is BoxKind.OFFLINE:
            return self._offline(host, now)
        clocks_wrong = policy.lock_clocks and not now.clocks_held
        if not (now.mode_wrong or clocks_wrong or now.trouble):
            return None
        reboot = _mask_change(host, now)
        return Change(
            self.name,
            _summary(now, clocks_wrong),
            tuple(_preview(host, now, policy, clocks_wrong or now.mode_wrong, reboot)),
            lambda progress: self._apply(host, progress),
            needs_reboot=reboot is not None,
        )

    def _apply(self, host: Host, progress: Progress) -> None:
        host.require_root("Setting the power mode and locking the clocks")
        record_before(host, self.ledger)
        self.report = lock(host, self.settings.power, log=progress, sleep=self.sleep)
        if not self.report.ok:
            raise OpsError(
                " ".join(self.report.problems),
                "`ishowtts-ops power status` shows what is set; `ishowtts-ops doctor` what is off.",
            )

    def _offline(self, host: Host, now: Situation) -> Change | None:
        """A box that is not running can have its mode staged; its clocks are locked at boot."""
        target = now.target
        if target is None or now.power.mode_id == target.id:
            return None

        def apply(progress: Progress) -> None:
            self.ledger.remember(STATUS_PATH)
            stage(host, target)
            progress(f"{target.name} is staged for the next boot")

        preview = file_diff(host, STATUS_PATH, status_bytes(target.id))
        return Change(self.name, f"stage {target.name}", tuple(preview), apply)


def _summary(now: Situation, clocks_wrong: bool) -> str:
    parts = []
    if now.mode_wrong and now.target is not None:
        before = now.power.effective
        shown_before = f"{before.name} -> " if isinstance(before, Mode) else ""
        parts.append(f"power mode {shown_before}{now.target.name}")
    if clocks_wrong:
        loose = now.clocks.loose or ("GPU",)
        parts.append(f"lock clocks ({', '.join(loose)})")
    return ", ".join(parts) or "find out why the power mode cannot be chosen"


def _preview(
    host: Host, now: Situation, policy: Power, locks: bool, reboot: Cap | None
) -> list[str]:
    lines = [f"# {now.trouble}"] if now.trouble else []
    target = now.target
    if now.mode_wrong and target is not None:
        before = now.power.effective
        name = before.name if isinstance(before, Mode) else _name(now)
        lines.append(f"$ nvpmodel -m {target.id}    # {name} -> {target.name}")
        if reboot is not None:
            lines.append(
                f"# The GPU's power gating changes ({reboot.found} -> {reboot.wanted}). If the GPU"
                f" has been used since boot, {target.name} takes a reboot, which is left to you."
            )
    if locks and policy.lock_clocks:
        lines.append(f"$ jetson_clocks{' --fan' if policy.fan else ''}")
        lines += _clock_changes(host, now)
    return lines


def _clock_changes(host: Host, now: Situation) -> list[str]:
    """`# what: from -> to`, at the limits of the mode that will be in force."""
    tops = {cap.what: cap.wanted for cap in _target_caps(host, now)} if now.mode_wrong else {}
    lines = []
    for policy in now.clocks.cpus:
        what = f"CPU {policy.cores[0]}-{policy.cores[-1]}"
        low, top = shown(policy.min_khz, "kHz"), tops.get(what, policy.max_khz)
        lines.append(f"# {what}: at least {low} -> {_rate(top)}")
    gpu = now.clocks.gpu
    if not isinstance(gpu, Unknown):
        low, top = shown(gpu.min_hz, "Hz"), tops.get("GPU", gpu.max_hz)
        lines.append(f"# GPU: at least {low} -> {_rate(top, 'Hz')}")
    if now.clocks.emc_locked is not True:
        top = tops.get("EMC", now.clocks.emc.top_hz)
        lines.append(f"# EMC: unlocked -> {_rate(top, 'Hz')}")
    return lines


def _rate(value: Maybe[int], unit: str = "kHz") -> str:
    return "the mode's maximum" if isinstance(value, Unknown) else shown(value, unit)


def _target_caps(host: Host, now: Situation) -> tuple[Cap, ...]:
    """The limits of the mode that the policy asks for, against those in force."""
    if now.target is None or not isinstance(now.power.conf, Conf):
        return ()
    module = now.identity.module
    return power_facts.caps_of(host, now.power.conf, now.target, now.clocks, module)


def _mask_change(host: Host, now: Situation) -> Cap | None:
    """The change of the GPU's power gating that may cost a reboot."""
    caps = _target_caps(host, now) if now.mode_wrong else ()
    return next((cap for cap in caps if cap.unit == "mask" and cap.agrees is False), None)
