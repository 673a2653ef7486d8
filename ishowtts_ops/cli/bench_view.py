"""How runs and comparisons are shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ishowtts_ops.cli import render
from ishowtts_ops.errors import OpsError
from ishowtts_ops.measure.compare import Comparison
from ishowtts_ops.measure.fingerprint import hottest
from ishowtts_ops.measure.history import History
from ishowtts_ops.measure.run import METRICS, TITLES, Run, from_json, ratio_text
from ishowtts_ops.measure.stats import Summary

SPREAD_WANTED = 0.10


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
        lines.append(("streamed", f"first audio at the socket after {_ms(median(at_socket))}"))
    if found.above_floor is not None and found.floor_s is not None:
        lines.append(("floor", f"{_ms(found.floor_s)}; this is {found.above_floor:.1f} times it"))
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
        render.say(f"The spread of ± {percent} is large; below 10 % is wanted.", "yellow")
    for mark in found.marks:
        render.say(f"Marked, so it never becomes a baseline: {mark}.", "yellow")


def table(runs: Sequence[Run], baselines: Collection[str]) -> None:
    """Runs, a line each."""
    rows = []
    for item in runs:
        rtf = item.summary("rtf")
        star = "*" if item.id in baselines else "!" if item.marks else ""
        kind = f"{item.workload} {item.engine} {rtf.count}x"
        figures = f"{ratio_text(rtf.median)} ±{rtf.spread * 100:.1f} %"
        rows.append((star, item.id, kind, figures, item.note or "; ".join(item.marks)))
    render.table(("", "run", "work", "RTF", "* baseline, ! marked"), rows)


def comparison(found: Comparison) -> None:
    """The verdict, the figures, and what else differs."""
    render.say(found.verdict, "bold")
    rows = [
        (
            TITLES[f.metric],
            _value(f.metric, f.first.median),
            _value(f.metric, f.second.median),
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
        }
        for f in found.figures
    }
    return {
        "first": found.first.id,
        "second": found.second.id,
        "verdict": found.verdict,
        "figures": figures,
        "differences": found.differences,
    }


def load(name: str, history: History) -> Run:
    """A run by its name in the history, or from a file that `bench run -o` wrote."""
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        try:
            return from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise OpsError(f"{path} holds no run: {error}.") from None
    if name == "baseline" and not history.baselines():
        raise OpsError(
            "This box has no baseline yet.", "`ishowtts-ops regress --update-baseline` takes one."
        )
    return history.get(name)


def document(found: Run) -> str:
    """A run as a file that people can read too."""
    return json.dumps(found.to_json(), ensure_ascii=False, indent=1)


def _figures(metric: str, found: Summary) -> tuple[str, str, str, str]:
    if found.low is None or found.high is None:
        span = "too few passes"
    else:
        span = f"{_value(metric, found.low)} to {_value(metric, found.high)}"
    if found.count == 1:
        return _value(metric, found.median), span, "", ""
    middle, high = _value(metric, found.median), _value(metric, found.p95)
    return middle, span, high, f"± {found.spread * 100:.1f} %"


def _value(metric: str, value: float) -> str:
    return ratio_text(value) if metric == "rtf" else _ms(value)


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
