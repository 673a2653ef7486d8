"""A supervised service's whole life.

Whoever started us starts it again: we end with the service. systemd then counts the restarts, keeps
to its limits, tells who asked to be told (OnFailure=) and clears the control group away. A loop of
our own would have to do all that once more, and hide it from `systemctl status`.

Exit codes: the command's own when it ended by itself or was told to; 128 + N where a signal N ended
it; 1 when it was found broken; 75 (EX_TEMPFAIL) after a planned end.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import time

from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.sdnotify import Notifier, line, log_to_stderr
from ishowtts_ops.supervise.charge import Bell, Charge, Ended, Told, Verdict
from ishowtts_ops.supervise.plan import Plan, words
from ishowtts_ops.supervise.probe import Prober
from ishowtts_ops.supervise.start import MARGIN_S, Start
from ishowtts_ops.supervise.watch import Watch

log = logging.getLogger(__name__)

BROKEN = 1
PLANNED = 75
STRANGER_S = 2.0
"""For a service that is there already to say so."""


def run(plan: Plan, host: Host) -> int:
    """Run the command until it ends, is told to, or is broken; returns the exit code.

    Raises:
        OpsError: it cannot be started.
    """
    log_to_stderr()
    # Their lines about each request say nothing that ours do not.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # systemd's watchdog ends *us* with SIGABRT should this program itself hang.
    faulthandler.enable()
    return Supervisor(plan, host).run()


class Supervisor:
    """Runs one plan, once."""

    def __init__(self, plan: Plan, host: Host) -> None:
        self._plan = plan
        self._host = host
        self._notifier = Notifier()
        self._bell = Bell()
        self._prober = Prober(self._bell.ring)
        self._ready = False

    def run(self) -> int:
        """See `run` of the module."""
        self._require_nobody_there()
        began = time.monotonic()
        charge = Charge(self._plan, self._host, self._bell)
        log.info(line("started", pid=charge.pid, command=words(self._plan.command)))
        try:
            Start(self._plan, charge, self._prober, self._notifier).run()
            self._begin_watch(time.monotonic() - began)
            Watch(self._plan, charge, self._prober, self._notifier).run()
        except Told as told:
            return self._stop(charge, told.number)
        except Ended:
            return self._ended(charge)
        except Verdict as verdict:
            return self._give_up(charge, verdict)
        except BaseException:
            # A bug of ours must not leave the service running without anybody who watches it.
            charge.close()
            raise

    def _require_nobody_there(self) -> None:
        """Another instance that still answers would be taken for ours, which cannot listen."""
        for request in self._plan.health:
            attempt = self._prober.ask(request, STRANGER_S)
            while attempt.answer is None and attempt.failure is None:
                # Not the bell: a signal that comes now is for the command.
                time.sleep(0.02)
            if attempt.answer is not None:
                raise OpsError(
                    f"Another service answers at {request.path} before the command was started.",
                    "Stop it first; `ss -ltnp` shows who listens.",
                )

    def _begin_watch(self, seconds: float) -> None:
        self._ready = True
        limits, period = self._plan.limits, self._notifier.watchdog_period
        log.info(line("ready", seconds=seconds, watchdog_s=period))
        self._notifier.ready("ready")
        if self._plan.canary is None:
            log.warning("no canary is set: a service that lies about its health is not found out")
        if period is not None and period < limits.verdict_seconds:
            log.warning(
                f"WatchdogSec= is {period:g} s and a verdict can take {limits.verdict_seconds:g} s:"
                " systemd may end the service first, with no more reason than the warnings here"
            )

    # ---- ends --------------------------------------------------------------------------------

    def _stop(self, charge: Charge, number: int) -> int:
        grace = self._plan.limits.stop_seconds
        log.info(line("ending: told to", signal=signal.Signals(number).name, grace_s=grace))
        self._stopping("ending: told to", grace)
        code = charge.end(number, grace)
        log.info(line("ended", code=code))
        return code

    def _ended(self, charge: Charge) -> int:
        code = charge.close()
        when = "" if self._ready else " before it was ready"
        log.log(
            logging.INFO if code == 0 else logging.ERROR,
            line(f"the command ended by itself{when}", code=code, signal=_signal(code)),
        )
        return code

    def _give_up(self, charge: Charge, verdict: Verdict) -> int:
        grace = self._plan.limits.stop_seconds
        what = "planned restart" if verdict.planned else "broken, to be started again"
        log.log(logging.WARNING if verdict.planned else logging.ERROR, f"{what}: {verdict}")
        self._stopping(f"{what}: {verdict}", grace)
        if not verdict.planned:
            for text in charge.tree.story():
                log.warning(f"known of it: {text}")
            log.warning(f"known of the box: load={' '.join(map(str, os.getloadavg()))}")
        code = charge.end(signal.SIGTERM, grace)
        log.info(line("ended", code=code))
        return PLANNED if verdict.planned else BROKEN

    def _stopping(self, status: str, grace: float) -> None:
        self._notifier.stopping(status)
        self._notifier.extend(grace + MARGIN_S)


def _signal(code: int) -> str | None:
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return None
