"""The program's command line as a tree, to hold texts against that name its commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer

from ishowtts_ops.cli.app import app

_COMMAND = re.compile(r"(?:^|[\s`(\"'/=])ishowtts-ops +([a-z-][^`\n]*)")


@cache
def click_app() -> Any:
    """The verbs as Typer makes them: a group of click's, or of the copy that newer Typers bring."""
    return typer.main.get_command(app)


def named_in(line: str) -> Iterator[str]:
    """What a line says to type behind the program's name, up to a comment, a pipe or a gap."""
    for found in _COMMAND.finditer(line):
        yield re.split(r"\s{2,}|[|;#>)]| && |[:,.]\s|[:,.]$", found[1])[0].strip()


def fault(words: str) -> str | None:
    """What is wrong with a command line behind the program's name; None when its verbs and options
    exist. Arguments are not judged."""
    try:
        rest = shlex.split(words.split(" -- ")[0])
    except ValueError:
        rest = words.split(" -- ")[0].split()
    command = click_app()
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        if rest[0].isupper():  # a word for the reader to put another in its place
            return None
        if rest[0] not in command.commands:
            return f"there is no verb {rest[0]!r} in `{words}`"
        command = command.commands[rest.pop(0)]
    known = {"--help", "-h"}
    for param in command.params:
        known |= {*param.opts, *param.secondary_opts}
    wrong = [
        word for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known
    ]
    return f"`{words}`: there is no option {wrong[0]}" if wrong else None


@cache
def options() -> frozenset[str]:
    """Every option of every verb."""

    def below(command: Any) -> Iterator[str]:
        for param in command.params:
            yield from (*param.opts, *param.secondary_opts)
        for inner in getattr(command, "commands", {}).values():
            yield from below(inner)

    return frozenset(below(click_app())) | {"--help"}
