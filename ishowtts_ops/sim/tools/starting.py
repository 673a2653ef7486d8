"""start, stop, boot and shutdown of units."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from .box import Box
from .jobs import boot_goal, transaction
from .limits import DEFAULT_TIMEOUT_S, may_start
from .oneshot import start_oneshot, stop_oneshot
from .unitfile import INFINITY, Unit, all_units, load_unit
from .unitstate import (
    BOOT_MARK,
    KERNEL_LOG,
    State,
    known_states,
    load_state,
    log,
    log_path,
    monotonic_us,
    note_loaded,
    note_reset,
    save_state,
    unit_lock,
)

POLL_S = 0.02
_CONDITIONS = ("PathExists", "PathIsDirectory", "FileNotEmpty", "FileIsExecutable")


def start(box: Box, name: str, *, block: bool = True) -> int:
    """Start a unit and what it pulls in. Returns systemctl's exit status."""
    unit = load_unit(box, name)
    if unit.masked:
        print(f"Failed to start {name}: Unit {name} is masked.", file=sys.stderr)
        return 1
    if not unit.fragment:
        print(f"Failed to start {name}: Unit {name} not found.", file=sys.stderr)
        return 5
    for other in transaction(box, [name]).units:
        if other.name == name or not other.loaded:
            continue
        required = other.name in (*unit.words("Unit.Requires"), *unit.words("Unit.BindsTo"))
        if not _start_one(box, other, block=True) and required:
            print(
                f"A dependency job for {name} failed. See 'journalctl -xe' for details.",
                file=sys.stderr,
            )
            return 1
    if _start_one(box, unit, block=block):
        return 0
    state = load_state(box, name)
    why = {
        "timeout": "a timeout was exceeded",
        "start-limit-hit": "start of the service was attempted too often",
        "signal": "a fatal signal was delivered to the control process",
        "core-dump": "a fatal signal was delivered causing the control process to dump core",
        "protocol": "the service did not take the steps required by its unit configuration",
    }.get(state.result, "the control process exited with error code")
    print(
        f"Job for {name} failed because {why}.\n"
        f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.',
        file=sys.stderr,
    )
    return 1


def _start_one(box: Box, unit: Unit, *, block: bool) -> bool:
    with unit_lock(box, unit.name):
        state = load_state(box, unit.name)
        if state.active in ("active", "reloading"):
            return True
        if not (state.active in ("activating", "deactivating") and state.supervised):
            kind = unit.kind
            note_loaded(box, unit)
            if not _conditions_hold(box, unit):
                log(
                    box,
                    unit.name,
                    f"Condition check resulted in {unit.description} being skipped.",
                )
                return True
            if kind != "service":
                # Targets are reached; timers and path units wait, and nothing ever fires them.
                state.active, state.sub = "active", "active" if kind == "target" else "waiting"
                state.active_monotonic = monotonic_us()
                save_state(box, unit.name, state)
                log(box, unit.name, f"Started {unit.description}.")
                return True
            if not may_start(box, unit, state):
                log(box, unit.name, f"{unit.name}: Start request repeated too quickly.")
                state.active, state.sub = "failed", "failed"
                state.result, state.job = "start-limit-hit", "failed"
                save_state(box, unit.name, state)
                return False
            if unit.service_type == "oneshot":
                return start_oneshot(box, unit, state).job == "done"
            _spawn_supervisor(box, unit, state)
    return _wait_for_job(box, unit) if block else True


def _conditions_hold(box: Box, unit: Unit) -> bool:
    for kind in _CONDITIONS:
        for text in unit.all(f"Unit.Condition{kind}"):
            real = box.path(text.lstrip("!|"))
            holds = {
                "PathExists": real.exists(),
                "PathIsDirectory": real.is_dir(),
                "FileNotEmpty": real.is_file() and real.stat().st_size > 0,
                "FileIsExecutable": real.is_file() and os.access(real, os.X_OK),
            }[kind]
            if holds == text.startswith("!"):
                return False
    return True


def _spawn_supervisor(box: Box, unit: Unit, state: State) -> None:
    state.active, state.sub, state.job = "activating", "start", "running"
    state.main_pid, state.status_text = 0, ""
    save_state(box, unit.name, state)
    with log_path(box, unit.name).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, sys.argv[0], "--supervise", unit.name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    # From here on the supervisor alone writes the state. The lock is kept until it has signed.
    while load_state(box, unit.name).supervisor_pid == 0 and process.poll() is None:
        time.sleep(POLL_S)
    now = load_state(box, unit.name)
    if process.poll() is not None and now.supervisor_pid == 0 and now.job == "running":
        now.active, now.sub, now.result, now.job = "failed", "failed", "resources", "failed"
        save_state(box, unit.name, now)


def _wait_for_job(box: Box, unit: Unit) -> bool:
    while True:
        state = load_state(box, unit.name)
        if state.job != "running":
            return state.job == "done"
        time.sleep(POLL_S)


def stop(box: Box, name: str) -> int:
    """Stop a unit and those that require it. Returns systemctl's exit status."""
    unit = load_unit(box, name)
    state = load_state(box, name)
    if not unit.fragment and state.active == "inactive":
        print(f"Failed to stop {name}: Unit {name} not loaded.", file=sys.stderr)
        return 5
    for other in _dependents(box, name):
        stop(box, other)
    with unit_lock(box, name):
        state = load_state(box, name)
        if state.supervised:
            os.kill(state.supervisor_pid, signal.SIGTERM)
        elif state.active == "active" and unit.kind == "service":
            stop_oneshot(box, unit)
        elif state.active not in ("inactive", "failed"):
            state.active, state.sub = "inactive", "dead"
            save_state(box, name, state)
            log(box, name, f"Stopped {unit.description}.")
    _wait_for_end(unit, state)
    return 0


def _wait_for_end(unit: Unit, state: State) -> None:
    limit = unit.seconds("Service.TimeoutStopSec", DEFAULT_TIMEOUT_S) or INFINITY
    end = time.monotonic() + limit + 10
    while state.supervised and time.monotonic() < end:
        time.sleep(POLL_S)


def _dependents(box: Box, name: str) -> list[str]:
    """Active units that go down with this one."""
    found = []
    for other in all_units(box):
        unit = load_unit(box, other)
        ties = [
            word for key in ("Requires", "BindsTo", "PartOf") for word in unit.words(f"Unit.{key}")
        ]
        if name in ties and load_state(box, other).active in ("active", "activating"):
            found.append(other)
    return found


def reset_failed(box: Box, name: str) -> None:
    with unit_lock(box, name):
        note_reset(box, name)
        state = load_state(box, name)
        if state.supervised:
            return
        state.starts, state.n_restarts = [], 0
        if state.active == "failed":
            state.active, state.sub, state.result, state.job = "inactive", "dead", "success", ""
        save_state(box, name, state)


def isolate(box: Box, target: str) -> int:
    """Start what the target wants and is not active: oneshots without RemainAfterExit run again,
    nvpmodel.service among them. Nothing is stopped, unlike the real isolate."""
    for unit in transaction(box, [target]).units:
        if unit.loaded:
            _start_one(box, unit, block=True)
    return 0


def shut_down(box: Box) -> int:
    """Stop everything, last started first, as at a reboot."""
    running = [
        (load_state(box, name).active_monotonic, name)
        for name in known_states(box)
        if load_state(box, name).active in ("active", "activating", "deactivating")
    ]
    for _, name in sorted(running, reverse=True):
        if not name.endswith(".target"):
            stop(box, name)
    return 0


def boot(box: Box) -> int:
    """Start everything that is enabled. Ends with 0 even when units fail, as a boot does."""
    for entry in box.listdir("/var/log/ishowtts-sim"):
        if entry.endswith(".log"):
            with box.path(f"/var/log/ishowtts-sim/{entry}").open("a", encoding="utf-8") as file:
                file.write(f"{BOOT_MARK}\n")
    jobs = transaction(box, boot_goal(box))
    for name in jobs.dropped:
        text = f"{name}: Found ordering cycle, Job {name}/start deleted to break ordering cycle"
        log(box, name, text)
        log(box, KERNEL_LOG.rsplit("/", 1)[-1].removesuffix(".log"), text)
    for unit in jobs.units:
        if unit.loaded:
            _start_one(box, unit, block=True)
    return 0
