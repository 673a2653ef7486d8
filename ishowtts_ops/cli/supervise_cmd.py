"""`ishowtts-ops supervise`: any HTTP service as a Type=notify service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ishowtts_ops.cli.box import Box, takes_box
from ishowtts_ops.config import Backend
from ishowtts_ops.errors import UsageError

Seconds = float | None


def _seconds(text: str) -> Any:
    return typer.Option(help=f"{text}, in seconds.", show_default=False)


@takes_box
def supervise(
    box: Box,
    command: Annotated[
        list[str] | None,
        typer.Argument(help="What to run, behind --. Without it: backend of the configuration."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="What it answers to: ishowtts, or none (none).", show_default=False),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Its address, before every path.")] = None,
    health: Annotated[
        list[str] | None,
        typer.Option(help="A path or an address that answers 2xx when healthy; repeatable."),
    ] = None,
    warmup: Annotated[
        list[str] | None,
        typer.Option(
            help='A request before it is ready, such as \'POST /api/tts {"text":"Hi."} =>'
            " audio'; repeatable. Behind => is ok, json, audio or contains:TEXT."
        ),
    ] = None,
    canary: Annotated[
        str | None, typer.Option(help="The real request now and then, written the same way.")
    ] = None,
    directory: Annotated[Path | None, typer.Option(help="Where to start it.")] = None,
    start_limit: Annotated[Seconds, _seconds("Longest start (1800)")] = None,
    start_grace: Annotated[Seconds, _seconds("Longest standstill of a start (120)")] = None,
    warmup_timeout: Annotated[Seconds, _seconds("Longest warm-up request (300)")] = None,
    health_interval: Annotated[Seconds, _seconds("Between looks at its health (5)")] = None,
    health_timeout: Annotated[Seconds, _seconds("Longest such look (5)")] = None,
    health_failures: Annotated[
        int | None, typer.Option(help="Failures in a row that end it (3).", show_default=False)
    ] = None,
    canary_interval: Annotated[Seconds, _seconds("Between real requests when idle (60)")] = None,
    canary_timeout: Annotated[Seconds, _seconds("Longest real request (60)")] = None,
    canary_failures: Annotated[
        int | None, typer.Option(help="Failures in a row that end it (2).", show_default=False)
    ] = None,
    idle_seconds: Annotated[Seconds, _seconds("Rest that counts as idle (5)")] = None,
    stop_seconds: Annotated[Seconds, _seconds("From SIGTERM to SIGKILL (15)")] = None,
    memory_limit_mb: Annotated[
        float | None, typer.Option(help="MiB of all its processes (80 % of the box's).")
    ] = None,
    memory_growth_mb_per_hour: Annotated[
        float | None, typer.Option(help="MiB an hour; 0 for any (200).", show_default=False)
    ] = None,
    memory_window: Annotated[Seconds, _seconds("How long it must grow (3600)")] = None,
    memory_wait: Annotated[Seconds, _seconds("Longest wait for an idle moment (600)")] = None,
) -> int:
    """Run any HTTP service as a systemd service of Type=notify.

    The service is started, waited for until it is healthy, and warmed up with real requests; only
    then READY=1 is sent. From then on systemd's watchdog is fed while its health answers in time
    and a real request now and then gives a good answer. When one fails too often, or the memory
    grows too much, the reason is logged and everything is ended, for systemd to start it again.

    Its unit wants Type=notify, WatchdogSec=90, Restart=always, KillMode=mixed and
    SuccessExitStatus=75 143.

    TERM and INT are passed on to all its processes, HUP to the command; a second TERM ends them at
    once. Outside systemd it runs in the foreground and says the same in lines. Exit codes: the
    command's own (128 + N for a signal), 1 found broken, 75 planned, for its memory; 2 usage.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    return _supervise(box, given)


def _supervise(box: Box, given: dict[str, Any]) -> int:
    # Not at the top: HTTP and audio would cost every other verb their import.
    from ishowtts_ops.supervise.plan import make_plan, parse_request
    from ishowtts_ops.supervise.supervisor import run

    given.pop("box")
    for name in ("command", "health", "warmup"):
        if not given.get(name):
            given.pop(name, None)
    if "warmup" in given:
        given["warmup"] = [parse_request(text) for text in given["warmup"]]
    if "canary" in given:
        given["canary"] = parse_request(given["canary"])
    if "directory" in given:
        given["directory"] = str(given["directory"].absolute())
    # A command of its own has nothing to do with the configured backend.
    base = Backend(preset="none") if "command" in given else _configured(box)
    try:
        backend = Backend.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise UsageError(
            " ".join(map(_sentence, error.errors())),
            "`ishowtts-ops supervise --help` shows how.",
        ) from None
    return run(make_plan(backend), box.host)


def _configured(box: Box) -> Backend:
    """The box's own backend, with its paths as this machine sees them."""
    backend, checkout = box.settings.backend, box.settings.ishowtts.path
    folder = backend.directory or (checkout if box.host.is_dir(checkout) else None)
    given: dict[str, Any] = {"directory": str(box.host.path(folder)) if folder else None}
    if backend.command and backend.command[0].startswith("/"):
        program = str(box.host.path(backend.command[0], follow_last=False))
        given["command"] = (program, *backend.command[1:])
    return backend.model_copy(update=given)


def _sentence(item: Any) -> str:
    option = "--" + str(item["loc"][0]).replace("_", "-")
    what = str(item["msg"])
    if item["type"] == "string_pattern_mismatch":
        what = "it should be an address such as http://127.0.0.1:8080"
        if item["loc"][0] == "health":
            what = "it should be a path or an address, such as /health"
    return f"{option} {item['input']}: {what[0].lower()}{what[1:]}."
