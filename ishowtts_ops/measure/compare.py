"""Two runs side by side: is there a difference, how large is it, and what else differs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ishowtts_ops.errors import OpsError
from ishowtts_ops.measure.fingerprint import Difference, differences
from ishowtts_ops.measure.noise import LEAST_RUNS, Apart, apart
from ishowtts_ops.measure.run import METRICS, Run
from ishowtts_ops.measure.stats import Shift, Summary, shift

ALPHA = 0.01
"""Chance of calling noise a difference, for one figure."""
LEAST_SAMPLES = 4
"""With fewer on a side no rank test can reach ALPHA, whatever the samples are, unless the other
side is very large."""


class NotComparable(OpsError):
    """The runs did different work."""


@dataclass(frozen=True)
class Figure:
    """One metric of both runs.

    Attributes:
        verdict: faster, slower, "no difference", or "too few samples"; of the second run.
        apart: how far runs of an unchanged box lie apart in this figure; None where that is not
            known.
    """

    metric: str
    first: Summary
    second: Summary
    shift: Shift
    verdict: str
    apart: Apart | None = None

    @property
    def significant(self) -> bool:
        """The samples differ by more than chance, whatever may be the reason."""
        return _differ(self.shift)

    @property
    def change(self) -> str:
        """ "31.4 % slower (29.8 to 33.1 %)", or the verdict where there is nothing to say."""
        if self.verdict not in ("faster", "slower"):
            return self.verdict
        return self.size

    @property
    def size(self) -> str:
        """ "31.4 % slower (29.8 to 33.1 %)", whether it means something or not."""
        word = "slower" if self.shift.ratio > 1 else "faster"
        low, high = self.shift.low, self.shift.high
        span = ""
        if low is not None and high is not None:
            near, far = sorted((abs(low - 1) * 100, abs(high - 1) * 100))
            span = f" ({near:.1f} to {far:.1f} %)"
        return f"{abs(self.shift.ratio - 1) * 100:.1f} % {word}{span}"


@dataclass(frozen=True)
class Comparison:
    """All that two runs say about each other."""

    first: Run
    second: Run
    figures: tuple[Figure, ...]
    differences: tuple[Difference, ...]

    def figure(self, metric: str) -> Figure:
        return next(figure for figure in self.figures if figure.metric == metric)

    @property
    def verdict(self) -> str:
        """One sentence, by real-time factor."""
        main = self.figure("rtf")
        if main.verdict == "no difference":
            if main.significant and main.apart is not None:
                return (
                    f"No difference that means anything: the second run is {main.size}, and runs"
                    f" of this box lie up to {main.apart.limit * 100:.1f} % apart with nothing"
                    f" changed (by {main.apart.runs} runs)."
                )
            return f"No difference (p = {main.shift.p:.2g})."
        if main.verdict == "too few samples":
            counts = f"{main.first.count} and {main.second.count}"
            return f"Too few samples ({counts}) to tell a difference from noise."
        return f"The second run is {main.change}, p = {main.shift.p:.2g}."

    @property
    def caveat(self) -> str:
        """What the verdict does not know; empty when it knows it."""
        main = self.figure("rtf")
        if main.verdict not in ("faster", "slower") or main.apart is not None:
            return ""
        return (
            "That is more than passes of a run differ. How far runs lie apart with nothing changed"
            f" is not known yet: it takes {LEAST_RUNS} other runs of that work in the history."
        )


def compare(
    first: Run, second: Run, history: Sequence[Run] = (), resets: Collection[str] = ()
) -> Comparison:
    """Args:
        history: runs of the same box, oldest first, any: they say how far runs lie apart that
            nothing tells apart. Without them, whatever is no chance within these two runs is a
            difference.
        resets: ids of the runs that ever were baselines; see `noise.learn`.

    Raises:
        NotComparable: the two did not speak the same.
    """
    refuse_different_work(first, second)
    rest = [run for run in history if run.id not in (first.id, second.id)]
    figures = tuple(_figure(metric, first, second, rest, resets) for metric in METRICS)
    return Comparison(first, second, figures, differences(first.fingerprint, second.fingerprint))


def refuse_different_work(first: Run, second: Run) -> None:
    """Raises NotComparable where two runs' figures mean different things."""
    if first.workload_key != second.workload_key:
        raise NotComparable(
            f"The runs did different work: {first.workload} ({first.workload_key}) and"
            f" {second.workload} ({second.workload_key}).",
            "Compare two runs of one workload; `ishowtts-ops bench history` shows which is which.",
        )
    if first.door != second.door:
        raise NotComparable(
            f"One run went through {first.door}, the other through {second.door}: their times"
            " include different things.",
            "Compare two runs of one door; `ishowtts-ops bench history` shows which is which.",
        )


def _figure(
    metric: str, first: Run, second: Run, rest: Sequence[Run], resets: Collection[str]
) -> Figure:
    moved = shift(first.values(metric), second.values(metric))
    known = apart(first, rest, metric, resets) or apart(second, rest, metric, resets)
    return Figure(
        metric,
        first.summary(metric),
        second.summary(metric),
        moved,
        _verdict(moved, min(len(first.samples), len(second.samples)), known),
        known,
    )


def _verdict(moved: Shift, samples: int, known: Apart | None) -> str:
    if samples < LEAST_SAMPLES:
        return "too few samples"
    if not _differ(moved):
        return "no difference"
    if known is not None and max(moved.ratio, 1 / moved.ratio) <= 1 + known.limit:
        return "no difference"
    return "slower" if moved.ratio > 1 else "faster"


def _differ(moved: Shift) -> bool:
    if moved.p >= ALPHA or moved.low is None or moved.high is None:
        return False
    return not moved.low <= 1.0 <= moved.high
