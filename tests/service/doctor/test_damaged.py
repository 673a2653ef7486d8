"""Every file of a box that facts and checks read, damaged: nothing may break, and what doctor
complained of may not become "fine".

Which files these are is not listed here but watched: whatever a probe or a check opens below the
box is damaged in its turn.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.doctor.finding import Severity
from ishowtts_ops.doctor.run import examine, select
from ishowtts_ops.facts.gather import Facts
from tests.service.doctor.breaking import act_all
from tests.service.doctor.cause import AGX, CAUSES, Cause
from tests.service.doctor.conftest import Template
from tests.service.doctor.healthy import HealthyBox

Take = Callable[[str], HealthyBox]
Templates = Callable[[str], Template]

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "garbage": lambda _: b"\xff\xfe\x00\x01garbage\n" * 3,
    "another language": lambda _: "Gerät antwortet nicht (Zugriff verweigert)\n".encode(),
    "a huge number": lambda _: b"99999999999999999999999999\n",
    "a negative number": lambda _: b"-256\n",
    "another type": lambda _: b'[null, {"a": [1]}]\n',
}


class Opened:
    """Files that each thread opened below a folder. An audit hook cannot be taken back, so there is
    one for all."""

    def __init__(self) -> None:
        self.below: str | None = None
        self.files: dict[str, set[str]] = {}
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.below is None or event != "open":
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else ""
        if path.startswith(self.below) and os.path.isfile(path):
            name = threading.current_thread().name.removeprefix("probe ")
            self.files.setdefault(name, set()).add(path)


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened()


def watched(opened: Opened, box: HealthyBox) -> dict[str, set[str]]:
    """Who (a subject of facts, or a check) reads which files, in one whole look."""
    opened.files, opened.below = {}, f"{os.path.realpath(box.root)}/"
    try:
        box.examine()
    finally:
        opened.below = None
    return opened.files


def representatives(files: set[str]) -> Iterator[Path]:
    """One file of each kind: cpu0's stands for cpu5's, and one of F5-TTS's for the others."""
    seen = set()
    for path in sorted(files):
        kind = re.sub(r"\d+", "#", path)
        kind = re.sub(r"/third_party/.*", "/third_party", kind)
        if kind not in seen and not path.endswith((".py", CONFIG_PATH)):
            seen.add(kind)
            yield Path(path)


def damaged(path: Path, how: str) -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


def test_no_damaged_file_breaks_anything(
    opened: Opened, healthy: Take, healthy_templates: Templates
) -> None:
    box, healthy_facts = healthy(AGX), healthy_templates(AGX).facts
    readers = watched(opened, box)
    subjects = {field.name for field in dataclasses.fields(Facts)}
    checks = {check.id for check in select([])}
    tried = 0
    for reader, files in readers.items():
        if reader not in subjects | checks:
            continue
        for path in representatives(files):
            before = path.read_bytes()
            for how in DAMAGES:
                damaged(path, how)
                told = said_of(box, healthy_facts, reader, is_fact=reader in subjects)
                assert "failed with" not in told, f"{reader}: {path.name} {how}: {told}"
                tried += 1
            path.write_bytes(before)
    assert {"clocks", "power", "thermal", "rails", "fan", "memory", "identity"} <= readers.keys()
    assert {"config-manifest", "supply-reset", "daemon-current"} <= readers.keys()
    assert tried > 300


def said_of(box: HealthyBox, facts: Facts, reader: str, *, is_fact: bool) -> str:
    """What one probe or one check says of a box now."""
    if is_fact:
        fresh = getattr(box.facts((reader,)), reader)
        facts = dataclasses.replace(facts, **{reader: fresh})
        return str(fresh)
    report = examine(box.host, box.settings, checks=select([reader]), facts=facts)
    return " ".join(finding.text for finding in report.findings)


# What a file says, by the subject that reads it; others are asked of programs.
BY_SUBJECT = {
    "clocks": "clocks",
    "power": "power",
    "heat": "thermal",
    "supply": "rails",
    "memory": "memory",
}
SHOWN = [
    cause
    for cause in CAUSES
    if cause.breaks
    and not cause.under_load
    and not cause.also
    and cause.says
    and all(check.split("-")[0] in BY_SUBJECT for check in cause.says)
    and Severity.INFO not in cause.says.values()
]


@pytest.mark.parametrize("cause", SHOWN, ids=lambda cause: cause.name)
def test_damaged_evidence_is_never_fine(
    cause: Cause, healthy: Take, healthy_templates: Templates
) -> None:
    """The very file that showed the trouble cannot be read any more: then it is not known."""
    box = healthy(cause.board)
    act_all(box, cause.breaks)
    names = sorted({"fan", "identity", "gpu", *BY_SUBJECT.values()})
    template = healthy_templates(cause.board).facts

    def severities() -> dict[str, Severity]:
        fresh = box.facts(names)
        changed = {name: getattr(fresh, name) for name in names}
        facts = dataclasses.replace(template, **changed)
        subjects = sorted({"box-release", *(check.split("-")[0] for check in cause.says)})
        report = examine(box.host, box.settings, checks=select(subjects), facts=facts)
        shown.extend(e.source for f in report.bad for e in f.evidence)
        severe = {f.check: f.severity for f in report.findings}
        return {check: found for check, found in severe.items() if found is not Severity.OK}

    shown: list[str] = []
    assert severities() == cause.says
    evidence = {box.host.path(source.split(" ")[0]) for source in shown if source[:1] == "/"}
    for path in sorted(path for path in evidence if path.is_file()):
        before = path.read_bytes()
        for how in ("empty", "garbage", "another language"):
            damaged(path, how)
            told = severities()
            worst = any(found.rank > Severity.INFO.rank for found in told.values())
            assert worst or cause.says.keys() <= told.keys(), f"{path.name}: {how}"
        path.write_bytes(before)
