"""`ishowtts-ops supervise` as a process, with a manager that listens and a stand-in backend."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.service.daemon.daemon_server import NotifySocket
from tests.support.ports import free_port

STANDIN = Path(__file__).parents[2] / "support" / "standin_backend.py"
VERB = """
import typer
from ishowtts_ops.cli.supervise_cmd import supervise
app = typer.Typer()
app.command(context_settings={"allow_interspersed_args": False})(supervise)
app()
"""
"""The verb without the other verbs, whose imports take most of a test's time."""
PROGRAM = (sys.executable, "-m", "ishowtts_ops", "supervise")
QUICK = {
    "health-interval": 0.15,
    "health-timeout": 5,
    "health-failures": 2,
    "canary-interval": 0.2,
    "canary-timeout": 10,
    "canary-failures": 2,
    "idle-seconds": 0.1,
    "stop-seconds": 5,
    "start-grace": 20,
}


class Supervised:
    """A running `supervise` of a stand-in.

    Args:
        standin: options of the stand-in.
        options: of supervise, over QUICK.
        command: instead of the stand-in.
        watchdog: seconds of WatchdogSec=.
    """

    def __init__(
        self,
        *standin: str,
        command: tuple[str, ...] | None = None,
        watchdog: float | None = 30,
        preset: bool = True,
        **options: float | str,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.manager = NotifySocket()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        run = command or (sys.executable, str(STANDIN), "--port", str(self.port), *standin)
        words = ["--preset", "ishowtts", "--url", self.url] if preset else []
        given = {**QUICK, **{name.replace("_", "-"): value for name, value in options.items()}}
        for name, value in given.items():
            words += [f"--{name}", str(value)]
        env = {**os.environ, "NOTIFY_SOCKET": self.manager.address}
        env.pop("JOURNAL_STREAM", None)
        if watchdog:
            env["WATCHDOG_USEC"] = str(round(watchdog * 1e6))
        self._process = subprocess.Popen(
            [sys.executable, "-c", VERB, *words, "--", *run],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=env,
            start_new_session=True,
        )

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, *_: object) -> None:
        if "started pid=" in self.output:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid_of_command, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self.manager.close()

    @property
    def output(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode()

    @property
    def said(self) -> list[str]:
        return self.manager.lines

    @property
    def pid_of_command(self) -> int:
        return int(self.output.split("started pid=")[1].split()[0])

    def eventually(self, true: Callable[[], Any], what: str = "", limit: float = 30) -> None:
        end = time.monotonic() + limit
        while not true():
            ended = self._process.poll() is not None and not true()
            assert time.monotonic() < end and not ended, (
                f"not so: {what}\n{self.output}\n{self.said}"
            )
            time.sleep(0.01)

    def until_ready(self) -> None:
        self.eventually(lambda: "READY=1" in self.said, "it is ready")

    def until_said(self, text: str, count: int = 1) -> None:
        self.eventually(lambda: self.output.count(text) >= count, f"it says {text!r}")

    def fault(self, name: str) -> None:
        answer = httpx.post(f"{self.url}/standin", json={"fault": name}, trust_env=False)
        assert answer.status_code == 200

    def healthy(self) -> bool:
        """As the backend itself says."""
        try:
            answer = httpx.get(f"{self.url}/api/health", timeout=2, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.json()["status"] == "ok"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def code(self, limit: float = 30) -> int:
        """Its exit code, waited for."""
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self.output}") from None

    def ends_with(self, code: int) -> None:
        found = self.code()
        assert found == code, f"ended with {found}\n{self.output}\n{self.said}"


def gone(pid: int) -> bool:
    """Has that process ended?"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    return "State:\tZ" in status
