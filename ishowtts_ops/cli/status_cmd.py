"""`ishowtts-ops status`: one screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.text import Text

from ishowtts_ops.cli import measuring, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.client import DaemonClient, Readiness
from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.measure.doors import HttpDoor
from ishowtts_ops.measure.history import History, open_history
from ishowtts_ops.measure.noise import JUDGED_SLOW
from ishowtts_ops.measure.run import Run, ratio_text
from ishowtts_ops.measure.workloads import choose
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
    speed = _speed(host, settings)
    patched = series.state is patch.PatchState.APPLIED
    speaks = isinstance(daemon, Readiness) and daemon.ready
    wanted = settings.daemon.enabled
    needs_patch = settings.engine.kind == "f5"
    power = dict(machine.lines())
    mode_ok = not (machine.situation.mode_wrong or machine.situation.staged)
    rows = [
        Row(name.lower(), text, _judged(name, machine, mode_ok)) for name, text in power.items()
    ]
    rows.append(Row("patch", _patch_text(series, settings), patched if needs_patch else None))
    rows += _units(states)
    if wanted:
        rows.append(Row("daemon", _told(daemon), speaks))
    rows.append(Row("speed", speed.text, False if speed.regressed else None))
    ok = machine.ok and all(row.ok is not False for row in rows)
    if as_json:
        data: dict[str, Any] = {
            "power": machine.data(),
            "patch": series.to_json(),
            "units": states,
            "daemon": daemon.story if isinstance(daemon, Readiness) else {"error": daemon},
            "last_run": _run_data(speed.last),
            "baseline": _run_data(speed.baseline),
            "regressed": speed.regressed,
        }
        render.envelope("status", data, ok=ok)
        return 0 if ok else 1
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
        return machine.cool
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


@dataclass(frozen=True)
class Speed:
    """How fast the box was when it was measured last.

    Attributes:
        text: that in a line, or why it is not known.
        last: the newest run of what the calendar measures; else the newest of all.
        baseline: what that is held to.
        regressed: that is what `regress` said of it. A run that is only slow is no verdict.
    """

    text: str
    last: Run | None = None
    baseline: Run | None = None
    regressed: bool = False


def _speed(host: Host, settings: Settings) -> Speed:
    try:
        with open_history(host) as history:
            return _judged_speed(history, settings)
    except OpsError as error:
        return Speed(error.message)


def _judged_speed(history: History, settings: Settings) -> Speed:
    usual = choose(settings.measure.workload).key
    mine = history.runs(key=usual, engine=settings.engine.kind, door=HttpDoor.name, limit=1)
    newest = mine or history.runs(limit=1)
    if not newest:
        return Speed("never measured; `sudo ishowtts-ops bench run` does")
    last = newest[-1]
    now = last.summary("rtf").median
    when = last.started[:16].replace("T", " ")
    marked = ", marked" if last.marks else ""
    text = f"RTF {ratio_text(now)} (workload {last.workload}, {when} UTC{marked})"
    baseline = history.baseline(last.place)
    if baseline is None:
        return Speed(f"{text}, no baseline", last)
    if baseline.id == last.id:
        return Speed(f"{text}, the baseline", last, baseline)
    known = measuring.noise_of(history, baseline)
    allowed = known.tolerance(settings.measure.tolerance_percent / 100)
    change = now / known.level - 1
    if abs(change) <= allowed:
        return Speed(f"{text}, as the baseline", last, baseline)
    word = f"{abs(change) * 100:.0f} % {'slower' if change > 0 else 'faster'} than the baseline"
    regressed = bool(last.extra.get(JUDGED_SLOW)) and change > 0
    if change > 0:
        word += f"{', a regression' if regressed else ''}; `sudo ishowtts-ops regress` looks again"
    return Speed(f"{text}, {word}", last, baseline, regressed)


def _run_data(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    rtf = run.summary("rtf")
    return {"id": run.id, "started": run.started, "workload": run.workload, "rtf": rtf.median}
