"""The guard: is the lock still there? Reads sysfs and, when all is well, starts no process.

A lock is lost without a word: `nvpmodel -m`, or whatever starts nvpmodel.service again, resets the
clocks while the lock unit stays "active". Heat also lowers clocks, but that is no loss of the lock
and nothing here helps against it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.config import Power, Settings
from ishowtts_ops.errors import BoxLocked
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.nvpmodel import Mode
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.install import LOCK_PATH
from ishowtts_ops.provision.power import LockReport, lock
from ishowtts_ops.provision.power_look import (
    Situation,
    describe,
    look,
    require_jetson,
    require_running,
)
from ishowtts_ops.steps import Progress

SUSPENDS = "/sys/power/suspend_stats/success"
WAIT_S = 5.0


class GuardState(enum.Enum):
    """HELD: nothing to do. RESTORED: it was lost and is back. LOST: it could not be brought back.
    WAITING: it is lost while an install or uninstall is at work, which may be why; the next look
    comes soon. OFF: the configuration asks for neither a mode nor a lock."""

    HELD = "held"
    RESTORED = "restored"
    LOST = "lost"
    WAITING = "waiting"
    OFF = "off"


@dataclass(frozen=True)
class GuardReport:
    """What the guard saw and did.

    Attributes:
        seen: what was lost, or what there is to know about a lock that is held; sentences.
        cause: the likely cause of a loss, a clause; empty when nothing was lost.
        lock: how the lock was brought back.
    """

    state: GuardState
    seen: tuple[str, ...]
    cause: str = ""
    lock: LockReport | None = None

    @property
    def ok(self) -> bool:
        return self.state is not GuardState.LOST

    def data(self) -> dict[str, Any]:
        """For JSON: what a program asks of it."""
        return {
            "ok": self.ok,
            "state": self.state.value,
            "seen": list(self.seen),
            "cause": self.cause,
            "lock": self.lock.data() if self.lock else None,
        }


def check_and_restore(
    host: Host,
    settings: Settings,
    log: Progress,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> GuardReport:
    """Look at mode and clocks and bring back what was lost, unless an install or uninstall is at
    work: what it does to the clocks must not be undone under its hands.

    Raises:
        NotAJetson: the box is none.
        OpsError: it is offline.
        NeedsRoot: something was lost and we may not bring it back.
        UsageError: the configuration names a mode that the box does not have.
    """
    policy = settings.power
    now = look(host, policy)
    require_jetson(now.identity)
    require_running(host)
    if not policy.lock_clocks and now.target is None and not now.trouble:
        return GuardReport(GuardState.OFF, ())
    lost = _lost(now, locks=policy.lock_clocks)
    if not lost:
        return GuardReport(GuardState.HELD, tuple(_remarks(now)))
    host.require_root("Bringing the clock lock back")
    try:
        with host.lock(LOCK_PATH, "ishowtts-ops power guard", automatic=True):
            return _restore(host, policy, now, lost, log, sleep)
    except BoxLocked as busy:
        return GuardReport(GuardState.WAITING, (busy.message,))


def _restore(
    host: Host,
    policy: Power,
    now: Situation,
    lost: tuple[str, ...],
    log: Progress,
    sleep: Callable[[float], None],
) -> GuardReport:
    cause = likely_cause(host, now)
    for sentence in lost:
        log(sentence)
    log(f"Likely cause: {cause}.")
    report = lock(host, policy, log=log, sleep=sleep, wait_s=WAIT_S)
    for problem in report.problems:
        log(problem)
    if report.ok:
        log(f"Restored: {report.summary}")
    state = GuardState.RESTORED if report.ok else GuardState.LOST
    return GuardReport(state, lost, cause, report)


def likely_cause(host: Host, now: Situation) -> str:
    """Why the lock was lost, as a clause. Unlike the check itself this may start processes."""
    power, target = now.power, now.target
    if isinstance(power.mode_id, Unknown):
        return f"{power.mode_id.reason}; L4T R39 deletes that file when it relinks its conf"
    if target is not None and power.mode_id != target.id:
        name = power.mode.name if isinstance(power.mode, Mode) else f"mode {power.mode_id}"
        return f"the power mode was set to {name}, which resets the clocks"
    rivals = rival_facts.read(host)
    if rivals.nvpmodel_reran is True:
        return "nvpmodel.service ran again after the clocks were locked, which resets them"
    if rivals.lock_ran is False:
        return f"{rival_facts.CLOCKS_UNIT} has not run since boot"
    if _looks_reset(now):
        return "the power mode was written again (`nvpmodel -m`), which resets the clocks"
    busy = [rival.name for rival in rivals.rivals if rival.in_charge]
    if busy:
        return f"{' and '.join(busy)} set clocks as well"
    suspends = sysfs.number(host, SUSPENDS)
    if isinstance(suspends, int) and suspends > 0:
        return "the box was suspended and has resumed"
    return "not known; another program wrote to the clocks' limits"


def _lost(now: Situation, *, locks: bool) -> tuple[str, ...]:
    found = [now.trouble] if now.trouble else []
    if now.mode_wrong and now.target is not None:
        if now.power.mode_id == now.target.id:
            off = "; ".join(str(cap) for cap in now.power.off)
            found.append(f"The limits of {now.target.name} are not in force any more: {off}.")
        else:
            name = now.power.mode_name
            shown_name = name.reason if isinstance(name, Unknown) else f"it is {name}"
            found.append(f"The power mode is not {now.target.name} any more: {shown_name}.")
    if locks and not now.clocks_held:
        found.append(f"The clock lock is lost: {describe(now.clocks)}.")
    return tuple(found)


def _remarks(now: Situation) -> list[str]:
    found = []
    if now.staged and now.target is not None:
        found.append(f"{now.target.name} is staged and takes effect with the next reboot.")
    if now.throttled:
        found.append("Heat holds the clocks down at the moment.")
    return found


def _looks_reset(now: Situation) -> bool:
    """Are the minima what the mode writes? CPU: its MIN_FREQ; GPU: the lowest rate there is."""
    mode = now.power.mode
    if isinstance(mode, Unknown):
        return False
    written = {
        setting.number
        for setting in mode.settings
        if setting.param.startswith("CPU") and setting.arg == "MIN_FREQ"
    }
    cpus = now.clocks.cpus
    return bool(cpus and written) and all(policy.min_khz in written for policy in cpus)
