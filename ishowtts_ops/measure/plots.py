"""Timelines as text for a terminal, and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ishowtts_ops.errors import ToolMissing
from ishowtts_ops.measure.run import ratio_text
from ishowtts_ops.measure.timeline import LETTERS, Point, Timeline

_COLOURS = {"mode": "#b45309", "patch": "#6d28d9", "software": "#0f766e", "baseline": "#1d4ed8"}


def terminal(line: Timeline, width: int, height: int = 14) -> str:
    """A plot of `width` columns; older runs that do not fit are left out and counted.

    A dot is a run, a cross one that is marked; letters below say what changed before it.
    """
    points = line.points
    gutter = 9
    room = max(8, width - gutter - 1)
    left_out = max(0, len(points) - room)
    shown = points[left_out:]
    low, high = _range(shown)
    columns = _columns(len(shown), room)
    canvas = [[" "] * room for _ in range(height)]
    for column, point in zip(columns, shown, strict=True):
        for value in (point.low, point.high):
            canvas[_row(value, low, high, height)][column] = "·"
        canvas[_row(point.rtf, low, high, height)][column] = "×" if point.marked else "●"
    rows = [f"RTF over time: {line.title}"[:width]]
    for number, cells in enumerate(canvas):
        value = high - (high - low) * number / (height - 1)
        label = f"{ratio_text(value):>8}" if number % 3 == 0 or number == height - 1 else " " * 8
        rows.append(f"{label} │{''.join(cells)}".rstrip())
    marks = [" "] * room
    legend: list[str] = []
    for event in line.events:
        if event.index >= left_out:
            column = columns[event.index - left_out]
            marks[column] = "*" if marks[column] != " " else LETTERS[event.kind]
            legend.append(f"{LETTERS[event.kind]} {_minute(shown[event.index - left_out])} ")
            legend[-1] = (legend[-1] + event.text)[: max(20, width)]
    rows.append(f"{' ' * 8} └{'─' * room}")
    if any(mark != " " for mark in marks):
        rows.append(f"{' ' * gutter} {''.join(marks)}".rstrip())
    stamp = 16 if room > 2 * 16 else 10
    first, last = _minute(shown[0])[:stamp], _minute(shown[-1])[:stamp]
    rows.append(f"{' ' * gutter} {first}{last.rjust(room - len(first))}" if len(shown) > 1 else
                f"{' ' * gutter} {first}")  # fmt: skip
    if left_out:
        rows.append(f"{left_out} older runs are left out.")
    return "\n".join(rows + legend)


def _minute(point: Point) -> str:
    return point.started[:16].replace("T", " ")


def png(lines: Sequence[Timeline], target: Path) -> None:
    """Draw timelines one below the other into a PNG file.

    Raises:
        ToolMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolMissing("matplotlib", "to draw PNG files") from None
    figure = Figure(figsize=(10, 3.6 * len(lines)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, line in enumerate(lines, 1):
        axes = figure.add_subplot(len(lines), 1, number)
        at = range(len(line.points))
        middle = [point.rtf for point in line.points]
        axes.plot(at, middle, color="#334155", linewidth=1)
        axes.vlines(
            at, [p.low for p in line.points], [p.high for p in line.points], color="#94a3b8"
        )
        for marked, symbol, colour in ((False, "o", "#0f172a"), (True, "x", "#dc2626")):
            chosen = [i for i in at if line.points[i].marked is marked]
            label = "marked, no baseline" if marked else "run"
            if chosen:
                axes.plot(chosen, [middle[i] for i in chosen], symbol, color=colour, label=label)
        seen: set[str] = set()
        for event in line.events:
            name = None if event.kind in seen else event.kind
            seen.add(event.kind)
            axes.axvline(event.index - 0.3, color=_COLOURS[event.kind], ls="--", lw=1, label=name)
        step = max(1, len(middle) // 8)
        axes.set_xticks(list(at)[::step], [p.started[:10] for p in line.points][::step])
        axes.set_title(line.title, loc="left", fontsize=10)
        axes.set_ylabel("RTF")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", fontsize=8, ncols=4, frameon=False)
    figure.savefig(target, format="png")


def _range(points: Sequence[Point]) -> tuple[float, float]:
    low, high = min(p.low for p in points), max(p.high for p in points)
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return max(0.0, low - pad), high + pad


def _columns(count: int, room: int) -> list[int]:
    if count == 1:
        return [0]
    return [round(i * (room - 1) / (count - 1)) for i in range(count)]


def _row(value: float, low: float, high: float, height: int) -> int:
    return min(height - 1, max(0, round((high - value) / (high - low) * (height - 1))))
