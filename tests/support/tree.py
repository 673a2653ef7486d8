"""A root file system as a value, so that two states of a box can be compared byte for byte."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

VOLATILE = (
    "/dev/*",
    "/proc/*",
    "/run/*",
    "/tmp/*",
    "/var/tmp/*",
    "/var/log/journal/*",
    "/var/log/wtmp",
    "/var/log/lastlog",
    "/var/lib/systemd/timers/*",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/catalog/*",
    "/etc/resolv.conf",
    "/etc/.pwd.lock",
    "/opt/ishowtts-tests/*",
)
"""What a running system changes by itself (journal, timers' stamps, seeds, logins), what lives in
memory only, and the test program's own mounts. Everything else counts."""


class Entry(NamedTuple):
    """One path: permission bits with the file type, owner, and a digest of its content (a link's
    target; nothing for a folder)."""

    mode: str
    owner: str
    content: str


def snapshot(
    root: Path, paths: Iterable[str] = ("/",), volatile: Iterable[str] = VOLATILE
) -> dict[str, Entry]:
    """Every path at and below `paths` that is not volatile.

    Args:
        paths: box paths.
        volatile: shell patterns of box paths; one that matches a folder leaves out all below it.
    """
    patterns = tuple(volatile)
    found: dict[str, Entry] = {}

    def visit(real: str, box_path: str) -> None:
        if any(fnmatch.fnmatchcase(box_path, pattern) for pattern in patterns):
            return
        info = os.lstat(real)
        found[box_path] = Entry(stat.filemode(info.st_mode), f"{info.st_uid}:{info.st_gid}", "")
        if stat.S_ISDIR(info.st_mode):
            for name in sorted(os.listdir(real)):
                visit(f"{real}/{name}", f"{box_path.rstrip('/')}/{name}")
        else:
            found[box_path] = found[box_path]._replace(content=_content(real, info))

    for path in paths:
        real = root / path.lstrip("/")
        if os.path.lexists(real):
            visit(str(real), path)
    return found


def _content(real: str, info: os.stat_result) -> str:
    if stat.S_ISLNK(info.st_mode):
        return f"-> {os.readlink(real)}"
    if not stat.S_ISREG(info.st_mode):
        return ""
    # A file cannot change without its ctime, which nobody can set: no need to read it twice.
    return _digest(real, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


@functools.lru_cache(maxsize=100_000)
def _digest(real: str, *_version: int) -> str:
    with open(real, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def differences(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[str]:
    """One line for each path that came, went or changed; empty when the two are equal."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old is None:
            lines.append(f"new      {path}  {new}")
        elif new is None:
            lines.append(f"gone     {path}  {old}")
        elif old != new:
            lines.append(f"changed  {path}  {old} => {new}")
    return lines
