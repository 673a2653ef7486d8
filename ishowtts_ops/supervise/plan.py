"""What to run, what to ask it, and how long to wait: everything checked before anything starts."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import ValidationError

from ishowtts_ops.config import Backend, BackendRequest
from ishowtts_ops.errors import UsageError
from ishowtts_ops.supervise.presets import PRESETS

_REQUEST = re.compile(r"(?:(?P<method>[A-Z]+)\s+)?(?P<path>\S+)\s*(?P<rest>.*)", re.DOTALL)
SYNTAX = '`POST /path {"json": "body"} => audio`; only the path is needed'


@dataclass(frozen=True)
class Plan:
    """A service and how it is watched. Addresses are whole; times are in `limits`.

    Attributes:
        folder: where the command is started; None is here.
    """

    command: tuple[str, ...]
    folder: str | None
    environment: Mapping[str, str]
    health: tuple[BackendRequest, ...]
    warmup: tuple[BackendRequest, ...]
    canary: BackendRequest | None
    limits: Backend


def make_plan(backend: Backend) -> Plan:
    """The plan for a backend.

    Raises:
        UsageError: nothing to run, nothing to ask, or something that cannot be.
    """
    if not backend.command:
        raise UsageError(
            "There is no command to supervise.",
            "Give it after --, as in `ishowtts-ops supervise --preset ishowtts -- ./backend`, or"
            " set backend.command in the configuration.",
        )
    folder = backend.directory
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(
            f"There is no folder {folder} to start the command in.",
            "backend.directory or --directory names it.",
        )
    _check_program(backend.command[0], folder, {**os.environ, **backend.environment})
    preset = PRESETS[backend.preset]
    url = backend.url or preset.url
    health = preset.health if backend.health is None else backend.health
    warmup = preset.warmup if backend.warmup is None else backend.warmup
    canary = backend.canary or preset.canary
    if not health:
        raise UsageError(
            "Nothing says how to tell that the command is healthy.",
            "Give --health http://127.0.0.1:PORT/PATH, or --preset ishowtts.",
        )
    return Plan(
        command=backend.command,
        folder=folder,
        environment=backend.environment,
        health=tuple(_whole(BackendRequest(path=path), url) for path in health),
        warmup=tuple(_whole(request, url) for request in warmup),
        canary=_whole(canary, url) if canary else None,
        limits=backend,
    )


def parse_request(text: str) -> BackendRequest:
    """A request in words: `[METHOD] PATH [JSON] [=> EXPECT]`.

    Raises:
        UsageError: it is none.
    """
    match = _REQUEST.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no request.", f"Write it as {SYNTAX}.")
    fields: dict[str, object] = {"path": match["path"]}
    rest = match["rest"]
    if rest and not rest.startswith("=>"):
        try:
            fields["body"], end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            raise UsageError(f"{rest!r} is not JSON.", f"Write it as {SYNTAX}.") from None
        rest = rest[end:].strip()
    arrow, expect = rest[:2], rest[2:].strip()
    if arrow not in ("", "=>"):
        raise UsageError(f"{rest!r} comes after the JSON.", f"Write it as {SYNTAX}.")
    fields["method"] = match["method"] or ("POST" if "body" in fields else "GET")
    fields["expect"] = expect if arrow else "ok"
    try:
        return BackendRequest.model_validate(fields)
    except ValidationError as error:
        keys = {str(item["loc"][0]) for item in error.errors()}
        hints = {
            "path": "The path must begin with / or http://.",
            "expect": "After => comes ok, json, audio or contains:TEXT.",
            "method": "The method is a word such as GET or POST.",
        }
        hint = " ".join(hints[key] for key in sorted(keys) if key in hints)
        raise UsageError(f"{text!r} is no request.", hint) from None


def _whole(request: BackendRequest, url: str | None) -> BackendRequest:
    """The request with its whole address."""
    path = request.path
    if path.startswith("/"):
        if url is None:
            raise UsageError(
                f"Where is {path}? There is no address to put before it.",
                "Give --url http://127.0.0.1:PORT.",
            )
        path = url.rstrip("/") + path
    check_url(path)
    return request.model_copy(update={"path": path})


def check_url(text: str) -> None:
    """Raises UsageError when that is no address of a service."""
    try:
        url = httpx.URL(text)
        good = url.scheme in ("http", "https") and bool(url.host) and url.port != 0
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good:
        raise UsageError(
            f"{text!r} is not the address of a service.",
            "It looks like http://127.0.0.1:27121/api/health.",
        )


def _check_program(program: str, folder: str | None, env: Mapping[str, str]) -> None:
    if "/" not in program:
        if shutil.which(program, path=env.get("PATH")) is None:
            raise UsageError(
                f"The command `{program}` is not in PATH.", "Give it with its whole path."
            )
        return
    path = Path(folder or ".") / program
    if not path.is_file():
        raise UsageError(f"There is no program {path}.", "Check the path after --.")
    if not os.access(path, os.X_OK):
        raise UsageError(f"{path} cannot be executed.", f"Make it so: chmod +x {path}")


def words(argv: Sequence[str]) -> str:
    """A command for one line of a log."""
    text = " ".join(argv)
    return text if len(text) <= 120 else text[:117] + "..."
