"""Things that others want done on the engine's thread, between two jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from ishowtts_ops.daemon.engine import DeviceLost

Errand = Callable[[], None]


class Errands:
    """A line of errands, with the way back to whoever waits for each."""

    def __init__(self) -> None:
        self._line: deque[tuple[Errand, Future[None]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._line)

    def add(self, errand: Errand) -> Future[None]:
        """Returns its end: None, or what it raised."""
        future: Future[None] = Future()
        self._line.append((errand, future))
        return future

    def run(self) -> bool:
        """Do the next one, on this thread; False when it was given up or there is none.

        Raises:
            DeviceLost: nothing will work any more.
        """
        if not self._line:
            return False
        errand, future = self._line.popleft()
        if not future.set_running_or_notify_cancel():
            return False
        try:
            errand()
        except DeviceLost as error:
            future.set_exception(error)
            raise
        except Exception as error:  # noqa: BLE001 - who asked for it decides what it means
            future.set_exception(error)
        else:
            future.set_result(None)
        return True

    def give_up(self) -> None:
        """Cancel all that wait."""
        while self._line:
            self._line.popleft()[1].cancel()
