"""The program's standard streams: not always there, and not always able to take what is written."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def make_sound() -> None:
    """Let no command fail for where it writes: a stream that was closed leads nowhere, and one that
    cannot show a ° or a voice's name shows a ? there."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard_output() -> None:
    """Forget what standard output still holds: it would fail again, with a traceback, when Python
    ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
