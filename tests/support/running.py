"""A program that runs in a box, seen from this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

Done = subprocess.CompletedProcess[str]


class Running:
    """A program at work in a box. `pid` is its number on this machine."""

    def __init__(self, argv: Sequence[str], stdin: str) -> None:
        # Files instead of pipes: they can be looked at while the program runs, and never fill up.
        self._stdin, self._stdout, self._stderr = _files(3)
        self._stdin.write(stdin.encode())
        self._stdin.seek(0)
        self._nsenter = subprocess.Popen(
            argv,
            stdin=self._stdin,
            stdout=self._stdout,
            stderr=self._stderr,
            start_new_session=True,
        )
        self.pid = _only_child(self._nsenter)

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return _text(self._stdout)

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return _text(self._stderr)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the program alone, not its children: what a person's `kill` does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wake(self) -> None:
        """At a shutdown systemd stops, terminates and continues all processes. nsenter stops itself
        with its child, and would then never see that it has ended."""
        if self.poll() is None:
            self._nsenter.send_signal(signal.SIGCONT)

    def poll(self) -> int | None:
        return self._nsenter.poll()

    def wait(self, timeout: float = 60) -> Done:
        """Output and status once it ends; killed with the signal's negative number, as nsenter
        repeats its child's end."""
        try:
            self._nsenter.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self._nsenter.kill()
            self._nsenter.wait()
            words = " ".join(map(str, self._nsenter.args))  # type: ignore[arg-type]
            raise AssertionError(
                f"{words} took over {timeout} s:\n{self.stdout}{self.stderr}"
            ) from None
        return Done(self._nsenter.args, self._nsenter.returncode, self.stdout, self.stderr)


def _files(count: int) -> list[IO[bytes]]:
    return [tempfile.TemporaryFile() for _ in range(count)]


def children(pid: int) -> list[int]:
    """Numbers of a process's children; none when it has ended."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _text(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", errors="replace")


def _only_child(process: subprocess.Popen[bytes], timeout: float = 10) -> int:
    """nsenter's child once it is there; nsenter itself if that ended without one."""
    end = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < end:
        for pid in children(process.pid):
            return pid
        time.sleep(0.002)
    return process.pid
