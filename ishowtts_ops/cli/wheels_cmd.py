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
    as_json: Json = False,
) -> int:
    """Fetch the wheels that the engine of a Jetson with that JetPack needs, on any machine.

    Take the folder to the box and run `ishowtts-ops install --wheels DIR` there.
    """
    target = wheels.target_of(jetpack)
    names = wheels.make(box.host, box.settings, target, folder, render.log)
    if as_json:
        render.envelope("wheels make", {"folder": str(folder), "wheels": names})
    else:
        render.say(f"{len(names)} wheels are in {folder}.")
    return 0
