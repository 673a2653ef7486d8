"""Findings for a person: readable without colour, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box
from ishowtts_ops.cli.spelling import spelled
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


def show(box: Box, findings: Sequence[Finding], *, evidence: bool = True) -> None:
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
        lines += _remedy(box, finding)
        told = {finding.remedy.step if finding.remedy else None, None}
        for other in consequences:
            lines.append(f"also:   {_sentence(other)}")
            # Only where it takes a step that nothing above takes.
            if other.remedy is not None and other.remedy.step not in told:
                lines += _remedy(box, other)
                told.add(other.remedy.step)
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


def _remedy(box: Box, finding: Finding) -> list[str]:
    remedy = finding.remedy
    if remedy is None or (not finding.bad and finding.severity is not Severity.UNKNOWN):
        return []
    needs = [
        word
        for word, is_so in (("root", remedy.needs_root), ("a reboot", remedy.needs_reboot))
        if is_so
    ]
    tail = f" (needs {' and '.join(needs)})" if needs else ""
    lines = (spelled(box.host, argv, box.config_file) for argv in remedy.commands)
    commands = [f"{'':{_COLUMN}}$ {line}" for line in lines]
    return [f"mend:   {render.copyable(remedy.text)}{tail}", *commands]


def report(box: Box, result: Report, *, verbose: bool) -> None:
    """Everything worth reading: problems in full, what is fine in a line."""
    shown = [f for f in result.findings if verbose or f.severity is not Severity.OK]
    show(box, shown)
    fine = sum(1 for check in result.checks if result.severity_of(check.id) is Severity.OK)
    if shown:
        render.say()
    render.say(f"{fine} of {len(result.checks)} checks are fine ({result.seconds:.1f} s).")


def what_fix_mends(box: Box, result: Report) -> None:
    """How many of a report's entries `--fix` would mend, and the command that does."""
    entries = [
        any(finding.fixable for finding in (cause, *others))
        for cause, others in folded(result.findings)
        if cause.bad
    ]
    if not any(entries):
        return
    if len(entries) == 1:
        what = "it"
    elif all(entries):
        what = f"all {len(entries)} of them"
    else:
        what = f"{sum(entries)} of these {len(entries)}"
    command = spelled(box.host, ("sudo", "ishowtts-ops", "doctor", "--fix"), box.config_file)
    render.note(f"`{command}` can mend {what}.", "dim")


def summary(box: Box, result: Report) -> None:
    """What doctor found, after an install: the problems in short, or that there are none."""
    problems = [f for f in result.findings if f.bad or f.severity is Severity.UNKNOWN]
    if not problems:
        render.say(f"Doctor: all {len(result.checks)} checks are fine.")
        return
    render.say("Doctor:")
    show(box, problems, evidence=False)
