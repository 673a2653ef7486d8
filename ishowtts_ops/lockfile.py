"""Who is at work on a box: an exclusive lock file that says so."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from ishowtts_ops.errors import BoxLocked

POLL_S = 0.2
AUTOMATIC_LIMIT_S = 300.0
"""How long a person's command waits for a timer's work (seconds)."""


@contextlib.contextmanager
def hold(real: Path, doing: str, *, automatic: bool) -> Iterator[None]:
    """Hold the lock; the kernel lets go of it when we die.

    Args:
        automatic: a timer's work. A person's command waits for it to end, since whoever saves a
            setting and runs install must not be told that a timer noticed the setting first.

    Raises:
        BoxLocked: somebody holds it; the message says who and doing what.
    """
    with real.open("a+", encoding="utf-8") as file:
        _acquire(file, 0.0 if automatic else AUTOMATIC_LIMIT_S)
        file.seek(0)
        file.truncate()
        json.dump(
            {"pid": os.getpid(), "doing": doing, "user": _user(), "automatic": automatic}, file
        )
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


def _acquire(file: TextIO, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(Path(file.name))
            if not holder.get("automatic") or time.monotonic() > deadline:
                raise _held(file.name, holder) from None
            time.sleep(POLL_S)
        else:
            return


def _holder(real: Path) -> dict[str, Any]:
    """What the holder wrote about itself; empty when it has not done so yet."""
    try:
        who = json.loads(real.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return who if isinstance(who, dict) else {}


def _held(name: str, who: Mapping[str, Any]) -> BoxLocked:
    if {"pid", "user", "doing"} <= who.keys():
        holder = f"process {who['pid']}, user {who['user']}"
        text = f"`{who['doing']}` ({holder}) is at work on this box."
    else:
        text = f"Another process holds {name}."
    return BoxLocked(text, "Wait for it to end and run again; nothing was changed.")


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
