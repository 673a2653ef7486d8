"""What an Orin would need, from what was measured elsewhere: a projection, never a measurement.

Counted FLOPs, bytes and launches of one synthesis, and the time it took on a GPU whose bounds are
known, give the share of its peak that the code reaches. An Orin is taken to reach the same share of
its own bounds, in two ways that both give back the measured time on the measured GPU: its memory
traffic hidden behind its products, and one after the other. The truth is expected between the two,
or better: smaller chips have fewer multiprocessors to fill.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.modules import module_by_key
from ishowtts_ops.measure import roofline
from ishowtts_ops.measure.roofline import Counted, Gpu

LABEL = "projection, not measured"
TARGETS = ("agx-orin-64", "agx-orin-32", "orin-nano-8-super")
_ONE_PIECE = 0.02
"""A pass whose FLOPs differ by less from its steps' is of one piece."""


@dataclass(frozen=True)
class Measured:
    """One synthesis on one GPU.

    Attributes:
        seconds: text to samples on the host, the median.
        speech_s: what it made.
        source: which file and which workload of it.
    """

    gpu: Gpu
    counted: Counted
    seconds: float
    speech_s: float
    source: str


@dataclass(frozen=True)
class Projected:
    """A row of the table. Times in seconds, from the better way of reckoning to the worse.

    Attributes:
        bound: what takes longest there: compute, memory or launch.
        floor_s: at the chip's peak.
    """

    module: str
    tflop_per_s: float
    gb_per_s: float | None
    floor_s: float
    low_s: float
    high_s: float
    low_rtf: float
    high_rtf: float
    bound: str
    label: str = LABEL

    @property
    def span(self) -> str:
        """ "500 to 540 ms"."""
        return _about(self.low_s * 1e3, self.high_s * 1e3, "ms")

    @property
    def rtf_span(self) -> str:
        return _about(self.low_rtf, self.high_rtf)


def read(path: Path, workload: str = "M") -> Measured:
    """A measurement: a file of `bench run --compare --out` or of tests/gpu/bench_series.py.

    Raises:
        OpsError: it is no such file, or has no such workload in it, or not on a GPU.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise OpsError(
            f"{path} holds no measurement: {why}.",
            "`ishowtts-ops bench run --compare upstream --out FILE` writes one.",
        ) from None
    try:
        if "workloads" in body:
            return _of_comparison(body, workload, path.name)
        return _of_series(body, workload, path.name)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise OpsError(
            f"{path} has no figures of the workload {workload!r} to project from ({error!r}).",
            "Give a file of docs/measurements, or one that `bench run --compare` wrote on a GPU.",
        ) from None


def _of_comparison(body: Mapping[str, Any], workload: str, name: str) -> Measured:
    found = body["workloads"][workload]
    ours, step, nfe = found["ours"], found["ours"]["step"], found["work"]["nfe"]
    if abs(ours["tflop"] / (nfe * step["tflop_per_nfe"]) - 1) > _ONE_PIECE:
        raise OpsError(
            f"{workload} is spoken in several pieces, and only the longest was counted.",
            "Project from a workload of one piece: S, M, R3 or L.",
        )
    counted = _counted(step, nfe, step["gb_per_nfe"])
    peak = float(body["peak"]["tflop_per_s"]) * 1e12
    gpu = _gpu(body["about"]["gpu"], peak)
    return Measured(
        gpu, counted, ours["total"]["p50_ms"] / 1e3, ours["audio_s"], f"{name}, {workload}"
    )


def _of_series(body: Mapping[str, Any], workload: str, name: str) -> Measured:
    if workload != "M":
        raise OpsError(
            f"{name} counted the work of M alone.", "Leave out --workload, or give another file."
        )
    step = body["work"]["ours"]
    gpu = _gpu(body["about"]["gpu"], None)
    counted = _counted(step, 7, step["counted_gb_per_nfe"])
    return Measured(
        gpu, counted, body["latency"]["M"]["ours"]["p50_ms"] / 1e3, 8.0, f"{name}, {workload}"
    )


def _counted(step: Mapping[str, Any], nfe: int, gigabytes: float) -> Counted:
    return Counted(
        flops=nfe * step["tflop_per_nfe"] * 1e12,
        bytes=nfe * gigabytes * 1e9,
        launches=nfe * int(step["kernels_per_nfe"]),
    )


def _gpu(name: str, peak: float | None) -> Gpu:
    known = roofline.by_name(name)
    if known is not None:
        return known
    if name == "cpu" or peak is None:
        raise OpsError(
            f"It was measured on {name!r}, from which nothing can be projected.",
            "Give a measurement of a GPU.",
        )
    return Gpu(name, peak)


def project(measured: Measured, targets: Sequence[str] = TARGETS) -> tuple[Projected, ...]:
    """What the same synthesis would take on each module at its highest clocks.

    Raises:
        OpsError: a module whose size is not known.
    """
    rows = []
    for key in targets:
        module = module_by_key(key)
        bounds = roofline.orin(module) if module is not None else None
        if bounds is None:
            raise OpsError(f"There are no bounds of a module {key!r}.")
        both = [
            roofline.project(
                measured.counted,
                bounds,
                roofline.calibrate(measured.counted, measured.gpu, measured.seconds, in_turn=way),
            )
            for way in (False, True)
        ]
        low, high = sorted(one.seconds for one in both)
        rows.append(
            Projected(
                bounds.name,
                bounds.flops / 1e12,
                bounds.bandwidth / 1e9 if bounds.bandwidth else None,
                measured.counted.flops / bounds.flops,
                low,
                high,
                low / measured.speech_s,
                high / measured.speech_s,
                both[0].bound,
            )
        )
    return tuple(rows)


def markdown(measured: Measured, rows: Sequence[Projected]) -> str:
    """The table of docs/speed-series.md."""
    c = measured.counted
    head = (
        f"{LABEL.capitalize()}. From {measured.source}: {c.flops / 1e12:.2f} TFLOP,"
        f" {c.bytes / 1e9:.1f} GB and {c.launches:,} launches took"
        f" {measured.seconds * 1e3:.1f} ms on an {measured.gpu.name}.\n\n"
        "| | dense fp16 | memory | floor | projected, not measured | RTF |\n"
        "|---|---|---|---|---|---|\n"
    )
    return head + "".join(f"{_row(row)}\n" for row in rows)


def _row(row: Projected) -> str:
    memory = f"{row.gb_per_s:.0f} GB/s" if row.gb_per_s else "not known"
    return (
        f"| {row.module} | {row.tflop_per_s:.1f} TFLOP/s | {memory} | {row.floor_s * 1e3:.0f} ms |"
        f" {row.span} | {row.rtf_span} |"
    )


def _about(low: float, high: float, unit: str = "") -> str:
    """Two digits, which is more than a projection knows."""
    first, second = (_two_digits(value) for value in (low, high))
    span = f"about {first}" if first == second else f"{first} to {second}"
    return f"{span} {unit}".rstrip()


def _two_digits(value: float) -> str:
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):.{max(digits, 0)}f}"
