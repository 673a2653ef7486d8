"""`ishowtts-ops wheels`: what a box without a network installs from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.provision import wheels

app = typer.Typer(help="Wheels for boxes without a network.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `make` a verb of its own while it is the only one."""


@app.command("make")
@takes_box
def make(
    box: Box,
    folder: Annotated[Path, typer.Argument(help="Where to put them.")],
    jetpack: Annotated[str, typer.Option("--jetpack", help="The box's release, such as 6.2.")],
    torch_index: Annotated[
        str | None,
        typer.Option(help="Where torch comes from; else engine.torch_index.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Fetch the wheels that this program and its engine need on a Jetson with that JetPack.

    Runs on any machine with a network. Take the folder and a checkout of this program to the box,
    and run `sudo ./install.sh --wheels DIR` in it there.
    """
    target = wheels.target_of(jetpack)
    index = torch_index or box.settings.engine.torch_index
    names = wheels.make(box.host, target, folder, render.log, index, box.settings.f5.version)
    if as_json:
        render.envelope("wheels make", {"folder": str(folder), "wheels": names})
    else:
        size = sum((folder / name).stat().st_size for name in names) / 1e6
        render.say(f"{len(names)} wheels are in {folder}, {size:.0f} MB: all that a box with")
        render.say(f"JetPack {jetpack} installs with `sudo ./install.sh --wheels DIR`.")
    return 0
