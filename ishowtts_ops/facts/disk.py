"""Space of the file systems the toolkit writes to. All sizes are in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.config import CACHE_DIR, PREFIX, STATE_DIR
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

WATCHED = (STATE_DIR, CACHE_DIR, PREFIX, "/var/log", "/tmp")


@dataclass(frozen=True)
class Space:
    """The file system that holds some of the watched paths (or their nearest parents).

    Attributes:
        paths: the watched paths on it.
        total, free: its size and what an unprivileged process may still write.
    """

    paths: tuple[str, ...]
    total: int
    free: int

    @property
    def free_share(self) -> float:
        """0 to 1."""
        return self.free / self.total if self.total > 0 else 0.0


@dataclass(frozen=True)
class Disk:
    """One entry per file system, in the order of the watched paths."""

    spaces: tuple[Space, ...]

    def of(self, path: str) -> Space | None:
        return next((space for space in self.spaces if path in space.paths), None)


def read_disk(host: Host, paths: tuple[str, ...] = WATCHED) -> Maybe[Disk]:
    """Space under each watched path, one entry per file system."""
    groups: dict[int, list[str]] = {}
    try:
        for path in paths:
            groups.setdefault(_device(host, path), []).append(path)
        spaces = [(tuple(group), host.disk_space(group[0])) for group in groups.values()]
    except OSError as error:
        return Unknown(f"free space cannot be read: {error.strerror}")
    return Disk(tuple(Space(group, space.total, space.free) for group, space in spaces))


def _device(host: Host, path: str) -> int:
    real = host.path(path)
    while not real.exists():
        real = real.parent
    return real.stat().st_dev
