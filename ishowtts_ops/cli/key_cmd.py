"""`ishowtts-ops config key`: an API key, and the line by which the configuration knows it."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.config import ApiKey
from ishowtts_ops.errors import UsageError

RANDOM_BYTES = 32
SHORTEST_WORD = 12


@takes_box
def make_key(
    box: Box,
    name: Annotated[str, typer.Argument(help="Who has it; journal and metrics call them so.")],
    own: Annotated[
        bool, typer.Option("--own", help="Ask for words of your own instead of drawing a key.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the key to this file, for its owner only."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Make an API key and the line for `daemon.api_keys`, which holds its hash only.

    Nothing is written to the configuration. The key is shown once, here, or goes to --output.
    """
    if output is not None and output.exists():
        raise UsageError(f"{output} is there already.", "Choose another file.")
    key = _ask() if own else secrets.token_hex(RANDOM_BYTES)
    try:
        row = ApiKey(name=name, hash=_slow(key) if own else _quick(key))
    except ValidationError:
        raise UsageError(
            f"{name!r} cannot be a key's name.", "Letters, digits, `_`, `.` and `-`; up to 64."
        ) from None
    if output is not None:
        _write(output, key)
    shown = key if output is None and not own else None
    if as_json:
        data = {"row": row.model_dump(), "key": shown, "file": output}
        render.envelope("config key", data)
        return 0
    if shown is not None:
        render.say(f"key: {shown}")
    render.say(f'- {{name: {row.name}, hash: "{row.hash}"}}')
    render.note("Put the line under daemon.api_keys, then `systemctl reload ishowtts-tts`.", "dim")
    return 0


def _ask() -> str:
    """The words, which are not shown; from standard input where it is no terminal."""
    words = getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(words) < SHORTEST_WORD or not words.isascii() or not words.isprintable():
        raise UsageError(
            f"A key of your own needs at least {SHORTEST_WORD} printable ASCII characters.",
            "Choose a longer one, or leave out --own to have one drawn.",
        )
    if words != words.strip():
        raise UsageError("A key cannot begin or end with a space.", "Leave the space out.")
    return words


def _quick(key: str) -> str:
    """A hash that is quick to check: enough for what was drawn at random."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _slow(key: str) -> str:
    # Not at the top: it brings the web framework.
    from ishowtts_ops.daemon.auth import scrypt_hash

    return scrypt_hash(key)


def _write(path: Path, key: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.", "Name a file in a folder of yours."
        ) from None
    with os.fdopen(handle, "w") as file:
        file.write(key + "\n")
