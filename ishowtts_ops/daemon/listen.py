"""Listens to what an engine makes before anybody else does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ishowtts_ops.daemon.audio import SILENCE_PEAK, peak
from ishowtts_ops.daemon.engine import Cancel, Cancelled, Samples
from ishowtts_ops.daemon.failures import BadAudio

AGAIN = "Try again, or with other words or another seed."


def audible(pieces: Iterable[Samples], cancelled: Cancel) -> Iterator[Samples]:
    """The engine's audio, once it is known not to be silence: leading silence is held back, so that
    speech that never comes is an error and not an empty answer.

    Raises:
        BadAudio: NaN, infinite, or nothing but silence.
        Cancelled: nobody wants it any more.
    """
    held: list[Samples] = []
    loud = False
    for samples in pieces:
        if cancelled():
            raise Cancelled
        loudest = peak(samples)
        if not np.isfinite(loudest):
            raise BadAudio("The engine made audio that is not a number.", AGAIN, retry_after=1)
        loud = loud or loudest > SILENCE_PEAK
        held.append(samples)
        if loud:
            yield from held
            held.clear()
    if not loud:
        raise BadAudio("The engine made nothing but silence.", AGAIN, retry_after=1)
