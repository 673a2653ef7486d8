"""The only printer. Results go to stdout, the log to stderr; `--json` prints one envelope.

The envelope, version 1:
    {"version": 1, "command": "doctor", "ok": true, "data": …, "error": null}
    {"version": 1, "command": "doctor", "ok": false, "data": null,
     "error": {"message": …, "hint": …, "problems": [{"where": …, "what": …}]}}
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ishowtts_ops.errors import ConfigError, OpsError
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.steps import Change

ENVELOPE_VERSION = 1

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)

_COMMAND = re.compile(r"`((?:sudo )?(?:ishowtts-ops|systemctl|journalctl) [^`]*)`")
_COMMAND_HERE = re.compile(r"`[^`]*\b(?:ishowtts-ops|systemctl|journalctl)\b[^`]* [^`]*`")

Speller = Callable[[Sequence[str]], str]
"""Writes a command of the box as it is to be typed here; see spelling.py."""

_speller: Speller = shlex.join


def spell_with(speller: Speller) -> None:
    """From now on commands in backticks are shown for the box that the user is at."""
    global _speller
    _speller = speller


def copyable(text: str) -> str:
    """A sentence whose commands in backticks work when they are copied."""
    return _COMMAND.sub(lambda found: f"`{_respelled(found[1])}`", text)


def _respelled(line: str) -> str:
    try:
        words = shlex.split(line)
    except ValueError:  # an example with a lone quote
        return line
    # `demo` knows no box, and behind -- comes a command of somebody else.
    if {"--", "--root", "--config", "demo"} & set(words):
        return line
    return _speller(words)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses by field, enums by value, Unknown by its reason."""
    if isinstance(value, Unknown):
        return {"unknown": value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    return value


def envelope(command: str, data: Any, *, ok: bool = True) -> None:
    """Print one result as JSON on stdout."""
    body = {
        "version": ENVELOPE_VERSION,
        "command": command,
        "ok": ok,
        "data": plain(data),
        "error": None,
    }
    raw(json.dumps(body, ensure_ascii=False, indent=2) + "\n")


def failure(command: str, error: OpsError, *, as_json: bool) -> None:
    """Print a failure: for people on stderr, as an envelope on stdout."""
    hint = copyable(error.hint)
    if as_json:
        problems = plain(error.problems) if isinstance(error, ConfigError) else []
        body = {
            "version": ENVELOPE_VERSION,
            "command": command,
            "ok": False,
            "data": None,
            "error": {"message": error.message, "hint": hint, "problems": problems},
        }
        raw(json.dumps(body, ensure_ascii=False, indent=2) + "\n")
        return
    err.print(
        Text("error: ", style="bold red") + Text(error.message), soft_wrap=not err.is_terminal
    )
    if hint:
        _line(err, Text("  next: ", style="bold") + Text(hint))


def log(line: str) -> None:
    """One line of progress, on stderr."""
    err.print(Text("  · " + line, style="dim"), soft_wrap=True)


def heading(text: str) -> None:
    err.print()
    err.print(Text(text, style="bold"), soft_wrap=True)


def say(text: str = "", style: str = "") -> None:
    """A line of the result, on stdout."""
    _line(out, Text(copyable(text), style=style))


def note(text: str, style: str = "") -> None:
    """A line for a person on stderr."""
    _line(err, Text(copyable(text), style=style))


def _line(console: Console, text: Text) -> None:
    """A line folded between words; one with a command as it is, so that it is copied whole."""
    whole = _COMMAND_HERE.search(text.plain) is not None
    console.print(text, soft_wrap=whole or not console.is_terminal)


def plan(changes: Sequence[Change], *, details: bool) -> None:
    """The plan of an install: a line a step, and with `details` the diffs and commands."""
    for change in changes:
        marks = " (needs a reboot)" if change.needs_reboot else ""
        out.print(
            Text("~ ", style="bold yellow")
            + Text(f"{change.step:<8} ", style="bold")
            + Text(change.summary + marks),
            soft_wrap=not out.is_terminal,
        )
        if details:
            _preview(change.preview)


def _preview(lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if not text:
        return
    if out.is_terminal:
        out.print(Syntax(text, "diff", background_color="default", word_wrap=True))
        return
    for line in text.splitlines():
        print("    " + line)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table: folded to the terminal, or one line a row in a pipe."""
    _grid([list(row) for row in rows], list(columns))


def confirm(question: str) -> bool:
    """Ask on the terminal; no terminal means no."""
    if not sys.stdin.isatty():
        return False
    err.print(Text(question + " [y/N] ", style="bold"), end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def raw(text: str) -> None:
    """Text for a program or a file, as it is: UTF-8, whatever the terminal shows."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    buffer.write(text.encode())
    buffer.flush()


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Name and value, one pair a line, names aligned."""
    _grid([list(row) for row in rows], None)


def _grid(rows: list[list[str]], columns: list[str] | None) -> None:
    if not out.is_terminal:
        lines = [columns, *rows] if columns else rows
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for row in lines:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip())
        return
    grid = Table(box=None, pad_edge=False, show_header=columns is not None, header_style="bold")
    names = columns or [""] * len(rows[0]) if rows else []
    for number, name in enumerate(names):
        grid.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row))
    out.print(grid)


def indented(text: str, columns: int) -> None:
    """A line of the result, wrapped on a terminal so that its indentation stays."""
    pad = " " * columns
    width = out.width - columns if out.is_terminal else 10_000
    for line in Text(text).wrap(out, width):
        out.print(Text(pad + line.plain.rstrip()), soft_wrap=True)
