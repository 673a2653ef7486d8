"""Keeps one long-running service: start, READY, watchdog, restart, stop.

`systemctl start` runs this detached, as `systemctl --supervise UNIT`; it lives as long as the
service does. SIGTERM asks it to stop the service. Type=notify, simple and exec are simulated;
Type=forking and dbus are not, and fail saying so.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .box import Box
from .endings import Ending, wants_restart
from .launch import environment, spawn
from .limits import DEFAULT_TIMEOUT_S, may_start
from .notify_socket import NotifySocket
from .oneshot import run_commands
from .unitfile import INFINITY, Command, Unit, commands, load_unit
from .unitstate import (
    State,
    born,
    load_state,
    log,
    log_path,
    monotonic_us,
    save_state,
)

RESTART_S = 0.1


@dataclass
class Deadlines:
    """Points of the monotonic clock, in seconds."""

    start: float = INFINITY
    stop: float = INFINITY
    watchdog: float = INFINITY

    def next(self) -> float:
        return min(self.start, self.stop, self.watchdog)


class Supervisor:
    def __init__(self, box: Box, name: str) -> None:
        self.box = box
        self.unit: Unit = load_unit(box, name)
        self.state: State = load_state(box, name)
        self.notify = NotifySocket(box, name)
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.ready = False
        self.forced_result = ""
        self.watchdog_s = self.unit.seconds("Service.WatchdogSec", 0)
        self.when = Deadlines()
        self._wake, wake_up = os.pipe()
        for handle in (self._wake, wake_up):
            os.set_blocking(handle, False)
        signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _asked_to_stop(self, *_: object) -> None:
        self.stopping = True

    @property
    def notifies(self) -> bool:
        return self.unit.service_type == "notify"

    def say(self, text: str) -> None:
        log(self.box, self.unit.name, text)

    def save(self, active: str, sub: str) -> None:
        self.state.active, self.state.sub = active, sub
        save_state(self.box, self.unit.name, self.state)

    # ---- life --------------------------------------------------------------------------------

    def run(self) -> int:
        self.state.supervisor_pid = os.getpid()
        self.state.supervisor_born = born(os.getpid())
        self.state.n_restarts = 0
        try:
            with log_path(self.box, self.unit.name).open("ab") as output:
                while self._once(output):
                    pass
        finally:
            self.notify.close()
        return 0

    def _once(self, output: IO[bytes]) -> bool:
        """One life of the service. Returns whether another follows."""
        self.unit = load_unit(self.box, self.unit.name)
        self.watchdog_s = self.unit.seconds("Service.WatchdogSec", 0)
        self.ready, self.forced_result, self.when = False, "", Deadlines()
        self.state.result, self.state.status_text = "success", ""
        self.save("activating", "start")
        self.say(f"Starting {self.unit.description}...")
        ending = self._live(output)
        result = self.forced_result or (ending.result if ending else "exit-code")
        if ending is not None and self.notifies and not self.ready and result == "success":
            result = "success" if self.stopping else "protocol"
        if ending is not None and not ending.clean:
            self.say(f"{self.unit.name}: Main process exited, {ending.words}")
        if ending is not None and ending.listed(self.unit.words("Service.SuccessExitStatus")):
            result = self.forced_result or "success"
        run_commands(self.box, self.unit, "ExecStopPost", output)
        return self._after(result, ending)

    def _after(self, result: str, ending: Ending | None) -> bool:
        self.state.main_pid = 0
        self.state.result = result
        if ending is not None:
            self.state.exit_code, self.state.exit_status = ending.number, ending.status
        started = self.ready
        if self.state.job == "running":
            self.state.job = "done" if started else "failed"
        if result != "success":
            self.say(f"{self.unit.name}: Failed with result '{result}'.")
        if self.stopping:
            self.say(f"Stopped {self.unit.description}.")
            self._last("failed" if result != "success" else "inactive")
            return False
        if not started:
            self.say(f"Failed to start {self.unit.description}.")
        if not wants_restart(self.unit, result, ending):
            self._last("failed" if result != "success" else "inactive")
            return False
        self.save("activating", "auto-restart")
        self._sleep(self.unit.seconds("Service.RestartSec", RESTART_S))
        if self.stopping:
            self.say(f"Stopped {self.unit.description}.")
            self._last("inactive")
            return False
        self.state.n_restarts += 1
        self.say(
            f"{self.unit.name}: Scheduled restart job, restart counter is at "
            f"{self.state.n_restarts}."
        )
        if not may_start(self.box, self.unit, self.state):
            self.say(f"{self.unit.name}: Start request repeated too quickly.")
            self.state.result = "start-limit-hit"
            self.say(f"{self.unit.name}: Failed with result 'start-limit-hit'.")
            self._last("failed")
            return False
        return True

    def _last(self, active: str) -> None:
        self.state.supervisor_pid = self.state.supervisor_born = 0
        self.save(active, "failed" if active == "failed" else "dead")

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < end:
            self._wait(end)

    # ---- one life ----------------------------------------------------------------------------

    def _live(self, output: IO[bytes]) -> Ending | None:
        """Start the process and stay until it is gone. None: it could not be started."""
        if self.unit.service_type in ("forking", "dbus"):
            self.say(f"{self.unit.name}: Type={self.unit.service_type} is not simulated.")
            return None
        if not run_commands(self.box, self.unit, "ExecStartPre", output):
            return None
        env = environment(self.box, self.unit)
        if self.notifies or self.watchdog_s:
            env["NOTIFY_SOCKET"] = self.notify.path
        if self.watchdog_s:
            env["WATCHDOG_USEC"] = str(round(self.watchdog_s * 1e6))
        command = next(iter(commands(self.unit, "ExecStart")), Command([], False))
        self.notify.messages()
        try:
            self.process = spawn(self.box, self.unit, command, env, output)
        except (OSError, IndexError) as error:
            self.say(f"{self.unit.name}: Failed to execute {' '.join(command.argv)}: {error}")
            return Ending("exited", 203)
        self.state.main_pid = self.process.pid
        self.state.start_monotonic = monotonic_us()
        if self.notifies:
            limit = self.unit.seconds("Service.TimeoutStartSec", DEFAULT_TIMEOUT_S)
            self.when.start = time.monotonic() + (limit or INFINITY)
            self.save("activating", "start")
        else:
            self._is_ready()
        self._watch(output)
        ending = Ending.of(self.process.wait())
        self._sweep()
        return ending

    def _watch(self, output: IO[bytes]) -> None:
        """Until the main process is gone."""
        process = self.process
        assert process is not None
        asked = False
        while process.poll() is None:
            if self.stopping and not asked:
                asked = True
                self._begin_stop(output)
            self._wait(self.when.next())
            self._hear()
            now = time.monotonic()
            if now >= self.when.stop:
                self.say(f"{self.unit.name}: State 'stop-sigterm' timed out. Killing.")
                if self.stopping:
                    self.forced_result = self.forced_result or "timeout"
                self._signal(signal.SIGKILL)
                self.when.stop = INFINITY
            elif now >= self.when.start:
                self.say(f"{self.unit.name}: start operation timed out. Terminating.")
                self._give_up("timeout", signal.SIGTERM)
            elif now >= self.when.watchdog:
                limit = f"{self.watchdog_s:g}s"
                self.say(f"{self.unit.name}: Watchdog timeout (limit {limit})!")
                self._give_up("watchdog", self._watchdog_signal())
        self._hear()

    def _begin_stop(self, output: IO[bytes]) -> None:
        self.say(f"Stopping {self.unit.description}...")
        self.when = Deadlines(stop=time.monotonic() + self._stop_limit())
        self.save("deactivating", "stop-sigterm")
        run_commands(self.box, self.unit, "ExecStop", output, main_pid=self.state.main_pid)
        self._signal(_signal_named(self.unit.get("Service.KillSignal"), signal.SIGTERM))

    def _give_up(self, result: str, number: signal.Signals) -> None:
        self.forced_result = result
        self.when = Deadlines(stop=time.monotonic() + self._stop_limit())
        pid = self.state.main_pid
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        self.say(f"{self.unit.name}: Killing process {pid} ({name}) with signal {number.name}.")
        self._signal(number, whole_group=False)

    def _watchdog_signal(self) -> signal.Signals:
        return _signal_named(self.unit.get("Service.WatchdogSignal"), signal.SIGABRT)

    def _stop_limit(self) -> float:
        return self.unit.seconds("Service.TimeoutStopSec", DEFAULT_TIMEOUT_S) or INFINITY

    def _signal(self, number: signal.Signals, *, whole_group: bool = True) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        only_main = self.unit.get("Service.KillMode") in ("process", "mixed")
        if whole_group and (number == signal.SIGKILL or not only_main):
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.process.pid, number)

    def _sweep(self) -> None:
        """What the main process left behind in its group goes as well."""
        if self.process is None or self.unit.get("Service.KillMode") == "process":
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    # ---- messages ----------------------------------------------------------------------------

    def _wait(self, until: float) -> None:
        """Until a message, a signal, a child's end or the point in time."""
        timeout = None if until == INFINITY else max(0.0, until - time.monotonic())
        readable, _, _ = select.select([self._wake, self.notify.socket.fileno()], [], [], timeout)
        if self._wake in readable:
            os.read(self._wake, 4096)

    def _hear(self) -> None:
        now = time.monotonic()
        for name, value in self.notify.messages():
            if name == "STATUS":
                self.state.status_text = value
                save_state(self.box, self.unit.name, self.state)
            elif name == "READY" and value == "1" and not self.ready:
                self._is_ready()
            elif name == "WATCHDOG" and value == "1" and self.when.watchdog != INFINITY:
                self.when.watchdog = now + self.watchdog_s
            elif name == "WATCHDOG" and value == "trigger":
                self.when.watchdog = now
            elif name == "WATCHDOG_USEC" and value.isdigit():
                self.watchdog_s = int(value) / 1e6
                if self.when.watchdog != INFINITY:
                    self.when.watchdog = now + self.watchdog_s
            elif name == "EXTEND_TIMEOUT_USEC" and value.isdigit():
                self._extend(now + int(value) / 1e6)
            elif name == "STOPPING" and value == "1" and not self.stopping:
                self.save("deactivating", "stop-sigterm")

    def _extend(self, until: float) -> None:
        if self.when.stop != INFINITY:
            self.when.stop = max(self.when.stop, until)
        elif self.when.start != INFINITY:
            self.when.start = max(self.when.start, until)

    def _is_ready(self) -> None:
        if self.stopping or self.forced_result:
            return
        self.ready = True
        self.when.start = INFINITY
        if self.watchdog_s:
            self.when.watchdog = time.monotonic() + self.watchdog_s
        if self.state.job == "running":
            self.state.job = "done"
        self.state.active_monotonic = monotonic_us()
        self.save("active", "running")
        self.say(f"Started {self.unit.description}.")


def _signal_named(name: str, default: signal.Signals) -> signal.Signals:
    return signal.Signals[name] if name else default
