"""`ishowtts-ops bench`: measure, compare, look back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ishowtts_ops.cli import bench_files, bench_project, bench_view, measuring, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.errors import OpsError, Undetermined, UsageError
from ishowtts_ops.measure import fidelity as fidelity_test
from ishowtts_ops.measure import plots, report, versus
from ishowtts_ops.measure.bench import QUICK_PASSES, WARM_UP, Disturbed, Plan
from ishowtts_ops.measure.compare import compare as compare_runs
from ishowtts_ops.measure.doors import Door
from ishowtts_ops.measure.history import History, utc_now
from ishowtts_ops.measure.quiet import wait_for_idle
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.timeline import timelines
from ishowtts_ops.measure.workloads import OWN, Workload, choose, kept_name
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.f5_source import SourceState, locate

app = typer.Typer(help="Measure the box, compare runs, look back.", no_args_is_help=True)
app.command("project")(bench_project.project)

WorkloadName = Annotated[
    str | None,
    typer.Option("--workload", "-w", help="S, M, L, R3, X or mixed; else measure.workload."),
]


@app.command("run")
@takes_box
def run(
    box: Box,
    quick: Annotated[bool, typer.Option("--quick", help="One pass instead of many.")] = False,
    passes: Annotated[
        int | None, typer.Option("--runs", "-n", min=1, max=10_000, help="Passes; else 20.")
    ] = None,
    workload: WorkloadName = None,
    texts: Annotated[
        list[str] | None, typer.Option("--text", help="Your own text; repeatable.")
    ] = None,
    voice: Annotated[str | None, typer.Option("--voice", help="Who speaks it.")] = None,
    nfe: Annotated[int | None, typer.Option("--nfe", min=1, max=64, help="ODE steps.")] = None,
    warm_up: Annotated[
        int, typer.Option("--warm-up", min=0, help="Passes before, not counted.")
    ] = WARM_UP,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Load the engine here; do not ask the daemon."),
    ] = False,
    engine: Annotated[
        str | None, typer.Option("--engine", help="In process: f5, espeak or tone.")
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="In process: box, or random (full size, no download).")
    ] = "box",
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", help="Side by side with upstream, upstream-compiled, or both."),
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="With random weights: full, or small for a CPU.")
    ] = "full",
    note: Annotated[str, typer.Option("--note", help="A word about it, kept with it.")] = "",
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep the run in the history.")
    ] = True,
    when_idle: measuring.WhenIdle = False,
    patience: measuring.Patience = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", "-o", help="Also write the run as JSON.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Speak a workload again and again and say how fast it was, and on what.

    An extended run (20 passes) unless --quick. Through the running daemon's HTTP unless
    --in-process. A run with unlocked clocks or under throttling is marked and never becomes a
    baseline. With --compare the patched F5-TTS and upstream's own speak in turns, each in a process
    of its own; that is no run of the box, and is kept with --out alone.
    """
    if quick and passes is not None:
        raise UsageError("--quick and --runs contradict each other.", "Give one of them.")
    bench_files.refuse_unwritable(output)
    if weights not in ("box", "random"):
        raise UsageError(f"--weights {weights!r} is neither box nor random.", "Give one of these.")
    count = QUICK_PASSES if quick else passes or box.settings.measure.runs
    plan = Plan(count, warm_up, gives_way=when_idle)
    named = workload or box.settings.measure.workload
    if compare:
        from ishowtts_ops.cli import bench_versus

        if (engine or box.settings.engine.kind) != "f5":
            raise UsageError("Only the engine f5 has an upstream.", "Add --engine f5.")
        several = [choose(one, texts or (), voice, nfe) for one in named.split(",")]
        return bench_versus.run(
            box, several, compare, weights=weights, preset=preset, runs=count, warm_up=warm_up,
            output=output, as_json=as_json,
        )  # fmt: skip
    work = choose(named, texts or (), voice, nfe)
    if preset not in versus.PRESETS:
        raise UsageError(f"--preset {preset!r} is neither full nor small.", "Give one of these.")
    if preset != "full" and weights != "random":
        raise UsageError("--preset is for random weights.", "Add --weights random.")
    if weights == "random" and (engine or box.settings.engine.kind) != "f5":
        raise UsageError("Only the engine f5 has weights.", "Add --engine f5.")
    local = in_process or engine is not None or weights == "random"
    if save:
        measuring.require_writable(box)
    if when_idle and not local:
        why = wait_for_idle(box.settings, box.settings.measure.idle_seconds, patience * 60)
        if why:
            return _skipped(why, as_json=as_json)
    with _door(box, local, engine, (weights, preset), work) as door, _keeping(box, save) as history:
        try:
            done = measuring.take(box, door, work, plan, history, note=note, keep=False)
        except Disturbed as gone:
            return _skipped(gone.message, as_json=as_json)
        # What was measured is shown and written first: it must not be lost with a full disk.
        if output is not None:
            bench_files.write(output, f"{bench_view.document(done)}\n")
        if as_json and history is None:
            render.envelope("bench run", done.to_json())
        elif not as_json:
            bench_view.run(done)
        if history is not None:
            history.add(done)
            if as_json:
                render.envelope("bench run", done.to_json())
            else:
                render.note(_kept(done, history), "dim")
    return 0


def _kept(run: Run, history: History) -> str:
    """Where it is, and what it can be compared with."""
    text = f"Kept as {run.id}."
    baseline = history.baseline(run.place)
    key, engine, door = run.place
    before = [r for r in history.runs(key=key, engine=engine, door=door, limit=2) if r.id != run.id]
    if baseline is not None:
        return f"{text} `ishowtts-ops bench compare baseline {run.id}` compares it."
    if before:
        return f"{text} `ishowtts-ops bench compare {before[-1].id} {run.id}` compares it."
    return text


@contextlib.contextmanager
def _door(
    box: Box, local: bool, engine: str | None, weights: tuple[str, str], work: Workload
) -> Iterator[Door]:
    if local:
        # Here, not above: every other verb does without the engines and what they import.
        from ishowtts_ops.cli.bench_engine import open_engine

        kind, preset = weights
        yield open_engine(box, engine, kind, work, lambda _: None, preset=preset)
        return
    with measuring.daemon_door(box) as door:
        yield door


@contextlib.contextmanager
def _keeping(box: Box, save: bool) -> Iterator[History | None]:
    if not save:
        yield None
        return
    with measuring.history_of(box, write=True) as history:
        yield history


def _skipped(why: str, *, as_json: bool) -> int:
    if as_json:
        render.envelope("bench run", {"skipped": why})
    else:
        render.say(f"Skipped, because this is no idle moment: {why}")
    return 0


@app.command("compare")
@takes_box
def compare(
    box: Box,
    first: Annotated[str, typer.Argument(help="A run's id, last~1, baseline, or a file.")],
    second: Annotated[str, typer.Argument(help="The other one, such as last.")],
    as_json: Json = False,
) -> int:
    """Say whether the second run is faster or slower than the first, or that there is no telling.

    Runs of different workloads are refused. Exit 0 whatever the answer; `regress` has a verdict.
    """
    with measuring.history_of(box, write=False) as history:
        a, b = bench_view.load_pair(first, second, history)
        found = compare_runs(a, b, measuring.alike(history, a, b), measuring.resets_in(history))
    if as_json:
        render.envelope("bench compare", bench_view.comparison_data(found))
    else:
        bench_view.comparison(found)
    return 0


@app.command("history")
@takes_box
def history(
    box: Box,
    workload: WorkloadName = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest so many.")] = 20,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write all as JSON lines; - is stdout.")
    ] = None,
    bring_in: Annotated[
        Path | None, typer.Option("--import", help="Merge a file of JSON lines.")
    ] = None,
    as_json: Json = False,
) -> int:
    """List the runs that were kept, oldest first; a baseline is starred."""
    if export is not None and bring_in is not None:
        raise UsageError("--export and --import contradict each other.", "Give one of them.")
    workload = workload and kept_name(workload)
    with measuring.history_of(box, write=bring_in is not None) as kept:
        if export is not None:
            return _export(kept, export)
        if bring_in is not None:
            merged = kept.bring_in(_lines(bring_in))
            if as_json:
                render.envelope("bench history", merged)
            else:
                render.say(
                    f"Imported {merged.runs} runs and {merged.baselines} baselines;"
                    f" {merged.known} were known."
                )
            return 0
        runs, baselines = kept.runs(workload=workload, limit=limit), kept.baselines()
    if as_json:
        data = {"runs": [r.to_json() for r in runs], "baselines": baselines}
        render.envelope("bench history", data)
    elif not runs:
        of = f" of workload {workload}" if workload else ""
        render.say(
            f"No run{of} was kept yet. `sudo ishowtts-ops bench run{_w(workload)}` takes one."
        )
    else:
        bench_view.table(runs, {item.run_id for item in baselines})
    return 0


def _w(workload: str | None) -> str:
    if workload == OWN:
        return " --text WORDS"
    return f" -w {workload}" if workload else ""


def _export(kept: History, target: Path) -> int:
    lines = "".join(f"{line}\n" for line in kept.export())
    if str(target) == "-":
        render.raw(lines)
    else:
        bench_files.write(target, lines)
        render.note(f"{target}: {lines.count(chr(10))} lines")
    return 0


def _lines(source: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{source} cannot be read: {error}.") from None
    return text.splitlines()


@app.command("fidelity")
@takes_box
def fidelity(box: Box, as_json: Json = False) -> int:
    """Prove that the patched network gives what the unpatched one gives, on the same noise.

    Seeded weights, no download. Exit 1 when it does not, 3 when it could not be found out.
    """
    host = box.host.read_only()
    place = locate(host, box.settings)
    if place.state is not SourceState.PRESENT:
        raise Undetermined(
            "This box has no F5-TTS whose patched network could be compared.",
            "`sudo ishowtts-ops install` brings it where the engine is f5.",
        )
    state = patch.status(host, place.path).state
    if state is not patch.PatchState.APPLIED:
        raise Undetermined(
            f"The speed series is not in the sources ({state.value}): there is nothing to compare.",
            "`sudo ishowtts-ops patch apply` applies it.",
        )
    found = fidelity_test.check(host, box.settings, place.path)
    if as_json:
        render.envelope("bench fidelity", found, ok=found.passed)
    else:
        for proof in found.proofs:
            render.say(f"{proof.state:<8} {proof.check}: {proof.text}")
        render.say("Passed." if found.passed else "Not passed.", "bold")
    if found.passed:
        return 0
    return 1 if found.failed else 3


@app.command("plot")
@takes_box
def plot(
    box: Box,
    workload: WorkloadName = None,
    png: Annotated[Path | None, typer.Option("--png", help="Draw a PNG file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report in one file.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest so many.")] = 200,
) -> int:
    """Show RTF over time, with changes of mode, patch, software and baseline marked.

    In the terminal unless --png or --html.
    """
    workload = workload and kept_name(workload)
    bench_files.refuse_unwritable(png, html)
    with measuring.history_of(box, write=False) as kept:
        runs = kept.runs(workload=workload, limit=limit)
        baselines = kept.baselines()
        baseline = kept.baseline(runs[-1].place) if runs else None
        shown = {run.id for run in runs}
        older = {b.place: kept.get(b.run_id) for b in baselines if b.run_id not in shown}
    lines = timelines(runs, baselines, older)
    if html is not None:
        made = f"{utc_now()[:16].replace('T', ' ')} UTC"
        page = report.render(
            "Speech speed of this box", lines, runs, baseline, made, {b.run_id for b in baselines}
        )
        bench_files.write(html, page)
        render.note(f"{html}: {len(runs)} runs")
    if not runs:
        if html is None:
            raise OpsError(
                "There is nothing to plot yet.",
                f"`sudo ishowtts-ops bench run{_w(workload)}` takes a run.",
            )
        return 0
    if png is not None:
        with bench_files.writing(png):
            plots.png(lines, png)
        render.note(f"{png}: {len(runs)} runs")
    if png is None and html is None:
        for line in lines:
            render.raw(plots.terminal(line, render.out.width) + "\n\n")
    return 0
