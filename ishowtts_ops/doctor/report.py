"""All findings of one examination, for people and as JSON.

The report as JSON (`Report.to_json`), version 1:

    version    1
    exit_code  0 fine (warnings allowed), 1 a problem, 3 something could not be determined
    seconds    how long the examination took
    box        {"root", "simulated", "name", "module", "release", "jetpack"}; null where not known
    summary    number of findings by severity
    checks     check id → the worst severity it came to
    findings   worst first, and in one severity the greatest effect on RTF first:
               check, subject, severity, text, effect (factor on RTF or null),
               effect_at_most (that is a bound, not measured), because (the check whose finding
               this one follows from, or null), evidence [{source, value}],
               remedy null or {text, commands [argv], step or null, needs_root, needs_reboot}

Keys are added in version 1, never renamed or taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Finding, Remedy, Severity
from ishowtts_ops.doctor.folding import cause_of, folded
from ishowtts_ops.facts.value import Unknown

JSON_VERSION = 1


@dataclass(frozen=True)
class Report:
    """All findings, worst first, and where they came from.

    Attributes:
        findings: those that are fine included.
        checks: the checks that were made.
        unanswered: checks that could not be made; findings say why, one for each reason.
        examination: what the findings are about.
    """

    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]
    unanswered: frozenset[str]
    examination: Examination
    seconds: float

    @property
    def bad(self) -> tuple[Finding, ...]:
        """Warnings and errors."""
        return tuple(finding for finding in self.findings if finding.bad)

    @property
    def causes(self) -> tuple[Finding, ...]:
        """The findings that follow from no other."""
        return tuple(finding for finding, _ in folded(self.findings))

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def fixable(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.fixable)

    @property
    def exit_code(self) -> int:
        severities = {finding.severity for finding in self.findings}
        if Severity.ERROR in severities:
            return 1
        return 3 if Severity.UNKNOWN in severities else 0

    def of(self, check: str) -> tuple[Finding, ...]:
        """What one check said."""
        return tuple(finding for finding in self.findings if finding.check == check)

    def severity_of(self, check: str) -> Severity:
        """The worst a check came to; OK when it had nothing to say."""
        if check in self.unanswered:
            return Severity.UNKNOWN
        found = (finding.severity for finding in self.of(check))
        return max(found, key=lambda severity: severity.rank, default=Severity.OK)

    def to_json(self) -> dict[str, Any]:
        """See the head of this file."""
        subjects = {check.id: check.subject for check in self.checks}
        return {
            "version": JSON_VERSION,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "box": _box(self.examination),
            "summary": {
                severity.value: sum(f.severity is severity for f in self.findings)
                for severity in reversed(Severity)
            },
            "checks": {check.id: self.severity_of(check.id).value for check in self.checks},
            "findings": [
                _finding(f, subjects.get(f.check, ""), cause_of(f, self.findings))
                for f in self.findings
            ],
        }


def in_order(findings: Sequence[Finding], checks: Sequence[Check]) -> tuple[Finding, ...]:
    """Worst first; in one severity the greatest effect on RTF first, then as the checks stand. What
    follows from a finding adds to its weight."""
    place = {check.id: number for number, check in enumerate(checks)}
    weight = {id(f): f.effect or 1.0 for f in findings}
    for cause, consequences in folded(findings):
        weight[id(cause)] = max(weight[id(f)] for f in (cause, *consequences))
    return tuple(sorted(findings, key=lambda f: (-f.severity.rank, -weight[id(f)], place[f.check])))


def _box(examination: Examination) -> dict[str, Any]:
    identity = examination.facts.identity
    known = None if isinstance(identity, Unknown) else identity
    module = None if known is None or isinstance(known.module, Unknown) else known.module.key
    release = None if known is None or isinstance(known.release, Unknown) else str(known.release)
    jetpack = None if known is None or isinstance(known.jetpack, Unknown) else known.jetpack
    return {
        "root": str(examination.host.root),
        "simulated": examination.host.simulated,
        "name": None if known is None else known.name,
        "module": module,
        "release": release,
        "jetpack": jetpack,
    }


def _finding(finding: Finding, subject: str, cause: Finding | None) -> dict[str, Any]:
    return {
        "check": finding.check,
        "subject": subject,
        "severity": finding.severity.value,
        "text": finding.text,
        "effect": None if finding.effect is None else round(finding.effect, 2),
        "effect_at_most": finding.at_most,
        "because": None if cause is None else cause.check,
        "evidence": [{"source": e.source, "value": e.value} for e in finding.evidence],
        "remedy": _remedy(finding.remedy),
    }


def _remedy(remedy: Remedy | None) -> dict[str, Any] | None:
    if remedy is None:
        return None
    return {
        "text": remedy.text,
        "commands": [list(argv) for argv in remedy.commands],
        "step": remedy.step,
        "needs_root": remedy.needs_root,
        "needs_reboot": remedy.needs_reboot,
    }
