"""Mending what can be mended: per step, ask, run, look again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.doctor.finding import STEPS, Finding
from ishowtts_ops.doctor.report import JSON_VERSION, Report
from ishowtts_ops.doctor.run import examine
from ishowtts_ops.errors import OpsError

Ask = Callable[[str, Sequence[Finding]], bool]
"""Asked with a step's name and the findings it would mend: shall it run?"""

RunStep = Callable[[str], None]
"""Runs an install step by name; raises OpsError when it fails."""


@dataclass(frozen=True)
class Attempt:
    """One step tried.

    Attributes:
        findings: what it was to mend.
        outcome: mended, remains (the step ran and a finding is still there), failed (the step did
            not run to its end) or declined (the person said no).
        detail: the error's sentence when it failed, the findings' when they remain.
    """

    step: str
    findings: tuple[Finding, ...]
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class FixReport:
    """Attributes:
    attempts: in the order in which the steps ran.
    left: the examination after it all.
    """

    attempts: tuple[Attempt, ...]
    left: Report

    @property
    def exit_code(self) -> int:
        return self.left.exit_code

    def to_json(self) -> dict[str, Any]:
        """Version 1: attempts [{step, checks, outcome, detail}], and `left` as a report."""
        attempts = [
            {
                "step": attempt.step,
                "checks": [finding.check for finding in attempt.findings],
                "outcome": attempt.outcome,
                "detail": attempt.detail,
            }
            for attempt in self.attempts
        ]
        return {"version": JSON_VERSION, "attempts": attempts, "left": self.left.to_json()}


def fix(report: Report, ask: Ask, run_step: RunStep) -> FixReport:
    """Run the install steps that the findings' remedies name, in install's order.

    A step that fails stops neither the others nor the last look, which is a whole examination with
    the report's own checks. What an earlier step mended by the way is not tried again.
    """
    before, checks = report.examination, report.checks
    look = functools.partial(
        examine, before.host, before.settings, checks=checks, thorough=before.thorough
    )
    attempts: list[Attempt] = []
    for step in STEPS:
        concerned = _concerned(report, step)
        if not concerned:
            continue
        if not ask(step, concerned):
            attempts.append(Attempt(step, concerned, "declined"))
            continue
        try:
            run_step(step)
        except OpsError as error:
            attempts.append(Attempt(step, concerned, "failed", error.message))
            continue
        report = look(load=before.load)
        remaining = _concerned(report, step)
        outcome = "remains" if remaining else "mended"
        detail = " ".join(finding.text for finding in remaining)
        attempts.append(Attempt(step, concerned, outcome, detail))
    outcomes = {attempt.outcome for attempt in attempts}
    # What shows only under load is neither gone nor still so until the box has been loaded again.
    loaded = before.load is not None and outcomes - {"declined"}
    if loaded or "failed" in outcomes:
        report = look(under_load=before.load is not None)
    return FixReport(tuple(attempts), report)


def _concerned(report: Report, step: str) -> tuple[Finding, ...]:
    return tuple(f for f in report.fixable if f.remedy is not None and f.remedy.step == step)
