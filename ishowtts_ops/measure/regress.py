"""Has this box become slower? A run against the box's own baseline.

A regression is both significant (rank test) and large enough to matter (the tolerance): noise alone
is neither, and a real 1 % is not worth waking anybody. A first, short look clears most days; only
one that looks slow is followed by a longer one, and both together decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.measure.compare import refuse_different_work
from ishowtts_ops.measure.fingerprint import Difference, differences
from ishowtts_ops.measure.run import Run, ratio_text
from ishowtts_ops.measure.stats import Shift, rank_test, ratio, shift

ALPHA = 0.005
TOLERANCE = 0.05
FIRST_PASSES = 8
MORE_PASSES = 12
SUSPICION = 0.6
"""Share of the tolerance from which a first look is followed by a longer one."""


@dataclass(frozen=True)
class Cause:
    """Something doctor found that slows a box down.

    Attributes:
        effect: expected factor on RTF, when it is known.
        remedy: what to do.
    """

    text: str
    effect: float | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Judgement:
    """A run held against a baseline.

    Attributes:
        regressed: significantly slower, by more than the tolerance.
        shift: of the real-time factor.
        changed: what differs in the fingerprints.
        causes: doctor's findings, likeliest first.
    """

    baseline: Run
    run: Run
    tolerance: float
    regressed: bool
    shift: Shift
    changed: tuple[Difference, ...]
    causes: tuple[Cause, ...] = ()

    @property
    def percent(self) -> float:
        return (self.shift.ratio - 1) * 100

    @property
    def sentence(self) -> str:
        a, b = self.baseline.summary("rtf").median, self.run.summary("rtf").median
        figures = f"RTF {ratio_text(b)} against {ratio_text(a)}"
        if not self.regressed:
            return f"No regression: {figures} ({self.percent:+.1f} %, p = {self.shift.p:.2g})."
        span = ""
        if self.shift.low is not None and self.shift.high is not None:
            low, high = (self.shift.low - 1) * 100, (self.shift.high - 1) * 100
            span = f", 95 % sure of {low:.0f} to {high:.0f} %"
        return f"Regression: {figures}, {self.percent:.0f} % slower{span}, p = {self.shift.p:.2g}."

    def to_json(self) -> dict[str, Any]:
        return {
            "regressed": self.regressed,
            "baseline": self.baseline.id,
            "run": self.run.id,
            "rtf": {
                "baseline": self.baseline.summary("rtf").median,
                "run": self.run.summary("rtf").median,
            },
            "percent": round(self.percent, 2),
            "shift": self.shift,
            "tolerance": self.tolerance,
            "changed": self.changed,
            "causes": self.causes,
            "marks": self.run.marks,
        }


def is_regression(
    baseline: Sequence[float], now: Sequence[float], tolerance: float = TOLERANCE
) -> bool:
    """The rule itself, on real-time factors."""
    return ratio(baseline, now) > 1 + tolerance and rank_test(baseline, now) < ALPHA


def is_suspicious(
    baseline: Sequence[float], first: Sequence[float], tolerance: float = TOLERANCE
) -> bool:
    """Does a first, short look call for a longer one?"""
    return ratio(baseline, first) > 1 + tolerance * SUSPICION


def judge(
    baseline: Run, run: Run, *, tolerance: float = TOLERANCE, causes: Sequence[Cause] = ()
) -> Judgement:
    """Raises NotComparable where the two did different work."""
    refuse_different_work(baseline, run)
    before, now = baseline.values("rtf"), run.values("rtf")
    regressed = is_regression(before, now, tolerance)
    ranked = sorted(causes, key=lambda cause: -(cause.effect or 0.0))
    return Judgement(
        baseline,
        run,
        tolerance,
        regressed,
        shift(before, now),
        differences(baseline.fingerprint, run.fingerprint),
        tuple(ranked) if regressed else (),
    )


def check(
    baseline: Run,
    take: Callable[[int], Run],
    *,
    tolerance: float = TOLERANCE,
    causes: Callable[[], Sequence[Cause]] = lambda: (),
    first: int = FIRST_PASSES,
    more: int = MORE_PASSES,
) -> Judgement:
    """Measure and judge; measures again before it calls anything a regression.

    Args:
        take: measures that many passes.
        causes: asked only when there is a regression.
    """
    run = take(first)
    refuse_different_work(baseline, run)
    if is_suspicious(baseline.values("rtf"), run.values("rtf"), tolerance):
        run = run.with_samples(take(more))
    found = judge(baseline, run, tolerance=tolerance)
    return judge(baseline, run, tolerance=tolerance, causes=causes()) if found.regressed else found
