"""Runs over time as points, and what changed between them: what every plot is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ishowtts_ops.measure.fingerprint import differences
from ishowtts_ops.measure.history import Baseline
from ishowtts_ops.measure.run import Run

MODE_ROWS = ("power mode", "clocks locked")
PATCH_ROWS = ("series", "F5-TTS")
LETTERS = {"mode": "M", "patch": "P", "software": "S", "baseline": "B"}


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes:
        low, high: confidence interval of the median; the median itself where there is none.
        marked: it was taken under conditions that spoil it.
    """

    started: str
    rtf: float
    low: float
    high: float
    marked: bool
    run_id: str


@dataclass(frozen=True)
class Event:
    """Something that changed right before the point with that index.

    Attributes:
        kind: mode, patch, software or baseline.
    """

    index: int
    kind: str
    text: str


@dataclass(frozen=True)
class Level:
    """What a stretch of runs was held to: the baseline, from its own run to the next one's.

    Attributes:
        first, last: indices of points.
    """

    first: int
    last: int
    rtf: float


@dataclass(frozen=True)
class Timeline:
    """One kind of work over time.

    Attributes:
        held: RTF of the baseline that was in force before the first point; None where there was
            none.
    """

    title: str
    points: tuple[Point, ...]
    events: tuple[Event, ...]
    held: float | None = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """Where the baselines lie, oldest first."""
        at = [event.index for event in self.events if event.kind == "baseline"]
        rtfs = [self.points[index].rtf for index in at]
        if self.held is not None:
            at, rtfs = [0, *at], [self.held, *rtfs]
        ends = [*at[1:], len(self.points) - 1]
        return tuple(Level(*level) for level in zip(at, ends, rtfs, strict=False))

    @property
    def span(self) -> tuple[float, float]:
        """(lowest, highest) of all that is drawn."""
        levels = [level.rtf for level in self.levels]
        low = min([*(point.low for point in self.points), *levels])
        return low, max([*(point.high for point in self.points), *levels])

    def newest(self, count: int) -> Timeline:
        """The last so many runs alone, for a small picture."""
        cut = max(0, len(self.points) - count)
        events = [
            Event(event.index - cut, event.kind, event.text)
            for event in self.events
            if event.index >= cut
        ]
        before = [level.rtf for level in self.levels if level.first < cut]
        held = before[-1] if before else self.held
        return Timeline(self.title, self.points[cut:], tuple(events), held)


def stamps(points: Sequence[Point], wanted: int) -> list[tuple[int, str]]:
    """(index, label) of about so many points: the day where it is another one than at the label
    before, else the time of day, which is all that tells runs of one day apart."""
    step = max(1, -(-len(points) // max(1, wanted)))
    found: list[tuple[int, str]] = []
    day = ""
    for index in range(0, len(points), step):
        started = points[index].started
        found.append((index, started[:10] if started[:10] != day else started[11:16]))
        day = started[:10]
    return found


def ticks(top: float) -> list[float]:
    """Round values from 0 to just over `top`, at most six of them."""
    if top <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(top))
    steps = (factor * scale for scale in (power / 10, power) for factor in (1, 2, 2.5, 5, 10))
    step = next(step for step in steps if step * 5 >= top)
    count = math.ceil(top / step - 1e-9)
    return [round(step * number, 12) for number in range(count + 1)]


Place = tuple[str, str, str]
"""A kind of work; see `Run.place`."""


def timelines(
    runs: Sequence[Run],
    baselines: Sequence[Baseline],
    older: Mapping[Place, Run] | None = None,
) -> list[Timeline]:
    """One for each kind of work, in the order in which they first appear.

    Args:
        runs: oldest first.
        older: baselines that were in force before the first of these runs.
    """
    groups: dict[Place, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.place, []).append(run)
    return [
        _timeline(group, baselines, (older or {}).get(place)) for place, group in groups.items()
    ]


def _timeline(runs: Sequence[Run], baselines: Sequence[Baseline], older: Run | None) -> Timeline:
    first = runs[0]
    events: list[Event] = []
    for index in range(1, len(runs)):
        events += _changes(index, runs[index - 1], runs[index])
    at = {run.id: index for index, run in enumerate(runs)}
    events += [
        Event(at[item.run_id], "baseline", f"baseline: {item.reason}")
        for item in baselines
        if item.run_id in at
    ]
    return Timeline(
        f"{first.engine}, workload {first.workload}, {first.door}",
        tuple(_point(run) for run in runs),
        tuple(sorted(events, key=lambda event: event.index)),
        None if older is None else older.summary("rtf").median,
    )


def _point(run: Run) -> Point:
    found = run.summary("rtf")
    return Point(
        run.started,
        found.median,
        found.median if found.low is None else found.low,
        found.median if found.high is None else found.high,
        bool(run.marks),
        run.id,
    )


def _changes(index: int, before: Run, after: Run) -> list[Event]:
    changed = differences(before.fingerprint, after.fingerprint)
    kinds: dict[str, list[str]] = {}
    for item in changed:
        kind = "software"
        if item.name in MODE_ROWS:
            kind = "mode"
        elif item.name in PATCH_ROWS:
            kind = "patch"
        elif item.name == "clocks":
            continue  # follows from the mode
        kinds.setdefault(kind, []).append(str(item))
    return [Event(index, kind, "; ".join(texts)) for kind, texts in kinds.items()]
