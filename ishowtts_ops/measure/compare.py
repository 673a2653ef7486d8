"""Two runs side by side: is there a difference, how large is it, and what else differs."""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.errors import OpsError
from ishowtts_ops.measure.fingerprint import Difference, differences
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
    """

    metric: str
    first: Summary
    second: Summary
    shift: Shift
    verdict: str

    @property
    def change(self) -> str:
        """ "31.4 % slower (29.8 to 33.1 %)", or the verdict where there is nothing to say."""
        if self.verdict not in ("faster", "slower"):
            return self.verdict
        low, high = self.shift.low, self.shift.high
        span = ""
        if low is not None and high is not None:
            near, far = sorted((abs(low - 1) * 100, abs(high - 1) * 100))
            span = f" ({near:.1f} to {far:.1f} %)"
        return f"{abs(self.shift.ratio - 1) * 100:.1f} % {self.verdict}{span}"


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
            return f"No difference (p = {main.shift.p:.2g})."
        if main.verdict == "too few samples":
            counts = f"{main.first.count} and {main.second.count}"
            return f"Too few samples ({counts}) to tell a difference from noise."
        return f"The second run is {main.change}, p = {main.shift.p:.2g}."


def compare(first: Run, second: Run) -> Comparison:
    """Raises:
    NotComparable: the two did not speak the same.
    """
    refuse_different_work(first, second)
    figures = tuple(_figure(metric, first, second) for metric in METRICS)
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
            "Compare two runs of one door.",
        )


def _figure(metric: str, first: Run, second: Run) -> Figure:
    a, b = first.values(metric), second.values(metric)
    moved = shift(a, b)
    return Figure(
        metric, first.summary(metric), second.summary(metric), moved, _verdict(moved, a, b)
    )


def _verdict(moved: Shift, first: list[float], second: list[float]) -> str:
    if min(len(first), len(second)) < LEAST_SAMPLES:
        return "too few samples"
    if moved.p >= ALPHA or moved.low is None or moved.high is None:
        return "no difference"
    if moved.low <= 1.0 <= moved.high:
        return "no difference"
    return "slower" if moved.ratio > 1 else "faster"
