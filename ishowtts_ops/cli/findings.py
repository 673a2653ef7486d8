"""Findings for a person: readable without colour, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ishowtts_ops.cli import render
from ishowtts_ops.doctor.finding import Finding, Severity
from ishowtts_ops.doctor.report import Report

_MARKS = {
    Severity.OK: ("ok", "green"),
    Severity.INFO: ("info", "cyan"),
    Severity.UNKNOWN: ("unknown", "magenta"),
    Severity.WARN: ("warning", "yellow"),
    Severity.ERROR: ("error", "bold red"),
}


def show(findings: Sequence[Finding], *, evidence: bool = True) -> None:
    """Each finding: severity and sentence, evidence, effect, remedy."""
    for finding in findings:
        word, style = _MARKS[finding.severity]
        head = Text(f"{word:<8}", style=style) + Text(finding.text, style="bold")
        if finding.effect_text:
            effect = finding.effect_text
            head += Text(f" {effect[0].upper()}{effect[1:]}.", style=style)
        render.out.print(head, soft_wrap=not render.out.is_terminal)
        lines = []
        if evidence:
            lines += [f"found:  {item}" for item in finding.evidence]
        lines += _remedy(finding)
        for line in lines:
            render.indented(line, 8)


def _remedy(finding: Finding) -> list[str]:
    remedy = finding.remedy
    if remedy is None or (not finding.bad and finding.severity is not Severity.UNKNOWN):
        return []
    needs = [
        word
        for word, is_so in (("root", remedy.needs_root), ("a reboot", remedy.needs_reboot))
        if is_so
    ]
    tail = f" (needs {' and '.join(needs)})" if needs else ""
    return [f"mend:   {remedy.text}{tail}"] + [f"        $ {' '.join(c)}" for c in remedy.commands]


def report(result: Report, *, verbose: bool) -> None:
    """Everything worth reading: problems in full, what is fine in a line."""
    shown = [f for f in result.findings if verbose or f.severity is not Severity.OK]
    show(shown)
    fine = sum(1 for check in result.checks if result.severity_of(check.id) is Severity.OK)
    if shown:
        render.say()
    render.say(f"{fine} of {len(result.checks)} checks are fine ({result.seconds:.1f} s).")


def summary(result: Report) -> None:
    """What doctor found, after an install: the problems in short, or that there are none."""
    problems = [f for f in result.findings if f.bad or f.severity is Severity.UNKNOWN]
    if not problems:
        render.say(f"Doctor: all {len(result.checks)} checks are fine.")
        return
    render.say("Doctor:")
    show(problems, evidence=False)
