"""The service in our care: one process, its group, and everything that can happen to it."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
import time
from types import FrameType

import psutil

from ishowtts_ops.host import Host
from ishowtts_ops.sdnotify import line
from ishowtts_ops.supervise.plan import Plan
from ishowtts_ops.supervise.tree import Tree

log = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 0.05


class Told(Exception):
    """We were told to end; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Ended(Exception):
    """The command has ended by itself."""


class Verdict(Exception):
    """The service is to be ended; the message says why.

    Attributes:
        planned: nothing is broken yet.
    """

    def __init__(self, reason: str, *, planned: bool = False) -> None:
        super().__init__(reason)
        self.planned = planned


class Bell:
    """What wakes the main thread: signals, the command's end, an answer. Signals count from here on
    and are not lost, also those that come before the command runs."""

    def __init__(self) -> None:
        # SimpleQueue may be put to from a signal handler, in the middle of anything.
        self._events: queue.SimpleQueue[int | Ended | None] = queue.SimpleQueue()
        for number in (*ENDING, signal.SIGHUP):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._events.put(number)

    def ring(self, event: Ended | None = None) -> None:
        self._events.put(event)

    def listen(self, seconds: float) -> int | Ended | None:
        """Wait for something to happen, at most so long."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=max(seconds, 0))
        return None


class Charge:
    """A running command.

    TERM and INT are for the whole group, as Ctrl-C in a terminal is: a command that is a shell
    script does not pass them on. HUP asks to read a configuration again, which is between us and
    the command alone; its workers would die of it.

    Raises:
        OpsError: the command cannot be started.
    """

    def __init__(self, plan: Plan, host: Host, bell: Bell) -> None:
        self._bell = bell
        self._over = False
        self._child = host.spawn_here(plan.command, env=plan.environment, folder=plan.folder)
        self.pid = self._child.pid
        self.tree = Tree(self.pid)
        threading.Thread(target=self._await_end, name="end", daemon=True).start()

    def _await_end(self) -> None:
        self._child.wait_for_end()
        self._over = True
        self._bell.ring(Ended())

    def pause(self, seconds: float) -> None:
        """Wait for something to happen, at most so long.

        Raises:
            Told: somebody wants us to end.
            Ended: the command did.
        """
        event = self._bell.listen(seconds)
        if isinstance(event, Ended) or self._over:
            raise Ended
        if event == signal.SIGHUP:
            log.info(line("SIGHUP passed on", pid=self.pid))
            self._child.signal(signal.SIGHUP)
        elif event is not None:
            raise Told(event)

    def end(self, number: int, grace: float) -> int:
        """Ask it to end, wait, then make it; returns its exit code as a shell tells it.

        Args:
            number: the signal that asks.
            grace: seconds; cut short by a second TERM or INT.
        """
        self._child.signal_group(number)
        deadline = time.monotonic() + grace
        # Not only the command: where it is a shell script, it ends at once, and what counts is the
        # server behind it.
        while time.monotonic() < deadline and self._still_there():
            event = self._bell.listen(min(_POLL_S, deadline - time.monotonic()))
            if event in ENDING:
                log.warning("told to end a second time: it is ended at once")
                break
        else:
            if self._still_there():
                log.warning(line("it did not end in time and is killed", grace_s=grace))
        return self.close()

    def _still_there(self) -> bool:
        return not self._over or bool(self.tree.members())

    def close(self) -> int:
        """Kill whatever is left of it; returns the exit code as a shell tells it: 128 + N where a
        signal N ended it."""
        left = self.tree.members()
        if self._over and left:
            log.warning(line("processes were left behind and are killed", count=len(left)))
        self._child.signal_group(signal.SIGKILL)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        code = self._child.reap()
        return code if code >= 0 else 128 - code
