"""Writes the files of a simulated box. Paths are the box's, without the leading slash."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path


class Tree:
    """A folder that is being made into a box."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        real = self.root / path
        real.mkdir(parents=True, exist_ok=True)
        real.chmod(mode)

    def file(self, path: str, text: str | bytes | int, mode: int = 0o644) -> None:
        """Write a file; a symlink at the place is replaced, never followed. An int gets a newline,
        as attributes have one."""
        data = f"{text}\n" if isinstance(text, int) else text
        handle = self._open(f"{self.root}/{path}", mode)
        try:
            os.write(handle, data.encode() if isinstance(data, str) else data)
            if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
                os.fchmod(handle, mode)
        finally:
            os.close(handle)

    def _open(self, real: str, mode: int) -> int:
        # A box has hundreds of small files: parents are looked at only when they are missing.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            return os.open(real, flags, mode)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(real), exist_ok=True)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            os.unlink(real)
        return os.open(real, flags, mode)

    def files(self, folder: str, values: dict[str, str | int]) -> None:
        """Attributes of one folder, each ending in a newline."""
        for name, value in values.items():
            self.file(f"{folder}/{name}", f"{value}\n")

    def link(self, path: str, target: str) -> None:
        """Make or replace a symlink with exactly this target."""
        real = self.root / path
        real.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            real.unlink()
        real.symlink_to(target)

    def relative_link(self, path: str, target: str) -> None:
        """A symlink from one place of the tree to another that holds when mounted elsewhere."""
        self.link(path, os.path.relpath(target, os.path.dirname(path)))

    def empty(self, folder: str) -> None:
        """Make a folder and remove what is in it, but not the folder itself: it may be mounted."""
        real = self.root / folder
        real.mkdir(parents=True, exist_ok=True)
        for entry in real.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
