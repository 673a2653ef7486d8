"""Findings for a person: readable without colour, in 80 columns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.text import Text

from ishowtts_ops.cli import render
from ishowtts_ops.doctor.finding import Finding, Severity
from ishowtts_ops.doctor.folding import folded
from ishowtts_ops.doctor.report import Report

_COLUMN = 8
_MARKS = {
    Severity.OK: ("ok", "green"),
    Severity.INFO: ("info", "cyan"),
    Severity.UNKNOWN: ("unknown", "magenta"),
    Severity.WARN: ("warning", "yellow"),
    Severity.ERROR: ("error", "bold red"),
}


def show(findings: Sequence[Finding], *, evidence: bool = True) -> None:
    """Each finding: severity and sentence, evidence, effect, remedy, and what follows from it."""
    for finding, consequences in folded(findings):
        word, style = _MARKS[finding.severity]
        head = Text(finding.text, style="bold")
        if finding.effect_text:
            effect = finding.effect_text
            head += Text(f" {effect[0].upper()}{effect[1:]}.", style=style)
        _entry(Text(f"{word:<{_COLUMN}}", style=style), head)
        lines = []
        if evidence:
            lines += [f"found:  {item}" for item in finding.evidence]
        lines += _remedy(finding)
        for other in consequences:
            lines.append(f"also:   {_sentence(other)}")
            lines += _remedy(other) if _needs_its_own(finding, other) else []
        for line in lines:
            name, text = line[:_COLUMN], line[_COLUMN:]
            if text.startswith("$ "):
                # As one line, however long: it is there to be copied.
                render.out.print(Text(" " * _COLUMN + name + text), soft_wrap=True)
            else:
                _entry(Text(" " * _COLUMN + name), Text(text))


def _entry(head: Text, body: Text) -> None:
    """A name and its text, whose further lines begin where the first one does."""
    if not render.out.is_terminal:
        render.out.print(head + body, soft_wrap=True)
        return
    for number, line in enumerate(body.wrap(render.out, render.out.width - len(head))):
        line.rstrip()
        lead = head if number == 0 else Text(" " * len(head))
        render.out.print(lead + line, soft_wrap=True)


def _sentence(finding: Finding) -> str:
    effect = finding.effect_text
    return f"{finding.text} {effect[0].upper()}{effect[1:]}." if effect else finding.text


def _needs_its_own(cause: Finding, other: Finding) -> bool:
    """Does a consequence take a step that mending its cause does not take?"""
    step = None if cause.remedy is None else cause.remedy.step
    return other.remedy is not None and other.remedy.step not in (None, step)


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
    commands = [f"{'':{_COLUMN}}$ {shlex.join(argv)}" for argv in remedy.commands]
    return [f"mend:   {remedy.text}{tail}", *commands]


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
