"""What `--help` teaches: whole sentences, and examples whose every word the program takes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ishowtts_ops.cli.app import app
from ishowtts_ops.cli.teaching import EXAMPLES
from tests.support.terminal import cells, in_terminal

GROUP: Any = typer.main.get_command(app)


def verbs(group: Any = GROUP, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb that is shown, with the word of its group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, (*before, name))
        elif not command.hidden:
            yield (*before, name)


def test_every_verb_has_an_example_and_no_example_is_of_none() -> None:
    names = {" ".join(verb) for verb in verbs()}
    assert names == EXAMPLES.keys()


def arguments(line: str) -> list[str]:
    """What the program is given in a line for the shell."""
    within = re.search(r"\$\((.*)\)", line)
    words = shlex.split(within[1] if within else line, comments=True)
    words = words[words.index("ishowtts-ops") + 1 :]
    return list(itertools.takewhile(lambda word: word not in ("|", ">"), words))


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_taken(line: str) -> None:
    context = GROUP.make_context("ishowtts-ops", arguments(line))
    command, rest = GROUP, [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
    assert rest == []


@pytest.mark.parametrize("verb", ["", "patch", "power", "voices", "bench", "config"])
def test_lists_of_verbs_are_not_cut_short(verb: str) -> None:
    screen = in_terminal([*verb.split(), "--help"], columns=60, lines=200)
    assert screen.code == 0
    assert "..." not in screen.frames[-1].split("Commands:")[1]
    assert max(cells(line.rstrip()) for line in screen.frames[-1].splitlines()) <= 60


def test_examples_are_shown_line_by_line() -> None:
    screen = in_terminal(["doctor", "-h"], columns=80, lines=200)
    lines = [line.strip() for line in screen.last]
    assert set(EXAMPLES["doctor"]) <= set(lines)
