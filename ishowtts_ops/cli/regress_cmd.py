"""`ishowtts-ops regress`: is this box slower than it was?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ishowtts_ops.cli import bench_view, measuring, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.errors import OpsError, Undetermined, UsageError
from ishowtts_ops.measure import fingerprint
from ishowtts_ops.measure import regress as rule
from ishowtts_ops.measure.bench import Disturbed, Plan
from ishowtts_ops.measure.doors import Door
from ishowtts_ops.measure.fingerprint import Fingerprint
from ishowtts_ops.measure.history import History
from ishowtts_ops.measure.quiet import wait_for_idle
from ishowtts_ops.measure.regress import Judgement
from ishowtts_ops.measure.run import Run, ratio_text
from ishowtts_ops.measure.workloads import Workload, choose
from ishowtts_ops.provision import daemon

SHOWN_CAUSES = 5


@takes_box
def regress(
    box: Box,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Take an extended run and hold the box to it."),
    ] = False,
    starts: Annotated[
        int,
        typer.Option(
            "--starts",
            min=1,
            max=12,
            help="With --update-baseline: so many runs, the daemon restarted between them.",
        ),
    ] = 1,
    workload: Annotated[
        str | None, typer.Option("--workload", "-w", help="S, M, L, R3, X or mixed.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", min=0.1, max=1000, help="Percent; else learned from history."),
    ] = None,
    when_idle: measuring.WhenIdle = False,
    patience: measuring.Patience = 0,
    as_json: Json = False,
) -> int:
    """Measure and compare with this box's own baseline. Exit 1 when it has become slower, 3 when
    there is no baseline.

    A few passes clear most days; what looks slow is measured again, and again after a rest, before
    it is called slow. How much is noise is learned from the box's own runs, and is never less than
    `measure.tolerance_percent`. A regression comes with its size, what changed since the baseline,
    and what doctor finds.

    With --starts 4 a new baseline knows how far the daemon's starts lie apart, and small slowdowns
    are found from the first day on. Each restart silences the box for some seconds.
    """
    settings = box.settings.measure
    if starts > 1 and not update_baseline:
        raise UsageError("--starts is for a new baseline.", "Add --update-baseline.")
    work = choose(workload or settings.workload)
    if when_idle:
        why = wait_for_idle(box.settings, settings.idle_seconds, patience * 60)
        if why:
            return _skipped(why, as_json=as_json)
    measuring.require_writable(box, can_do_without=False)
    if update_baseline:
        _refuse_unfit(box)
        if starts > 1:
            box.host.require_root("Restarting the daemon")
    fixed = None if tolerance is None else tolerance / 100
    try:
        if update_baseline:
            return _update(box, work, starts, gives_way=when_idle, as_json=as_json)
        with measuring.daemon_door(box) as door, measuring.history_of(box, write=True) as history:
            found = _check(box, door, work, history, fixed, gives_way=when_idle)
    except Disturbed as gone:
        return _skipped(gone.message, as_json=as_json)
    if found is None:
        if when_idle:
            return _skipped("this box has no baseline yet", as_json=as_json)
        raise Undetermined(
            f"This box has no baseline for workload {work.name}.",
            f"`sudo ishowtts-ops regress --update-baseline{_w(workload)}` takes one.",
        )
    if as_json:
        render.envelope("regress", found.to_json(), ok=not found.regressed)
    else:
        show(found)
    return 1 if found.regressed else 0


def _refuse_unfit(box: Box) -> None:
    """Before the long run, not after it."""
    now = fingerprint.look(box.host.read_only())
    found = Fingerprint({}, now, now)
    if why := fingerprint.marks(found):
        raise OpsError(
            f"This box is in no state for a baseline: {'; '.join(why)}.",
            fingerprint.way_out(found),
        )


def _update(box: Box, work: Workload, starts: int, *, gives_way: bool, as_json: bool) -> int:
    plan = Plan(box.settings.measure.runs, gives_way=gives_way)
    runs: list[Run] = []
    with measuring.history_of(box, write=True) as history:
        for number in range(starts):
            if number:
                render.log(f"restarting the daemon, {number + 1} of {starts}")
                daemon.restart(box.host, render.log)
            with measuring.daemon_door(box) as door:
                runs.append(measuring.take(box, door, work, plan, history))
        # The first one: what was kept after a baseline tells how far runs lie apart from it.
        first = runs[0]
        history.set_baseline(first, "set by hand")
        known = measuring.noise_of(history, first)
    if as_json:
        render.envelope("regress", {"baseline": first.to_json(), "noise": known.to_json()})
        return 0
    bench_view.run(first)
    render.say(f"This box is held to this run from now on: {first.id}.", "bold")
    allowed = known.tolerance(box.settings.measure.tolerance_percent / 100) * 100
    if starts > 1:
        render.say(
            f"With the {starts - 1} after it: RTF {ratio_text(known.level)}, and up to"
            f" {allowed:.1f} % more is noise."
        )
    else:
        render.say(
            f"Up to {allowed:.1f} % more counts as noise until more runs are kept; --starts 4"
            " takes them now.",
            "dim",
        )
    return 0


def _check(
    box: Box,
    door: Door,
    work: Workload,
    history: History,
    tolerance: float | None,
    *,
    gives_way: bool,
) -> Judgement | None:
    baseline = history.baseline((work.key, door.engine, door.name))
    if baseline is None:
        return None

    def take(passes: int) -> Run:
        plan = Plan(passes, streamed=0, gives_way=gives_way)
        return measuring.take(box, door, work, plan, history, keep=False)

    known = measuring.noise_of(history, baseline)
    least = box.settings.measure.tolerance_percent / 100
    found = rule.check(
        baseline,
        take,
        noise=known,
        tolerance=known.tolerance(least) if tolerance is None else tolerance,
        rest=lambda: measuring.rest(box),
        causes=lambda: measuring.doctors_causes(box),
    )
    history.add(found.run)
    return found


def show(found: Judgement) -> None:
    """The verdict and, for a regression, what may have caused it."""
    render.say(found.sentence, "bold red" if found.regressed else "bold")
    if not found.regressed:
        return
    _list("What is not as it was at the baseline:", [str(item) for item in found.changed])
    _list("This run is marked:", found.run.marks)
    causes = []
    for cause in found.causes[:SHOWN_CAUSES]:
        effect = f" About {cause.effect:.1f}× slower." if cause.effect and cause.effect > 1 else ""
        causes.append(f"{cause.text}{effect} {cause.remedy}".rstrip())
    _list("Likely causes, as doctor finds them:", causes)
    if not (found.changed or found.causes):
        render.say("Nothing changed that is looked at, and doctor finds nothing.")
    rest = len(found.causes) - SHOWN_CAUSES
    if rest > 0:
        render.say(f"  {rest} more: `ishowtts-ops doctor`.")


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        render.say(title)
        for line in lines:
            render.indented(line, 2)


def _w(workload: str | None) -> str:
    return f" -w {workload}" if workload else ""


def _skipped(why: str, *, as_json: bool) -> int:
    if as_json:
        render.envelope("regress", {"skipped": why})
    else:
        render.say(f"Skipped: {why}")
    return 0
