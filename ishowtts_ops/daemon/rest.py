"""What an engine prepares once it is ready and nobody waits."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from ishowtts_ops.daemon.engine import Cancelled, Engine, OutOfMemory, Progress

log = logging.getLogger(__name__)

REST_AFTER_S = 0.5
"""Idle for this long, the engine prepares what its warm-up left out."""

Task = Callable[[Progress], None]
"""Work that gives way: its progress callback raises `Cancelled` as soon as somebody waits, and then
it is called again later."""


class Rest:
    """Tasks for the engine's thread, in order. The last is the engine's own `warm_rest`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: deque[Task] = deque([engine.warm_rest])

    @property
    def due(self) -> bool:
        """Is anything left?"""
        return bool(self._tasks)

    def first(self, task: Task) -> None:
        """Do this before all else."""
        self._tasks.appendleft(task)

    def take(self, progress: Progress) -> None:
        """Do what is left, until somebody comes.

        Raises:
            DeviceLost: nothing will work any more.
        """
        while self._tasks:
            try:
                self._tasks[0](progress)
            except Cancelled:
                return
            except OutOfMemory:
                # What is there works; the lengths that do not fit will be met one by one.
                log.warning("no memory to prepare all lengths of text")
                self._engine.free()
            self._tasks.popleft()
