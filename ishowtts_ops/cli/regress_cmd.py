"""`ishowtts-ops regress`: is this box slower than it was?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ishowtts_ops.cli import bench_view, measuring, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.errors import Undetermined
from ishowtts_ops.measure import regress as rule
from ishowtts_ops.measure.bench import Disturbed, Plan
from ishowtts_ops.measure.doors import Door
from ishowtts_ops.measure.history import History
from ishowtts_ops.measure.quiet import wait_for_idle
from ishowtts_ops.measure.regress import Judgement
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.workloads import Workload, choose

SHOWN_CAUSES = 5


@takes_box
def regress(
    box: Box,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Take an extended run and hold the box to it."),
    ] = False,
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
    """
    settings = box.settings.measure
    work = choose(workload or settings.workload)
    if when_idle:
        why = wait_for_idle(box.settings, settings.idle_seconds, patience * 60)
        if why:
            return _skipped(why, as_json=as_json)
    measuring.require_writable(box)
    fixed = None if tolerance is None else tolerance / 100
    try:
        with measuring.daemon_door(box) as door, measuring.history_of(box, write=True) as history:
            if update_baseline:
                return _update(box, door, work, history, as_json=as_json)
            found = _check(box, door, work, history, fixed, gives_way=when_idle)
    except Disturbed as gone:
        return _skipped(gone.message, as_json=as_json)
    if found is None:
        if when_idle:
            return _skipped("this box has no baseline yet", as_json=as_json)
        raise Undetermined(
            f"This box has no baseline for workload {work.name}.",
            "`sudo ishowtts-ops regress --update-baseline` takes one.",
        )
    if as_json:
        render.envelope("regress", found.to_json(), ok=not found.regressed)
    else:
        show(found)
    return 1 if found.regressed else 0


def _update(box: Box, door: Door, work: Workload, history: History, *, as_json: bool) -> int:
    run = measuring.take(box, door, work, Plan(box.settings.measure.runs), history)
    history.set_baseline(run, "set by hand")
    if as_json:
        render.envelope("regress", {"baseline": run.to_json()})
    else:
        bench_view.run(run)
        render.say(f"This box is held to this run from now on: {run.id}.", "bold")
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


def _skipped(why: str, *, as_json: bool) -> int:
    if as_json:
        render.envelope("regress", {"skipped": why})
    else:
        render.say(f"Skipped: {why}")
    return 0
