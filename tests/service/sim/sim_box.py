"""A simulated box for the tests in this folder: its tools are run as real processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class SimBox:
    """A box in a folder. Paths are the box's, without the leading slash."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def env(self, **more: str) -> dict[str, str]:
        path = os.environ.get("PATH", "/usr/bin:/bin")
        return {"PATH": path, "LC_ALL": "C.UTF-8", "ISHOWTTS_BOX_ROOT": str(self.root), **more}

    def tool(self, name: str) -> str:
        return str(
            next(p for p in (self.root / f"usr/{d}/{name}" for d in ("bin", "sbin")) if p.exists())
        )

    def run(
        self, name: str, *args: str, stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.tool(name), *args],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.env(**env),
            timeout=60,
        )

    def say(self, name: str, *args: str, stdin: str = "", **env: str) -> tuple[int, str]:
        """Exit status and stdout; stderr has to be empty."""
        done = self.run(name, *args, stdin=stdin, **env)
        assert done.stderr == ""
        return done.returncode, done.stdout

    def lines(self, name: str, *args: str) -> list[str]:
        status, text = self.say(name, *args)
        assert status == 0, text
        return text.splitlines()

    def read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8").strip()

    def number(self, path: str) -> int:
        return int(self.read(path))

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        real = self.root / path
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(text, encoding="utf-8")
        real.chmod(mode)

    # ---- what the clocks say -----------------------------------------------------------------

    def cpu(self, number: int, name: str) -> int:
        return self.number(f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_{name}_freq")

    def gpu(self, name: str) -> int:
        (folder,) = (self.root / "sys/class/devfreq").iterdir()
        return int((folder / f"{name}_freq").read_text())

    def locked(self) -> tuple[bool, bool, bool]:
        """Whether CPU, GPU and EMC are locked, read off sysfs."""
        emc = self.read("sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked") == "1"
        cpu = self.cpu(0, "min") == self.cpu(0, "max")
        return cpu, self.gpu("min") == self.gpu("max"), emc

    # ---- services ----------------------------------------------------------------------------

    def systemctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *args)

    def prop(self, unit: str, name: str) -> str:
        return self.systemctl("show", "-p", name, "--value", unit).stdout.strip()

    def unit(self, name: str, text: str) -> None:
        self.put(f"etc/systemd/system/{name}", text)


def eventually(what: Callable[[], bool], limit_s: float = 60) -> None:
    """Wait until it holds; the limit is only there to end a broken run."""
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.06)
