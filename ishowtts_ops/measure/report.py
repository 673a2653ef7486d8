"""One HTML file with everything in it: no script, no font and no picture from anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ishowtts_ops.measure.compare import NotComparable, compare
from ishowtts_ops.measure.run import METRICS, TITLES, UNITS, Run, ratio_text
from ishowtts_ops.measure.timeline import LETTERS, Timeline

_WIDTH, _HEIGHT = 900, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 26, 40

_STYLE = """
:root{color-scheme:light dark;--ink:#0f172a;--paper:#fff;--soft:#64748b;--line:#cbd5e1;
--bad:#dc2626;--mode:#b45309;--patch:#6d28d9;--software:#0f766e;--baseline:#1d4ed8}
@media(prefers-color-scheme:dark){:root{--ink:#e2e8f0;--paper:#0b1220;--soft:#94a3b8;
--line:#334155;--bad:#f87171;--mode:#fbbf24;--patch:#c4b5fd;--software:#5eead4;--baseline:#93c5fd}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:break-word}
.scroll{overflow-x:auto}svg{width:100%;min-width:640px;height:auto}
svg text{fill:var(--soft);font-size:11px}
.bad{color:var(--bad)}.soft{color:var(--soft)}.mode{color:var(--mode)}.patch{color:var(--patch)}
.software{color:var(--software)}.baseline{color:var(--baseline)}
"""


def render(
    title: str, lines: Sequence[Timeline], runs: Sequence[Run], baseline: Run | None, made: str
) -> str:
    """The whole page.

    Args:
        runs: oldest first; the newest is shown in full.
        baseline: of the newest run's kind of work.
        made: when; shown as it is.
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
    for line in lines:
        parts += [
            f"<h2>{escape(line.title)}</h2>",
            f'<p class="soft">{_caption(line)}</p>',
            f'<div class="scroll">{chart(line)}</div>',
            _events(line),
        ]
    if runs:
        parts += _newest(runs[-1], baseline)
        parts += ["<h2>All runs</h2>", _all_runs(runs)]
    else:
        parts.append("<p>There are no runs yet. <code>ishowtts-ops bench run</code> takes one.</p>")
    return "\n".join([*parts, "</body></html>", ""])


def chart(line: Timeline) -> str:
    """A timeline as inline SVG."""
    points = line.points
    top = max(point.high for point in points) * 1.1 or 1.0
    room = _WIDTH - _LEFT - _RIGHT
    gap = room / max(1, len(points))

    def x(index: float) -> float:
        return _LEFT + gap * (index + 0.5)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / top)

    svg = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="RTF over time, {escape(line.title)}">'
    ]
    for number in range(5):
        value = top * number / 4
        svg.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
            f' stroke="var(--line)"/><text x="{_LEFT - 8}" y="{y(value) + 4:.1f}"'
            f' text-anchor="end">{ratio_text(value)}</text>'
        )
    for event in line.events:
        at = x(event.index - 0.5) if event.kind != "baseline" else x(event.index)
        svg.append(
            f'<g class="event {event.kind}"><line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}"'
            f' y2="{_HEIGHT - _BOTTOM}" stroke="currentColor" stroke-dasharray="4 3"/>'
            f'<text x="{at:.1f}" y="{_TOP - 8}" text-anchor="middle"'
            f' style="fill:currentColor">{LETTERS[event.kind]}</text>'
            f"<title>{escape(event.text)}</title></g>"
        )
    path = " ".join(f"{x(i):.1f},{y(p.rtf):.1f}" for i, p in enumerate(points))
    svg.append(f'<polyline points="{path}" fill="none" stroke="var(--soft)"/>')
    for index, point in enumerate(points):
        colour = "var(--bad)" if point.marked else "var(--ink)"
        svg.append(
            f'<g class="run"><line x1="{x(index):.1f}" x2="{x(index):.1f}"'
            f' y1="{y(point.low):.1f}" y2="{y(point.high):.1f}" stroke="{colour}"/>'
            f'<circle cx="{x(index):.1f}" cy="{y(point.rtf):.1f}" r="3.5" fill="{colour}"/>'
            f"<title>{escape(point.started)}: RTF {ratio_text(point.rtf)}"
            f"{', marked' if point.marked else ''}</title></g>"
        )
    step = max(1, len(points) // 8)
    for index in range(0, len(points), step):
        svg.append(
            f'<text x="{x(index):.1f}" y="{_HEIGHT - 18}" text-anchor="middle">'
            f"{escape(points[index].started[:10])}</text>"
        )
    return "".join([*svg, "</svg>"])


def _caption(line: Timeline) -> str:
    text = "Engine seconds per second of speech; lower is faster. Bars are 95 % intervals."
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


def _newest(run: Run, baseline: Run | None) -> list[str]:
    parts = [f"<h2>The newest run, {escape(run.id)}</h2>"]
    parts += [f'<p class="bad">Marked: {escape(mark)}.</p>' for mark in run.marks]
    if baseline is not None and baseline.id != run.id:
        try:
            found = compare(baseline, run)
        except NotComparable as error:
            parts.append(f"<p>{escape(error.message)}</p>")
        else:
            verdict = found.verdict.replace("The second run", "This run")
            parts.append(f"<p>Against the baseline {escape(baseline.id)}: {escape(verdict)}</p>")
            parts += [f"<p>{escape(str(item))}</p>" for item in found.differences]
    elif baseline is not None:
        parts.append("<p>It is the baseline.</p>")
    rows = []
    for metric in METRICS:
        told = run.summary(metric)
        unit = UNITS[metric]
        span = ""
        if told.low is not None and told.high is not None:
            span = f"{ratio_text(told.low)} to {ratio_text(told.high)}"
        middle, high = f"{ratio_text(told.median)} {unit}", f"{ratio_text(told.p95)} {unit}"
        rows.append([TITLES[metric], middle, span, high, f"± {told.spread * 100:.1f} %"])
    parts.append(_table(["", "median", "95 % interval", "p95", "spread"], rows))
    parts.append("<h2>Taken on</h2>")
    parts.append(_table(["", ""], [[k, str(v)] for k, v in run.fingerprint.rows().items()]))
    return parts


def _all_runs(runs: Sequence[Run]) -> str:
    rows = []
    for run in reversed(runs):
        found = run.summary("rtf")
        middle, spread = ratio_text(found.median), f"± {found.spread * 100:.1f} %"
        marks = "; ".join(run.marks)
        rows.append([run.id, run.workload, run.kind, str(found.count), middle, spread, marks])
    return _table(["run", "workload", "kind", "passes", "RTF", "spread", "marks"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'
