"""The command line: which verbs there are, and what happens to what they raise."""

from __future__ import annotations

import itertools
import os
import sys
from typing import Annotated, Any

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
    streams,
    supervise_cmd,
    wheels_cmd,
)
from ishowtts_ops.cli.teaching import Verbs
from ishowtts_ops.errors import Interrupted, MachineTrouble, OpsError, UsageError

NAME = "ishowtts-ops"
COMPLETION = "_ISHOWTTS_OPS_COMPLETE"
"""Set by a shell that asks what a line may go on with."""

# Typer brings a Click of its own, or uses the one beside it, and exports only some of its errors.
ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name=NAME,
    cls=Verbs,
    help=(
        "Turns a Jetson Orin into a fast, supervised text-to-speech box, and keeps it that way.\n\n"
        "Start with `ishowtts-ops demo` on any machine, `sudo ishowtts-ops install` on a Jetson,"
        " and `ishowtts-ops doctor` when it got slow."
    ),
    epilog=(
        "Exit codes: 0 fine, 1 a problem or a failure, 2 usage or configuration, 3 could not be"
        " determined. `ishowtts-ops VERB --help` has examples."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("install")(install_cmd.install)
app.command("uninstall")(install_cmd.uninstall)
app.command("status")(status_cmd.status)
app.command("doctor")(doctor_cmd.doctor)
app.add_typer(patch_cmd.app, name="patch", cls=Verbs)
app.add_typer(power_cmd.app, name="power", cls=Verbs)
app.add_typer(wheels_cmd.app, name="wheels", cls=Verbs)
app.command("serve")(serve_cmd.serve)
# A command's own options are its own, also where somebody forgets the --.
app.command("supervise", context_settings={"allow_interspersed_args": False})(
    supervise_cmd.supervise
)
app.command("say")(speech.say)
app.add_typer(speech.voices, name="voices", cls=Verbs)
app.add_typer(bench_cmd.app, name="bench", cls=Verbs)
app.command("monitor")(monitor_cmd.monitor)
app.command("regress")(regress_cmd.regress)
app.command("validate")(calendar_cmd.validate)
app.command("notify", hidden=True)(calendar_cmd.notify)
app.add_typer(config_cmd.app, name="config", cls=Verbs)
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
    streams.make_sound()
    try:
        code = _invoke(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        streams.discard_output()
        return 0
    except (OpsError, OSError, KeyboardInterrupt) as error:
        known = _known(error)
        if known is None:
            raise
        _tell(_command(argv), known, as_json="--json" in own)
        if "--debug" in own or os.environ.get("ISHOWTTS_DEBUG"):
            raise
        return known.exit_code


def _tell(command: str, error: OpsError, *, as_json: bool) -> None:
    try:
        render.failure(command, error, as_json=as_json)
        sys.stdout.flush()
    except OSError:
        # It may be standard output itself that takes nothing more.
        streams.discard_output()
        if as_json:
            render.failure(command, error, as_json=False)


def _known(error: OpsError | OSError | KeyboardInterrupt) -> OpsError | None:
    """What to say for an error; None for a bug, which is shown with its traceback."""
    if isinstance(error, OSError):
        return MachineTrouble.of(error)
    return error if isinstance(error, OpsError) else Interrupted()


def _invoke(argv: list[str]) -> int:
    """Run a command without Typer's own handlers, which differ from release to release: Ctrl-C and
    a reader who left end here as they do everywhere else in this program."""
    if COMPLETION in os.environ:
        app(args=argv, prog_name=NAME)
    command = typer.main.get_command(app)
    try:
        with command.make_context(NAME, list(argv)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # completion ends by itself
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except typer.Abort:
        raise Interrupted from None
    except ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            render.note(str(error))
            return UsageError.exit_code
        raise _usage(error) from None
    return 0


def _usage(error: Any) -> OpsError:
    """A mistake in the words of a command, as every other mistake of a user is told."""
    context = getattr(error, "ctx", None)
    where = NAME if context is None else context.command_path
    text = error.format_message()
    return UsageError(
        f"{text.rstrip('.?')}{'?' if text.endswith('?') else '.'}",
        f"`{where} --help` shows how it is used.",
    )


def _command(argv: list[str]) -> str:
    """The verb, with its second word where it has one: `doctor`, `patch status`."""
    groups = {group.name for group in app.registered_groups}
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    return " ".join(words[: 2 if words[:1] and words[0] in groups else 1])
