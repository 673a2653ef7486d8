"""Runs the daemon: listen, load, warm up, tell systemd, serve, drain.

Exit codes: 0 after a drain, 128+N when a second signal N cut it short, 78 (EX_CONFIG) when starting
again cannot help (the unit's RestartPreventExitStatus=78), 1 for everything that it may mend.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.boot import boot, load
from ishowtts_ops.daemon.engine import Engine, StartRefused, Timings, Voice
from ishowtts_ops.daemon.engines import make_engine, make_fallback
from ishowtts_ops.daemon.failures import Refusal
from ishowtts_ops.daemon.http import build_app
from ishowtts_ops.daemon.job import Job
from ishowtts_ops.daemon.metrics import Metrics
from ishowtts_ops.daemon.notify import Notifier, Watch
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.voices import load_voices
from ishowtts_ops.daemon.worker import Worker
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

log = logging.getLogger(__name__)

CANARIES_PER_PERIOD = 3
"""Canaries of an idle engine per watchdog period: one may be late without harm."""
FALLBACK_CANARY_S = 300.0
"""No watchdog waits for the fallback's canaries."""
LAST_WORDS_S = 1
"""For answers that are on their way out when the daemon ends, and for the engine's thread."""


def run(settings: Settings, manifest: Manifest, host: Host) -> int:
    """Serve until told to stop; returns the exit code (see the module)."""
    journal.setup()
    faulthandler.enable()
    try:
        daemon = Daemon(settings, manifest, host)
        return daemon.run()
    except OpsError as error:
        return _refuse(error)


def _refuse(error: OpsError) -> int:
    log.error(" ".join(filter(None, (error.message, error.hint))))
    return error.exit_code if isinstance(error, StartRefused) else 1


class Daemon:
    """One daemon.

    Raises:
        OpsError: it cannot start.
    """

    def __init__(self, settings: Settings, manifest: Manifest, host: Host) -> None:
        self._settings = settings.daemon
        self._notifier = Notifier()
        self._condition = Condition(self._notifier.status)
        self._code = 0
        self._signals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        engine = make_engine(settings, manifest, host)
        self._voices = load_voices(settings, manifest, engine, host)
        period = self._notifier.watchdog_period or float(self._settings.watchdog_seconds)
        self._pulse = Pulse()
        canary_seconds = period / CANARIES_PER_PERIOD
        self._primary = self._worker(engine, self._condition, self._pulse, canary_seconds)
        self._fallback = self._make_fallback(engine, host)
        self._watch = Watch(
            self._pulse, self._condition, self._notifier, period, self._primary.abandon
        )
        self._service = Service(
            settings, manifest, self._voices, Metrics(), self._primary, self._fallback
        )
        self._socket = _listen(self._settings.host, self._settings.port)
        config = uvicorn.Config(
            build_app(self._service),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=LAST_WORDS_S,
        )
        self._server = _Server(config, self._started, self._signalled)

    def _worker(
        self, engine: Engine, condition: Condition, pulse: Pulse, canary_seconds: float
    ) -> Worker:
        def ended(job: Job, outcome: Refusal | Timings) -> None:
            self._service.ended(worker, job, outcome)

        worker = Worker(
            engine,
            condition,
            pulse,
            queue_limit=self._settings.queue_limit,
            canary_seconds=canary_seconds,
            observer=ended,
        )
        return worker

    def _make_fallback(self, engine: Engine, host: Host) -> Worker | None:
        fallback = make_fallback(engine, host)
        if fallback is None:
            return None
        return self._worker(fallback, Condition(), Pulse(), FALLBACK_CANARY_S)

    # ---- life --------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve; returns the exit code."""
        self._server.run(sockets=[self._socket])
        self._watch.stop()
        workers = [worker for worker in (self._primary, self._fallback) if worker]
        patience = 0 if self._signals > 1 else LAST_WORDS_S
        ended = [worker.stop(patience) for worker in workers]
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
        self._watch.start()
        self._primary.start(self._boot, self._engine_ended)

    def _boot(self, worker: Worker) -> Voice:
        voice = boot(worker, self._voices)
        # From here on the watchdog's shorter patience counts; a hang may follow at once.
        self._watch.tick()
        self._notifier.ready(self._condition.snapshot().stage)
        return voice

    def _boot_fallback(self, worker: Worker) -> Voice:
        load(worker)
        worker.condition.warmed_up("ready")
        return self._voices.default

    def _engine_ended(self, error: BaseException) -> None:
        """The engine's thread ended: so does the daemon, and systemd decides what comes next."""
        if isinstance(error, OpsError):
            self._code = _refuse(error)
        else:
            self._code = 1
            log.critical("the engine's thread ended", exc_info=error)
        self._condition.ail("thread", "the engine's thread ended")
        self._notifier.status(f"failed: {error}")
        if self._loop:
            self._loop.call_soon_threadsafe(self._server.leave)

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
        seconds = self._settings.drain_seconds
        log.info(journal.line("draining", seconds=seconds, waiting=len(self._primary.queue)))
        self._condition.drain()
        if self._fallback:
            self._fallback.condition.drain()
        self._notifier.stopping(self._condition.snapshot().stage)
        self._notifier.extend(seconds + 5 * LAST_WORDS_S)
        self._draining = asyncio.get_running_loop().create_task(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        workers = [worker for worker in (self._primary, self._fallback) if worker]
        # Speech that is made is not yet speech that was sent: a player may read at its own pace.
        while time.monotonic() < end and (
            self._server.server_state.tasks or not all(worker.idle for worker in workers)
        ):
            await asyncio.sleep(0.02)
        for worker in workers:
            worker.stop(0)
        self._server.leave()


class _Server(uvicorn.Server):
    """uvicorn, with our own idea of signals."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_started: Callable[[], None],
        on_signal: Callable[[int], None],
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._on_signal = on_signal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_signal(sig)

    def leave(self) -> None:
        """End when the answers under way are out."""
        self.should_exit = True

    def leave_at_once(self) -> None:
        self.force_exit = True
        self.should_exit = True


def _fallback_ended(error: BaseException) -> None:
    log.error("the fallback's thread ended", exc_info=error)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise OpsError(
            f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}.",
            f"`ss -ltnp sport = :{port}` shows who does; daemon.port chooses another port.",
        ) from None
