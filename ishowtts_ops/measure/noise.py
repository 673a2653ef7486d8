"""How far apart two runs of an unchanged box lie, learned from the box's own history.

Passes of one run differ by little; runs of different days and process starts differ by more, and
by how much is a property of the box: with locked clocks it is small, on a shared or unlocked
machine it is not. So a run is held to what the box itself has shown, never to less than the
configured tolerance, and to a wide default while there is too little to go by.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ishowtts_ops.measure.fingerprint import Fingerprint
from ishowtts_ops.measure.others import OTHERS
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.stats import student_quantile

if TYPE_CHECKING:
    from ishowtts_ops.measure.stats import Values

REFERENCE_RUNS = 12
"""The baseline and the first runs after it set the level together. Later ones do not: a box that
gets slower by a little every week must not take its baseline along."""
NOISE_RUNS = 60
LEAST_PASSES = 4
"""Shorter runs are of no use as a measure of anything."""
SURE = 0.95
"""Chance that a single look at an unchanged box is within the tolerance; a regression takes two
looks that are not."""

GUESS = 0.025
GUESS_WEIGHT = 3
"""What is believed before there is a history: a spread of 2.5 %, as if three runs had shown it.
With the baseline alone that makes a tolerance of 8.7 %, which shrinks or grows with every run."""
MOST_TOLERATED = 0.6
"""However restless a box is: one that lost half its speed has regressed."""
_CLIP = 3.0
"""A run further out than this many robust standard deviations counts as if it were no further."""

SAME_ROWS = ("power mode", "clocks locked", "clocks", "device")
"""Runs that differ in one of these are of another kind of noise."""

CROWDED = 0.25
"""A run during which others had so much more of the processors says nothing about the box."""

JUDGED_SLOW = "regressed"
"""In a run's `extra`: it was found to be a regression, and is no measure of what is normal."""


@dataclass(frozen=True)
class Noise:
    """What a box's runs say about each other.

    Attributes:
        level: real-time factor of the box as it is at its best knowledge: the median of the
            reference runs.
        spread: standard deviation of the logarithm of a run's level.
        freedom: degrees of freedom of the spread.
        runs: how many runs set the level.
        others: what other programs usually have of the processors meanwhile, 0 to 1.
    """

    level: float
    spread: float
    freedom: float
    runs: int
    others: float = 0.0

    def tolerance(self, least: float) -> float:
        """How much slower a single look may be, as a fraction; never more than MOST_TOLERATED,
        where the configured tolerance is not.

        Args:
            least: the configured tolerance.
        """
        far = student_quantile(SURE, self.freedom)
        allowed = math.expm1(far * self.spread * math.sqrt(1 + 1 / self.runs))
        return max(least, min(MOST_TOLERATED, allowed))

    def to_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "spread_percent": round(self.spread * 100, 2),
            "runs": self.runs,
            "freedom": round(self.freedom, 1),
            "others": self.others,
        }


def learn(baseline: Run, runs: Sequence[Run] = (), resets: Collection[str] = ()) -> Noise:
    """The noise around a baseline.

    Args:
        runs: of the box, oldest first, any; those that say nothing about it are left out: other
            work, marked ones, short ones, those that were judged to be slow.
        resets: ids of all runs that ever were baselines. A new baseline says that the box is
            another one from then on, also where no fingerprint knows why.
    """
    fit = [run for run in runs if _is_fit(run, baseline)]
    if all(run.id != baseline.id for run in fit):
        fit = [run for run in fit if run.started < baseline.started] + [
            baseline,
            *(run for run in fit if run.started >= baseline.started),
        ]
    since = [run for run in fit if run.started >= baseline.started]
    alike = [run for run in since if _rows(run) == _rows(baseline)][:REFERENCE_RUNS]
    level = median(_log_level(run) for run in alike or [baseline])
    apart, freedom = _apart(fit[-NOISE_RUNS:], {baseline.id, *resets}, (baseline, level))
    usual = median(_others(run) for run in alike or [baseline])
    return Noise(math.exp(level), *_spread(apart, freedom), max(1, len(alike)), usual)


@dataclass(frozen=True)
class Apart:
    """How far two runs of an unchanged box lie apart, in one figure.

    Attributes:
        limit: 95 % of all pairs lie closer, as a fraction.
        runs: how many runs say so.
    """

    limit: float
    runs: int


LEAST_RUNS = 4
"""With fewer, nothing is said of how far runs lie apart."""


def apart(
    like: Run, runs: Sequence[Run], metric: str, resets: Collection[str] = ()
) -> Apart | None:
    """How far runs of this kind lie apart when nothing changed; None where too few were kept.

    Unlike `learn` it knows no baseline: each run is held to the median of those that ran on the
    very same machine and software.

    Args:
        runs: any; those that say nothing about this kind are left out. The two runs in question
            must not be among them: a real difference is no noise.
        metric: see `run.METRICS`.
        resets: see `learn`.
    """
    fit = [run for run in runs if _is_fit(run, like)][-NOISE_RUNS:]
    found, freedom = _apart(fit, resets, None, metric)
    if freedom < LEAST_RUNS - 1:
        return None
    spread, freedom = _spread(found, freedom)
    far = student_quantile((1 + SURE) / 2, freedom)
    return Apart(math.expm1(far * spread * math.sqrt(2)), len(fit))


def _is_fit(run: Run, baseline: Run) -> bool:
    if run.marks or run.extra.get(JUDGED_SLOW) or len(run.samples) < LEAST_PASSES:
        return False
    if run.place != baseline.place or _others(run) > _others(baseline) + CROWDED:
        return False
    return _kind(run.fingerprint) == _kind(baseline.fingerprint)


def _others(run: Run) -> float:
    return float(run.extra.get(OTHERS, 0.0))


def _kind(found: Fingerprint) -> tuple[Any, ...]:
    rows = found.rows()
    return tuple(rows.get(name) for name in SAME_ROWS)


def _rows(run: Run) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(run.fingerprint.rows().items()))


def _log_level(run: Run, metric: str = "rtf") -> float:
    return math.log(median(run.values(metric)))


def _apart(
    runs: Sequence[Run],
    resets: Collection[str],
    held: tuple[Run, float] | None,
    metric: str = "rtf",
) -> tuple[Values, float]:
    """(how far each run lies from where it should, degrees of freedom).

    Runs like the baseline, since it was set, should lie at its level: what drifts away from it is
    noise too. (That tolerates no creep without end: a run is counted only if it was within the
    tolerance, and runs spread evenly over the tolerance make one that is no wider.) Runs of other
    times, before an update or another baseline, should lie at the median of theirs: an update moves
    the level, not the noise.

    Args:
        runs: oldest first.
        held: the baseline and its level; None where there is none.
    """
    import numpy as np

    groups: dict[tuple[Any, ...], list[float]] = {}
    time = 0
    now: tuple[Any, ...] = ()
    for run in runs:
        time += run.id in resets
        key = (time, _rows(run))
        groups.setdefault(key, []).append(_log_level(run, metric))
        if held is not None and run.id == held[0].id:
            now = key
    found = [
        np.asarray(group) - (held[1] if held and key == now else float(np.median(group)))
        for key, group in groups.items()
    ]
    freedom = float(sum(group.size - 1 for group in found))
    return (np.concatenate(found) if found else np.zeros(0)), freedom


def _spread(apart: Values, freedom: float) -> tuple[float, float]:
    """(standard deviation, degrees of freedom), with what was believed before there were runs;
    single wild runs are clipped."""
    import numpy as np

    total = 0.0
    if freedom > 0:
        usual = max(1.4826 * float(np.median(np.abs(apart))), GUESS / 10)
        total = float((np.clip(apart, -_CLIP * usual, _CLIP * usual) ** 2).sum())
    spread = math.sqrt((GUESS_WEIGHT * GUESS**2 + total) / (GUESS_WEIGHT + freedom))
    return spread, GUESS_WEIGHT + freedom
