"""What an engine makes is listened to before it is sent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ishowtts_ops.daemon.engine import Cancelled, Samples
from ishowtts_ops.daemon.failures import BadAudio
from ishowtts_ops.daemon.listen import audible


def level(value: float) -> Samples:
    return np.full(100, value, dtype=np.float32)


def test_leading_silence_waits_for_the_first_sound_and_is_not_lost() -> None:
    made: list[float] = []

    def pieces() -> Iterator[Samples]:
        for value in (0, 1e-5, 0.5, 0):
            made.append(value)
            yield level(value)

    heard = audible(pieces(), lambda: False)
    first = next(heard)
    assert made == [0, 1e-5, 0.5]
    assert [first[0], *(piece[0] for piece in heard)] == pytest.approx([0, 1e-5, 0.5, 0])


@pytest.mark.parametrize("values", [[], [0], [0, 5e-5, -5e-5]])
def test_nothing_but_silence_is_an_error(values: list[float]) -> None:
    with pytest.raises(BadAudio, match="silence"):
        list(audible((level(value) for value in values), lambda: False))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_never_passes(bad: float) -> None:
    heard = audible(iter([level(0.5), level(bad)]), lambda: False)
    assert next(heard)[0] == 0.5
    with pytest.raises(BadAudio, match="not a number"):
        next(heard)


def test_nobody_listens_any_more() -> None:
    with pytest.raises(Cancelled):
        list(audible(iter([level(0.5)]), lambda: True))
