"""The watch over the engine: its progress, and only that, feeds systemd's watchdog.

Outside systemd (no NOTIFY_SOCKET) all of it is silent, and the watch still reports a hang.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
from collections.abc import Callable

from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.sdnotify import Notifier as Notifier
from ishowtts_ops.sdnotify import send_plainly as send_plainly
from ishowtts_ops.sdnotify import watchdog_period as watchdog_period

log = logging.getLogger(__name__)

START_GRACE_S = 120.0
"""How long a start stage may show no progress. Reading weights of 1.35 GB from an SD card takes
about half of it; systemd adds the grace again with every sign of progress."""

DUMP_AT = 0.7
"""Part of the watchdog's period without progress after which all stacks are dumped: late enough to
be rare, early enough for the journal to have them before systemd kills us."""

HUNG = "watchdog"
"""The ailment of an engine that makes no progress."""


class Watch(threading.Thread):
    """Passes the engine thread's progress on to systemd, and only its progress: there is no timer
    that could keep a hung daemon alive. Before warm-up is over, progress extends the start; after,
    it feeds the watchdog.

    Args:
        period: seconds of systemd's watchdog; or, without one, after which the engine counts as
            hung.
        on_hang: told in words that the engine hangs.
    """

    def __init__(
        self,
        pulse: Pulse,
        condition: Condition,
        notifier: Notifier,
        period: float,
        on_hang: Callable[[str], None],
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._pulse = pulse
        self._condition = condition
        self._notifier = notifier
        self._period = period
        self._on_hang = on_hang
        self._seen = -1
        self._was_warm = False
        self._hung = False
        self._end = threading.Event()

    @property
    def hung(self) -> bool:
        return self._hung

    def stop(self) -> None:
        self._end.set()
        if self.is_alive():
            self.join()
        faulthandler.cancel_dump_traceback_later()

    def run(self) -> None:
        while not self._end.wait(min(1.0, self._period / 10)):
            self.tick()

    def tick(self) -> None:
        """Look once."""
        warm = self._condition.warm
        patience = DUMP_AT * (self._period if warm else START_GRACE_S)
        if self._pulse.count != self._seen or warm != self._was_warm:
            self._seen, self._was_warm = self._pulse.count, warm
            self._progress(warm, patience)
        elif self._pulse.age() > patience and not self._hung:
            self._hang()

    def _progress(self, warm: bool, patience: float) -> None:
        if warm:
            self._notifier.watchdog()
        else:
            self._notifier.extend(START_GRACE_S)
        if self._hung:
            self._hung = False
            log.warning("the engine makes progress again doing=%r", self._pulse.doing)
            self._condition.heal(HUNG)
        # Its timer runs outside the interpreter, so it fires even when a hung call keeps the
        # interpreter's lock and no Python code, this thread's included, can run any more.
        faulthandler.dump_traceback_later(patience, file=sys.__stderr__ or sys.stderr)

    def _hang(self) -> None:
        self._hung = True
        age = self._pulse.age()
        log.error(
            "the engine hangs; the stacks of all threads follow or precede this line "
            "doing=%r seconds_without_progress=%.1f",
            self._pulse.doing,
            age,
        )
        self._condition.ail(HUNG, f"the engine made no progress for {age:.1f} s")
        self._on_hang("The engine hangs.")
