"""From the command's start to its first good answers."""

from __future__ import annotations

import logging
import time

from ishowtts_ops.config import BackendRequest
from ishowtts_ops.sdnotify import Notifier, line
from ishowtts_ops.supervise.charge import Charge, Verdict
from ishowtts_ops.supervise.plan import Plan
from ishowtts_ops.supervise.probe import Answer, Attempt, Prober
from ishowtts_ops.supervise.tree import moved

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Between two looks at what a starting service does."""
ASK_S = 0.25
"""Between two questions whether it is healthy yet."""
MARGIN_S = 15.0
"""systemd waits longer than we do, so that the reason comes from us."""


class Start:
    """Waits until a service is healthy and has passed its warm-up."""

    def __init__(self, plan: Plan, charge: Charge, prober: Prober, notifier: Notifier) -> None:
        self._plan = plan
        self._charge = charge
        self._prober = prober
        self._notifier = notifier
        self._limits = plan.limits
        self._began = time.monotonic()
        self._usage = charge.tree.look()
        self._sign = ""
        self._stage = ""
        self._last_sign = self._began
        self._move()

    def run(self) -> None:
        """Return when it is warm.

        Raises:
            Verdict: it takes too long, or answers badly.
            Told, Ended: as `Charge.pause`.
        """
        self._tell("waiting until it is healthy")
        for request in self._plan.health:
            self._await_health(request)
        log.info(line("healthy", seconds=time.monotonic() - self._began))
        count = len(self._plan.warmup)
        for number, request in enumerate(self._plan.warmup, 1):
            self._tell(f"warming up: request {number} of {count}")
            attempt = self._prober.ask(request, self._limits.warmup_timeout, patient=True)
            answer = self._wait(attempt)
            if answer is None:
                raise Verdict(f"the warm-up failed: {attempt.failure}")
            self._move()
            log.info(
                line(
                    "warm-up",
                    request=f"{number}/{count}",
                    seconds=answer.seconds,
                    audio_seconds=answer.audio_seconds,
                )
            )

    def _await_health(self, request: BackendRequest) -> None:
        while True:
            attempt = self._prober.ask(request, self._limits.health_timeout)
            if self._wait(attempt) is not None:
                return
            failure = attempt.failure or ""
            if failure != self._sign:
                # Another answer than before is progress, and worth a line.
                self._sign = failure
                self._tell(f"not healthy yet: {failure}")
                self._move()
            self._pause(ASK_S)

    def _wait(self, attempt: Attempt) -> Answer | None:
        while attempt.answer is None and attempt.failure is None:
            self._pause(min(LOOK_S, max(attempt.limit - attempt.age, 0) + 0.01))
        return attempt.answer

    def _pause(self, seconds: float) -> None:
        self._charge.pause(seconds)
        now = time.monotonic()
        if now - self._usage.at >= LOOK_S:
            usage = self._charge.tree.look()
            if moved(self._usage, usage):
                self._move()
            self._usage = usage
        doing = f"; {self._stage}" if self._stage else ""
        if now - self._last_sign > self._limits.start_grace:
            raise Verdict(
                f"its start has not moved for {self._limits.start_grace:g} s{doing}",
            )
        if now - self._began > self._limits.start_limit:
            raise Verdict(f"its start took over {self._limits.start_limit:g} s{doing}")

    def _move(self) -> None:
        """It got on with its start."""
        self._last_sign = time.monotonic()
        self._notifier.extend(self._limits.start_grace + self._limits.stop_seconds + MARGIN_S)

    def _tell(self, stage: str) -> None:
        self._stage = stage
        log.info(stage)
        self._notifier.status(stage)
