"""When the ODE is evaluated: time points in fp32, known before the first step."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise

# Empirically pruned step sampling (EPSS, arXiv 2505.19931): indices on a grid of 32.
_EPSS: dict[int, tuple[int, ...]] = {
    5: (0, 2, 4, 8, 16, 32),
    6: (0, 2, 4, 6, 8, 16, 32),
    7: (0, 2, 4, 6, 8, 16, 24, 32),
    10: (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32),
    12: (0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32),
    16: (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32),
}
EPSS_STEPS = (*sorted(_EPSS), 32)
MAX_STEPS = 128


@dataclass(frozen=True)
class Schedule:
    """`times[i]` is where step i is evaluated, `deltas[i]` how far it goes; both in [0, 1]."""

    times: tuple[float, ...]
    deltas: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.deltas)


def has_table(nfe: int) -> bool:
    """Whether `nfe` steps have a tuned grid (32 is the uniform grid they were pruned from)."""
    return nfe in EPSS_STEPS


def build(nfe: int, sway: float | None, *, warn: bool = True) -> Schedule:
    """The schedule for `nfe` Euler steps with sway coefficient `sway` (None: no sway).

    A count outside the EPSS table works, on a uniform grid, and is warned about: upstream falls
    back to it silently, and 8 steps then sound worse than 7. ValueError outside 1..128.
    """
    if not 1 <= nfe <= MAX_STEPS:
        raise ValueError(f"nfe is {nfe}; it must be between 1 and {MAX_STEPS}")
    if nfe in _EPSS:
        points = [index / 32 for index in _EPSS[nfe]]
    else:
        if warn and not has_table(nfe):
            choices = ", ".join(str(count) for count in EPSS_STEPS)
            warnings.warn(
                f"nfe {nfe} has no tuned time grid and falls back to a uniform one; "
                f"use one of {choices}",
                stacklevel=2,
            )
        points = [index / nfe for index in range(nfe + 1)]
    if sway is not None:
        points = [t + sway * (math.cos(math.pi / 2 * t) - 1 + t) for t in points]
    deltas = tuple(b - a for a, b in pairwise(points))
    return Schedule(tuple(points[:-1]), deltas)
