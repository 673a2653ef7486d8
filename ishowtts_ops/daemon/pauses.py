"""Long pauses made short, as speech flows by.

What `remove_silence` does in F5-TTS's own `infer`, where it is done to the finished file: a pause
of a second or more, below -50 dBFS, keeps half a second on either side, and at the edges of the
speech half a second. Here 10 ms are judged at a time, so that nothing waits for the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from ishowtts_ops.daemon.engine import SAMPLE_RATE, Samples

PAUSE_DBFS = -50.0
FRAME = SAMPLE_RATE // 100
LONG = 100
"""Frames of a pause that is shortened: one second."""
KEPT = 50
"""Frames kept on either side of it."""


def shorten_pauses(pieces: Iterable[Samples]) -> Iterator[Samples]:
    """The same speech with its long pauses shortened; no piece is empty."""
    pauses = _Pauses()
    for piece in pieces:
        if ready := pauses.take(piece):
            yield np.concatenate(ready)
    if ready := pauses.end():
        yield np.concatenate(ready)


class _Pauses:
    def __init__(self) -> None:
        self._rest: Samples = np.zeros(0, dtype=np.float32)
        self._held: deque[Samples] = deque()
        self._quiet = 0
        self._spoken = False

    def take(self, piece: Samples) -> list[Samples]:
        samples = np.concatenate([self._rest, piece])
        whole = len(samples) // FRAME * FRAME
        self._rest = samples[whole:]
        ready: list[Samples] = []
        for frame in samples[:whole].reshape(-1, FRAME):
            if _is_quiet(frame):
                self._quiet_frame(frame, ready)
            else:
                ready += self._before_speech()
                ready.append(frame)
        return ready

    def _quiet_frame(self, frame: Samples, ready: list[Samples]) -> None:
        self._quiet += 1
        if self._spoken and self._quiet <= KEPT:
            ready.append(frame)
            return
        self._held.append(frame)
        if len(self._held) > LONG:
            self._held.popleft()

    def _before_speech(self) -> list[Samples]:
        """What was held back and belongs before the speech that comes now."""
        held = list(self._held)
        if self._quiet >= LONG:
            held = held[-KEPT:]
        self._held.clear()
        self._quiet = 0
        self._spoken = True
        return held

    def end(self) -> list[Samples]:
        if not self._spoken or self._quiet >= LONG:
            return []
        return [*self._held, self._rest] if len(self._rest) or self._held else []


def _is_quiet(frame: Samples) -> bool:
    power = float(np.mean(np.square(frame, dtype=np.float64)))
    # What is no number is for the listener behind this to find.
    return power <= 10 ** (PAUSE_DBFS / 10)
