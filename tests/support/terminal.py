"""A program in a real terminal of a given size, and what stood on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Screens:
    """Everything a program showed.

    Attributes:
        frames: the text of each redraw, without colours; one for a program that never redraws.
        raw: what it wrote.
    """

    code: int
    frames: tuple[str, ...]
    raw: str

    @property
    def last(self) -> list[str]:
        """The lines of the last redraw that shows anything."""
        shown = [frame for frame in self.frames if frame.strip()]
        return [line.rstrip() for line in shown[-1].rstrip().split("\n")]


def in_terminal(argv: Sequence[str], columns: int, lines: int, timeout: float = 60) -> Screens:
    """Run this program's verb in a terminal, as over ssh: TERM is set, COLUMNS is not."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ishowtts_ops", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color"},
        cwd=REPOSITORY,
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end of a terminal that was closed answers EIO
            break
        if not part:
            break
        written += part
    os.close(ours)
    text = written.decode("utf-8", "replace")
    frames = tuple(_CONTROL.sub("", part) for part in text.split("\x1b[H"))
    return Screens(process.wait(timeout), frames, text)


def cells(line: str) -> int:
    """Columns a line takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
