"""Has this box become slower? A run against the box's own baseline.

A look is slow when it is both significantly slower (rank test) and slower by more than this box's
runs differ anyway (`noise`), which is never less than the configured tolerance. A regression is two
slow looks of up to three, with a rest between them: a neighbour's burst or one unlucky moment is
one look, a lost clock lock is all of them. A first, short look clears most days.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ishowtts_ops.measure.compare import refuse_different_work
from ishowtts_ops.measure.fingerprint import Difference, differences
from ishowtts_ops.measure.noise import JUDGED_SLOW, Noise, learn
from ishowtts_ops.measure.others import OTHERS, alone
from ishowtts_ops.measure.run import Run, ratio_text
from ishowtts_ops.measure.stats import Shift, rank_test, ratio, shift

ALPHA = 0.005
TOLERANCE = 0.05
FIRST_PASSES = 8
MORE_PASSES = 12
SUSPICION = 0.6
"""Share of the tolerance from which a first look is followed by a longer one."""
LOOKS = 3
VOTES = 2


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
        run: everything that was measured, all looks together.
        noise: what the box's history says about how far runs lie apart.
        tolerance: how much slower a look may be, as a fraction.
        looks: how slow each look was, as a factor on the level.
        regressed: enough looks were slow.
        shift: of the real-time factor, against the level that `noise` has learned.
        changed: what differs in the fingerprints.
        causes: doctor's findings, likeliest first.
    """

    baseline: Run
    run: Run
    noise: Noise
    tolerance: float
    looks: tuple[float, ...]
    regressed: bool
    shift: Shift
    changed: tuple[Difference, ...]
    causes: tuple[Cause, ...] = ()

    @property
    def percent(self) -> float:
        return (self.shift.ratio - 1) * 100

    @property
    def sentence(self) -> str:
        now = self.run.summary("rtf").median
        figures = f"RTF {ratio_text(now)} against {ratio_text(self.noise.level)}"
        if not self.regressed:
            return f"No regression: {figures} ({self.percent:+.1f} %; {self.allowed})."
        span = ""
        if self.shift.low is not None and self.shift.high is not None:
            low, high = (self.shift.low - 1) * 100, (self.shift.high - 1) * 100
            span = f", 95 % sure of {low:.0f} to {high:.0f} %"
        return f"Regression: {figures}, {self.percent:.0f} % slower{span}, p = {self.shift.p:.2g}."

    @property
    def allowed(self) -> str:
        """ "up to 6.2 % is noise, by 9 runs"."""
        runs = "the baseline alone" if self.noise.runs == 1 else f"{self.noise.runs} runs"
        text = f"up to {self.tolerance * 100:.1f} % is noise, by {runs}"
        others = float(self.run.extra.get(OTHERS, 0.0))
        if others > self.noise.others + self.tolerance:
            text += f"; other programs had {others * 100:.0f} % of the processors"
        return text

    def to_json(self) -> dict[str, Any]:
        return {
            "regressed": self.regressed,
            "baseline": self.baseline.id,
            "run": self.run.id,
            "rtf": {
                "baseline": self.baseline.summary("rtf").median,
                "level": self.noise.level,
                "run": self.run.summary("rtf").median,
            },
            "percent": round(self.percent, 2),
            "looks": [round((look - 1) * 100, 2) for look in self.looks],
            "shift": self.shift,
            "tolerance": round(self.tolerance, 4),
            "noise": self.noise.to_json(),
            "changed": self.changed,
            "causes": self.causes,
            "marks": self.run.marks,
        }


def is_regression(
    baseline: Sequence[float], now: Sequence[float], tolerance: float = TOLERANCE
) -> bool:
    """The rule for one look, on real-time factors."""
    return ratio(baseline, now) > 1 + tolerance and rank_test(baseline, now) < ALPHA


def is_suspicious(
    baseline: Sequence[float], first: Sequence[float], tolerance: float = TOLERANCE
) -> bool:
    """Does a first, short look call for a longer one?"""
    return ratio(baseline, first) > 1 + tolerance * SUSPICION


def vote(
    baseline: Sequence[float],
    first: Sequence[float],
    again: Callable[[], Sequence[float]] | None,
    tolerance: float,
) -> bool:
    """Is it a regression? A first look that is not slow clears the box; one that is needs another
    slow one, and they get three tries between them.

    Args:
        baseline, first: real-time factors.
        again: takes another look; without it the first decides.
    """
    slow = [is_regression(baseline, first, tolerance)]
    if again is None or not slow[0]:
        return slow[0]
    while slow.count(True) < VOTES and len(slow) < LOOKS:
        slow.append(is_regression(baseline, again(), tolerance))
    return slow.count(True) >= VOTES


def judge(
    baseline: Run,
    run: Run,
    *,
    noise: Noise | None = None,
    tolerance: float | None = None,
    again: Callable[[int], Run] | None = None,
    causes: Callable[[], Sequence[Cause]] = lambda: (),
) -> Judgement:
    """A run as the first look; when it is slow, look again before it is called a regression.

    Args:
        noise: what the history has taught; else the baseline is all there is.
        tolerance: of one look; else what the noise allows.
        again: measures that many passes, after a rest; without it the one look decides.
        causes: asked only when there is a regression.

    Raises:
        NotComparable: the two did different work.
    """
    refuse_different_work(baseline, run)
    known = noise or learn(baseline)
    allowed = known.tolerance(TOLERANCE) if tolerance is None else tolerance
    before = at_level(baseline, known)
    looks = [run]

    def look_again() -> list[float]:
        assert again is not None
        looks.append(again(MORE_PASSES))
        return _alone(looks[-1], known)

    regressed = vote(before, _alone(run, known), look_again if again else None, allowed)
    whole = run
    for look in looks[1:]:
        whole = whole.with_samples(look)
    if regressed:
        whole = dataclasses.replace(whole, extra={**whole.extra, JUDGED_SLOW: True})
    return Judgement(
        baseline,
        whole,
        known,
        allowed,
        tuple(ratio(before, look.values("rtf")) for look in looks),
        regressed,
        shift(before, whole.values("rtf")),
        differences(baseline.fingerprint, whole.fingerprint),
        _ranked(causes()) if regressed else (),
    )


def check(
    baseline: Run,
    take: Callable[[int], Run],
    *,
    noise: Noise | None = None,
    tolerance: float | None = None,
    rest: Callable[[], None] = lambda: None,
    causes: Callable[[], Sequence[Cause]] = lambda: (),
) -> Judgement:
    """Measure and judge; a short look first, more of them before anything is called a regression.

    Args:
        take: measures that many passes.
        rest: waited for between two looks.
    """
    known = noise or learn(baseline)
    allowed = known.tolerance(TOLERANCE) if tolerance is None else tolerance
    run = take(FIRST_PASSES)
    refuse_different_work(baseline, run)
    if is_suspicious(at_level(baseline, known), _alone(run, known), allowed):
        run = run.with_samples(take(MORE_PASSES))

    def again(passes: int) -> Run:
        rest()
        return take(passes)

    return judge(baseline, run, noise=known, tolerance=allowed, again=again, causes=causes)


def at_level(baseline: Run, noise: Noise) -> list[float]:
    """The baseline's samples as they would be, had its moment been neither lucky nor unlucky."""
    factor = noise.level / median(baseline.values("rtf"))
    return [value * factor for value in baseline.values("rtf")]


def _alone(run: Run, noise: Noise) -> list[float]:
    """A run's real-time factors, less what other programs may have to do with them."""
    return alone(run.values("rtf"), float(run.extra.get(OTHERS, 0.0)), noise.others)


def _ranked(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    return tuple(sorted(causes, key=lambda cause: -(cause.effect or 0.0)))
