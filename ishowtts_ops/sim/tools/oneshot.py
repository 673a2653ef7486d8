"""Commands that are run to their end: oneshot services, ExecStartPre, ExecStop and the like."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import IO

from .box import Box
from .endings import Ending
from .launch import environment, spawn
from .unitfile import INFINITY, Command, Unit, commands
from .unitstate import (
    State,
    load_state,
    log,
    log_path,
    monotonic_us,
    save_state,
)

HELPER_LIMIT_S = 90.0


def run_one(
    box: Box,
    unit: Unit,
    command: Command,
    output: IO[bytes],
    *,
    limit_s: float,
    main_pid: int = 0,
) -> Ending | None:
    """Run one command to its end. None: it ran out of time and was killed."""
    env = environment(box, unit)
    if main_pid:
        env["MAINPID"] = str(main_pid)
    try:
        process = spawn(box, unit, command, env, output)
    except OSError as error:
        log(box, unit.name, f"{unit.name}: Failed to execute {command.argv[0]}: {error.strerror}")
        return Ending("exited", 203)
    try:
        return Ending.of(process.wait(timeout=None if limit_s == INFINITY else limit_s))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def run_commands(box: Box, unit: Unit, key: str, output: IO[bytes], *, main_pid: int = 0) -> bool:
    """Run every command of "ExecStartPre" and the like; stops at the first that fails without
    a leading `-`."""
    for command in commands(unit, key):
        ending = run_one(box, unit, command, output, limit_s=HELPER_LIMIT_S, main_pid=main_pid)
        if (ending is None or not ending.clean) and not command.ignore_failure:
            how = ending.words if ending else "timed out"
            log(box, unit.name, f"{unit.name}: Control process exited, {how}")
            return False
    return True


def start_oneshot(box: Box, unit: Unit, state: State) -> State:
    """Run a Type=oneshot service in this process and record how it ended."""
    state.active, state.sub, state.job = "activating", "start", "running"
    state.start_monotonic = monotonic_us()
    save_state(box, unit.name, state)
    log(box, unit.name, f"Starting {unit.description}...")
    with log_path(box, unit.name).open("ab") as output:
        result = _run_all(box, unit, state, output)
    ok = result == "success"
    stays = ok and unit.flag("Service.RemainAfterExit")
    state.active = "active" if stays else "inactive" if ok else "failed"
    state.sub = "exited" if stays else "dead" if ok else "failed"
    state.result, state.job = result, "done" if ok else "failed"
    state.active_monotonic = monotonic_us() if ok else 0
    if ok:
        log(box, unit.name, f"Finished {unit.description}.")
    else:
        log(box, unit.name, f"{unit.name}: Failed with result '{result}'.")
        log(box, unit.name, f"Failed to start {unit.description}.")
    save_state(box, unit.name, state)
    return state


def _run_all(box: Box, unit: Unit, state: State, output: IO[bytes]) -> str:
    limit = unit.seconds("Service.TimeoutStartSec", INFINITY) or INFINITY
    end = INFINITY if limit == INFINITY else time.monotonic() + limit
    if not run_commands(box, unit, "ExecStartPre", output):
        return "exit-code"
    for command in commands(unit, "ExecStart"):
        left = INFINITY if end == INFINITY else max(0.01, end - time.monotonic())
        ending = run_one(box, unit, command, output, limit_s=left)
        if ending is None:
            log(box, unit.name, f"{unit.name}: start operation timed out. Terminating.")
            return "timeout"
        state.exit_code, state.exit_status = ending.number, ending.status
        if command.ignore_failure or ending.clean:
            continue
        if ending.listed(unit.words("Service.SuccessExitStatus")):
            continue
        log(box, unit.name, f"{unit.name}: Main process exited, {ending.words}")
        return ending.result
    return "success" if run_commands(box, unit, "ExecStartPost", output) else "exit-code"


def stop_oneshot(box: Box, unit: Unit) -> None:
    """End an "active (exited)" service: ExecStop, then inactive."""
    with log_path(box, unit.name).open("ab") as output:
        run_commands(box, unit, "ExecStop", output)
    state = load_state(box, unit.name)
    state.active, state.sub, state.job = "inactive", "dead", ""
    save_state(box, unit.name, state)
    log(box, unit.name, f"Stopped {unit.description}.")
