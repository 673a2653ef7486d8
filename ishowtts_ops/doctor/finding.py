"""What doctor says: checks, findings and remedies, as values.

A `Check` looks at facts and answers with findings. A finding is a severity, one sentence, the
evidence (path and value read) and a remedy. A remedy that names an install step can be mended by
`doctor --fix`: there is one repair mechanism, and it is that step.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ishowtts_ops.facts.value import Maybe, Unknown

if TYPE_CHECKING:
    from ishowtts_ops.doctor.examination import Examination

T = TypeVar("T")

STEPS = (
    "config",
    "engine",
    "source",
    "patch",
    "weights",
    "voices",
    "rivals",
    "power",
    "units",
    "daemon",
    "backend",
)
"""The install steps a remedy may name, in the order in which they are mended."""


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
        # A value that is a sentence about its source needs no second mention of it.
        said = self.value.startswith(f"{self.source} ")
        return self.value if said else f"{self.source} = {self.value}"


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
        at_most: the factor is an upper bound, reckoned from rates, not measured.
        because: checks whose complaint, where they have one, this one only follows from.
    """

    check: str
    severity: Severity
    text: str
    evidence: tuple[Evidence, ...] = ()
    remedy: Remedy | None = None
    effect: float | None = None
    at_most: bool = False
    because: tuple[str, ...] = ()

    @property
    def effect_text(self) -> str:
        """The effect for a person: "about 2.1× slower"; empty when it is not known."""
        if self.effect is None or self.effect <= 1.0:
            return ""
        return f"{'up to' if self.at_most else 'about'} {self.effect:.1f}× slower"

    @property
    def bad(self) -> bool:
        return self.severity in (Severity.WARN, Severity.ERROR)

    @property
    def fixable(self) -> bool:
        """Can `doctor --fix` do something about it?"""
        return self.bad and self.remedy is not None and self.remedy.step is not None


@dataclass(frozen=True)
class Check:
    """One question to a box.

    Attributes:
        id: stable name, `subject-what`.
        subject: the group it is shown under.
        title: what it looks at, for `doctor --list`.
        run: answers, with no findings where the question does not arise; never changes anything.
            What it raises becomes an `unknown` finding.
        blocks_install: an error of this check stops `install` before its plan.
        jetson: it asks about Jetson hardware, so it is left out on any other machine.
        limit_s: after this many seconds it is given up as `unknown`.
    """

    id: str
    subject: str
    title: str
    run: Callable[[Examination], list[Finding]]
    blocks_install: bool = False
    jetson: bool = False
    limit_s: float = 5.0


class NotKnown(Exception):
    """A check needs a fact that is not known. Carries the fact, for doctor to report once however
    many checks needed it."""

    def __init__(self, fact: Unknown) -> None:
        super().__init__(fact.reason)
        self.fact = fact


def known(fact: Maybe[T]) -> T:
    """The fact's value.

    Raises:
        NotKnown: there is none; doctor turns that into a finding.
    """
    if isinstance(fact, Unknown):
        raise NotKnown(fact)
    return fact


def mend(step: str, text: str, *more: str, needs_reboot: bool = False) -> Remedy:
    """The remedy that is an install step.

    Args:
        more: steps that have to follow when a person takes it by hand; `--fix` finds them itself.
    """
    if step not in STEPS:
        raise ValueError(f"there is no step {step!r}")
    only = [word for name in (step, *more) for word in ("--only", name)]
    commands = (("sudo", "ishowtts-ops", "install", *only),)
    return Remedy(text, commands, step, needs_root=True, needs_reboot=needs_reboot)


def restart(unit: str, text: str) -> Remedy:
    """The remedy that starts the daemon anew although it runs what is installed."""
    return Remedy(text, (("sudo", "systemctl", "restart", unit),), "daemon", needs_root=True)


def by_hand(
    text: str,
    *commands: tuple[str, ...],
    needs_root: bool = False,
    needs_reboot: bool = False,
) -> Remedy:
    """A remedy that a person applies."""
    return Remedy(text, commands, None, needs_root, needs_reboot)


def gib(size: int) -> str:
    """Bytes for a person: "3.1 GiB", "410 MiB"."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"
