"""The simulated box as a stand-in tool sees it: paths, attributes, who is root."""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT_VARIABLE = "ISHOWTTS_BOX_ROOT"
UID_VARIABLE = "ISHOWTTS_SIM_UID"
MARKER = "/etc/ishowtts-sim.json"
FAULTS = "/etc/ishowtts-sim.d"
HARDWARE = "/sys/kernel/ishowtts-sim"
"""State of the simulated hardware that no real box shows: `gpu_used` and `gpu_late`."""

THOR_GPU = "/sys/devices/platform/bus@0/d0b0000000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0"
"""On AGX Thor the GPU is a PCI device."""

_MAX_LINKS = 40


@dataclass(frozen=True)
class Box:
    """A simulated box below `root`; all paths given to it are absolute paths of the box."""

    root: Path

    @classmethod
    def here(cls) -> Box:
        return cls(Path(os.environ.get(ROOT_VARIABLE) or "/").resolve())

    @property
    def in_folder(self) -> bool:
        """False in a container, where the box's root is `/`."""
        return self.root != Path("/")

    def path(self, box_path: str, *, follow_last: bool = True) -> Path:
        """The real path, the box's own symlinks resolved inside the box."""
        root = str(self.root).rstrip("/")
        todo = [part for part in box_path.split("/") if part not in ("", ".")]
        done = root
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = max(root, done.rpartition("/")[0], key=len)
                continue
            here = f"{done}/{part}"
            if (todo or follow_last) and os.path.islink(here):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), box_path)
                target = os.readlink(here)
                if target.startswith("/"):
                    done = root
                todo = [p for p in target.split("/") if p not in ("", ".")] + todo
                continue
            done = here
        return Path(done or "/")

    def inside(self, path: str) -> Path:
        """A path from a tool's command line: an absolute one means the box's, unless it already
        lies below the root; a relative one is relative to the working folder."""
        if not path.startswith("/") or not self.in_folder:
            return Path(path)
        if path.startswith(f"{self.root}/"):
            path = path[len(str(self.root)) :]
        return self.path(path)

    def exists(self, box_path: str) -> bool:
        return self.path(box_path).exists()

    def listdir(self, box_path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path(box_path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, box_path: str) -> str:
        """Raises OSError."""
        return self.path(box_path).read_text(encoding="utf-8", errors="replace").strip()

    def read_int(self, box_path: str, default: int | None = None) -> int:
        """Raises OSError or ValueError, unless a default is given."""
        try:
            return int(self.read(box_path))
        except (OSError, ValueError):
            if default is None:
                raise
            return default

    def write(self, box_path: str, value: object) -> None:
        """Write an attribute in place. Like sysfs it does not create files.

        Raises:
            OSError: ENOENT where a real box would answer so.
        """
        handle = os.open(self.path(box_path), os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(handle, f"{value}\n".encode())
        finally:
            os.close(handle)

    def put(self, box_path: str, text: str) -> None:
        """Write a file of the simulation itself, folders included."""
        real = self.path(box_path)
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(text, encoding="utf-8")

    def marker(self) -> dict[str, Any]:
        """`/etc/ishowtts-sim.json`, which every stand-in insists on."""
        try:
            found = json.loads(self.read(MARKER))
        except (OSError, ValueError):
            print(
                f"{sys.argv[0]}: this is a stand-in for a simulated Jetson, and {self.root} is "
                f"none ({MARKER} is missing). Set {ROOT_VARIABLE} to the box's folder.",
                file=sys.stderr,
            )
            raise SystemExit(3) from None
        return dict(found)

    def uid(self) -> int:
        """Whom the tool takes its caller for: `$ISHOWTTS_SIM_UID`, else in a folder the folder's
        owner counts as root, else the real user."""
        pretended = os.environ.get(UID_VARIABLE)
        if pretended:
            return int(pretended)
        euid = os.geteuid()
        if self.in_folder and self.root.stat().st_uid == euid:
            return 0
        return euid

    # ---- where things are on this box --------------------------------------------------------

    @property
    def release_major(self) -> int:
        return int(self.marker()["release_major"])

    def gpu_device(self) -> str | None:
        """The GPU's platform folder, or None when the box has no GPU."""
        for path in ("/sys/devices/platform/gpu.0", "/sys/devices/gpu.0", THOR_GPU):
            if self.exists(path):
                return path
        return None

    def gpu_devfreq(self) -> str | None:
        """The GPU's devfreq folder, or None while its driver is not up. Thor has two: this is the
        one that computes."""
        for name in self.listdir("/sys/class/devfreq"):
            known = name.endswith((".gpu", ".ga10b")) or name.startswith("gpu-gpc-")
            if known and self.exists(f"/sys/class/devfreq/{name}"):
                return f"/sys/class/devfreq/{name}"
        return None

    def gpu_devfreqs(self) -> list[str]:
        """All of the GPU's devfreq folders, that one first; empty while it is not there."""
        first = self.gpu_devfreq()
        names = [name for name in self.listdir("/sys/class/devfreq") if name.startswith("gpu-nvd-")]
        return [first, *(f"/sys/class/devfreq/{name}" for name in names)] if first else []

    @property
    def soc(self) -> str:
        """tegra234, or Thor's tegra264: the last of the device tree's `compatible`."""
        path = "/sys/firmware/devicetree/base/compatible"
        return "tegra264" if self.exists(path) and "tegra264" in self.read(path) else "tegra234"

    def cpus(self) -> list[int]:
        names = self.listdir("/sys/devices/system/cpu")
        return sorted(int(name[3:]) for name in names if name[:3] == "cpu" and name[3:].isdigit())

    def online(self, cpu: int) -> bool:
        return self.read_int(f"/sys/devices/system/cpu/cpu{cpu}/online", 1) == 1

    def hwmon(self, name: str) -> str | None:
        """The hwmon folder whose `name` attribute is that."""
        for entry in self.listdir("/sys/class/hwmon"):
            try:
                if self.read(f"/sys/class/hwmon/{entry}/name") == name:
                    return f"/sys/class/hwmon/{entry}"
            except OSError:
                continue
        return None


def ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as the kernel writes it: `0-2,5`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in runs)
