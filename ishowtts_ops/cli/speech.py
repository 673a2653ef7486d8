"""`ishowtts-ops say` and `voices`: the running daemon, from the command line."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.client import DaemonClient, SpokenAudio, VoiceInfo
from ishowtts_ops.config import API_KEY_VARIABLE, read_api_key
from ishowtts_ops.errors import UsageError

FORMATS = ("wav", "pcm", "flac", "opus", "mp3", "aac")

voices = typer.Typer(help="The voices the daemon speaks with.", no_args_is_help=True)


KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        help=f"A file with the daemon's API key; else {API_KEY_VARIABLE} or the configuration's.",
    ),
]


def client(box: Box, key_file: Path | None = None, timeout: float = 120.0) -> DaemonClient:
    """A client of this box's daemon.

    Raises:
        UsageError: the key file holds no key.
    """
    if key_file is not None:
        return DaemonClient(box.settings.daemon.url, timeout, read_api_key(key_file))
    return DaemonClient.of(box.settings, timeout, box.root)


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
        Path | None, typer.Option("--output", "-o", help="A file; - is standard output.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(FORMATS)}; left out, as the file is called."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Have it sent, and written, as it is made.")
    ] = False,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> int:
    """Speak a text into a file through the running daemon.

    Without --output the file is speech.wav in this folder. To hear it as it is made:
    `ishowtts-ops say --stream -o - TEXT | aplay`.
    """
    words = sys.stdin.read() if text == "-" else text
    kind = _format(format, output)
    target = output or Path(f"speech.{kind}")
    to_stdout = str(target) == "-"
    if as_json and to_stdout:
        raise UsageError("--json and `-o -` both want standard output.", "Give -o a file.")
    if not to_stdout:
        _check_target(target)
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(client(box, key_file))
        sink = Sink(target)
        stack.callback(sink.close)
        spoken = daemon.speak(
            words,
            voice,
            kind,
            speed,
            stream=stream,
            on_part=sink.write if stream else None,
            model=engine,
            nfe=nfe,
            seed=seed,
        )
        if not stream:
            sink.write(spoken.content)
    if not to_stdout:
        _tell(spoken, target, as_json=as_json)
    return 0


def _check_target(path: Path) -> None:
    """Raises UsageError for a place where no file can be, before anything is spoken or fetched."""
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", "Make it, or choose another -o.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", "Give -o the name of a file in it.")


class Sink:
    """A file, or standard output, that is opened when the first bytes come: a refused request
    leaves an older file as it was."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        if self._file is None:
            to_stdout = str(self._target) == "-"
            self._file = sys.stdout.buffer if to_stdout else self._target.open("wb")
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        if self._file is not None and self._file is not sys.stdout.buffer:
            self._file.close()


def _format(asked: str | None, output: Path | None) -> str:
    if asked is not None:
        if asked not in FORMATS:
            raise UsageError(f"There is no format {asked!r}.", f"Formats: {', '.join(FORMATS)}.")
        return asked
    suffix = output.suffix.lstrip(".").lower() if output else ""
    suffix = {"ogg": "opus"}.get(suffix, suffix)
    return suffix if suffix in FORMATS else "wav"


def _tell(spoken: SpokenAudio, target: Path, *, as_json: bool) -> None:
    timings = spoken.timings
    if as_json:
        data = {
            "file": str(target),
            "engine": spoken.engine,
            "voice": spoken.voice,
            "fallback": spoken.fallback,
            "ignored": spoken.ignored,
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
    if spoken.ignored:
        names = ", ".join(spoken.ignored)
        render.note(f"{spoken.engine} does not obey {names}.", "yellow")


@voices.command("list")
@takes_box
def list_voices(box: Box, key_file: KeyFile = None, as_json: Json = False) -> int:
    """List the voices of the running daemon."""
    with client(box, key_file) as daemon:
        rows, asides = daemon.voices_and_asides()
    if as_json:
        render.envelope("voices list", rows)
        return 0
    render.table(
        ("voice", "language", "from", "", "reference"),
        [
            (
                row.id,
                row.language or "",
                _source(row),
                "default" if row.default else "",
                row.reference_text or "",
            )
            for row in rows
        ],
    )
    for voice, why in asides.items():
        render.note(f"{voice} cannot be used: {why} Replace it, or remove it.", "yellow")
    return 0


@voices.command("show")
@takes_box
def show_voice(
    box: Box,
    voice: Annotated[str, typer.Argument(help="See `voices list`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write its recording to this WAV file.")
    ] = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> int:
    """Show a voice, and fetch its recording."""
    if output:
        _check_target(output)
    with client(box, key_file) as daemon:
        found = daemon.voice(voice)
        audio = daemon.voice_audio(voice) if output else b""
    if output:
        output.write_bytes(audio)
    if as_json:
        render.envelope("voices show", found)
        return 0
    _show(found)
    return 0


@voices.command("add")
@takes_box
def add_voice(
    box: Box,
    voice: Annotated[str, typer.Argument(help="Its name: letters, digits, `_`, `.` and `-`.")],
    audio: Annotated[
        Path | None, typer.Argument(help="3 to 12 s of clean speech, in any usual format.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="Exactly the words spoken in it.")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Such as en or zh.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a voice of the same name.")
    ] = False,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> int:
    """Give the running daemon a voice, for the next request.

    It is judged first: length, level, clipping, silence, and whether the words fit the recording.
    With --replace, what is left out stays as it is.
    """
    if not replace and (audio is None or text is None):
        raise UsageError("A voice is a recording and its words.", "Give AUDIO and --text.")
    if audio is not None and not audio.is_file():
        raise UsageError(f"There is no file {audio}.", "Give a recording.")
    content = audio.read_bytes() if audio else None
    with client(box, key_file) as daemon:
        added = daemon.add_voice(voice, content, text, language, replace=replace)
    if as_json:
        render.envelope("voices add", added)
        return 0
    _show(added.voice)
    for name, value in added.figures.items():
        render.say(f"{name.replace('_', ' ')}: {value:g}")
    for warning in added.warnings:
        render.note(warning, "yellow")
    return 0


@voices.command("remove")
@takes_box
def remove_voice(
    box: Box,
    voice: Annotated[str, typer.Argument(help="An added one; see `voices list`.")],
    key_file: KeyFile = None,
    as_json: Json = False,
) -> int:
    """Delete an added voice. One of the box's that it stood for is back at once."""
    with client(box, key_file) as daemon:
        behind = daemon.remove_voice(voice)
    if as_json:
        render.envelope("voices remove", {"id": voice, "voice": behind})
    elif behind is not None:
        render.say(f"{voice}: the box's own is back.")
    else:
        render.say(f"{voice}: deleted.")
    return 0


def _source(row: VoiceInfo) -> str:
    words = {"engine": "built in", "box": "the box", "added": "added"}
    return words.get(row.source, row.source) + (", for the box's" if row.overrides else "")


def _show(found: VoiceInfo) -> None:
    seconds = found.reference_seconds
    rows = [
        ("voice", found.id),
        ("language", found.language or "not given"),
        ("from", _source(found)),
        ("since", found.updated_at or ""),
        ("recording", f"{seconds:.1f} s" if seconds is not None else ""),
        ("transcript", found.reference_text or ""),
    ]
    render.pairs([row for row in rows if row[1]])
