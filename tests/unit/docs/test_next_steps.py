"""A mistake in what a person typed or wrote is told with what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import ishowtts_ops

PACKAGE = Path(ishowtts_ops.__file__).parent


def usage_errors() -> Iterator[tuple[str, ast.Call]]:
    """(where, what is raised)."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "UsageError":
                yield f"{path.relative_to(PACKAGE)}:{call.lineno}", call


def test_every_usage_error_has_a_next_step() -> None:
    found = dict(usage_errors())
    assert len(found) > 40
    without = [where for where, call in found.items() if len(call.args) + len(call.keywords) < 2]
    assert without == []


def test_messages_are_sentences() -> None:
    """They begin with a capital, a name or a value, and end with a full stop or what was found."""
    for where, call in usage_errors():
        first = call.args[0]
        if isinstance(first, ast.Constant):
            text = str(first.value)
            assert text[0].isupper() or text[0] in "`-'", f"{where}: {text}"
            assert text.endswith((".", "?")), f"{where}: {text}"
