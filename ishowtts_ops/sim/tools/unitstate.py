"""What the stand-in service manager remembers: a state file and a log per unit."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .box import Box
from .unitfile import Unit

RUN = "/run/ishowtts-sim"
STATES = f"{RUN}/units"
LOGS = "/var/log/ishowtts-sim"
KERNEL_LOG = f"{LOGS}/kernel.log"
BOOT_MARK = "-- Boot of the simulated box --"
STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}) (systemd\[1\]|kernel): (.*)")


@dataclass
class State:
    """One unit. `job` is what became of the last start: "", "running", "done" or "failed"."""

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    job: str = ""
    main_pid: int = 0
    supervisor_pid: int = 0
    supervisor_born: int = 0
    n_restarts: int = 0
    status_text: str = ""
    start_monotonic: int = 0
    active_monotonic: int = 0
    exit_code: int = 0
    exit_status: int = 0
    starts: list[float] = field(default_factory=list)

    @property
    def supervised(self) -> bool:
        return self.supervisor_pid > 0 and born(self.supervisor_pid) == self.supervisor_born


def born(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def load_state(box: Box, name: str) -> State:
    """The recorded state; that of a unit whose supervisor is gone is corrected to "failed"."""
    try:
        raw = json.loads(box.path(f"{STATES}/{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return State()
    known = {item.name for item in dataclasses.fields(State)}
    state = State(**{key: value for key, value in raw.items() if key in known})
    ended = state.active in ("inactive", "failed")
    if state.supervisor_pid and not ended and not state.supervised:
        # A supervisor records its end before it goes, so this one was killed.
        state.active, state.sub, state.result = "failed", "failed", "resources"
        state.main_pid = state.supervisor_pid = 0
        if state.job == "running":
            state.job = "failed"
    return state


def save_state(box: Box, name: str, state: State) -> None:
    target = box.path(f"{STATES}/{name}.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(json.dumps(dataclasses.asdict(state)) + "\n", encoding="utf-8")
    temporary.replace(target)


def known_states(box: Box) -> list[str]:
    return [entry[:-5] for entry in box.listdir(STATES) if entry.endswith(".json")]


@contextlib.contextmanager
def unit_lock(box: Box, name: str) -> Iterator[None]:
    """Held while it is decided what to do with a unit, not while waiting for it."""
    path = box.path(f"{STATES}/{name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def note_loaded(box: Box, unit: Unit) -> None:
    """Remember the unit's files as read now, by a first start or a daemon-reload."""
    box.put(f"{STATES}/{unit.name}.loaded", json.dumps(_files(box, unit)))


def needs_reload(box: Box, unit: Unit) -> bool:
    """Were the unit's files changed since they were read?"""
    try:
        known = json.loads(box.path(f"{STATES}/{unit.name}.loaded").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known != _files(box, unit))


def note_reset(box: Box, name: str) -> None:
    """Remember when `reset-failed` came. It is for units that are up as well, whose state only
    their supervisor writes; so this is beside it."""
    box.put(f"{STATES}/{name}.reset", repr(time.time()))


def last_reset(box: Box, name: str) -> float:
    """When that was, in seconds since the epoch; 0 where it never came."""
    try:
        return float(box.path(f"{STATES}/{name}.reset").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def _files(box: Box, unit: Unit) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in (unit.fragment, *unit.drop_ins):
        with contextlib.suppress(OSError):
            found[path] = box.path(path).stat().st_mtime_ns
    return found


def log_path(box: Box, name: str) -> Path:
    path = box.path(f"{LOGS}/{name}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def log(box: Box, name: str, text: str) -> None:
    """Append a line of the manager's own to the unit's log. Lines of the service itself go there
    unstamped."""
    stamp = datetime.now().isoformat(timespec="microseconds")
    with log_path(box, name).open("a", encoding="utf-8") as file:
        file.write(f"{stamp} systemd[1]: {text}\n")


def monotonic_us() -> int:
    return time.monotonic_ns() // 1000
