"""Runs the daemon: listen, load, warm up, tell systemd, serve, drain.

Exit codes: 0 after a drain, asked for or planned because of a leak; 128+N when a second signal N
cut it short; 78 (EX_CONFIG) when starting again cannot help (the unit's
RestartPreventExitStatus=78); 75 (EX_TEMPFAIL) when the device is lost or stays out of memory; 1 for
everything else that starting again may mend.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine

from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.auth import Gate
from ishowtts_ops.daemon.batch_trial import settle
from ishowtts_ops.daemon.boot import boot, load
from ishowtts_ops.daemon.engine import DeviceLost, Engine, StartRefused, Timings, Voice
from ishowtts_ops.daemon.engines import make_engine, make_fallback
from ishowtts_ops.daemon.failures import Refusal
from ishowtts_ops.daemon.folders import cache_folder, state_folder
from ishowtts_ops.daemon.http import build_app, outermost
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.memory import MemoryUse, memory_use
from ishowtts_ops.daemon.metrics import Metrics
from ishowtts_ops.daemon.metrics_box import BoxReadings
from ishowtts_ops.daemon.metrics_lives import Lives
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.reload import Reloader, Source
from ishowtts_ops.daemon.sentinel import Leak, LeakWatch, Sentinel
from ishowtts_ops.daemon.server import LAST_WORDS_S, Server, listen
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.voices import load_voices
from ishowtts_ops.daemon.voices import state_folder as voices_folder
from ishowtts_ops.daemon.watchdog import Notifier, Watch
from ishowtts_ops.daemon.worker import Worker
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

log = logging.getLogger(__name__)

CANARIES_PER_PERIOD = 3
"""Canaries of an idle engine per watchdog period: one may be late without harm."""
FALLBACK_CANARY_S = 300.0
"""No watchdog waits for the fallback's canaries."""
SWITCH_INTERVAL_S = 0.001
"""How long the engine's thread may keep the interpreter while the event loop wants it; Python's own
5 ms would be the largest part of a request's overhead."""
RESCUE_S = 5.0
"""For the fallback to finish what it took over before the daemon ends."""


def run(settings: Settings, manifest: Manifest, host: Host, source: Source | None = None) -> int:
    """Serve until told to stop; returns the exit code (see the module).

    Args:
        source: reads settings and manifest again for a SIGHUP; without one it is refused.
    """
    journal.setup()
    faulthandler.enable()
    # A SIGHUP before there is anything to reload must not end the start.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        daemon = Daemon(settings, manifest, host, source)
        return daemon.run()
    except OpsError as error:
        return _refuse(error)


def _refuse(error: OpsError) -> int:
    log.error(" ".join(filter(None, (error.message, error.hint))))
    return error.exit_code if isinstance(error, (StartRefused, DeviceLost)) else 1


class Daemon:
    """One daemon.

    Raises:
        OpsError: it cannot start.
    """

    def __init__(
        self,
        settings: Settings,
        manifest: Manifest,
        host: Host,
        source: Source | None = None,
    ) -> None:
        self._host = host
        self._settings = settings.daemon
        self._metrics = Metrics()
        self._lives = Lives(state_folder())
        self._cause: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._notifier = Notifier()
        self._condition = Condition(self._notifier.status)
        self._code = 0
        self._signals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        engine = make_engine(settings, manifest, host, voices_folder(settings, host))
        self._voices = load_voices(settings, manifest, engine, host, strict=False)
        period = self._notifier.watchdog_period or float(self._settings.watchdog_seconds)
        self._pulse = Pulse()
        canary_seconds = period / CANARIES_PER_PERIOD
        self._primary = self._worker(engine, self._condition, self._pulse, canary_seconds)
        self._fallback = self._make_fallback(engine, host)
        self._watch = Watch(
            self._pulse, self._condition, self._notifier, period, self._primary.abandon
        )
        self._service = Service(
            settings, manifest, self._voices, self._metrics, self._primary, self._fallback
        )
        self._sentinel = self._make_sentinel()
        self._publish()
        self._socket = listen(self._settings.host, self._settings.port)
        gate = Gate(build_app(self._service, host), self._settings, self._service.refused)
        self._reloader = Reloader(
            source,
            settings,
            manifest,
            host,
            self._service,
            self._workers,
            gate,
            lambda: self._settle_batching(self._primary),
        )
        self._server = Server(
            outermost(gate, self._service.refused),
            self._started,
            self._signalled,
            self._settings.client_seconds,
            self._service.refused,
        )

    def _worker(
        self, engine: Engine, condition: Condition, pulse: Pulse, canary_seconds: float
    ) -> Worker:
        def ended(job: Job, outcome: Refusal | Timings) -> None:
            self._service.accounts.ended(engine.name, job, outcome)

        return Worker(
            engine,
            condition,
            pulse,
            queue_limit=self._settings.queue_limit,
            queue_seconds=self._settings.queue_seconds,
            on_batch=self._metrics.batched,
            canary_seconds=canary_seconds,
            observer=ended,
        )

    def _make_fallback(self, engine: Engine, host: Host) -> Worker | None:
        fallback = make_fallback(engine, host)
        if fallback is None:
            return None
        return self._worker(fallback, Condition(), Pulse(), FALLBACK_CANARY_S)

    def _make_sentinel(self) -> Sentinel:
        window = self._settings.leak_window_minutes * 60
        worker = self._primary
        return Sentinel(
            LeakWatch(window, self._settings.leak_mb_per_hour),
            window,
            read=self._memory,
            settled=lambda: worker.condition.warm,
            idle_seconds=lambda: min(one.idle_seconds for one in self._workers),
            gap=self._settings.leak_idle_seconds,
            on_leak=self._leaks,
        )

    def _memory(self) -> MemoryUse:
        return memory_use(self._primary.engine)

    def _publish(self) -> None:
        gauge = self._metrics.gauge
        gauge("ishowtts_resident_bytes", "Memory of the process.", lambda: self._memory().resident)
        gauge(
            "ishowtts_device_bytes",
            "Memory that the engine holds on its device; NaN without one.",
            lambda: float("nan") if (held := self._memory().device) is None else held,
        )
        gauge(
            "ishowtts_leak_suspected",
            "1 when memory has grown for a whole window and a restart is planned.",
            lambda: float(self._sentinel.leak is not None),
        )
        BoxReadings(self._host).publish(gauge)

    @property
    def _workers(self) -> list[Worker]:
        return [worker for worker in (self._primary, self._fallback) if worker]

    # ---- life --------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve; returns the exit code."""
        self._lives.begin()
        self._metrics.restarts(self._lives.ends)
        self._server.run(sockets=[self._socket])
        self._watch.stop()
        self._sentinel.stop()
        patience = 0 if self._signals > 1 else LAST_WORDS_S
        ended = [worker.stop(patience) for worker in self._workers]
        self._service.accounts.close()
        self._lives.end(self._cause)
        if not all(ended):
            # A thread inside a hung driver call cannot be torn down in an orderly way: waiting for
            # it, or freeing what it uses, would hang or crash instead of ending.
            log.warning("the engine's thread does not end; leaving without it")
            sys.stderr.flush()
            os._exit(self._code)
        log.info(journal.line("ended", code=self._code))
        return self._code

    def _started(self) -> None:
        """The socket answers: now the long part."""
        self._loop = asyncio.get_running_loop()
        host, port = self._socket.getsockname()[:2]
        log.info(journal.line("listening", host=host, port=port, pid=os.getpid()))
        if self._fallback:
            self._fallback.start(self._boot_fallback, _fallback_ended)
        self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._watch.start()
        self._sentinel.start()
        self._primary.start(self._boot, self._engine_ended)

    def _boot(self, worker: Worker) -> Voice:
        voice = boot(worker, self._voices)
        self._settle_batching(worker)
        # From here on the watchdog's shorter patience counts; a hang may follow at once.
        self._watch.tick()
        # What is there now stays: the collector need not walk it again and again, which would show
        # as pauses of several milliseconds.
        gc.collect()
        gc.freeze()
        self._notifier.ready(self._condition.snapshot().stage)
        return voice

    def _settle_batching(self, worker: Worker) -> None:
        batch = self._service.settings.daemon.batch
        settle(worker, batch, self._voices.default, cache_folder(self._host))

    def _boot_fallback(self, worker: Worker) -> Voice:
        load(worker)
        worker.condition.warmed_up("ready")
        return self._voices.default

    def _engine_ended(self, error: BaseException) -> None:
        """The engine's thread ended: so does the daemon, and systemd decides what comes next."""
        if isinstance(error, OpsError):
            self._code = _refuse(error)
            self._cause = "device" if isinstance(error, DeviceLost) else "refused"
        else:
            self._code = 1
            self._cause = "bug"
            log.critical("the engine's thread ended", exc_info=error)
        self._condition.ail("thread", "the engine's thread ended")
        self._notifier.status(f"failed: {error}")
        if self._loop:
            self._loop.call_soon_threadsafe(self._leave_soon)

    def _leave_soon(self) -> None:
        self._spawn(self._leave_when_rescued())

    async def _leave_when_rescued(self) -> None:
        """What the fallback took over is spoken to its end, and then the daemon goes."""
        end = time.monotonic() + RESCUE_S
        while time.monotonic() < end and self._fallback and not self._fallback.idle:
            await asyncio.sleep(0.02)
        self._server.leave()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- leaks -------------------------------------------------------------------------------

    def _leaks(self, leak: Leak) -> None:
        """In an idle gap; runs on the sentinel's thread."""
        if not os.environ.get("NOTIFY_SOCKET"):
            log.warning("nobody would start the daemon again, so it is not ended")
            return
        log.warning(journal.line("restarting because of a leak", what=leak.what))
        self._cause = "leak"
        if self._loop:
            self._loop.call_soon_threadsafe(self._begin_drain)

    # ---- reload ------------------------------------------------------------------------------

    def _hung_up(self) -> None:
        self._spawn(self._reload())

    async def _reload(self) -> None:
        self._notifier.reloading()
        try:
            await self._reloader.take_over()
        except OpsError as error:
            self._metrics.reloaded("refused")
            words = " ".join(filter(None, (error.message, error.hint)))
            log.error(journal.line("reload refused, the old configuration stays", why=words))
            status = "reload refused, see the journal; " + self._condition.snapshot().stage
        else:
            self._metrics.reloaded("done")
            log.info(journal.line("reloaded", voices=len(self._service.voices)))
            status = self._condition.snapshot().stage
        self._notifier.ready(status)

    # ---- the end -----------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        """Runs as a signal handler, in the middle of anything."""
        self._signals += 1
        if self._loop is None:
            self._server.leave()
        elif self._signals == 1:
            self._loop.call_soon_threadsafe(self._begin_drain)
        else:
            self._code = 128 + number
            self._loop.call_soon_threadsafe(self._server.leave_at_once)

    def _begin_drain(self) -> None:
        if self._condition.draining:
            return
        seconds = self._service.settings.daemon.drain_seconds
        log.info(journal.line("draining", seconds=seconds, waiting=len(self._primary.queue)))
        self._condition.drain()
        if self._fallback:
            self._fallback.condition.drain()
        self._notifier.stopping(self._condition.snapshot().stage)
        self._notifier.extend(seconds + 5 * LAST_WORDS_S)
        self._spawn(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        workers = self._workers
        # Speech that is made is not yet speech that was sent: a player may read at its own pace.
        while time.monotonic() < end and (
            self._server.answering or not all(worker.idle for worker in workers)
        ):
            await asyncio.sleep(0.02)
        for worker in workers:
            worker.stop(0)
        self._server.leave()


def _fallback_ended(error: BaseException) -> None:
    log.error("the fallback's thread ended", exc_info=error)
