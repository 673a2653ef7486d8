"""Does the power supply keep up? What it cannot give, the chip takes back from its clocks."""

from __future__ import annotations

import re

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    NotKnown,
    Severity,
    by_hand,
    known,
)
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.rails import MEANING, SERIOUS
from ishowtts_ops.facts.value import Unknown

HALVED = 0.75
"""A measured rate below this share of the locked one is throttled: over-current halves it."""
_REASON = re.compile(r"[A-Za-z0-9_ ./-]{2,60}")
RESET_REASONS = (
    "/sys/devices/platform/bus@0/c360000.pmc/reset_reason",
    "/sys/devices/platform/c360000.pmc/reset_reason",
)

SUPPLY = by_hand(
    "Use the power supply made for the board, plugged in directly; or choose a lower power mode"
    " (power.mode).",
    ("ishowtts-ops", "power", "status"),
)


def _events(exam: Examination) -> list[Finding]:
    rails = known(exam.facts.rails)
    events = known(rails.events)
    seen = {number: count for number, count in events.items() if count}
    evidence = tuple(
        Evidence(f"{rails.counter(number)} ({MEANING[number]})", str(count))
        for number, count in sorted(seen.items())
    )
    serious = [number for number in SERIOUS if number in seen]
    if serious:
        names = " and ".join(f"{MEANING[n]} ({seen[n]} times)" for n in serious)
        text = f"Since boot the chip slowed itself down for {names}."
        return [Finding("supply-events", Severity.WARN, text, evidence, SUPPLY)]
    for number in SERIOUS:
        if number not in events:
            raise NotKnown(Unknown(f"the counter of {MEANING[number]} events cannot be read"))
    if seen:
        text = "Short current peaks were cut off since boot; that is common and costs little."
        return [Finding("supply-events", Severity.INFO, text, evidence)]
    return [Finding("supply-events", Severity.OK, "The supply was never too weak since boot.")]


def _alarm(exam: Examination) -> list[Finding]:
    rails = known(exam.facts.rails)
    alarms = rails.alarms
    if not alarms:
        for rail in rails.rails:  # not every kernel has alarms
            path = f"{rail.path}/curr{rail.channel}_crit_alarm"
            if isinstance(rail.crit_alarm, Unknown) and exam.host.exists(path):
                raise NotKnown(rail.crit_alarm)
        return []
    names = ", ".join(rail.label for rail in alarms)
    return [
        Finding(
            "supply-alarm",
            Severity.ERROR,
            f"The current of {names} is above its limit right now, so clocks are cut.",
            tuple(
                Evidence(f"{r.path}/curr{r.channel}_crit_alarm ({r.label})", "1") for r in alarms
            ),
            SUPPLY,
        )
    ]


def _measured(exam: Examination) -> list[Finding]:
    """`scaling_cur_freq` shows what was asked for; `cpuinfo_cur_freq` is measured, root only."""
    for policy in known(exam.facts.clocks).cpus:
        if policy.locked is not True or isinstance(policy.max_khz, Unknown):
            continue
        path = f"{policy.path}/cpuinfo_cur_freq"
        measured = sysfs.number(exam.host, path)
        if isinstance(measured, Unknown) or not 0 < measured < policy.max_khz * HALVED:
            continue
        return [
            Finding(
                "supply-measured",
                Severity.ERROR,
                f"The CPU is locked at {policy.max_khz / 1000:.0f} MHz and really runs at"
                f" {measured / 1000:.0f} MHz: the chip throttles itself for over-current.",
                (
                    Evidence(path, f"{measured} kHz"),
                    Evidence(f"{policy.path}/scaling_max_freq", f"{policy.max_khz} kHz"),
                ),
                SUPPLY,
                round(policy.max_khz / measured, 2),
                at_most=True,
            )
        ]
    return []


def _reset(exam: Examination) -> list[Finding]:
    for path in RESET_REASONS:
        reason = sysfs.text(exam.host, path)
        if isinstance(reason, Unknown):
            continue
        if not _REASON.fullmatch(reason):
            raise NotKnown(Unknown(f"{path} names no reason"))
        if "WDT" not in reason.upper() and "WATCHDOG" not in reason.upper():
            return []
        return [
            Finding(
                "supply-reset",
                Severity.WARN,
                "The box hung and its hardware watchdog restarted it the last time.",
                (Evidence(path, reason),),
                by_hand(
                    "See what the log of the boot before ends with.",
                    ("journalctl", "-b", "-1", "-e", "-n", "100"),
                ),
            )
        ]
    return []


CHECKS = (
    Check(
        "supply-events", "supply", "The supply was strong enough since boot", _events, jetson=True
    ),
    Check("supply-alarm", "supply", "No rail is above its limit", _alarm, jetson=True),
    Check("supply-measured", "supply", "The CPU runs as it is set", _measured, jetson=True),
    Check("supply-reset", "supply", "The last reset was an orderly one", _reset, jetson=True),
)
