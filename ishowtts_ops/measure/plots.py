"""Timelines as text for a terminal, and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ishowtts_ops.errors import ToolMissing
from ishowtts_ops.measure.run import ratio_text
from ishowtts_ops.measure.timeline import LETTERS, Point, Timeline, stamps

COLOURS = {"mode": "#b45309", "patch": "#6d28d9", "software": "#0f766e", "baseline": "#1d4ed8"}
_GUTTER = 9
_SHOWN_EVENTS = 8
_PANEL_INCHES = 3.4
_LINE_INCHES = 0.17


def terminal(line: Timeline, width: int, height: int = 14) -> str:
    """A plot of `width` columns; older runs that do not fit are left out and counted. One run is no
    plot but a line.

    A dot is a run, a cross one that is marked, a dashed line the baseline; letters below say what
    changed before a run.
    """
    if len(line.points) == 1:
        return _single(line, width)
    room = max(8, width - _GUTTER - 1)
    left_out = max(0, len(line.points) - room)
    part = line.newest(room)
    low, high = _range(part)
    columns = _columns(len(part.points), room)
    canvas = [[" "] * room for _ in range(height)]

    def row(value: float) -> int:
        return min(height - 1, max(0, round((high - value) / (high - low) * (height - 1))))

    for level in part.levels:
        for column in range(columns[level.first], columns[level.last] + 1):
            canvas[row(level.rtf)][column] = "╌"
    for column, point in zip(columns, part.points, strict=True):
        for value in (point.low, point.high):
            canvas[row(value)][column] = "·"
        canvas[row(point.rtf)][column] = "×" if point.marked else "●"
    rows = [_cut(f"RTF over time: {line.title}", width)]
    for number, cells in enumerate(canvas):
        value = high - (high - low) * number / (height - 1)
        label = f"{ratio_text(value):>8}" if number % 3 == 0 or number == height - 1 else " " * 8
        rows.append(f"{label} │{''.join(cells)}".rstrip())
    rows.append(f"{' ' * 8} └{'─' * room}")
    rows += [f"{' ' * _GUTTER} {letters}" for letters in _letters(part, columns, room)]
    stamp = 16 if room > 2 * 16 else 10
    first, last = _minute(part.points[0])[:stamp], _minute(part.points[-1])[:stamp]
    rows.append(f"{' ' * _GUTTER} {first}{last.rjust(room - len(first))}")
    if left_out:
        rows.append(f"{left_out} older runs are left out.")
    rows += [
        _cut(f"{LETTERS[e.kind]} {_minute(part.points[e.index])} {e.text}", max(20, width))
        for e in part.events
    ]
    return "\n".join(rows)


def _single(line: Timeline, width: int) -> str:
    (point,) = line.points
    span = f" ({ratio_text(point.low)} to {ratio_text(point.high)})"
    marked = ", marked" if point.marked else ""
    text = f"{ratio_text(point.rtf)}{span if point.low < point.high else ''}{marked}"
    head = f"RTF, one run: {line.title}"
    return "\n".join(_cut(row, width) for row in (head, f"  {_minute(point)}  {text}"))


def _letters(part: Timeline, columns: Sequence[int], room: int) -> list[str]:
    """What changed, below the runs; letters that meet stand one below the other."""
    rows: list[list[str]] = []
    for event in part.events:
        column = columns[event.index]
        for cells in rows:
            if cells[column] == " ":
                break
        else:
            cells = [" "] * room
            rows.append(cells)
        if LETTERS[event.kind] not in (row[column] for row in rows):
            cells[column] = LETTERS[event.kind]
    return ["".join(cells).rstrip() for cells in rows if any(cell != " " for cell in cells)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _minute(point: Point) -> str:
    return point.started[:16].replace("T", " ")


def png(lines: Sequence[Timeline], target: Path) -> None:
    """Draw timelines one below the other into a PNG file. Kinds of work with a single run are
    counted, not drawn, unless there is nothing else.

    Raises:
        ToolMissing: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolMissing("matplotlib", "to draw PNG files") from None
    drawn = [line for line in lines if len(line.points) > 1] or list(lines)
    heights = [_PANEL_INCHES + _LINE_INCHES * len(_legend(line)) for line in drawn]
    figure = Figure(figsize=(10, sum(heights) + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    text = "Speech speed of this box: RTF run by run, lower is faster"
    if len(drawn) < len(lines):
        text += f" ({len(lines) - len(drawn)} kinds of work with one run are not drawn)"
    figure.suptitle(text, x=0.01, ha="left", fontsize=11)
    grid = figure.add_gridspec(len(drawn), 1, height_ratios=heights)
    for number, line in enumerate(drawn):
        _panel(figure.add_subplot(grid[number]), line)
    figure.savefig(target, format="png")


def _panel(axes: Any, line: Timeline) -> None:
    at = range(len(line.points))
    middle = [point.rtf for point in line.points]
    top = line.span[1] * 1.15 or 1.0
    axes.plot(at, middle, color="#94a3b8", linewidth=1, zorder=1)
    axes.vlines(at, [p.low for p in line.points], [p.high for p in line.points], color="#475569")
    for marked, symbol, colour in ((False, "o", "#0f172a"), (True, "x", "#dc2626")):
        chosen = [i for i in at if line.points[i].marked is marked]
        label = "marked, never a baseline" if marked else "run, with its 95 % interval"
        if chosen:
            axes.plot(chosen, [middle[i] for i in chosen], symbol, color=colour, label=label)
    for number, level in enumerate(line.levels):
        name = None if number else "baseline"
        axes.hlines(
            level.rtf, level.first, level.last, COLOURS["baseline"], "dashed", lw=1, label=name
        )
    used: dict[float, int] = {}
    for event in line.events:
        place = float(event.index) if event.kind == "baseline" else event.index - 0.5
        if event.kind != "baseline":
            axes.axvline(place, color=COLOURS[event.kind], ls=":", lw=1)
        used[place] = used.get(place, 0) + 1
        axes.annotate(
            LETTERS[event.kind], (place, 1), xycoords=("data", "axes fraction"),
            xytext=(9 * (used[place] - 1), 3), textcoords="offset points", ha="center",
            fontsize=8, color=COLOURS[event.kind], fontweight="bold",
        )  # fmt: skip
    labels = stamps(line.points, 9)
    axes.set_xticks([index for index, _ in labels], [label for _, label in labels], fontsize=8)
    axes.set_xlim(-0.6, len(line.points) - 0.4)
    axes.set_title(line.title, loc="left", fontsize=10, fontweight="bold", pad=16)
    axes.set_ylabel("RTF")
    axes.set_ylim(bottom=0, top=top)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", color="#e2e8f0")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    # Above: inside it would lie on the runs of a box that got faster.
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1.06), fontsize=8, ncols=3, frameon=False, borderpad=0
    )
    axes.set_xlabel("\n".join(_legend(line)), loc="left", fontsize=8)


def _legend(line: Timeline) -> list[str]:
    """What changed, in words; the newest changes where there are many."""
    rows = [
        _cut(f"{LETTERS[e.kind]}  {_minute(line.points[e.index])}  {e.text}", 130)
        for e in line.events
    ]
    left_out = len(rows) - _SHOWN_EVENTS
    if left_out > 0:
        rows = [f"{left_out} earlier changes are not listed", *rows[left_out:]]
    return rows


def _range(line: Timeline) -> tuple[float, float]:
    low, high = line.span
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return max(0.0, low - pad), high + pad


def _columns(count: int, room: int) -> list[int]:
    return [round(i * (room - 1) / (count - 1)) for i in range(count)]
