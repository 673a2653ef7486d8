"""`bench project`: what an Orin would need, from a measurement on another GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.measure import projection


@takes_box
def project(
    box: Box,
    measurement: Annotated[
        Path,
        typer.Argument(help="A file of docs/measurements, or of `bench run --compare --out`."),
    ],
    workload: Annotated[
        str, typer.Option("--workload", "-w", help="Of the file: S, M, R3 or L.")
    ] = "M",
    modules: Annotated[
        list[str] | None,
        typer.Option("--module", help="Such as agx-orin-64, orin-nano-8-super; repeatable."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The table as docs/speed-series.md has it.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Project the time of a workload onto Jetson Orin modules. A projection, never a measurement.

    Counted FLOPs, bytes and launches, and the share of its GPU's peak that the measurement reached.
    """
    measured = projection.read(measurement, workload)
    rows = projection.project(measured, modules or projection.TARGETS)
    if as_json:
        render.envelope(
            "bench project",
            {"label": projection.LABEL, "from": measured, "projections": rows},
        )
    elif markdown:
        render.raw(projection.markdown(measured, rows))
    else:
        render.say(f"{projection.LABEL.capitalize()}; from {measured.source}", "bold")
        render.table(
            ("", "floor", "projected", "RTF", "bound by"),
            [
                (
                    row.module,
                    f"{row.floor_s * 1e3:.0f} ms",
                    row.span,
                    row.rtf_span,
                    row.bound,
                )
                for row in rows
            ],
        )
    return 0
