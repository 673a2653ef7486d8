"""How runs and comparisons are shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ishowtts_ops.cli import render
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.measure.compare import Comparison
from ishowtts_ops.measure.doors import HttpDoor
from ishowtts_ops.measure.fingerprint import hottest, way_out
from ishowtts_ops.measure.history import History
from ishowtts_ops.measure.others import OTHERS
from ishowtts_ops.measure.run import (
    METRICS,
    TITLES,
    Run,
    figure_text,
    from_json,
    ratio_text,
    time_text,
)
from ishowtts_ops.measure.stats import Summary
from ishowtts_ops.measure.workloads import named

SPREAD_WANTED = 0.10
CROWDED = 0.10
"""Share of the processors from which on others are worth a line."""


def run(found: Run) -> None:
    """One run: figures, floor, memory, machine, marks."""
    rtf = found.summary("rtf")
    passes = "1 pass" if rtf.count == 1 else f"{rtf.count} passes"
    render.say(f"{found.engine} on {found.device}, workload {found.workload}, {passes}", "bold")
    rows = [(TITLES[metric], *_figures(metric, found.summary(metric))) for metric in METRICS]
    render.table(("", "median", "95 % interval", "p95", "spread"), rows)
    lines = []
    at_socket = found.extra.get("first_audio_at_socket_s")
    if at_socket:
        lines.append(
            ("streamed", f"first audio at the socket after {time_text(median(at_socket))}")
        )
    if found.above_floor is not None and found.floor_s is not None:
        lines.append(
            ("floor", f"{time_text(found.floor_s)}; this is {found.above_floor:.1f} times it")
        )
    memory = found.memory
    if memory.rss_after is not None:
        grown = memory.rss_after - (memory.rss_before or memory.rss_after)
        lines.append(("memory", f"{_mib(memory.rss_after)}, {grown / (1 << 20):+.0f} MiB"))
    if memory.device_peak is not None:
        lines.append(("GPU memory", f"{_mib(memory.device_peak)} at most"))
    before, after = found.fingerprint.before, found.fingerprint.after
    lines.append(("mode", f"{before.mode}; clocks locked: {before.locked}"))
    lines.append(("clocks", before.clocks))
    heat = (hottest([before]), hottest([after]))
    if None not in heat:
        lines.append(("heat", f"{heat[0]:.0f} °C before, {heat[1]:.0f} °C after"))
    for name in ("series", "torch", "NFE"):
        if name in found.fingerprint.software:
            lines.append((name, str(found.fingerprint.software[name])))
    render.pairs(lines)
    if rtf.count > 1 and rtf.spread > SPREAD_WANTED:
        percent = f"{rtf.spread * 100:.0f} %"
        others = float(found.extra.get(OTHERS, 0.0))
        why = ""
        if others > CROWDED:
            why = f" Other programs had {others * 100:.0f} % of the processors meanwhile."
        render.say(f"The spread of ± {percent} is large; below 10 % is wanted.{why}", "yellow")
    for mark in found.marks:
        render.say(f"Marked, so it never becomes a baseline: {mark}.", "yellow")
    if found.marks:
        render.say(way_out(found.fingerprint), "dim")


def table(runs: Sequence[Run], baselines: Collection[str]) -> None:
    """Runs, a line each."""
    rows = []
    for item in runs:
        rtf = item.summary("rtf")
        star = "*" if item.id in baselines else "!" if item.marks else ""
        kind = f"{item.workload} {item.engine} {item.door} {rtf.count}x"
        figures = ratio_text(rtf.median)
        if rtf.count > 1:
            figures += f" ±{rtf.spread * 100:.1f} %"
        marks = "; ".join(item.marks)
        rows.append((star, item.id, kind, figures, "; ".join(filter(None, (item.note, marks)))))
    render.table(("", "run", "work", "RTF", "* baseline, ! marked"), rows)


def comparison(found: Comparison) -> None:
    """The verdict, the figures, and what else differs."""
    render.say(found.verdict, "bold")
    if found.caveat:
        render.say(found.caveat)
    rows = [
        (
            TITLES[f.metric],
            figure_text(f.metric, f.first.median),
            figure_text(f.metric, f.second.median),
            f.change,
            f"{f.shift.p:.2g}",
        )
        for f in found.figures
    ]
    render.table(("", "first", "second", "the second is", "p"), rows)
    if found.differences:
        render.say("What else differs:")
        for item in found.differences:
            render.say(f"  {item}")
    else:
        render.say("Machine and software are the same in both.")
    for name, side in (("first", found.first), ("second", found.second)):
        for mark in side.marks:
            render.say(f"The {name} run is marked: {mark}.", "yellow")


def comparison_data(found: Comparison) -> dict[str, Any]:
    """For JSON."""
    figures = {
        f.metric: {
            "first": dataclasses.asdict(f.first),
            "second": dataclasses.asdict(f.second),
            "shift": dataclasses.asdict(f.shift),
            "verdict": f.verdict,
            "apart": f.apart and dataclasses.asdict(f.apart),
        }
        for f in found.figures
    }
    return {
        "first": found.first.id,
        "second": found.second.id,
        "verdict": found.verdict,
        "caveat": found.caveat,
        "figures": figures,
        "differences": found.differences,
    }


def load_pair(first: str, second: str, history: History) -> tuple[Run, Run]:
    """Two runs by their names in the history, or from files that `bench run -o` wrote. `baseline`
    is what the other one is held to."""
    if first == second == "baseline":
        raise UsageError("A run does not differ from itself.", "Name another one, such as last.")
    if first == "baseline":
        other = _load(second, history)
        return _baseline_of(other, history), other
    one = _load(first, history)
    return one, _baseline_of(one, history) if second == "baseline" else _load(second, history)


def _baseline_of(run: Run, history: History) -> Run:
    found = history.baseline(run.place)
    if found is None:
        hint = "`ishowtts-ops bench history` lists other runs of that work."
        if run.door == HttpDoor.name and run.workload in named():
            hint = f"`sudo ishowtts-ops regress --update-baseline -w {run.workload}` takes one."
        raise OpsError(
            f"This box has no baseline for {run.engine}, workload {run.workload}, {run.door}.", hint
        )
    return found


def _load(name: str, history: History) -> Run:
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        try:
            return from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise OpsError(
                f"{path} holds no run: {why}.", "`ishowtts-ops bench run -o FILE` writes one."
            ) from None
    return history.get(name)


def document(found: Run) -> str:
    """A run as a file that people can read too."""
    return json.dumps(found.to_json(), ensure_ascii=False, indent=1)


def _figures(metric: str, found: Summary) -> tuple[str, str, str, str]:
    if found.low is None or found.high is None:
        span = "too few passes"
    else:
        span = f"{figure_text(metric, found.low)} to {figure_text(metric, found.high)}"
    if found.count == 1:
        return figure_text(metric, found.median), span, "", ""
    middle, high = figure_text(metric, found.median), figure_text(metric, found.p95)
    return middle, span, high, f"± {found.spread * 100:.1f} %"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
