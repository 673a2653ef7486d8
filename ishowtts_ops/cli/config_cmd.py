"""`ishowtts-ops config`: the settings of a box."""

from __future__ import annotations

from typing import Annotated

import typer

from ishowtts_ops import config
from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.cli.key_cmd import make_key
from ishowtts_ops.errors import UsageError
from ishowtts_ops.provision.install import LOCK_PATH
from ishowtts_ops.provision.ishowtts_nfe import set_nfe
from ishowtts_ops.steps import Ledger

app = typer.Typer(help="Check and show the settings.", no_args_is_help=True)
app.command("key")(make_key)


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


@app.command("set-nfe")
@takes_box
def set_nfe_step(
    box: Box,
    steps: Annotated[int, typer.Argument(help="Steps of the ODE solver; 7 is the fast setting.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the diff only.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> int:
    """Set `[f5] default_nfe_step` in iShowTTS's own ishowtts.toml, and nothing else in it.

    Comments and formatting stay; `uninstall` puts the former value back.
    """
    host = box.host
    change = set_nfe(host, box.settings, Ledger.open(host), steps)
    if change is None or dry_run:
        if as_json:
            data = {"changed": False, "plan": list(change.preview) if change else []}
            render.envelope("config set-nfe", data)
        elif change is None:
            render.say(f"Nothing to do: iShowTTS asks for {steps} steps already.")
        else:
            render.plan([change], details=True)
            render.say("Nothing was changed (--dry-run).")
        return 0
    if not as_json:
        render.plan([change], details=True)
    if not yes and not render.confirm("Write it?"):
        raise UsageError("Nothing was changed.", "Answer y, or give --yes.")
    host.require_root("Writing iShowTTS's configuration")
    with host.lock(LOCK_PATH, "ishowtts-ops config set-nfe"):
        change.apply(render.log)
    if as_json:
        render.envelope("config set-nfe", {"changed": True, "plan": list(change.preview)})
    else:
        render.say("Written. Restart iShowTTS's backend for it to take effect; for our daemon run")
        render.say("`ishowtts-ops install`.")
    return 0
