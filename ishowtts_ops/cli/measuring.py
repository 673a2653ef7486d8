"""What the measuring verbs share: a door to the engine, a watch on the machine, the history."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box
from ishowtts_ops.cli.speech import client
from ishowtts_ops.config import Manifest
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.run import examine
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import clocks, gpu, identity
from ishowtts_ops.facts.gpu import SmiGpu
from ishowtts_ops.facts.modules import Module
from ishowtts_ops.facts.systemd import read_systemd
from ishowtts_ops.host import Host
from ishowtts_ops.measure import bench, fingerprint, roofline
from ishowtts_ops.measure.bench import Plan, Watch
from ishowtts_ops.measure.doors import Door, HttpDoor
from ishowtts_ops.measure.fingerprint import Digest, Moment, content_hash, read_manifest
from ishowtts_ops.measure.history import History, cached_digest, open_history
from ishowtts_ops.measure.noise import Noise, learn
from ishowtts_ops.measure.others import OTHERS, OthersUse
from ishowtts_ops.measure.regress import Cause
from ishowtts_ops.measure.run import Run, Sample
from ishowtts_ops.measure.workloads import Workload
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.patch import PatchState
from ishowtts_ops.provision.units import DAEMON

WhenIdle = Annotated[
    bool, typer.Option("--when-idle", help="Skip when somebody is using the daemon; give way.")
]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="With --when-idle: minutes to wait for that.")
]

LONGEST_REFERENCE_S = 12.0
LOOK_AGAIN = ("sudo", "ishowtts-ops", "regress")
"""The remedy of what only says that the box is slow: a symptom, and what asks has just looked."""
LEARNED_FROM = 200
"""Runs of the history that are looked at for what is noise."""


@contextlib.contextmanager
def daemon_door(box: Box) -> Iterator[Door]:
    """The running daemon of this box."""
    with client(box) as daemon:
        yield HttpDoor(daemon, _daemon_pid(box.host.read_only()))


def _daemon_pid(host: Host) -> int | None:
    found = read_systemd(host, [DAEMON]).units
    return found[DAEMON].pid or None if isinstance(found, dict) else None


def take(
    box: Box,
    door: Door,
    workload: Workload,
    plan: Plan,
    history: History | None,
    *,
    note: str = "",
    keep: bool = True,
) -> Run:
    """Measure, showing progress; the run is kept when there is a history, unless told not to."""
    host = box.host.read_only()
    digest = cached_digest(box.host, history) if history else content_hash(host)
    watch = watch_of(box, door, digest)
    floor = floor_of(host, workload, door, door.loaded or read_manifest(host))
    use = OthersUse(_daemon_pid(host) if door.name == HttpDoor.name else None)
    passes = plan.warm_up + plan.passes
    with _bar(f"{workload.name}: {workload.title}", passes) as progress:
        run = bench.measure(door, workload, plan, watch, progress, floor_s=floor, note=note)
    run = dataclasses.replace(run, extra={**run.extra, OTHERS: use.share()})
    if history is not None and keep:
        history.add(run)
    return run


def watch_of(box: Box, door: Door, digest: Digest) -> Watch:
    """How this box is looked at during a run."""
    host = box.host.read_only()
    series, version = series_of(host, box) if door.engine == "f5" else ("none", "none")
    software = fingerprint.software(
        host,
        box.settings,
        engine=door.engine,
        device=door.device,
        series=series,
        f5_version=version,
        digest=digest,
        loaded=door.loaded,
    )
    return Watch(lambda: fingerprint.look(host), lambda: fingerprint.glance(host), software)


def series_of(host: Host, box: Box) -> tuple[str, str]:
    """(series, F5-TTS's version) of the sources the engine uses."""
    place = locate(host, box.settings)
    if place.state is not SourceState.PRESENT:
        return place.state.value, "none"
    found = patch.status(host, place.path)
    state = found.series if found.state is PatchState.APPLIED else found.state.value
    return state, found.version or "unknown"


def floor_of(
    host: Host, workload: Workload, door: Door, manifest: Manifest | None
) -> Callable[[Sequence[float], Moment], float | None]:
    """The least engine time for a pass, on GPUs whose bounds are known and the published model."""

    def floor(audio_s: Sequence[float], moment: Moment) -> float | None:
        if door.engine != "f5" or manifest is None or not isinstance(manifest.model, str):
            return None
        if not door.device.startswith("cuda"):
            return None
        bounds = bounds_of(host, moment)
        if bounds is None:
            return None
        nfe = workload.nfe or manifest.nfe
        reference = door.reference_s or _reference_s(host, manifest)
        guided = manifest.cfg_strength > 0
        return sum(
            roofline.floor_seconds(bounds, reference, seconds, nfe, guided=guided)
            for seconds in audio_s
        )

    return floor


def bounds_of(host: Host, moment: Moment) -> roofline.Gpu | None:
    """What bounds this box's GPU; None where nobody measured it."""
    module = identity.read(host).module
    if isinstance(module, Module):
        emc = clocks.read_emc(host).top_hz
        return roofline.orin(module, moment.gpu_hz, emc if isinstance(emc, int) else None)
    smi = gpu.read_gpu(host).smi
    return roofline.by_name(smi.name) if isinstance(smi, SmiGpu) else None


def _reference_s(host: Host, manifest: Manifest) -> float:
    """Length of the default voice's clip; the shortest of all, since a floor must not be too
    high."""
    import soundfile

    found: list[float] = []
    for voice in manifest.voices:
        with contextlib.suppress(OSError, soundfile.SoundFileError):
            found.append(float(soundfile.info(host.path(voice.audio)).duration))
    return min([*found, LONGEST_REFERENCE_S])


@contextlib.contextmanager
def history_of(box: Box, *, write: bool) -> Iterator[History]:
    """The box's history; what there is to say about its opening is said."""
    with open_history(box.host if write else box.host.read_only()) as history:
        for sentence in history.notes:
            render.note(sentence, "yellow")
        yield history


def noise_of(history: History, baseline: Run) -> Noise:
    """What this box's runs of that work say about each other."""
    key, engine, door = baseline.place
    runs = history.runs(key=key, engine=engine, door=door, limit=LEARNED_FROM)
    return learn(baseline, runs, resets_in(history))


def resets_in(history: History) -> set[str]:
    """Ids of the runs that ever were baselines."""
    return {item.run_id for item in history.baselines()}


def alike(history: History, *runs: Run) -> list[Run]:
    """The newest runs of the same work, engine and door as these."""
    places = dict.fromkeys(run.place for run in runs)
    return [
        run
        for key, engine, door in places
        for run in history.runs(key=key, engine=engine, door=door, limit=LEARNED_FROM)
    ]


def rest(box: Box) -> None:
    """Between two looks at a box that seems slow."""
    seconds = box.settings.measure.idle_seconds
    render.log(f"it looks slower; looking again in {seconds:.0f} s")
    time.sleep(seconds)


def doctors_causes(box: Box) -> list[Cause]:
    """What doctor finds that may slow the box down."""
    return causes_in(examine(box.host.read_only(), box.settings))


def causes_in(report: Report) -> list[Cause]:
    """Doctor's problems as causes; what has a known effect first."""
    bad = [
        finding
        for finding in report.findings
        if finding.bad and not (finding.remedy and LOOK_AGAIN in finding.remedy.commands)
    ]
    rows = [
        Cause(finding.text, finding.effect, finding.remedy.text if finding.remedy else "")
        for finding in bad
    ]
    return sorted(rows, key=lambda cause: -(cause.effect or 0.0))


def require_writable(box: Box, *, can_do_without: bool = True) -> None:
    """Fail before a long run, not after it, when its result cannot be kept.

    Args:
        can_do_without: the verb has --no-save.
    """
    try:
        with history_of(box, write=True):
            pass
    except OpsError as error:
        if not can_do_without:
            raise
        raise OpsError(error.message, f"{error.hint} Or give --no-save.".strip()) from None


@contextlib.contextmanager
def _bar(title: str, passes: int) -> Iterator[bench.Progress]:
    if not render.err.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[last]}"), console=render.err
    ) as bar:
        task = bar.add_task(title, total=passes, last="warming up")

        def progress(done: int, of_all: int, sample: Sample | None) -> None:
            last = f"RTF {sample.rtf:.4f}" if sample else "warming up"
            bar.update(task, completed=done, total=of_all, last=last)

        yield progress
