"""A control group of its own for every box, so that two boxes at once do not share one."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def _parents() -> list[Path]:
    """This process's groups in the hierarchies that systemd keeps its units in: version 2, the one
    named systemd, or both (hybrid), and where there is one, that of devices."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, name, path = line.split(":", 2)
        own[name] = path
    found = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, options = line.split()[:4]
        if kind == "cgroup2":
            found.append(Path(point) / own[""].lstrip("/"))
        elif kind == "cgroup":
            # That of devices is systemd's only when a test lets it write there.
            names = {"name=systemd", "devices"} & set(options.split(","))
            found += [Path(point) / own[name].lstrip("/") for name in names]
    return found


def make(name: str) -> list[Path]:
    """Folders of a new group below this process's own, one for each hierarchy."""
    groups = [parent / name for parent in _parents()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def find(pattern: str) -> list[Path]:
    """Groups made by `make` whose names match a shell pattern."""
    return [group for parent in _parents() for group in parent.glob(pattern)]


def remove(groups: list[Path], timeout: float = 10) -> None:
    """Remove groups whose processes have ended; the kernel may need a moment to notice."""
    end = time.monotonic() + timeout
    for group in groups:
        while group.exists():
            folders = sorted(group.rglob("*/"), key=lambda folder: -len(folder.parts))
            for folder in [*folders, group]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if group.exists():
                if time.monotonic() > end:
                    raise AssertionError(f"{group} is still in use")
                time.sleep(0.02)
