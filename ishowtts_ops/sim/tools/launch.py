"""Makes a unit's process: its arguments, environment and folders, mapped into the box."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import IO

from .box import ROOT_VARIABLE, UID_VARIABLE, Box
from .unitfile import Command, Unit

_DIRECTORIES = (
    ("RuntimeDirectory", "/run", "RUNTIME_DIRECTORY"),
    ("StateDirectory", "/var/lib", "STATE_DIRECTORY"),
    ("CacheDirectory", "/var/cache", "CACHE_DIRECTORY"),
    ("LogsDirectory", "/var/log", "LOGS_DIRECTORY"),
    ("ConfigurationDirectory", "/etc", "CONFIGURATION_DIRECTORY"),
)
_BOX_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")


def mapped(box: Box, path: str) -> str | None:
    """The real path of something of the box, or None when the box has no such thing."""
    if not path.startswith("/") or path == "/":
        return None
    plain = box.root / path.lstrip("/")
    if box.exists(path):
        resolved = box.path(path)
        # Links are kept where that makes no difference: a virtual environment's `python` is one,
        # and finds its packages by where it was called.
        return str(plain if plain.exists() and plain.samefile(resolved) else resolved)
    # A link in the box that names a place of this machine outright.
    return str(plain) if plain.exists() else None


def environment(box: Box, unit: Unit) -> dict[str, str]:
    """A system service's environment: no HOME unless the unit names one, as on a real box.

    Values that are paths of the box are mapped, like arguments are. User=, Group= and the sandbox
    settings are not simulated: the service runs as whoever runs the stand-in.
    """
    path = [str(box.path(folder)) for folder in _BOX_PATH] + [os.environ.get("PATH", "/usr/bin")]
    env = {"PATH": ":".join(path), "LANG": "C.UTF-8", ROOT_VARIABLE: str(box.root)}
    for name in ("TMPDIR", "TZ", UID_VARIABLE):
        if name in os.environ:
            env[name] = os.environ[name]
    if unit.flag("Service.DynamicUser") or unit.get("Service.User"):
        env["HOME"] = "/"
    for key, parent, variable in _DIRECTORIES:
        names = unit.words(f"Service.{key}")
        for name in names:
            box.path(f"{parent}/{name}").mkdir(parents=True, exist_ok=True)
        if names:
            env[variable] = ":".join(str(box.path(f"{parent}/{name}")) for name in names)
    for line in unit.all("Service.Environment"):
        _assign(env, shlex.split(line), box)
    for name in unit.all("Service.EnvironmentFile"):
        _environment_file(env, name, box)
    return env


def _environment_file(env: dict[str, str], name: str, box: Box) -> None:
    try:
        text = box.path(name.lstrip("-")).read_text(encoding="utf-8")
    except OSError:
        if name.startswith("-"):
            return
        raise
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if "=" in line and line[0] not in "#;"]
    _assign(env, [" ".join(shlex.split(line)) for line in lines], box)


def _assign(env: dict[str, str], words: list[str], box: Box) -> None:
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            env[name] = mapped(box, value) or value


def arguments(box: Box, command: Command, env: dict[str, str]) -> list[str]:
    """The command's arguments with variables put in. When its program is the box's, arguments that
    are paths of the box (`/p` or `--option=/p`) are mapped below the root too."""
    words: list[str] = []
    for word in command.argv:
        whole = re.fullmatch(r"\$(\w+)", word)
        if whole:
            words += env.get(whole[1], "").split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda match: env.get(match[1], ""), word))
    program = mapped(box, words[0])
    if program is None:
        return words
    rest: list[str] = []
    for word in words[1:]:
        option, equals, value = word.partition("=")
        if equals and option.startswith("-"):
            rest.append(f"{option}={mapped(box, value) or value}")
        else:
            rest.append(mapped(box, word) or word)
    return [program, *rest]


def spawn(
    box: Box, unit: Unit, command: Command, env: dict[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own.

    Raises:
        OSError: it cannot be started (systemd: status=203/EXEC).
    """
    folder = unit.get("Service.WorkingDirectory").lstrip("-")
    cwd = mapped(box, folder) if folder else str(box.root)
    if cwd is None:
        raise FileNotFoundError(2, "no such working folder", folder)
    return subprocess.Popen(
        arguments(box, command, env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=env,
        cwd=Path(cwd),
        start_new_session=True,
    )
