"""For every cause a box that has it: doctor names it, and only it; `doctor --fix` mends what it
says that it mends, doctor looks again, and uninstall leaves the box as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.cli.app import run
from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.doctor.checks import ALL_CHECKS
from ishowtts_ops.doctor.finding import Finding, Severity
from ishowtts_ops.doctor.fix import fix
from ishowtts_ops.doctor.folding import folded
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.under_load import put_under_load
from ishowtts_ops.sim.boot import reboot_folder
from ishowtts_ops.sim.faults import FAULTS
from ishowtts_ops.sim.tree import cold_boot
from tests.service.doctor.breaking import act_all, reads
from tests.service.doctor.cause import AGX, CAUSES, Cause
from tests.service.doctor.conftest import Template
from tests.service.doctor.healthy import Answers, HealthyBox, restore
from tests.support.folder import differences
from tests.support.tree import snapshot

VOLATILE = (
    "/run/*",
    "/proc/*",
    "/var/log/ishowtts-sim*",
    "/sys/kernel/ishowtts-sim/*",  # what the simulated hardware remembers
    "*/.git/*",
    "*/.git",
)
Take = Callable[[str], HealthyBox]
Templates = Callable[[str], Template]
FROM_FILES = ("identity", "power", "clocks", "thermal", "rails", "fan", "memory", "disk")
NOT_CAUSES = {"gpu-late", "fan-stopped"}
"""Faults that are none by themselves: one shows at the next boot, one is right on a cool box."""

pytestmark = pytest.mark.timeout(60)


def name_of(cause: Cause) -> str:
    return cause.name


def broken(healthy: Take, cause: Cause) -> HealthyBox:
    if cause.needs and shutil.which(cause.needs) is None:
        pytest.skip(f"this machine has no {cause.needs}")
    box = healthy(cause.board)
    act_all(box, cause.breaks)
    if cause.under_load:
        box.answers.on_speech = functools.partial(act_all, box, cause.under_load)
    return box


def look(box: HealthyBox, template: Template, *causes: Cause) -> Report:
    """Examine with everything read from files anew, and of what programs answer what changed."""
    asked = {fact for cause in causes for way in cause.ways for fact in reads(way)}
    subjects = (*FROM_FILES, *sorted(asked - set(FROM_FILES)))
    fresh = box.facts(subjects)
    changed = {name: getattr(fresh, name) for name in subjects}
    facts = dataclasses.replace(template.facts, **changed)
    load = None
    if any(cause.under_load for cause in causes):
        load = put_under_load(
            box.host.read_only(), box.settings, facts, seconds=0.1, limit_s=60.0, every_s=0.02
        )
    return box.examine(facts, load=load)


Told = dict[str, Severity]


def told(findings: tuple[Finding, ...], hints: Mapping[str, Severity]) -> tuple[Told, Told]:
    """What is complained about, by check: what stands alone, and what follows from that. Hints
    only where the cause shows in nothing else."""
    worst: tuple[Told, Told] = ({}, {})
    for cause, consequences in folded(findings):
        for into, found in ((0, cause), *((1, other) for other in consequences)):
            hint = found.severity is Severity.INFO and hints.get(found.check) is Severity.INFO
            if hint or found.severity.rank > Severity.INFO.rank:
                before = worst[into].get(found.check, found.severity)
                worst[into][found.check] = max(before, found.severity, key=lambda s: s.rank)
    return worst


def shown(findings: tuple[Finding, ...]) -> str:
    heard = [f for f in findings if f.severity is not Severity.OK]
    return "\n".join(f"{f.severity.value} {f.check}: {f.text}" for f in heard)


# ---- naming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", CAUSES, ids=name_of)
def test_the_cause_is_named_and_nothing_else(
    cause: Cause, healthy: Take, healthy_templates: Templates
) -> None:
    box = broken(healthy, cause)
    report = look(box, healthy_templates(cause.board), cause)
    alone, following = told(report.findings, cause.says)
    assert alone == cause.says, shown(report.findings)
    assert following == cause.also, shown(report.findings)
    named = [finding for finding in report.findings if finding.check in {**alone, **following}]
    for finding in named:
        assert_readable(finding)
    everything = " ".join(map(whole, named))
    assert [words for words in cause.words if words not in everything] == [], everything
    steps = {finding.remedy.step for finding in report.fixable if finding.remedy}
    assert bool(steps) == (cause.fix is not None), steps
    assert any(f.remedy is not None and f.remedy.needs_reboot for f in named) == cause.reboot
    worst = set(cause.says.values())
    unknown = 3 if Severity.UNKNOWN in worst else 0
    assert report.exit_code == (1 if Severity.ERROR in worst else unknown)


def whole(finding: Finding) -> str:
    """All that is said of a finding."""
    remedy = finding.remedy
    commands = [" ".join(argv) for argv in remedy.commands] if remedy else []
    parts = [finding.text, finding.effect_text, *map(str, finding.evidence), *commands]
    return " ".join([*parts, remedy.text if remedy else ""])


def assert_readable(finding: Finding) -> None:
    """A sentence, where it was seen, and what to do."""
    assert finding.text[0].isalnum() or finding.text[0] == "/"
    assert finding.text.endswith((".", ".)")), finding.text
    assert ".." not in finding.text and "Unknown(" not in finding.text, finding.text
    assert "\n" not in finding.text
    if finding.bad:
        assert finding.evidence, f"{finding.check} has no evidence"
    passing = finding.check in ("daemon-ready", "daemon-running")
    if finding.bad and not (passing and finding.severity is Severity.WARN):
        assert finding.remedy is not None, f"{finding.check} has no remedy"


@pytest.mark.parametrize("board", sorted({*(cause.board for cause in CAUSES), "agx-thor-t5000"}))
def test_a_healthy_box_has_nothing(board: str, healthy: Take) -> None:
    report = healthy(board).examine()
    assert [f for f in report.findings if f.severity is not Severity.OK] == []
    assert report.exit_code == 0


def test_two_causes_are_both_named(healthy: Take, healthy_templates: Templates) -> None:
    """Pairs of causes that have nothing to do with each other, by lot; the same each time."""
    lot = random.Random(20261122)
    alone = [c for c in CAUSES if c.board == AGX and c.says and not c.needs and not c.under_load]
    apart = [c for c in alone if not c.name.startswith(("together", "box", "config", "speed"))]
    template = healthy_templates(AGX)
    tried = 0
    while tried < 16:
        one, two = lot.sample(apart, 2)
        if one.name.split("-")[0] == two.name.split("-")[0]:
            continue
        tried += 1
        box = broken(healthy, one)
        act_all(box, two.breaks)
        report = look(box, template, one, two)
        both = {**one.says, **two.says}
        stands, follows = told(report.findings, both)
        what = f"{one.name} and {two.name}:\n{shown(report.findings)}"
        assert both.items() <= {**follows, **stands}.items(), what
        assert {**stands, **follows}.keys() == {**both, **one.also, **two.also}.keys(), what
        box.clean_up()
        restore(template.root, template.copy)
        vars(box.answers).update(vars(Answers()))


# ---- mending ---------------------------------------------------------------------------------


def cli(box: HealthyBox, *argv: str) -> tuple[int, str]:
    """Run our program on a box, as a user does but for the process; what it says on stdout."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = run([*argv, "--root", str(box.root)])
    return code, out.getvalue()


def given(box: HealthyBox, cause: Cause, folder: Path) -> list[str]:
    """--config, where the box is to be mended from settings that it lost."""
    if not cause.given:
        return []
    file = folder / "config.yaml"
    file.write_text(box.host.read_text(CONFIG_PATH), encoding="utf-8")
    return ["--config", str(file)]


def left(data: Mapping[str, Any]) -> dict[str, Severity]:
    """What a report as JSON complains about beyond hints."""
    found = {row["check"]: Severity(row["severity"]) for row in data["findings"]}
    return {c: severity for c, severity in found.items() if severity.rank > Severity.INFO.rank}


FIXED = [cause for cause in CAUSES if cause.fix is not None]


@pytest.mark.parametrize("cause", FIXED, ids=name_of)
def test_fix_mends_what_it_says_it_mends(
    cause: Cause, healthy: Take, healthy_templates: Templates, tmp_path: Path, in_memory: Path
) -> None:
    assert cause.fix is not None
    template = healthy_templates(cause.board)
    options = given(healthy(cause.board), cause, tmp_path)
    box = broken(healthy, cause)
    code, said = cli(box, "doctor", "--fix", "--yes", "--json", *options)
    data = json.loads(said)["data"]
    tried = [(row["step"], row["outcome"]) for row in data["attempts"]]
    remaining = left(data["left"])
    if cause.fix.asks:
        # --yes does not answer for somebody else's service; its owner does.
        assert ("rivals", "declined") in tried and remaining["rivals-active"] is Severity.WARN
        result = fix(box.examine(), lambda *_: True, box.run_step)
        tried = [row if row[0] != "rivals" else ("rivals", "mended") for row in tried]
        assert [(a.step, a.outcome) for a in result.attempts] == [("rivals", "mended")]
        remaining = left(json.loads(json.dumps(result.left.to_json())))
        code = result.exit_code
    assert tried == cause.fix.outcomes, said
    assert remaining == cause.fix.left, said
    assert code == (1 if Severity.ERROR in cause.fix.left.values() else 0)
    if cause.fix.after_reboot is not None:
        reboot_folder(box.root)
        assert left(box.examine().to_json()) == cause.fix.after_reboot
    if cause.undo:
        code, said = cli(box, "uninstall", "--yes")
        assert code == 0, said
        if "comes with the next reboot" in said:
            cold_boot(box.root)
            box.host.run(["nvpmodel"]).check()  # what nvpmodel.service does at boot
        before = before_install(template, cause, in_memory)
        assert differences(before, files_of(box.root)) == []


def files_of(root: Path) -> dict[str, Any]:
    """Every file of a box; but for what runs by itself, and what a test's own git wrote."""
    return dict(snapshot(root, ("/",), VOLATILE))


def before_install(template: Template, cause: Cause, folder: Path) -> dict[str, Any]:
    """The box as it was before install; with what is wrong with it, where that was somebody else's
    doing."""
    if cause.undo is True:
        return files_of(template.bare)
    shutil.copytree(template.bare, folder / cause.name, symlinks=True)
    box = HealthyBox(folder / cause.name, Answers())
    act_all(box, cause.breaks)
    return files_of(box.root)


@pytest.mark.parametrize("cause", [c for c in CAUSES if c.commands], ids=name_of)
def test_the_commands_of_a_remedy_mend_it(cause: Cause, healthy: Take) -> None:
    box = broken(healthy, cause)
    before = box.examine()
    named = {argv for f in before.bad if f.remedy for argv in f.remedy.commands}
    for argv in cause.commands:
        assert any(command[2:4] == tuple(argv[:2]) for command in named) or argv[0] == "install"
        code, said = cli(box, *argv)
        assert code in (0, 1), said
    assert left(box.examine().to_json()) == {}


@pytest.mark.parametrize("name", ["heat-throttled", "voice-clipped", "config-ledger-damaged"])
def test_fix_does_not_pretend(name: str, healthy: Take) -> None:
    """What no step mends, --fix says so of, and changes nothing."""
    cause = next(cause for cause in CAUSES if cause.name == name)
    box = broken(healthy, cause)
    before = files_of(box.root)
    code, said = cli(box, "doctor", "--fix", "--yes")
    assert "There is nothing that --fix could mend." in said
    assert code == (1 if Severity.ERROR in cause.says.values() else 0)
    assert differences(before, files_of(box.root)) == []


# ---- the data --------------------------------------------------------------------------------


def test_every_fault_of_the_simulation_is_a_cause() -> None:
    used = {
        way["fault"]
        for cause in CAUSES
        for way in cause.ways
        if isinstance(way, dict) and "fault" in way
    }
    assert set(FAULTS) - used - NOT_CAUSES == set()


def test_every_check_is_somebodys(healthy: Take) -> None:
    """A check that no cause makes complain is one that may never do so."""
    named = {check for cause in CAUSES for check in (*cause.says, *cause.also)}
    silent = {check.id for check in ALL_CHECKS} - named
    assert silent == ELSEWHERE.keys(), silent


ELSEWHERE = {
    "box-jetson": "another machine: test_examine.py",
    "box-systemd": "no systemd: test_examine.py",
    "box-root": "install without root: tests/whole",
    "disk-install": "no room for an install: test_examine.py",
    "patch-edits": "edits that an install would lose: test_examine.py",
    "engine-gpu": "the thorough look: test_examine.py",
    "engine-attention": "the thorough look: test_examine.py",
    "engine-driver": "a hint only: tests/unit/facts/test_gpu.py",
    "rivals-nvpmodel": "a hint only: tests/unit/facts/test_rivals.py",
}
"""Checks whose trouble is no state of a box on which everything else is well, and where they are
tested."""


def test_there_are_enough_and_no_two_alike() -> None:
    assert len(CAUSES) >= 40
    assert len({cause.cause for cause in CAUSES}) == len(CAUSES)
    assert len(FIXED) >= 40
    assert sum(bool(cause.undo) for cause in CAUSES) >= 10
