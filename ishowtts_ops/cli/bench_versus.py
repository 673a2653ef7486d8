"""`bench run --compare`: this series against upstream, side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ishowtts_ops.cli import bench_files, bench_tree, measuring, render
from ishowtts_ops.cli.box import Box
from ishowtts_ops.config import Manifest
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.facts.systemd import read_systemd
from ishowtts_ops.host import Host
from ishowtts_ops.measure import fingerprint, versus
from ishowtts_ops.measure.fingerprint import Fingerprint, read_manifest
from ishowtts_ops.measure.versus import Question
from ishowtts_ops.measure.workloads import Workload
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.units import DAEMON

SHOWN = {"ours": "this series", "upstream": "upstream", "upstream-compiled": "upstream, compiled"}


def run(
    box: Box,
    works: Sequence[Workload],
    others: Sequence[str],
    *,
    weights: str,
    preset: str,
    runs: int,
    warm_up: int,
    output: Path | None,
    as_json: bool,
) -> int:
    """Compare, show, and keep as JSON. Exit 1 when a side failed or fidelity's bounds are not kept.

    Raises:
        UsageError: a side that there is not, or a workload that cannot be compared.
        OpsError: the sources are not there or not patched, or this series' own side failed.
    """
    _refuse(works, others, preset, weights)
    host = box.host.read_only()
    place = locate(host, box.settings)
    if place.state is not SourceState.PRESENT:
        raise OpsError(place.text, place.hint)
    manifest = read_manifest(host) or Manifest()
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {output.absolute().parent}.", "Name another file.")
    before = fingerprint.look(host)
    bounds = measuring.bounds_of(host, before)
    question = Question(
        workloads=tuple(works),
        others=tuple(dict.fromkeys(others)),
        runs=runs,
        warm_up=max(1, warm_up),
        nfe=manifest.nfe,
        cfg_strength=manifest.cfg_strength,
        preset=preset,
        device=manifest.device,
        peak_tflops=bounds.flops / 1e12 if bounds is not None and preset == "full" else None,
        files=_files(box, manifest) if weights == "box" else None,
    )
    with tempfile.TemporaryDirectory(prefix="ishowtts-compare-") as name:
        folder = Path(name)
        upstream = bench_tree.unpatched(host, place.path, folder / "upstream")
        found = versus.ask(
            box.host,
            in_use(host, box.settings),
            host.path(place.package_path),
            upstream,
            folder,
            question,
            lambda line: render.note(line, "dim"),
        )
    after = fingerprint.look(host)
    series, version = measuring.series_of(host, box)
    seen = Fingerprint({"series": series, "F5-TTS": version}, before, after)
    # The command that gives the same again, not the one with this run's temporary folders.
    found["about"]["command"] = _command(works, question, weights)
    found["fingerprint"] = seen.to_json()
    found["marks"] = [*fingerprint.marks(seen), *_beside(host)]
    if output is not None:
        bench_files.write(output, json.dumps(found, indent=1) + "\n")
    wrong = versus.failures(found)
    if as_json:
        render.envelope("bench run", found, ok=not wrong)
    else:
        show(found)
    return 1 if wrong else 0


def _beside(host: Host) -> list[str]:
    units = read_systemd(host, [DAEMON]).units
    if isinstance(units, dict) and units[DAEMON].pid:
        return [f"{DAEMON} ran beside it, on the same GPU and in the same memory"]
    return []


def _refuse(works: Sequence[Workload], others: Sequence[str], preset: str, weights: str) -> None:
    for name in others:
        if name not in versus.OTHERS:
            raise UsageError(
                f"--compare {name!r} is nothing to compare with.",
                f"Give {' or '.join(versus.OTHERS)}; both may be given.",
            )
    if preset not in versus.PRESETS:
        raise UsageError(f"--preset {preset!r} is neither full nor small.", "Give one of these.")
    if preset == "small" and weights == "box":
        raise UsageError(
            "The box's weights are of the full size.", "Give --weights random with --preset small."
        )
    if any(utterance.voice for work in works for utterance in work.utterances):
        raise UsageError(
            "A comparison speaks with made-up voices, so that both sides have equal ones.",
            "Leave out --voice.",
        )


def _files(box: Box, manifest: Manifest) -> dict[str, str]:
    """The box's own weights as the module's options."""
    if manifest.ckpt_file is None or manifest.vocoder_path is None:
        raise OpsError(
            "The box has no weights to compare with.", "Give --weights random, or run install."
        )
    named = {
        "ckpt_file": manifest.ckpt_file,
        "vocab_file": manifest.vocab_file,
        "vocoder_dir": manifest.vocoder_path,
    }
    host = box.host.read_only()
    return {key: str(host.path(path)) for key, path in named.items() if path is not None}


def _command(works: Sequence[Workload], question: Question, weights: str) -> str:
    words = ["ishowtts-ops", "bench", "run", "--workload", ",".join(w.name for w in works)]
    words += ["--engine", "f5", "--weights", weights, "--runs", str(question.runs)]
    for other in question.others:
        words += ["--compare", other]
    return " ".join(words + (["--preset", "small"] if question.preset == "small" else []))


# ---- showing -------------------------------------------------------------------------------------


def show(found: Mapping[str, Any]) -> None:
    """One table for each workload, and what is wrong."""
    about = found["about"]
    render.say(f"F5-TTS on {about['gpu']}, torch {about['torch']}, {about['weights']}", "bold")
    for name, workload in found["workloads"].items():
        _workload(name, workload)
    for line in versus.failures(found):
        render.say(line, "red")
    for mark in found.get("marks", ()):
        render.say(f"Marked, because figures taken so mislead: {mark}.", "yellow")


def _workload(name: str, found: Mapping[str, Any]) -> None:
    ours = found[versus.OURS]
    render.say()
    render.say(f"{name}: {ours['audio_s']:.1f} s of speech, {ours['total']['runs']} passes each")
    sides = versus.sides(found)
    rows = [(title, *(cell(found[side]) for side in sides)) for title, cell in _ROWS]
    render.table(("", *(SHOWN[side] for side in sides)), rows)
    for side, by in found["faster"].items():
        total, first = by["total"], by["first_audio"]
        render.say(
            f"{_times(total)} as fast as {SHOWN[side]}; first audio {_times(first)} as soon."
        )
    fidelity = found.get("fidelity", {})
    if "passed" in fidelity:
        verdict = "passed" if fidelity["passed"] else "NOT PASSED"
        render.say(
            f"Fidelity {verdict}: mel {fidelity['mel_snr_db']} dB, wave"
            f" {fidelity['wave_snr_db']} dB from upstream in fp32 on the same noise; upstream's own"
            f" {fidelity['upstream_mel_snr_db']} and {fidelity['upstream_wave_snr_db']} dB."
        )
    elif "unknown" in fidelity:
        render.say(f"Fidelity not known: {fidelity['unknown']}.", "yellow")


def _times(by: Mapping[str, Any]) -> str:
    span = f" ({by['low']:.2f} to {by['high']:.2f})" if by["low"] is not None else ""
    return f"{by['times']:.2f} times{span}"


def _span(by: Mapping[str, Any]) -> str:
    return f"{by['low_ms']:.1f} to {by['high_ms']:.1f} ms" if by["low_ms"] is not None else "–"


def _step(side: Mapping[str, Any], key: str, unit: str = "") -> str:
    value = side.get("step", {}).get(key)
    return "not counted" if value is None else f"{value:g}{unit}"


def _held(side: Mapping[str, Any]) -> str:
    memory = side.get("memory", {})
    if "peak_vram_gb" in memory:
        return f"{memory['peak_vram_gb']:.2f} GB of VRAM"
    return f"{memory['peak_rss_gb']:.2f} GB resident" if memory else "–"


_ROWS = (
    ("latency, median", lambda s: f"{s['total']['p50_ms']:.1f} ms"),
    ("95 % interval", lambda s: _span(s["total"])),
    ("p95", lambda s: f"{s['total']['p95_ms']:.1f} ms"),
    ("RTF", lambda s: f"{s['rtf']:.4g}"),
    ("first audio", lambda s: f"{s['first_audio']['p50_ms']:.1f} ms"),
    ("kernels per NFE", lambda s: _step(s, "kernels_per_nfe")),
    ("bytes per NFE", lambda s: _step(s, "gb_per_nfe", " GB")),
    ("device time per NFE", lambda s: _step(s, "device_ms_per_nfe", " ms")),
    ("TFLOP/s in a step", lambda s: _step(s, "tflop_per_s")),
    ("floor of this device", lambda s: f"{s['floor_ms']:.2f} ms, this is {s['times_floor']:g}x"),
    ("peak memory", _held),
    ("start to warm", lambda s: f"{s['warm_up']['warm_up_s']:.1f} s"),
)
