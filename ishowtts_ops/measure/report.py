"""One HTML file with everything in it: no script, no font and no picture from anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from html import escape
from statistics import median

from ishowtts_ops.measure.compare import NotComparable, compare
from ishowtts_ops.measure.fingerprint import hottest
from ishowtts_ops.measure.others import OTHERS
from ishowtts_ops.measure.run import METRICS, TITLES, Run, figure_text, ratio_text, time_text
from ishowtts_ops.measure.timeline import LETTERS, Timeline, stamps, ticks

_WIDE, _NARROW = (900, 300), (370, 250)
"""Charts for a desk and for a phone, in the units their letters are sized in."""
_ON_A_PHONE = 16
"""Runs that are told apart there; the newest."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 26, 40
_SHORT = 28
"""Characters that stay on one line in a table."""

_STYLE = """
:root{color-scheme:light dark;--ink:#0f172a;--paper:#fff;--soft:#64748b;--line:#cbd5e1;
--bad:#dc2626;--mode:#b45309;--patch:#6d28d9;--software:#0f766e;--baseline:#1d4ed8}
@media(prefers-color-scheme:dark){:root{--ink:#e2e8f0;--paper:#0b1220;--soft:#94a3b8;
--line:#334155;--bad:#f87171;--mode:#fbbf24;--patch:#c4b5fd;--software:#5eead4;--baseline:#93c5fd}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:break-word}
th,.short{white-space:nowrap}ul{padding-left:1.2rem}li{overflow-wrap:anywhere}
.scroll{overflow-x:auto}svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:11px}.narrow{display:none}
@media(max-width:620px){.wide{display:none}.narrow{display:block}body{margin:1rem auto}}
.bad{color:var(--bad)}.soft{color:var(--soft)}.mode{color:var(--mode)}.patch{color:var(--patch)}
.software{color:var(--software)}.baseline{color:var(--baseline)}
"""


def render(
    title: str,
    lines: Sequence[Timeline],
    runs: Sequence[Run],
    baseline: Run | None,
    made: str,
    resets: Collection[str] = (),
) -> str:
    """The whole page.

    Args:
        runs: oldest first; the newest is shown in full.
        baseline: of the newest run's kind of work.
        made: when; shown as it is.
        resets: ids of the runs that ever were baselines; see `noise.learn`.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{len(runs)} runs, made {escape(made)}</p>',
    ]
    if runs:
        parts += _verdict(runs, baseline, resets)
    singles = [line for line in lines if len(line.points) == 1]
    if len(singles) == len(lines):
        singles = []
    for line in lines:
        if line in singles:
            continue
        parts += [
            f"<h2>{escape(line.title)}</h2>",
            f'<p class="soft">{_caption(line)}</p>',
            f'<div class="wide">{chart(line)}</div>',
            f'<div class="narrow">{chart(line.newest(_ON_A_PHONE), _NARROW)}</div>',
            _events(line),
        ]
    if singles:
        names = "; ".join(escape(line.title) for line in singles)
        parts.append(f'<p class="soft">With one run each, and so without a chart: {names}.</p>')
    if runs:
        parts += _newest(runs[-1])
        parts += ["<h2>All runs</h2>", _all_runs(runs)]
    else:
        parts.append("<p>There are no runs yet. <code>ishowtts-ops bench run</code> takes one.</p>")
    return "\n".join([*parts, "</body></html>", ""])


def chart(line: Timeline, size: tuple[int, int] = _WIDE) -> str:
    """A timeline as inline SVG of that width and height."""
    width, height = size
    points = line.points
    values = ticks(line.span[1])
    top = values[-1]
    gap = (width - _LEFT - _RIGHT) / max(1, len(points))

    def x(index: float) -> float:
        return _LEFT + gap * (index + 0.5)

    def y(value: float) -> float:
        return _TOP + (height - _TOP - _BOTTOM) * (1 - value / top)

    svg = [
        f'<svg viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="RTF over time, {escape(line.title)}">'
    ]
    for value in values:
        svg.append(
            f'<line x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
            f' stroke="var(--line)"/><text x="{_LEFT - 8}" y="{y(value) + 4:.1f}"'
            f' text-anchor="end">{value:.6g}</text>'
        )
    svg += [
        f'<line class="baseline level" x1="{x(level.first):.1f}" x2="{x(level.last):.1f}"'
        f' y1="{y(level.rtf):.1f}" y2="{y(level.rtf):.1f}" stroke="currentColor"'
        f' stroke-dasharray="7 4"><title>baseline: RTF {ratio_text(level.rtf)}</title></line>'
        for level in line.levels
    ]
    svg += _event_lines(line, x, height)
    path = " ".join(f"{x(i):.1f},{y(p.rtf):.1f}" for i, p in enumerate(points))
    svg.append(f'<polyline points="{path}" fill="none" stroke="var(--soft)"/>')
    for index, point in enumerate(points):
        colour = "var(--bad)" if point.marked else "var(--ink)"
        svg.append(
            f'<g class="run"><line x1="{x(index):.1f}" x2="{x(index):.1f}"'
            f' y1="{y(point.low):.1f}" y2="{y(point.high):.1f}" stroke="{colour}"/>'
            f'<circle cx="{x(index):.1f}" cy="{y(point.rtf):.1f}" r="3.5" fill="{colour}"/>'
            f"<title>{_minute(point.started)}: RTF {ratio_text(point.rtf)}"
            f"{', marked' if point.marked else ''}</title></g>"
        )
    svg += [
        f'<text x="{x(index):.1f}" y="{height - 18}" text-anchor="middle">{escape(label)}</text>'
        for index, label in stamps(points, width // 85)
    ]
    return "".join([*svg, "</svg>"])


def _event_lines(line: Timeline, x: Callable[[float], float], height: int) -> list[str]:
    """What changed, as upright lines with a letter; letters that meet stand side by side."""
    svg = []
    used: dict[float, int] = {}
    for event in line.events:
        place = float(event.index) if event.kind == "baseline" else event.index - 0.5
        at, beside = x(place), 11 * used.get(place, 0)
        used[place] = used.get(place, 0) + 1
        svg.append(
            f'<g class="event {event.kind}"><line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}"'
            f' y2="{height - _BOTTOM}" stroke="currentColor" stroke-dasharray="2 4"/>'
            f'<text x="{at + beside:.1f}" y="{_TOP - 8}" text-anchor="middle"'
            f' style="fill:currentColor">{LETTERS[event.kind]}</text>'
            f"<title>{escape(event.text)}</title></g>"
        )
    return svg


def _caption(line: Timeline) -> str:
    text = (
        "Engine seconds per second of speech, run by run; lower is faster. Bars are 95 % intervals."
    )
    if line.levels:
        text += ' <span class="baseline">Dashed</span>: the baseline.'
    if len(line.points) > _ON_A_PHONE:
        text += f' <span class="narrow">The newest {_ON_A_PHONE} runs.</span>'
    if any(point.marked for point in line.points):
        text += ' <span class="bad">Red</span>: taken under conditions that spoil a run.'
    return text


def _minute(started: str) -> str:
    return escape(started[:16].replace("T", " "))


def _events(line: Timeline) -> str:
    if not line.events:
        return '<p class="soft">Nothing changed between these runs.</p>'
    rows = "".join(
        f'<li class="{event.kind}"><b>{LETTERS[event.kind]}</b>'
        f" {_minute(line.points[event.index].started)}: {escape(event.text)}</li>"
        for event in line.events
    )
    return f"<ul>{rows}</ul>"


def _verdict(runs: Sequence[Run], baseline: Run | None, resets: Collection[str]) -> list[str]:
    """The newest run in a sentence or two, against its baseline."""
    run = runs[-1]
    told = run.summary("rtf")
    lead = (
        f"The newest run, {_minute(run.started)} UTC, {escape(run.engine)}, workload"
        f" {escape(run.workload)}: <b>RTF {ratio_text(told.median)}</b>, {told.count} passes."
    )
    parts = [f"<p>{lead}</p>"]
    parts += [f'<p class="bad">Marked: {escape(mark)}.</p>' for mark in run.marks]
    if baseline is None:
        return [*parts, "<p>There is no baseline for this work.</p>"]
    if baseline.id == run.id:
        return [*parts, "<p>It is the baseline.</p>"]
    try:
        found = compare(baseline, run, runs, resets)
    except NotComparable as error:
        return [*parts, f"<p>{escape(error.message)}</p>"]
    verdict = found.verdict.replace("The second run", "This run").replace("the second", "this")
    words = f"Against the baseline {escape(baseline.id)}: {escape(verdict)} {escape(found.caveat)}"
    parts.append(f"<p>{words.rstrip()}</p>")
    if found.differences:
        rows = "".join(f"<li>{escape(str(item))}</li>" for item in found.differences)
        parts.append(f"<p>What is not as it was at the baseline:</p><ul>{rows}</ul>")
    return parts


def _newest(run: Run) -> list[str]:
    rows = []
    for metric in METRICS:
        told = run.summary(metric)
        span = "too few passes"
        if told.low is not None and told.high is not None:
            span = f"{figure_text(metric, told.low)} to {figure_text(metric, told.high)}"
        middle, high = figure_text(metric, told.median), figure_text(metric, told.p95)
        rows.append([TITLES[metric], middle, span, high, f"± {told.spread * 100:.1f} %"])
    return [
        f"<h2>The newest run, {escape(run.id)}</h2>",
        _table(["", "median", "95 % interval", "p95", "spread"], rows),
        "<h2>Taken on</h2>",
        _table(["", ""], [[k, str(v)] for k, v in (run.fingerprint.rows() | _beside(run)).items()]),
    ]


def _beside(run: Run) -> dict[str, str]:
    """What else was seen during a run, as far as somebody could say."""
    found: dict[str, str] = {}
    at_socket = run.extra.get("first_audio_at_socket_s")
    if at_socket:
        found["first audio at the socket"] = time_text(median(at_socket))
    if run.floor_s is not None and run.above_floor is not None:
        found["floor of this GPU"] = (
            f"{time_text(run.floor_s)}; this run is {run.above_floor:.1f} times it"
        )
    if run.memory.rss_after is not None:
        found["memory"] = f"{run.memory.rss_after / (1 << 20):.0f} MiB"
    if run.memory.device_peak is not None:
        found["GPU memory"] = f"{run.memory.device_peak / (1 << 20):.0f} MiB at most"
    heat = (hottest([run.fingerprint.before]), hottest([run.fingerprint.after]))
    if None not in heat:
        found["heat"] = f"{heat[0]:.0f} °C before, {heat[1]:.0f} °C after"
    if run.fingerprint.throttle_events:
        events = run.fingerprint.throttle_events
        found["over-current events"] = ", ".join(f"{name} {n}x" for name, n in events.items())
    if OTHERS in run.extra:
        found["other programs"] = f"{float(run.extra[OTHERS]) * 100:.0f} % of the processors"
    if run.note:
        found["note"] = run.note
    return found


def _all_runs(runs: Sequence[Run]) -> str:
    rows = []
    for run in reversed(runs):
        found = run.summary("rtf")
        middle, spread = ratio_text(found.median), f"± {found.spread * 100:.1f} %"
        marks = "; ".join(run.marks)
        words = "; ".join(filter(None, (run.note, marks)))
        work = [run.workload, run.engine, run.door]
        rows.append([run.id, *work, str(found.count), middle, spread, words])
    return _table(["run", "workload", "engine", "door", "passes", "RTF", "spread", "notes"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)

    def cell(text: str) -> str:
        kind = ' class="short"' if len(text) <= _SHORT else ""
        return f"<td{kind}>{escape(text)}</td>"

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'
