"""Runs over time as points, and what changed between them: what every plot is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
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
class Timeline:
    """One kind of work over time."""

    title: str
    points: tuple[Point, ...]
    events: tuple[Event, ...]


def timelines(runs: Sequence[Run], baselines: Sequence[Baseline]) -> list[Timeline]:
    """One for each kind of work, in the order in which they first appear.

    Args:
        runs: oldest first.
    """
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.place, []).append(run)
    return [_timeline(group, baselines) for group in groups.values()]


def _timeline(runs: Sequence[Run], baselines: Sequence[Baseline]) -> Timeline:
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
