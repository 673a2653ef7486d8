"""`ishowtts-ops monitor`: the box, live, in a terminal."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.live import Live

from ishowtts_ops.cli import render
from ishowtts_ops.cli.bench_files import writing
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.cli.monitor_view import view
from ishowtts_ops.measure.gpu_load import jtop_connection
from ishowtts_ops.measure.monitor import Monitor, Reading


@takes_box
def monitor(
    box: Box,
    once: Annotated[bool, typer.Option("--once", help="Show one reading and end.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=3600, help="Seconds between readings.")
    ] = 2.0,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many readings.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Append every reading as a line of JSON.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Watch clocks and their lock, heat, power, memory, GPU load and the daemon.

    Redraws in a terminal; Ctrl-C ends it. Without one, each reading is printed as it is taken.
    """
    limit = 1 if once or as_json else count
    with jtop_connection(box.host) as jtop, _appending(log) as file:
        watch = Monitor(box.host, box.settings, jtop)
        if as_json:
            reading = _read(watch, file)
            render.envelope("monitor", reading.to_json())
        elif once or not render.out.is_terminal:
            _print(watch, limit, interval, file)
        else:
            _live(watch, limit, interval, file)
    return 0


def _print(watch: Monitor, limit: int | None, interval: float, file: TextIO | None) -> None:
    shown = 0
    while True:
        reading = _read(watch, file)
        render.out.print(view(reading, render.out.width, render.out.height))
        shown += 1
        if shown == limit:
            return
        time.sleep(interval)


def _live(watch: Monitor, limit: int | None, interval: float, file: TextIO | None) -> None:
    taken = 0
    screen = Live(console=render.out, screen=True, auto_refresh=False)
    with screen, contextlib.suppress(KeyboardInterrupt):
        while taken != limit:
            began = time.monotonic()
            reading = _read(watch, file)
            screen.update(view(reading, render.out.width, render.out.height), refresh=True)
            taken += 1
            if taken != limit:
                time.sleep(max(0.0, interval - (time.monotonic() - began)))


def _read(watch: Monitor, file: TextIO | None) -> Reading:
    reading = watch.read()
    if file is not None:
        file.write(json.dumps(reading.to_json(), ensure_ascii=False) + "\n")
        file.flush()
    return reading


@contextlib.contextmanager
def _appending(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with writing(path):
        file = path.open("a", encoding="utf-8")
    with file:
        yield file
