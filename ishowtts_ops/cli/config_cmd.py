"""`ishowtts-ops config`: the settings of a box."""

from __future__ import annotations

import typer

from ishowtts_ops import config
from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box

app = typer.Typer(help="Check and show the settings.", no_args_is_help=True)


@app.command("check")
@takes_box
def check(box: Box, as_json: Json = False) -> int:
    """Check the configuration; every mistake is shown at once. Exit 2 when there is one."""
    settings = box.settings
    if as_json:
        render.envelope(
            "config check",
            {"source": box.settings_text[1], "settings": settings.model_dump(mode="json")},
        )
    else:
        render.say(f"{box.settings_text[1]}: fine")
    return 0


@app.command("show")
@takes_box
def show(box: Box, as_json: Json = False) -> int:
    """Print the settings in force, every key written out."""
    if as_json:
        data = {
            "source": box.settings_text[1],
            "settings": box.settings.model_dump(mode="json"),
        }
        render.envelope("config show", data)
    else:
        render.raw(config.dump(box.settings))
    return 0


@app.command("path")
@takes_box
def path(box: Box) -> int:
    """Print where the box's configuration is read from."""
    render.say(str(box.host.path(config.CONFIG_PATH)))
    return 0
