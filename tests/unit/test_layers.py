"""The import rule and the four bans of ARCHITECTURE.md, kept by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ishowtts_ops

PACKAGE = Path(ishowtts_ops.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A layer may import itself and what is named here.
MAY_IMPORT = {
    "errors": set(),
    "resources": {"errors"},
    "process": {"errors"},
    "paths": {"errors"},
    "lockfile": {"errors"},
    "host": {"errors", "lockfile", "paths", "process"},
    "config_problems": {"errors"},
    "config": {"errors", "config_problems"},
    "facts": {"errors", "config", "host", "client"},
    "steps": {"errors", "config", "host", "facts"},
    "provision": {"errors", "config", "host", "resources", "facts", "steps", "client"},
    "doctor": {"errors", "config", "host", "resources", "facts", "steps", "provision", "client"},
    "daemon": {"sdnotify", "errors", "config", "host"},
    "sdnotify": set(),
    "supervise": {"errors", "config", "host", "sdnotify"},
    "client": {"errors", "config"},
    "measure": {"errors", "config", "host", "facts", "client"},
    "sim": {"errors", "config", "host", "resources", "facts", "provision"},
}


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file; read once, since every ban looks at all of them."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_tool(path: Path) -> bool:
    """Stand-in tools are programs of the simulated box; they never run inside this package."""
    return path.parent == PACKAGE / "sim" / "tools"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_layers_below(path: Path) -> None:
    own = layer(path)
    if own in ("cli", "__init__", "__main__"):
        return
    allowed = MAY_IMPORT[own] | {own, "__version__"}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ishowtts_ops" and len(parts) > 1:
            assert parts[1] in allowed, f"{own} must not import {parts[1]}"


def test_nobody_imports_cli() -> None:
    users = {
        layer(path)
        for path in FILES
        for name in imports(path)
        if name.split(".")[:2] == ["ishowtts_ops", "cli"]
    }
    assert users <= {"cli", "__main__"}


def heads(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def starts_processes(path: Path) -> bool:
    calls = {
        f"{node.func.value.id}.{node.func.attr}"
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    }
    ways = ("os.system", "os.popen", "os.posix_spawn", "os.fork", "pty.spawn")
    verbs = any(call in ways or call.startswith(("os.exec", "os.spawn")) for call in calls)
    return verbs or bool(heads(path) & {"subprocess", "multiprocessing", "pty"})


def test_processes_start_in_one_file_that_only_host_uses() -> None:
    found = {p for p in FILES if starts_processes(p) and not is_tool(p)}
    assert found == {PACKAGE / "process.py"}
    users = {p for p in FILES if "ishowtts_ops.process" in imports(p)}
    assert users == {PACKAGE / "host.py"}


def test_torch_and_f5_tts_only_where_the_engine_is() -> None:
    found = {p for p in FILES if heads(p) & {"torch", "torchaudio", "f5_tts"}}
    assert found <= {PACKAGE / "daemon" / "f5.py"}


def test_printing_only_in_cli() -> None:
    for path in FILES:
        if layer(path) == "cli" or is_tool(path):
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno} prints"


def test_daemon_and_provision_never_meet() -> None:
    for path in FILES:
        names = {".".join(name.split(".")[:2]) for name in imports(path)}
        if layer(path) == "daemon":
            assert "ishowtts_ops.provision" not in names
        if layer(path) == "provision":
            assert "ishowtts_ops.daemon" not in names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_outgrows_a_reader(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 500


def test_functions_say_what_they_return() -> None:
    for path in FILES:
        for node in nodes(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.returns is not None, f"{path}:{node.lineno} {node.name}"
