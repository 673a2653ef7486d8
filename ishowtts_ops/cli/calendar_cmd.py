"""What the calendar runs: `validate` after a change, `notify` after a failure."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Annotated

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
from ishowtts_ops.measure.noise import Noise
from ishowtts_ops.measure.quiet import why_not_idle
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.workloads import choose
from ishowtts_ops.provision import calendar, notifier, patch
from ishowtts_ops.provision import install as provision
from ishowtts_ops.provision.calendar import Good
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.steps import Ledger

DOING = "ishowtts-ops validate"
ROUNDS = 3
"""A box that is changed again and again while it is validated gets its next turn by the timer."""
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
    box.host.require_root("Validating the box")
    lines: list[str] = []
    for left in reversed(range(ROUNDS)):
        done = _validate(box, when_idle=when_idle, accept=accept, as_json=as_json)
        lines += done.lines
        if not as_json:
            _say(done.lines)
        if not done.again or not left:
            break
        # What is saved while this runs starts no second run: a path unit does not look then.
        render.log("it was changed again meanwhile")
        box, accept = Box(box.root, box.config_file, box.debug), False
    if as_json:
        more = {"run": done.run_id} if done.run_id else {}
        render.envelope("validate", {"lines": lines, **more}, ok=done.code == 0)
    return done.code


@dataclasses.dataclass(frozen=True)
class Round:
    """One validation.

    Attributes:
        code: exit code.
        lines: what there is to say.
        again: the box was changed while it was validated, so that what it is now was not tried.
    """

    code: int
    lines: tuple[str, ...]
    again: bool = False
    run_id: str = ""


def _validate(box: Box, *, when_idle: bool, accept: bool, as_json: bool) -> Round:
    host = box.host
    good = calendar.read_good(host)
    settings, broken = _settings(box, good)
    now = calendar.tracked(host.read_only(), settings)
    changed = calendar.changes(good, now)
    if not changed and not accept:
        return Round(0, ("Nothing changed since the last validation.",))
    if good is not None and good.rejected == now and when_idle:
        return Round(0, ("This state was tried before and failed; it is not tried again.",))
    if when_idle and (why := _busy(settings)):
        return Round(0, (f"Skipped: {why}",))
    for clause in changed:
        render.log(clause)
    try:
        tried = Tried(broken) if broken else _try(box, settings, when_idle, accept)
    except (BoxLocked, Disturbed) as error:
        return Round(0, (f"Skipped: {error.message}",))
    # What was installed is compared where it came that far: installing may move it itself.
    then = tried.state.tracked if tried.state else {"config": now["config"]}
    latest = _now(host, settings)
    again = any(latest.get(name) != was for name, was in then.items())
    if tried.problem or tried.run is None or tried.state is None:
        failed = f"Validation failed: {tried.problem}"
        if again:
            # What is there now was not tried: it may be the very mend, and is not thrown away.
            return Round(1, (failed, "Nothing is put back: the box was changed meanwhile."), again)
        lines, again = _go_back(box, good, settings, now)
        return Round(1, (failed, *lines), again)
    passed = _passed(box, tried.run, tried.state, changed, as_json=as_json)
    return Round(0, passed, again, tried.run.id)


@dataclasses.dataclass(frozen=True)
class Tried:
    """What became of a state.

    Attributes:
        problem: why it does not pass; empty when it does.
        state: what was tried, as it was installed; None where it did not come that far.
    """

    problem: str
    run: Run | None = None
    state: Good | None = None


def _now(host: Host, settings: Settings) -> dict[str, str | None]:
    return calendar.tracked(host.read_only(), settings)


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


def _try(box: Box, settings: Settings, gives_way: bool, accept: bool) -> Tried:
    """Install, verify, measure."""
    text, where = box.settings_text
    state: Good | None = None
    try:
        _apply(box.host, settings)
        # After that: installing may move what is tracked, such as the commit of fresh sources.
        saved = box.host.is_file(CONFIG_PATH)
        own = text if where == CONFIG_PATH else box.host.read_text(CONFIG_PATH) if saved else None
        state = calendar.candidate(box.host.read_only(), settings, own)
        if settings.engine.kind == "f5" and (wrong := _unproven(box, settings)):
            return Tried(f"The series does not verify: {'; '.join(wrong)}", None, state)
        problem, run = _measure(box, settings, gives_way, accept)
        return Tried(problem, run, state)
    except (BoxLocked, Disturbed):
        raise
    except OpsError as error:
        return Tried(error.message, None, state)


def _unproven(box: Box, settings: Settings) -> list[str]:
    """What the series' own checks find, and the fidelity test."""
    host = box.host.read_only()
    source = locate(host, settings).path
    proof = patch.verify(host, source, settings)
    wrong = [f"{row.check}: {row.text}" for row in proof.rows if row.ok is False]
    if wrong:
        return wrong
    result = fidelity.check(host, settings, source)
    return [f"{item.check}: {item.text}" for item in result.failed]


def _measure(box: Box, settings: Settings, gives_way: bool, accept: bool) -> tuple[str, Run]:
    """Why the box is slower than it was, or nothing; and the run, which is kept."""
    work = choose(settings.measure.workload)
    plan = Plan(settings.measure.runs, gives_way=gives_way)
    with measuring.daemon_door(box) as door, measuring.history_of(box, write=True) as history:

        def take(passes: int) -> Run:
            fewer = dataclasses.replace(plan, passes=passes)
            return measuring.take(box, door, work, fewer, history, note="validation", keep=False)

        run = take(plan.passes)
        baseline = history.baseline(run.place)
        problem = ""
        if baseline is not None and not accept:
            known = measuring.noise_of(history, baseline)
            problem, run = _slower(box, baseline, run, known, take)
        history.add(run)
        return problem, run


def _slower(
    box: Box, baseline: Run, run: Run, known: Noise, take: Callable[[int], Run]
) -> tuple[str, Run]:
    """Why this run must not follow that baseline, or nothing; and the run with all its looks."""
    meant = [d for d in differences(baseline.fingerprint, run.fingerprint) if _is_choice(d)]
    if meant:
        render.log(f"not held to the old baseline, since that was chosen: {meant[0]}")
        return "", run

    def again(passes: int) -> Run:
        measuring.rest(box)
        return take(passes)

    allowed = known.tolerance(box.settings.measure.tolerance_percent / 100)
    try:
        found = rule.judge(baseline, run, noise=known, tolerance=allowed, again=again)
    except NotComparable:
        return "", run
    return (found.sentence if found.regressed else ""), found.run


def _is_choice(difference: Difference) -> bool:
    return difference.name in CHOSEN_ROWS or difference.name.startswith("voice ")


def _apply(host: Host, settings: Settings) -> None:
    text = host.read_text(CONFIG_PATH) if host.is_file(CONFIG_PATH) else ""
    steps = provision.all_steps(settings, Ledger.open(host), text, replace_config=False)
    chosen = [step for step in provision.choose(steps, ()) if step.name != "config"]
    provision.apply(host, chosen, log=render.log, on_step=announce, doing=DOING, automatic=True)


def _passed(
    box: Box, run: Run, state: Good, changed: list[str], *, as_json: bool
) -> tuple[str, ...]:
    """Record it; a new baseline, if the run is fit for it."""
    reason = "; ".join(changed) or "accepted by hand"
    lines = [f"Validated: {reason}."]
    if run.fit_for_baseline:
        with measuring.history_of(box, write=True) as history:
            history.set_baseline(run, reason)
        lines.append(f"The new baseline is {run.id}.")
    else:
        lines.append(f"There is no new baseline, because of this run: {'; '.join(run.marks)}.")
    calendar.record_good(box.host, state)
    if not as_json:
        bench_view.run(run)
    return tuple(lines)


def _go_back(
    box: Box, good: Good | None, settings: Settings, now: calendar.Tracked
) -> tuple[tuple[str, ...], bool]:
    """To the last good state. What was done and what could not be; was it changed meanwhile?"""
    if good is None:
        line = "There is no earlier good state to go back to; `ishowtts-ops doctor` helps."
        return (line,), False
    former = parse(good.config_text, CONFIG_PATH) if good.config_text else settings
    back = calendar.roll_back(box.host, good, now, former, render.log)
    lines = [*back.done, *back.left]
    try:
        _apply(box.host, former)
        lines.append("The box runs its last good state again.")
    except OpsError as error:
        lines.append(f"And the last good state does not come up: {error.message}")
    after = calendar.tracked(box.host.read_only(), former)
    if after["config"] != good.tracked.get("config"):
        return tuple(lines), True
    if after != good.tracked:
        calendar.record_rejected(box.host, good, after)
    return tuple(lines), False


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        render.say(line)


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
