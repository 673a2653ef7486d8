"""What doctor says: checks, findings and remedies, as values.

A `Check` looks at facts and answers with findings. A finding is a severity, one sentence, the
evidence (path and value read) and a remedy. A remedy that names an install step can be mended by
`doctor --fix`: there is one repair mechanism, and it is that step.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ishowtts_ops.doctor.run import Examination


class Severity(enum.Enum):
    """How bad it is, worst last."""

    OK = "ok"
    INFO = "info"
    UNKNOWN = "unknown"
    WARN = "warn"
    ERROR = "error"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


@dataclass(frozen=True)
class Evidence:
    """Where a fact was read and what stood there."""

    source: str
    value: str

    def __str__(self) -> str:
        return f"{self.source} = {self.value}"


@dataclass(frozen=True)
class Remedy:
    """What mends a finding.

    Attributes:
        text: one sentence.
        commands: what a person may type, as argv.
        step: the install step that mends it, when one does.
    """

    text: str
    commands: tuple[tuple[str, ...], ...] = ()
    step: str | None = None
    needs_root: bool = False
    needs_reboot: bool = False


@dataclass(frozen=True)
class Finding:
    """One answer of one check.

    Attributes:
        check: the check's id.
        text: one sentence.
        effect: the expected effect on RTF as a factor (2.0 = twice as slow), when it is known.
    """

    check: str
    severity: Severity
    text: str
    evidence: tuple[Evidence, ...] = ()
    remedy: Remedy | None = None
    effect: float | None = None

    @property
    def bad(self) -> bool:
        return self.severity in (Severity.WARN, Severity.ERROR)


@dataclass(frozen=True)
class Check:
    """One question to a box.

    Attributes:
        id: stable name, `subject-what`.
        subject: the group it is shown under.
        title: what it looks at, for `doctor --list`.
        run: answers; never changes anything. What it raises becomes an `unknown` finding.
        blocks_install: an error of this check stops `install` before its plan.
    """

    id: str
    subject: str
    title: str
    run: Callable[[Examination], list[Finding]]
    blocks_install: bool = False
