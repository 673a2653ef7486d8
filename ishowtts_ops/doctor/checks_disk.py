"""Is there room for state, weights and the journal?"""

from __future__ import annotations

from ishowtts_ops.config import CACHE_DIR, PREFIX, STATE_DIR
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Severity, by_hand, gib, known
from ishowtts_ops.facts.disk import Space

GIB = 1 << 30
FULL = 256 << 20
"""Below this journald drops lines, and atomic writes of our state start to fail."""
TIGHT = 2 * GIB
INSTALL_NEEDS = 1 * GIB
"""Sources, state and units. Weights (1.4 GB) and torch (several GB) check for themselves."""


def _space(exam: Examination) -> list[Finding]:
    findings = []
    for space in known(exam.facts.disk).spaces:
        where = " and ".join(space.paths[:2])
        text = f"{gib(space.free)} of {gib(space.total)} is free under {where}."
        severity = Severity.OK
        if space.free < FULL:
            text = f"The disk is full: only {text[0].lower()}{text[1:]}"
            severity = Severity.ERROR
        elif space.free < TIGHT and space.free_share < 0.1:
            text = f"The disk is nearly full: {text}"
            severity = Severity.WARN
        findings.append(_finding("disk-space", severity, text, space))
    return findings


def _install(exam: Examination) -> list[Finding]:
    disk = known(exam.facts.disk)
    spaces = {s.paths: s for s in (disk.of(p) for p in (STATE_DIR, CACHE_DIR, PREFIX)) if s}
    return [
        _finding(
            "disk-install",
            Severity.ERROR,
            f"Installing needs {gib(INSTALL_NEEDS)} under {space.paths[0]}, and only"
            f" {gib(space.free)} is free.",
            space,
        )
        for space in spaces.values()
        if exam.changes_follow and space.free < INSTALL_NEEDS
    ]


def _finding(check: str, severity: Severity, text: str, space: Space) -> Finding:
    evidence = (Evidence(f"statvfs {space.paths[0]}", f"{gib(space.free)} free"),)
    remedy = by_hand(
        "Make room: old packages, old journals, files nobody needs.",
        ("sudo", "journalctl", "--vacuum-size=200M"),
        ("sudo", "apt-get", "clean"),
        needs_root=True,
    )
    bad = severity is not Severity.OK
    return Finding(check, severity, text, evidence, remedy if bad else None)


CHECKS = (
    Check("disk-space", "disk", "No file system is full", _space),
    Check("disk-install", "disk", "There is room to install", _install, blocks_install=True),
)
