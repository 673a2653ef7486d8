"""A real daemon in a process of its own, and a real notification socket beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from ishowtts_ops.config import Manifest
from tests.support.ports import free_port

PATIENCE_S = 30.0
"""Not a claim of speed: after this long a wait counts as for ever."""

PROGRAM = """
import sys
from pathlib import Path
from ishowtts_ops.config import Manifest, load
from ishowtts_ops.daemon.serve import run
from ishowtts_ops.host import Host
def state():
    manifest = Manifest.model_validate_json(Path(sys.argv[2]).read_text())
    return load(Path(sys.argv[1])), manifest
sys.exit(run(*state(), Host.at(sys.argv[3]), lambda: state()))
"""


def eventually(what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """The first true answer of `what`; an AssertionError when there is none."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.01)
    raise AssertionError(f"this never came true: {what}")


class NotifySocket:
    """systemd's end of sd_notify(3): keeps every message and when it came."""

    def __init__(self, *, abstract: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/notify"
        self.address = f"@{path}" if abstract else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path if abstract else path)
        self.messages: list[tuple[float, str]] = []
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = self._socket.recv(65536)
                for line in data.decode().splitlines():
                    self.messages.append((time.monotonic(), line))

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.messages]

    def times(self, line: str) -> list[float]:
        return [at for at, got in self.messages if got == line]

    def close(self) -> None:
        self._socket.close()
        self._folder.cleanup()


class Server:
    """A daemon process."""

    def __init__(
        self,
        folder: Path,
        kind: str = "tone",
        *,
        daemon: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        manifest: Manifest | None = None,
        env: Mapping[str, str] | None = None,
        root: Path = Path("/"),
        program: str = PROGRAM,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        text = yaml.safe_dump(
            {
                "engine": {"kind": kind},
                "daemon": {"port": self.port, **(daemon or {})},
                **(settings or {}),
            }
        )
        (folder / "config.yaml").write_text(text)
        (folder / "engine.json").write_text((manifest or Manifest()).model_dump_json())
        self._log = folder / "stderr"
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    program,
                    str(folder / "config.yaml"),
                    str(folder / "engine.json"),
                    str(root),
                ],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**clean, **(env or {})},
            )
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def status(self, path: str) -> int | None:
        """HTTP status, None while nobody listens."""
        try:
            return self.http.get(path).status_code
        except httpx.TransportError:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.log}") from None
            return None

    def wait_listening(self) -> Server:
        eventually(lambda: self.status("/livez"))
        return self

    def wait_ready(self) -> Server:
        eventually(lambda: self.status("/readyz") == 200)
        return self

    def ready(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/readyz").json()
        return answer

    def speak(self, text: str, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/audio/speech", json={"input": text, **fields})

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; 0 when it was never set."""
        from prometheus_client.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(self.http.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def serving(folder: Path, kind: str = "tone", **how: Any) -> Iterator[Server]:
    """A daemon that is gone after the block."""
    server = Server(folder, kind, **how)
    try:
        yield server
    finally:
        server.close()
