"""Running the checks: examine a box, and preflight for install."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.config import Settings
from ishowtts_ops.doctor.checks import ALL_CHECKS
from ishowtts_ops.doctor.examination import ASKED_UNITS, Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    NotKnown,
    Remedy,
    Severity,
    by_hand,
)
from ishowtts_ops.doctor.report import Report, in_order
from ishowtts_ops.doctor.under_load import Load, put_under_load
from ishowtts_ops.errors import UsageError
from ishowtts_ops.facts.daemon_health import NotRunning
from ishowtts_ops.facts.gather import Facts, gather
from ishowtts_ops.facts.history import Damaged
from ishowtts_ops.facts.parallel import Job, in_parallel
from ishowtts_ops.facts.python_env import NoInterpreter
from ishowtts_ops.facts.systemd import NoSystemd
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind, Host

_TOLD_BY: tuple[tuple[type[Unknown], str], ...] = (
    (NoInterpreter, "engine-python"),
    (NotRunning, "daemon-answers"),
    (NoSystemd, "box-systemd"),
    (Damaged, "speed-history"),
)
"""Facts that are missing for a reason which a check of its own reports."""
_OF_A_RUNNING_BOX = frozenset(
    {
        *("box-module", "box-desktop", "power-caps", "power-firmware", "rivals-nvpmodel"),
        *("clocks", "heat", "supply", "memory", "engine", "daemon", "load", "speed-recent"),
        *("units-cycle", "units-verify", "units-reload", "units-clocks", "units-guard"),
        *("units-calendar", "units-others"),
    }
)
"""Checks and subjects that ask hardware, services or programs: a root file system that is not
running has none, which box-systemd says."""
_PREFLIGHT_FACTS = ("identity", "systemd", "disk", "python_env")


def select(names: Sequence[str], checks: Sequence[Check] = ALL_CHECKS) -> tuple[Check, ...]:
    """The checks with these ids or subjects; all of them when no name is given.

    Raises:
        UsageError: a name that is neither.
    """
    known = {name for check in checks for name in (check.id, check.subject)}
    strange = [name for name in names if name not in known]
    if strange:
        raise UsageError(
            f"There is no check {strange[0]!r}.", "`ishowtts-ops doctor --list` shows them all."
        )
    return tuple(c for c in checks if not names or c.id in names or c.subject in names)


def examine(
    host: Host,
    settings: Settings,
    *,
    checks: Sequence[Check] = ALL_CHECKS,
    thorough: bool = False,
    under_load: bool = False,
    facts: Facts | None = None,
    load: Maybe[Load] | None = None,
) -> Report:
    """Gather facts, run the checks side by side, sort what they say. Changes nothing.

    Args:
        thorough: import the engine's packages and launch a kernel on the GPU; takes seconds.
        under_load: let it work for some seconds and watch it; see `under_load.py`.
        facts: examine these instead of gathering.
        load: take this for the load instead of making one.
    """
    start = time.monotonic()
    box = host.read_only()
    if facts is None:
        facts = gather(box, settings, units=ASKED_UNITS, thorough=thorough)
    if under_load and load is None:
        load = put_under_load(box, settings, facts)
    return _report(Examination(box, settings, facts, thorough, load=load), checks, start)


def preflight(host: Host, settings: Settings, *, changes_follow: bool = True) -> Report:
    """The checks that must stop an install before its plan: any of the report's `errors` does.

    Args:
        changes_follow: false for a dry run, which needs neither root nor room.
    """
    start = time.monotonic()
    box = host.read_only()
    facts = gather(box, settings, units=ASKED_UNITS, only=_PREFLIGHT_FACTS)
    checks = [check for check in ALL_CHECKS if check.blocks_install]
    examination = Examination(box, settings, facts, changes_follow=changes_follow)
    return _report(examination, checks, start)


def _report(examination: Examination, checks: Sequence[Check], start: float) -> Report:
    offline = examination.host.kind is BoxKind.OFFLINE
    asked = tuple(
        check
        for check in checks
        if (examination.jetson or not check.jetson)
        and not (offline and {check.id, check.subject} & _OF_A_RUNNING_BOX)
    )
    answers = in_parallel(
        {check.id: Job(_ask(check, examination), check.limit_s) for check in asked}
    )
    findings, unanswered = _collect(asked, answers)
    seconds = time.monotonic() - start
    return Report(in_order(findings, asked), asked, unanswered, examination, seconds)


@dataclass(frozen=True)
class _Missing:
    """What a check could not look at; checks with the same reason are told as one."""

    fact: Unknown


def _ask(check: Check, examination: Examination) -> Callable[[], list[Finding] | _Missing]:
    def run() -> list[Finding] | _Missing:
        try:
            return check.run(examination)
        except NotKnown as missing:
            return _Missing(missing.fact)

    return run


def _collect(
    asked: Sequence[Check], answers: Mapping[str, Any]
) -> tuple[list[Finding], frozenset[str]]:
    findings: list[Finding] = []
    lacking: dict[str, list[str]] = {}
    unanswered: set[str] = set()
    for check in asked:
        answer = answers[check.id]
        if isinstance(answer, Unknown):
            text = f"The check “{check.title}” could not be made: {answer.reason}."
            findings.append(Finding(check.id, Severity.UNKNOWN, text))
        elif not isinstance(answer, _Missing):
            findings.extend(answer)
        else:
            unanswered.add(check.id)
            if not _told(answer.fact, asked):
                lacking.setdefault(answer.fact.reason, []).append(check.id)
    findings += [_lacking(reason, names) for reason, names in lacking.items()]
    return findings, frozenset(unanswered)


def _told(fact: Unknown, asked: Sequence[Check]) -> bool:
    """Does another of these checks report why this fact is missing?"""
    tellers = {teller for kind, teller in _TOLD_BY if isinstance(fact, kind)}
    return any(check.id in tellers for check in asked)


def _lacking(reason: str, checks: Sequence[str]) -> Finding:
    count = "One check" if len(checks) == 1 else f"{len(checks)} checks"
    return Finding(
        checks[0],
        Severity.UNKNOWN,
        f"{count} could not be made: {reason}.",
        (Evidence("not checked", ", ".join(checks)),),
        _way_out(reason, checks),
    )


def _way_out(reason: str, checks: Sequence[str]) -> Remedy | None:
    """What a person may try where something could not be found out."""
    if reason.endswith(" needs root"):
        return by_hand("Look again as root.", ("sudo", "ishowtts-ops", "doctor", *checks))
    if reason.endswith(" hangs"):
        text = "Its driver or its bus is stuck: the kernel's log may say more, and a reboot helps."
        return by_hand(text, ("sudo", "dmesg", "--level=err,warn"), needs_reboot=True)
    return None
