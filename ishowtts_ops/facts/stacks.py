"""Python stacks in a journal, as faulthandler writes them before the watchdog kills a hung daemon.

Timeout (0:00:21)!
Thread 0x0000ffff8e1c1120 (most recent call first):
  File "/…/f5_tts/infer/utils_infer.py", line 412 in infer_process
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD = re.compile(r"(?:Current t|T)hread (0x[0-9a-fA-F]{1,16}).*\(most recent call first\):\s*")
_FRAME = re.compile(r'\s+File "([^"\n]{1,400})", line (\d{1,7}) in (\S{1,200})\s*', re.ASCII)
_ENGINE = ("/daemon/worker.py", "/daemon/boot.py")
"""The engine's thread passes through one of these; the others wait for it."""


@dataclass(frozen=True)
class Frame:
    """One call: where it stood."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Stack:
    """One thread, its innermost call first."""

    thread: str
    frames: tuple[Frame, ...]

    @property
    def engine(self) -> bool:
        """Is it the thread that speaks?"""
        return any(frame.path.endswith(_ENGINE) for frame in self.frames)


def parse_stacks(journal: str) -> tuple[Stack, ...]:
    """All stacks, oldest first; lines of others between them end a stack."""
    stacks: list[Stack] = []
    thread, frames = "", []
    for line in [*journal.splitlines(), ""]:
        frame = _FRAME.fullmatch(line)
        if thread and frame:
            frames.append(Frame(frame[1], int(frame[2]), frame[3]))
            continue
        if thread and frames:
            stacks.append(Stack(thread, tuple(frames)))
        head = _HEAD.fullmatch(line.strip())
        thread, frames = (head[1], []) if head else ("", [])
    return tuple(stacks)


def hung_in(journal: str) -> Stack | None:
    """Where the engine stood in the newest dump."""
    return next((stack for stack in reversed(parse_stacks(journal)) if stack.engine), None)
