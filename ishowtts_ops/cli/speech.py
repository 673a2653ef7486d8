"""`ishowtts-ops say` and `voices`: the running daemon, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.client import DaemonClient, SpokenAudio
from ishowtts_ops.errors import UsageError

voices = typer.Typer(help="The voices the daemon speaks with.", no_args_is_help=True)


def client(box: Box, timeout: float = 120.0) -> DaemonClient:
    """A client of this box's daemon."""
    daemon = box.settings.daemon
    return DaemonClient(f"http://{daemon.host}:{daemon.port}", timeout)


@takes_box
def say(
    box: Box,
    text: Annotated[str, typer.Argument(help="What to say; - reads it from standard input.")],
    voice: Annotated[str | None, typer.Option("--voice", help="See `voices list`.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="f5, espeak or tone, where the daemon has it.")
    ] = None,
    speed: Annotated[float, typer.Option("--speed", min=0.25, max=4.0, help="1 is normal.")] = 1.0,
    nfe: Annotated[int | None, typer.Option("--nfe", help="ODE steps, f5 only.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For the same noise again.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A WAV file; - is standard output.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Have it sent as it is made.")] = False,
    as_json: Json = False,
) -> int:
    """Speak a text into a WAV file through the running daemon.

    Without --output the file is speech.wav in this folder.
    """
    words = sys.stdin.read() if text == "-" else text
    target = output or Path("speech.wav")
    to_stdout = str(target) == "-"
    if as_json and to_stdout:
        raise UsageError("--json and `-o -` both want standard output.", "Give -o a file.")
    if not to_stdout and not target.parent.is_dir():
        raise UsageError(f"There is no folder {target.parent}.", "Make it, or choose another -o.")
    with client(box) as daemon:
        spoken = daemon.speak(
            words, voice, speed=speed, stream=stream, model=engine, nfe=nfe, seed=seed
        )
    if to_stdout:
        sys.stdout.buffer.write(spoken.content)
        return 0
    target.write_bytes(spoken.content)
    _tell(spoken, target, as_json=as_json)
    return 0


def _tell(spoken: SpokenAudio, target: Path, *, as_json: bool) -> None:
    timings = spoken.timings
    if as_json:
        data = {
            "file": str(target),
            "engine": spoken.engine,
            "voice": spoken.voice,
            "fallback": spoken.fallback,
            "request_id": spoken.request_id,
            "timings": timings,
            "total_s": spoken.total_s,
        }
        render.envelope("say", data)
        return
    line = f"{target}: {spoken.engine}, voice {spoken.voice}"
    if timings is not None:
        line += (
            f", {timings.audio_seconds:.1f} s of audio in {timings.infer:.2f} s"
            f" (RTF {timings.rtf:.3f})"
        )
    render.say(line)
    if spoken.fallback:
        render.note("Spoken by the fallback voice: the engine is not ready.", "yellow")


@voices.command("list")
@takes_box
def list_voices(box: Box, as_json: Json = False) -> int:
    """List the voices of the running daemon."""
    with client(box) as daemon:
        rows = daemon.voices()
    if as_json:
        render.envelope("voices list", rows)
        return 0
    render.table(
        ("voice", "language", "", "reference"),
        [
            (
                row.id,
                row.language or "",
                "default" if row.default else "",
                row.reference_text or ("built in" if row.builtin else ""),
            )
            for row in rows
        ],
    )
    return 0
