"""The watch over a service that is ready: its health, a real request now and then, its memory."""

from __future__ import annotations

import logging
import time
from typing import NoReturn

import psutil

from ishowtts_ops.sdnotify import Notifier, line
from ishowtts_ops.supervise.charge import Charge, Verdict
from ishowtts_ops.supervise.memory import MIB, Sentinel
from ishowtts_ops.supervise.plan import Plan
from ishowtts_ops.supervise.probe import Attempt, Prober
from ishowtts_ops.supervise.tree import Usage, rested

log = logging.getLogger(__name__)

BUSY_FACTOR = 3
"""A service that is never idle is asked for real after so many canary intervals."""
FEEDS_PER_PERIOD = 3
"""Looks within systemd's watchdog period: one may be late without harm."""
MEMORY_SHARE = 0.8
"""Of the box's memory, where no limit is set."""


class Watch:
    """Feeds systemd's watchdog while the service deserves it.

    WATCHDOG=1 follows a good look at its health, and only while the last real request was good: a
    service that says it is fine and cannot work is not fed.
    """

    def __init__(self, plan: Plan, charge: Charge, prober: Prober, notifier: Notifier) -> None:
        limits = plan.limits
        self._plan = plan
        self._charge = charge
        self._prober = prober
        self._notifier = notifier
        self._limits = limits
        period = notifier.watchdog_period
        self._interval = min(limits.health_interval, (period or 1e9) / FEEDS_PER_PERIOD)
        now = time.monotonic()
        self._round: list[Attempt] = []
        self._next_round = now
        self._health_failures = 0
        self._canary: Attempt | None = None
        self._last_canary = now
        self._canary_failures = 0
        self._usage = charge.tree.look()
        self._busy_at = now
        limit = limits.memory_limit_mb
        self._sentinel = Sentinel(
            limit * MIB if limit else psutil.virtual_memory().total * MEMORY_SHARE,
            limits.memory_growth_mb_per_hour * MIB,
            limits.memory_window,
        )
        self._planned: str | None = None
        self._planned_at = now

    def run(self) -> NoReturn:
        """Watch until something ends it.

        Raises:
            Verdict: the service is broken, or has grown too much.
            Told, Ended: as `Charge.pause`.
        """
        self._notifier.watchdog()
        while True:
            self._charge.pause(self._until_next())
            self._check_health()
            self._check_canary()
            self._check_plan()

    def _until_next(self) -> float:
        """Seconds until something is due; an answer that comes wakes us before."""
        waiting = [a.limit - a.age for a in (*self._round, self._canary) if a is not None]
        rest = [self._next_round - time.monotonic()] if not self._round else []
        return max(0.0, min([*waiting, *rest])) + 0.005

    # ---- health ------------------------------------------------------------------------------

    def _check_health(self) -> None:
        if not self._round:
            if time.monotonic() >= self._next_round:
                self._next_round = time.monotonic() + self._interval
                timeout = self._limits.health_timeout
                self._round = [self._prober.ask(r, timeout) for r in self._plan.health]
                self._look()
            return
        failures = [attempt.failure for attempt in self._round if attempt.failure]
        if failures:
            self._round = []
            self._unhealthy(failures[0])
        elif all(attempt.answer for attempt in self._round):
            self._round = []
            if self._health_failures:
                log.info(line("healthy again", failures=self._health_failures))
            self._health_failures = 0
            if not self._canary_failures:
                self._notifier.watchdog()

    def _unhealthy(self, why: str) -> None:
        self._health_failures += 1
        allowed = self._limits.health_failures
        log.warning(f"health failed, {self._health_failures} of {allowed}: {why}")
        if self._health_failures >= allowed:
            raise Verdict(f"its health failed {_times(allowed)}: {why}")

    # ---- the real request --------------------------------------------------------------------

    def _check_canary(self) -> None:
        if self._plan.canary is None:
            return
        if self._canary is None:
            if self._canary_due():
                timeout = self._limits.canary_timeout
                self._canary = self._prober.ask(self._plan.canary, timeout, patient=True)
            return
        answer, failure = self._canary.answer, self._canary.failure
        if failure:
            self._canary = None
            self._silent(failure)
        elif answer:
            self._canary = None
            self._last_canary = self._busy_at = time.monotonic()
            if self._canary_failures:
                log.info(line("works again", failures=self._canary_failures))
                self._canary_failures = 0
            status = line(
                "ready; last real request",
                seconds=answer.seconds,
                audio_seconds=answer.audio_seconds,
                memory_mib=self._usage.rss // MIB,
            )
            self._notifier.status(status)

    def _canary_due(self) -> bool:
        since = time.monotonic() - self._last_canary
        interval = self._limits.canary_interval
        return (
            bool(self._canary_failures)
            or (since >= interval and self._idle)
            or since >= BUSY_FACTOR * interval
        )

    def _silent(self, why: str) -> None:
        self._canary_failures += 1
        allowed = self._limits.canary_failures
        log.warning(f"a real request failed, {self._canary_failures} of {allowed}: {why}")
        self._notifier.status(f"failing: {why}")
        if self._canary_failures >= allowed:
            claim = "" if self._health_failures else ", though it calls itself healthy"
            raise Verdict(f"a real request failed {_times(allowed)}{claim}: {why}")

    # ---- what it uses ------------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return time.monotonic() - self._busy_at >= self._limits.idle_seconds

    def _look(self) -> None:
        usage: Usage = self._charge.tree.look()
        if not rested(self._usage, usage):
            self._busy_at = usage.at
        self._usage = usage
        trouble = self._sentinel.add(usage.at, usage.rss)
        if trouble and self._planned is None:
            self._planned_at = usage.at
            self._planned = trouble
            log.warning(f"a restart is planned for the next idle moment: {trouble}")
            self._notifier.status(f"ready; to be restarted when idle: {trouble}")

    def _check_plan(self) -> None:
        if self._planned is None or self._canary is not None:
            return
        if self._idle:
            raise Verdict(f"{self._planned}; it is idle now", planned=True)
        waited = time.monotonic() - self._planned_at
        if waited >= self._limits.memory_wait:
            raise Verdict(f"{self._planned}; it was not idle for {waited:.0f} s", planned=True)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times in a row"
