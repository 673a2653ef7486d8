"""For every cause a box that has it: doctor names it, and only it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

import pytest

from ishowtts_ops.doctor.finding import STEPS, Finding, Severity
from ishowtts_ops.doctor.fix import fix
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.under_load import put_under_load
from ishowtts_ops.sim.faults import FAULTS, apply_fault
from tests.service.doctor.causes import CAUSES, INFO, TOGETHER, UNKNOWN, Cause
from tests.service.doctor.conftest import Template
from tests.service.doctor.healthy import HealthyBox

Take = Callable[[str], HealthyBox]
FROM_FILES = (
    "identity",
    "power",
    "clocks",
    "thermal",
    "rails",
    "fan",
    "memory",
    "disk",
)

NOT_CAUSES = {"gpu-late", "fan-stopped"}
"""Faults that are none by themselves: one shows at the next boot, one is right on a cool box."""


def broken(healthy: Take, cause: Cause) -> HealthyBox:
    box = healthy(cause.board)
    for fault in (*cause.faults, *([cause.fault] if cause.fault else [])):
        apply_fault(box.root, fault)
    if cause.breaks is not None:
        cause.breaks(box)
    return box


def look(
    box: HealthyBox, template: Template, asks: tuple[str, ...], under_load: bool = False
) -> Report:
    """Examine with everything read from files anew, and of what programs answer what changed."""
    fresh = box.facts((*FROM_FILES, *asks))
    changed = {name: getattr(fresh, name) for name in (*FROM_FILES, *asks)}
    facts = dataclasses.replace(template.facts, **changed)
    load = None
    if under_load:
        load = put_under_load(
            box.host.read_only(), box.settings, facts, seconds=0.1, limit_s=5.0, every_s=0.02
        )
    return box.examine(facts, load=load)


def complaints(report: Report, wanted: Cause) -> dict[str, Severity]:
    """What doctor says beyond "fine"; hints only where the cause is told by nothing else."""
    worst = {check: report.severity_of(check) for check in {f.check for f in report.findings}}
    return {
        check: severity
        for check, severity in worst.items()
        if severity not in (Severity.OK, INFO) or wanted.says.get(check) is INFO
    }


@pytest.mark.parametrize("cause", [*CAUSES, *TOGETHER], ids=lambda cause: cause.name)
def test_the_cause_is_named_and_nothing_else(
    cause: Cause, healthy: Take, healthy_templates: Callable[[str], Template]
) -> None:
    if cause.needs and shutil.which(cause.needs) is None:
        pytest.skip(f"this machine has no {cause.needs}")
    box = broken(healthy, cause)
    if cause.under_load is not None:
        during = cause.under_load
        box.answers.on_speech = lambda: during(box)
    template = healthy_templates(cause.board)
    report = look(box, template, cause.asks, under_load=cause.under_load is not None)
    told = "\n".join(f"{f.severity.value} {f.check}: {f.text}" for f in report.findings)
    assert complaints(report, cause) == dict(cause.says), told
    named = [finding for finding in report.findings if finding.check in cause.says]
    assert_readable(named)
    steps = {f.remedy.step for f in named if f.remedy and f.check in cause.says}
    assert cause.step in steps or (cause.step is None and steps <= {None, *STEPS})
    everything = " ".join([f"{f.text} {' '.join(map(str, f.evidence))}" for f in named])
    assert cause.words in everything
    worst = set(cause.says.values())
    assert report.exit_code == (1 if Severity.ERROR in worst else 3 if UNKNOWN in worst else 0)


def assert_readable(findings: list[Finding]) -> None:
    """A sentence, where it was seen, and what to do."""
    for finding in findings:
        assert finding.text[0].isalnum() or finding.text[0] == "/"
        assert finding.text.endswith((".", ".)")), finding.text
        assert ".." not in finding.text and "Unknown(" not in finding.text, finding.text
        assert "\n" not in finding.text
        if finding.bad and finding.check != "daemon-ready":
            assert finding.evidence, f"{finding.check} has no evidence"
        passing = ("daemon-ready", "daemon-running")
        if finding.bad and not (finding.check in passing and finding.severity is Severity.WARN):
            assert finding.remedy is not None, f"{finding.check} has no remedy"


@pytest.mark.parametrize("board", ["agx-orin-64", "orin-nano-super"])
def test_a_healthy_box_has_nothing(
    board: str, healthy: Take, healthy_templates: Callable[[str], Template]
) -> None:
    report = look(healthy(board), healthy_templates(board), ())
    assert [f for f in report.findings if f.severity is not Severity.OK] == []
    assert report.exit_code == 0


MENDABLE = [cause for cause in CAUSES if cause.mends]


@pytest.mark.parametrize("cause", MENDABLE, ids=lambda cause: cause.name)
def test_fix_mends_what_names_a_step(cause: Cause, healthy: Take) -> None:
    box = broken(healthy, cause)
    report = box.examine()
    asked: list[str] = []

    def ask(step: str, findings: object) -> bool:
        asked.append(step)
        return step != "daemon"  # no engine is there to be started

    result = fix(report, ask, box.run_step)
    outcomes = {attempt.step: attempt.outcome for attempt in result.attempts}
    assert outcomes.pop(str(cause.step)) == "mended", result.attempts
    assert set(outcomes) <= {"daemon"}
    assert {f.check for f in result.left.bad} <= {"daemon-current"}


def test_every_fault_of_the_simulation_is_a_row() -> None:
    used = {name for cause in [*CAUSES, *TOGETHER] for name in (cause.fault, *cause.faults)}
    assert set(FAULTS) - used - NOT_CAUSES == set()


def test_there_are_enough_rows_and_no_two_of_a_name() -> None:
    names = [cause.name for cause in [*CAUSES, *TOGETHER]]
    assert len(names) == len(set(names))
    assert len(names) >= 40
