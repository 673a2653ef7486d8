"""A reading as lines for a terminal: what fits is shown, 80 × 24 is enough for all that matters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.memory import Memory
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.measure.gpu_load import GpuLoad
from ishowtts_ops.measure.monitor import DaemonPulse, Reading
from ishowtts_ops.measure.run import ratio_text

HOT_C = 85.0
NAME_WIDTH = 9


def view(reading: Reading, width: int, height: int) -> Group:
    """At most `height` - 1 lines of at most `width` columns."""
    rows = [_title(reading, width), Text()]
    rows += _clocks(reading, width)
    rows += _loads(reading, width)
    rows += _heat(reading, width)
    rows += _power(reading, width)
    rows += [Text()]
    rows += _daemon(reading, width)
    spare = height - 1 - len(rows)
    if spare > 3 and width >= 120:
        rows += _cores(reading, width, spare - 1)
    for row in rows:
        row.truncate(width, overflow="ellipsis")
        row.no_wrap = True
    return Group(*rows[: max(1, height - 1)])


def _title(reading: Reading, width: int) -> Text:
    left = Text("ishowtts-ops monitor  ", style="bold") + Text(reading.name)
    at = reading.at[11:19]
    gap = max(1, width - left.cell_len - len(at))
    return left + Text(" " * gap + at, style="dim")


def _row(name: str, text: Text | str, style: str = "") -> Text:
    body = text if isinstance(text, Text) else Text(text, style=style)
    return Text(f"{name:<{NAME_WIDTH}}", style="bold") + body


def _clocks(reading: Reading, width: int) -> list[Text]:
    if not reading.jetson:
        return [_row("mode", "no Jetson: neither power mode nor clock lock", "dim")]
    mode = reading.mode.reason if isinstance(reading.mode, Unknown) else reading.mode
    if reading.loose:
        lock = Text(f"CLOCKS NOT LOCKED: {', '.join(reading.loose)}", style="bold red")
    elif isinstance(reading.locked, Unknown):
        lock = Text(f"clock lock not known ({reading.locked.reason})", style="yellow")
    else:
        lock = Text("clocks locked", style="green")
    rows = [_row("mode", Text(f"{mode}, ") + lock)]
    if isinstance(reading.clocks, ClockFacts):
        rows += _flow("clocks", _rates(reading.clocks), width, gap=", ")
    return rows


def _rates(clocks: ClockFacts) -> list[Text]:
    parts = []
    for policy in clocks.cpus:
        cores = f"{policy.cores[0]}-{policy.cores[-1]}"
        parts.append(f"CPU {cores} {_of(policy.cur_khz, policy.max_khz, 1000)}")
    if not isinstance(clocks.gpu, Unknown):
        parts.append(f"GPU {_of(clocks.gpu.cur_hz, clocks.gpu.max_hz, 1_000_000)}")
    if not isinstance(clocks.emc.rate_hz, Unknown):
        parts.append(f"EMC {round(clocks.emc.rate_hz / 1e6)}")
    if not parts:
        return [Text("cannot be read")]
    return [*map(Text, parts[:-1]), Text(f"{parts[-1]} MHz")]


def _of(now: Maybe[int], top: Maybe[int], scale: int) -> str:
    if isinstance(now, Unknown):
        return "?"
    if isinstance(top, Unknown) or now == top:
        return f"{round(now / scale)}"
    return f"{round(now / scale)}/{round(top / scale)}"


def _loads(reading: Reading, width: int) -> list[Text]:
    bar = max(10, min(40, width - 50))
    rows = []
    if isinstance(reading.gpu_load, GpuLoad):
        share = reading.gpu_load.percent
        rows.append(
            _row("GPU", _bar(share, bar) + Text(f"{share:5.0f} %  {reading.gpu_load.source}"))
        )
    else:
        rows.append(_row("GPU", f"load not known: {reading.gpu_load.reason}", "dim"))
    if reading.cpu_percent:
        share = sum(reading.cpu_percent) / len(reading.cpu_percent)
        busiest = max(reading.cpu_percent)
        text = Text(f"{share:5.0f} %  busiest core {busiest:.0f} %")
        rows.append(_row("CPU", _bar(share, bar) + text))
    if isinstance(reading.memory, Memory):
        memory = reading.memory
        used = memory.total - memory.available
        share = 100 * used / memory.total
        text = Text(f"{share:5.0f} %  {_gib(used)} of {_gib(memory.total)}")
        if memory.swap_used:
            text += Text(f", swap {_gib(memory.swap_used)}", style="yellow")
        rows.append(_row("memory", _bar(share, bar) + text))
    else:
        rows.append(_row("memory", reading.memory.reason, "dim"))
    return rows


def _bar(percent: float, width: int) -> Text:
    full = max(0, min(width, round(width * percent / 100)))
    style = "red" if percent >= 90 else "yellow" if percent >= 75 else "green"
    return Text("█" * full, style=style) + Text("░" * (width - full), style="dim")


def _flow(name: str, parts: Sequence[Text], width: int, gap: str = "  ") -> list[Text]:
    """Parts side by side, in as few lines as they fit into."""
    lines = [Text()]
    for part in parts:
        if not lines[-1]:
            lines[-1] = part
        elif lines[-1].cell_len + len(gap) + part.cell_len <= width - NAME_WIDTH:
            lines[-1] = lines[-1] + Text(gap) + part
        else:
            lines.append(part)
    return [_row(name if number == 0 else "", line) for number, line in enumerate(lines)]


def _heat(reading: Reading, width: int) -> list[Text]:
    if not reading.temperatures:
        return [_row("heat", "no sensor", "dim")]
    hottest = sorted(reading.temperatures.items(), key=lambda item: -item[1])
    parts = [
        Text(
            f"{name.replace('-thermal', '').replace('-therm', '')} {degrees:.0f} °C",
            style="red" if degrees >= HOT_C else "",
        )
        for name, degrees in hottest
    ]
    rows = _flow("heat", parts, width)
    if reading.throttles:
        names = [f"{name}," for name in reading.throttles[:-1]] + [reading.throttles[-1]]
        words = [Text("HEAT HOLDS CLOCKS DOWN:"), *map(Text, names)]
        for word in words:
            word.stylize("bold red")
        rows += _flow("", words, width, gap=" ")
    return rows


def _power(reading: Reading, width: int) -> list[Text]:
    rows = []
    if reading.rails:
        watts = [Text(f"{name} {mw / 1000:.1f} W") for name, mw in reading.rails.items()]
        rows += _flow("power", watts, width)
    if reading.events:
        counts = ", ".join(f"{name} {count}x" for name, count in reading.events.items())
        rows.append(_row("", f"since boot: {counts}", "yellow"))
    if isinstance(reading.fan_percent, int):
        rpm = f", {reading.fan_rpm} rpm" if isinstance(reading.fan_rpm, int) else ""
        rows.append(_row("fan", f"{reading.fan_percent} %{rpm}"))
    return rows


def _daemon(reading: Reading, width: int) -> list[Text]:
    unit = reading.unit.reason if isinstance(reading.unit, Unknown) else reading.unit
    again = (
        Text(f", restarted {reading.restarts} times", style="yellow") if reading.restarts else ""
    )
    pulse = reading.daemon
    if not isinstance(pulse, DaemonPulse):
        return [
            _row("daemon", Text(f"DOWN: {pulse.reason}", style="bold red")),
            _row("", Text(f"unit {unit}") + again),
        ]
    style = "green" if pulse.status == "ready" else "bold yellow"
    head = Text(pulse.status, style=style) + Text(f": {pulse.engine} on {pulse.device}") + again
    if reading.rss is not None:
        head += Text(f", {reading.rss / (1 << 20):.0f} MiB")
    rtf = ratio_text(pulse.recent_rtf) if pulse.recent_rtf else "none yet"
    first = "none yet" if pulse.first_audio_s is None else f"{pulse.first_audio_s * 1000:.0f} ms"
    busy = "bold yellow" if pulse.queue_depth else ""
    queue = Text(f"queue {pulse.queue_depth} of {pulse.queue_limit}", style=busy)
    rows = [
        _row("daemon", head),
        _row("", Text(f"RTF {rtf}, first audio {first}, ") + queue),
    ]
    refused = ", ".join(f"{name} {count}" for name, count in pulse.refused.items() if count)
    text = f"{pulse.spoken} requests spoken" + (f", not spoken: {refused}" if refused else "")
    return [*rows, _row("", text)]


def _cores(reading: Reading, width: int, room: int) -> list[Text]:
    """One line a core, on a large screen."""
    shown = list(enumerate(reading.cpu_percent))[: room - 1]
    bar = min(60, width - 40)
    return [Text()] + [
        _row(f"core {number}", _bar(percent, bar) + Text(f"{percent:5.0f} %"))
        for number, percent in shown
    ]


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
