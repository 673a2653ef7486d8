"""`ishowtts-ops status`: one screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.text import Text

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.client import DaemonClient, Readiness
from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import open_history
from ishowtts_ops.measure.regress import TOLERANCE
from ishowtts_ops.measure.run import Run, ratio_text
from ishowtts_ops.provision import patch, power_status
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.provision.units import UNIT_DIR, wanted_units

_MARKS = {True: ("ok", "green"), False: ("NO", "bold red"), None: ("  ", "")}


@dataclass(frozen=True)
class Row:
    """One line: fine, not fine, or only told."""

    name: str
    text: str
    ok: bool | None = None


@takes_box
def status(box: Box, as_json: Json = False) -> int:
    """One screen: module, mode, clock lock, patch, units, daemon, speed. Exit 1 when any is not in
    order.

    `doctor` says what is wrong and how to mend it.
    """
    host, settings = box.host.read_only(), box.settings
    machine = power_status.status(host, settings)
    series = patch.status(host, locate(host, settings).path)
    states = {name: _unit_state(host, name) for name in wanted_units(settings)}
    daemon = _daemon(box)
    last, baseline, trouble = _speed(host)
    patched = series.state is patch.PatchState.APPLIED
    speaks = isinstance(daemon, Readiness) and daemon.ready
    wanted = settings.daemon.enabled
    needs_patch = settings.engine.kind == "f5"
    ok = machine.ok and (patched or not needs_patch) and (speaks or not wanted)
    if as_json:
        data: dict[str, Any] = {
            "power": machine.data(),
            "patch": series.to_json(),
            "units": states,
            "daemon": daemon.story if isinstance(daemon, Readiness) else {"error": daemon},
            "last_run": _run_data(last),
            "baseline": _run_data(baseline),
        }
        render.envelope("status", data, ok=ok)
        return 0 if ok else 1
    power = dict(machine.lines())
    mode_ok = not (machine.situation.mode_wrong or machine.situation.staged)
    rows = [
        Row(name.lower(), text, _judged(name, machine, mode_ok)) for name, text in power.items()
    ]
    rows.append(Row("patch", _patch_text(series, settings), patched if needs_patch else None))
    rows += _units(states)
    if wanted:
        rows.append(Row("daemon", _told(daemon), speaks))
    rows.append(Row("speed", trouble or _speed_text(last, baseline)))
    for row in rows:
        _show(row)
    if not ok:
        render.say("`ishowtts-ops doctor` says why and how to mend it.", "dim")
    return 0 if ok else 1


def _show(row: Row) -> None:
    word, style = _MARKS[row.ok]
    head = Text(f"{word} ", style=style) + Text(f"{row.name:<9}", style="bold")
    width = render.out.width - head.cell_len if render.out.is_terminal else 10_000
    lines = Text(row.text).wrap(render.out, max(20, width))
    for number, line in enumerate(lines):
        lead = head if number == 0 else Text(" " * head.cell_len)
        render.out.print(lead + Text(line.plain.rstrip()), soft_wrap=True)


def _judged(name: str, machine: power_status.PowerStatus, mode_ok: bool) -> bool | None:
    """Whether a line of the power status is in order, where that is a question."""
    if name == "Mode":
        return mode_ok
    if name == "Clocks" and machine.lock_wanted:
        return machine.situation.clocks_held
    if name == "Heat":
        return not machine.thermal.active_throttles
    if name == "Limits":
        return not machine.power.off if mode_ok else None
    return None


def _units(states: dict[str, str]) -> list[Row]:
    """One line while all is well, else one for each unit that is not."""
    wrong = {name: state for name, state in states.items() if not _in_order(name, state)}
    if not wrong:
        return [Row("units", f"all {len(states)} in order", True)]
    first = Row("units", f"{len(states) - len(wrong)} of {len(states)} in order", False)
    return [first, *(Row("", f"{name}: {state}") for name, state in wrong.items())]


def _in_order(name: str, state: str) -> bool:
    active, _, enabled = state.partition(", ")
    if active in ("failed", "not installed") or enabled in ("disabled", "masked"):
        return False
    needed = name.endswith((".timer", ".path")) or name == "ishowtts-tts.service"
    return active == "active" if needed else True


def _unit_state(host: Host, name: str) -> str:
    if not host.lexists(f"{UNIT_DIR}/{name}"):
        return "not installed"
    active = host.query(["systemctl", "is-active", name]).stdout.strip()
    enabled = host.query(["systemctl", "is-enabled", name]).stdout.strip()
    return f"{active}, {enabled}"


def _daemon(box: Box) -> Readiness | str:
    try:
        with DaemonClient.of(box.settings, timeout=3.0, root=box.root) as client:
            return client.readyz()
    except OpsError as error:
        return error.message


def _told(daemon: Readiness | str) -> str:
    if isinstance(daemon, str):
        return daemon
    rtf = f", recent RTF {ratio_text(daemon.recent_rtf)}" if daemon.recent_rtf else ""
    voices = "1 voice" if len(daemon.voices) == 1 else f"{len(daemon.voices)} voices"
    why = f" ({'; '.join(daemon.reasons)})" if daemon.reasons else ""
    return f"{daemon.status}{why}: {daemon.engine} on {daemon.device}, {voices}{rtf}"


def _patch_text(series: patch.PatchStatus, settings: Settings) -> str:
    if settings.engine.kind != "f5" and series.version is None:
        return f"none: the engine {settings.engine.kind} needs no F5-TTS"
    return f"{series.state.value}, F5-TTS {series.version or 'of unknown version'}"


def _speed(host: Host) -> tuple[Run | None, Run | None, str]:
    """The newest run, what it is held to, and why neither can be read."""
    try:
        with open_history(host) as history:
            runs = history.runs(limit=1)
            baseline = history.baseline(runs[-1].place) if runs else None
    except OpsError as error:
        return None, None, error.message
    return (runs[-1] if runs else None), baseline, ""


def _speed_text(last: Run | None, baseline: Run | None) -> str:
    if last is None:
        return "never measured; `ishowtts-ops bench run` does"
    now = last.summary("rtf").median
    text = (
        f"RTF {ratio_text(now)} (workload {last.workload}, {last.started[:16].replace('T', ' ')})"
    )
    if baseline is None:
        return f"{text}, no baseline"
    if baseline.id == last.id:
        return f"{text}, the baseline"
    change = (now / baseline.summary("rtf").median - 1) * 100
    word = "as the baseline"
    if abs(change) > TOLERANCE * 100:
        word = f"{abs(change):.0f} % {'slower' if change > 0 else 'faster'} than the baseline"
    return f"{text}, {word}"


def _run_data(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    rtf = run.summary("rtf")
    return {"id": run.id, "started": run.started, "workload": run.workload, "rtf": rtf.median}
