"""The command line: which verbs there are, and what happens to what they raise."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ishowtts_ops import __version__
from ishowtts_ops.cli import (
    bench_cmd,
    calendar_cmd,
    config_cmd,
    demo,
    doctor_cmd,
    install_cmd,
    monitor_cmd,
    patch_cmd,
    power_cmd,
    regress_cmd,
    render,
    serve_cmd,
    speech,
    status_cmd,
    supervise_cmd,
    wheels_cmd,
)
from ishowtts_ops.errors import OpsError

app = typer.Typer(
    name="ishowtts-ops",
    help=(
        "Turns a Jetson Orin into a fast, supervised text-to-speech box, and keeps it that way.\n\n"
        "Start with `ishowtts-ops demo` on any machine, `sudo ishowtts-ops install` on a Jetson,"
        " and `ishowtts-ops doctor` when it got slow."
    ),
    epilog="Exit codes: 0 fine, 1 a problem or a failure, 2 usage or configuration, 3 not known.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("install")(install_cmd.install)
app.command("uninstall")(install_cmd.uninstall)
app.command("status")(status_cmd.status)
app.command("doctor")(doctor_cmd.doctor)
app.add_typer(patch_cmd.app, name="patch")
app.add_typer(power_cmd.app, name="power")
app.add_typer(wheels_cmd.app, name="wheels")
app.command("serve")(serve_cmd.serve)
# A command's own options are its own, also where somebody forgets the --.
app.command("supervise", context_settings={"allow_interspersed_args": False})(
    supervise_cmd.supervise
)
app.command("say")(speech.say)
app.add_typer(speech.voices, name="voices")
app.add_typer(bench_cmd.app, name="bench")
app.command("monitor")(monitor_cmd.monitor)
app.command("regress")(regress_cmd.regress)
app.command("validate")(calendar_cmd.validate)
app.command("notify", hidden=True)(calendar_cmd.notify)
app.add_typer(config_cmd.app, name="config")
app.command("demo")(demo.demo)


def _version(show: bool) -> None:
    if show:
        render.say(f"ishowtts-ops {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def run(argv: list[str]) -> int:
    """Run one command and return its exit code; see errors.py for which is which."""
    # Behind -- comes another program's command line, whose options are not ours.
    own = argv[: argv.index("--")] if "--" in argv else argv
    try:
        app(args=argv, prog_name="ishowtts-ops")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except OpsError as error:
        render.failure(_command(argv), error, as_json="--json" in own)
        if "--debug" in own or os.environ.get("ISHOWTTS_DEBUG"):
            raise
        return error.exit_code
    except KeyboardInterrupt:
        render.note("Interrupted. Running the same command again finishes what was begun.")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        sys.stderr.close()
        return 0
    return 0


def _command(argv: list[str]) -> str:
    words = []
    for word in argv:
        if word.startswith("-"):
            break
        words.append(word)
    return " ".join(words[:2])
