"""A simulated Jetson in a folder with this program on it, for tests of whole verbs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ishowtts_ops.config import CONFIG_PATH, PREFIX
from ishowtts_ops.host import Host
from ishowtts_ops.sim.boot import shut_down_folder
from ishowtts_ops.sim.tree import build_box
from tests.support.ports import free_port

VOLATILE = ("run", "var/log/ishowtts-sim", "proc")
"""What a service manager and a journal write as they go."""


@dataclass(frozen=True)
class Done:
    """A finished run of the program."""

    code: int
    out: str
    err: str


def well(done: Done) -> Done:
    """What ended with 0, or all that it said."""
    assert done.code == 0, done.out + done.err
    return done


class FolderBox:
    """A box in a folder.

    Args:
        settings: merged over a tone engine on a free port.
    """

    def __init__(
        self, root: Path, board: str = "agx-orin-64", settings: Mapping[str, Any] | None = None
    ) -> None:
        root.mkdir(parents=True)
        self.root = root
        build_box(root, board)
        self.host = Host.at(root)
        self.host.write(
            f"{PREFIX}/venv/bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', mode=0o755
        )
        self.host.write(
            f"{PREFIX}/venv/bin/ishowtts-ops",
            f'#!/bin/sh\nexec "{sys.executable}" -m ishowtts_ops "$@"\n',
            mode=0o755,
        )
        self.settings: dict[str, Any] = {
            "engine": {"kind": "tone"},
            "daemon": {"port": free_port()},
            **(settings or {}),
        }
        self.host.write(CONFIG_PATH, yaml.safe_dump(self.settings))

    def run(self, *argv: str, env: Mapping[str, str] | None = None) -> Done:
        """Run the program on this box, in a process of its own."""
        verb = [*argv, "--root", str(self.root)]
        done = subprocess.run(
            [sys.executable, "-m", "ishowtts_ops", *verb],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def stop(self) -> None:
        shut_down_folder(self.root)

    def tree(self) -> dict[str, tuple[int, str]]:
        """Path → (mode, content or link target) of everything that is not volatile."""
        found: dict[str, tuple[int, str]] = {}
        for folder, names, files in os.walk(self.root):
            here = Path(folder).relative_to(self.root)
            names[:] = [name for name in names if str(here / name) not in VOLATILE]
            for name in (*names, *files):
                path = Path(folder) / name
                mode = stat.S_IMODE(path.lstat().st_mode)
                if path.is_symlink():
                    content = f"-> {path.readlink()}"
                elif path.is_file():
                    content = path.read_bytes().decode("utf-8", "backslashreplace")
                else:
                    content = "folder"
                found[str(here / name)] = (mode, content)
        return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two trees, for a message."""
    return [
        f"{path}: {before.get(path, 'absent')!r} -> {after.get(path, 'absent')!r}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]
