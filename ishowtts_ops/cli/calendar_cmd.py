"""What the calendar runs: `validate` after a change, `notify` after a failure."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from ishowtts_ops.cli import bench_view, measuring, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.cli.install_cmd import announce
from ishowtts_ops.config import CONFIG_PATH, Settings, parse
from ishowtts_ops.errors import BoxLocked, ConfigError, OpsError
from ishowtts_ops.facts.daemon_health import DaemonHealth, read_daemon_health
from ishowtts_ops.host import Host
from ishowtts_ops.measure import fidelity
from ishowtts_ops.measure import regress as rule
from ishowtts_ops.measure.bench import Disturbed, Plan
from ishowtts_ops.measure.compare import NotComparable
from ishowtts_ops.measure.fingerprint import Difference, differences
from ishowtts_ops.measure.quiet import why_not_idle
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.workloads import choose
from ishowtts_ops.provision import calendar, notifier, patch
from ishowtts_ops.provision import install as provision
from ishowtts_ops.provision.calendar import Good
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.steps import Ledger

DOING = "ishowtts-ops validate"
CHOSEN_ROWS = ("NFE", "CFG", "weights", "power mode", "clocks locked", "clocks")
"""What the owner chooses in the configuration: other figures are then meant, and no regression."""


@takes_box
def validate(
    box: Box,
    when_idle: measuring.WhenIdle = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Keep what is slower; it becomes the baseline.")
    ] = False,
    as_json: Json = False,
) -> int:
    """After a change of F5-TTS, torch, L4T or the configuration: apply, verify, measure, and only
    then a new baseline.

    What does not come up, or is slower than the baseline, is rolled back to the last good state,
    and the exit code is 1. When nothing changed since, nothing is done.
    """
    host = box.host
    host.require_root("Validating the box")
    good = calendar.read_good(host)
    settings, broken = _settings(box, good)
    now = calendar.tracked(host.read_only(), settings)
    changed = calendar.changes(good, now)
    if not changed and not accept:
        return _end(as_json, 0, "Nothing changed since the last validation.")
    if good is not None and good.rejected == now and when_idle:
        return _end(as_json, 0, "This state was tried before and failed; it is not tried again.")
    if when_idle and (why := _busy(settings)):
        return _end(as_json, 0, f"Skipped: {why}")
    for clause in changed:
        render.log(clause)
    try:
        problem, run = (broken, None) if broken else _try(box, settings, when_idle, accept)
    except (BoxLocked, Disturbed) as error:
        return _end(as_json, 0, f"Skipped: {error.message}")
    if not problem and run is not None:
        return _passed(box, settings, run, changed, as_json=as_json)
    return _failed(box, good, settings, now, problem, as_json=as_json)


def _settings(box: Box, good: Good | None) -> tuple[Settings, str]:
    """The settings in force; those of the last good state when they cannot be read, and why."""
    try:
        return box.settings, ""
    except ConfigError as error:
        if good is None or good.config_text is None:
            raise
        return parse(good.config_text, "the last good configuration"), error.message


def _busy(settings: Settings) -> str:
    """Only a daemon that speaks can be disturbed."""
    health = read_daemon_health(settings)
    if not isinstance(health, DaemonHealth) or not health.ready:
        return ""
    return why_not_idle(settings, settings.measure.idle_seconds)


def _try(box: Box, settings: Settings, gives_way: bool, accept: bool) -> tuple[str, Run | None]:
    """Install, verify, measure: (why it does not pass, the run)."""
    try:
        _apply(box.host, settings)
        if settings.engine.kind == "f5":
            source = locate(box.host.read_only(), settings).path
            proof = patch.verify(box.host.read_only(), source, settings)
            wrong = [f"{row.check}: {row.text}" for row in proof.rows if row.ok is False]
            if not wrong:
                result = fidelity.check(box.host.read_only(), settings, source)
                wrong = [f"{item.check}: {item.text}" for item in result.failed]
            if wrong:
                return f"The series does not verify: {'; '.join(wrong)}", None
        work = choose(settings.measure.workload)
        plan = Plan(settings.measure.runs, gives_way=gives_way)
        with measuring.daemon_door(box) as door, measuring.history_of(box, write=True) as history:
            run = measuring.take(box, door, work, plan, history, note="validation")
            baseline = history.baseline(run.place)
    except (BoxLocked, Disturbed):
        raise
    except OpsError as error:
        return error.message, None
    if accept or baseline is None:
        return "", run
    return _slower(baseline, run, settings), run


def _slower(baseline: Run, run: Run, settings: Settings) -> str:
    """Why this run must not follow that baseline, or nothing."""
    meant = [d for d in differences(baseline.fingerprint, run.fingerprint) if _is_choice(d)]
    if meant:
        render.log(f"not held to the old baseline, since that was chosen: {meant[0]}")
        return ""
    try:
        found = rule.judge(baseline, run, tolerance=settings.measure.tolerance_percent / 100)
    except NotComparable:
        return ""
    return found.sentence if found.regressed else ""


def _is_choice(difference: Difference) -> bool:
    return difference.name in CHOSEN_ROWS or difference.name.startswith("voice ")


def _apply(host: Host, settings: Settings) -> None:
    text = host.read_text(CONFIG_PATH) if host.is_file(CONFIG_PATH) else ""
    steps = provision.all_steps(settings, Ledger.open(host), text, replace_config=False)
    chosen = [step for step in provision.choose(steps, ()) if step.name != "config"]
    provision.apply(host, chosen, log=render.log, on_step=announce, doing=DOING, automatic=True)


def _passed(box: Box, settings: Settings, run: Run, changed: list[str], *, as_json: bool) -> int:
    reason = "; ".join(changed) or "accepted by hand"
    lines = [f"Validated: {reason}."]
    if run.fit_for_baseline:
        with measuring.history_of(box, write=True) as history:
            history.set_baseline(run, reason)
        lines.append(f"The new baseline is {run.id}.")
    else:
        lines.append(f"There is no new baseline, because of this run: {'; '.join(run.marks)}.")
    # Taken anew: installing may have moved what is tracked, such as the commit of fresh sources.
    calendar.record_good(box.host, calendar.tracked(box.host.read_only(), settings))
    if not as_json:
        bench_view.run(run)
    return _end(as_json, 0, *lines, run=run.id)


def _failed(
    box: Box,
    good: Good | None,
    settings: Settings,
    now: calendar.Tracked,
    problem: str,
    *,
    as_json: bool,
) -> int:
    lines = [f"Validation failed: {problem}"]
    if good is None:
        lines.append("There is no earlier good state to go back to; `ishowtts-ops doctor` helps.")
        return _end(as_json, 1, *lines)
    former = parse(good.config_text, CONFIG_PATH) if good.config_text else settings
    back = calendar.roll_back(box.host, good, now, former, render.log)
    lines += [*back.done, *back.left]
    try:
        _apply(box.host, former)
        lines.append("The box runs its last good state again.")
    except OpsError as error:
        lines.append(f"And the last good state does not come up: {error.message}")
    after = calendar.tracked(box.host.read_only(), former)
    if after != good.tracked:
        calendar.record_rejected(box.host, good, after)
    return _end(as_json, 1, *lines)


def _end(as_json: bool, code: int, *lines: str, **more: Any) -> int:
    if as_json:
        render.envelope("validate", {"lines": lines, **more}, ok=code == 0)
    else:
        for line in lines:
            render.say(line)
    return code


@takes_box
def notify(
    box: Box,
    unit: Annotated[str, typer.Argument(help="The unit that failed.")],
    as_json: Json = False,
) -> int:
    """Tell that a unit failed: the journal, and `notify.webhook` and `notify.command`.

    What systemd starts by OnFailure=. One failure is told once; exit 1 when somebody could not be
    told.
    """
    host = box.host
    host.require_root("Telling of a failure")
    try:
        channels = box.settings.notify
    except ConfigError as error:
        # A broken configuration is a likely reason for being here at all.
        good = calendar.read_good(host)
        if good is None or good.config_text is None:
            raise
        render.note(error.message, "yellow")
        channels = parse(good.config_text, "the last good configuration").notify
    done = notifier.tell(host, channels, notifier.look(host, unit, os.environ))
    if as_json:
        render.envelope("notify", done, ok=not done.problems)
        return 1 if done.problems else 0
    if "journal" in done.told:
        render.say(done.failure.text)
    others = [name for name in done.told if name != "journal"]
    if others:
        render.say(f"Told: {', '.join(others)}.")
    if done.known:
        render.say(f"Knew already: {', '.join(done.known)}.")
    for problem in done.problems:
        render.note(f"Could not be told: {problem}", "red")
    return 1 if done.problems else 0
