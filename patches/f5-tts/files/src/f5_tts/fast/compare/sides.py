"""The processes of a comparison, and how they are asked."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

MODULE = "f5_tts.fast.compare.worker"
HERE = Path(__file__).absolute().parents[3]
"""The `src` folder this module was imported from."""


class SideFailed(RuntimeError):
    """A side could not do what it was asked; the text says what it said."""


class Side:
    """A worker process. Asked things one at a time; the answer is waited for with a limit."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], upstream: Path | None, log: Path
    ) -> None:
        """Args:
        upstream: the `src` folder of an unpatched tree, for a side that is upstream.
        log: where the process's own words go.
        """
        self.name = name
        self._log = log
        trees = [str(HERE)] if upstream is None else [str(upstream), str(HERE)]
        rest = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        path = os.pathsep.join(dict.fromkeys([*trees, *rest]))
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        with log.open("wb") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, name, json.dumps(dict(settings))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=environ,
            )  # fmt: skip
        self._buffer = b""

    def ask(self, do: str, limit_s: float = 600.0, **body: Any) -> dict[str, Any]:
        """Send and wait. SideFailed where it cannot, does not in time, or is gone."""
        self.send(do, **body)
        return self.answer(limit_s)

    def send(self, do: str, **body: Any) -> None:
        try:
            _pipe(self._process.stdin).write(json.dumps({"do": do, **body}).encode() + b"\n")
            _pipe(self._process.stdin).flush()
        except OSError:
            raise SideFailed(f"{self.name} ended: {self._last_words()}") from None

    def answer(self, limit_s: float = 600.0) -> dict[str, Any]:
        """The next answer (the first comes by itself, when the side is loaded)."""
        line = self._line(time.monotonic() + limit_s)
        if line is None:
            self.end()
            raise SideFailed(f"{self.name} gave no answer in {limit_s:.0f} s")
        if not line:
            raise SideFailed(f"{self.name} ended: {self._last_words()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise SideFailed(f"{self.name}: {found['error']}")
        return found

    def _line(self, until: float) -> bytes | None:
        """None when time is up; empty when the process closed its end."""
        out = _pipe(self._process.stdout)
        with selectors.DefaultSelector() as waiting:
            waiting.register(out, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = until - time.monotonic()
                if left <= 0 or not waiting.select(left):
                    return None
                more = os.read(out.fileno(), 1 << 16)
                if not more:
                    return b""
                self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return (lines or ["it said nothing"])[-1][:400]

    def end(self) -> None:
        """Let it finish, then make it."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
