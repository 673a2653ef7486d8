"""Statistics of timings, which are few, skewed and have outliers: medians, ranks, resampling.

Every random draw is seeded: the same samples give the same figures. numpy takes a tenth of a second
to load, which only verbs that measure shall pay; so every function here imports it by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

RESAMPLES = 2000
_SEED = 1
_EXACT_LIMIT = 64
"""Sample sizes up to this get the exact distribution of the rank sum, where no two are equal."""


@dataclass(frozen=True)
class Summary:
    """A sample of a positive quantity.

    Attributes:
        low, high: 95 % bootstrap confidence interval of the median; None below three samples.
        spread: half the distance from the 5th to the 95th percentile, over the median: "± 5.6 %"
            is 0.056.
    """

    count: int
    median: float
    mean: float
    p95: float
    smallest: float
    largest: float
    spread: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Shift:
    """How much slower the second of two samples is than the first.

    Attributes:
        ratio: Hodges–Lehmann estimate of second over first: the median of all pairwise ratios.
        low, high: its 95 % bootstrap confidence interval; None when a side has under three samples.
        p: two-sided p-value of the Mann–Whitney rank test.
    """

    ratio: float
    low: float | None
    high: float | None
    p: float


def summarize(values: Sequence[float]) -> Summary:
    """Raises ValueError for an empty sample."""
    import numpy as np

    data = _array(values)
    if not data.size:
        raise ValueError("there are no samples")
    middle = float(np.median(data))
    p5, p95 = (float(v) for v in np.percentile(data, [5, 95]))
    low, high = _median_interval(data)
    return Summary(
        count=int(data.size),
        median=middle,
        mean=float(data.mean()),
        p95=p95,
        smallest=float(data.min()),
        largest=float(data.max()),
        spread=(p95 - p5) / 2 / middle if middle else 0.0,
        low=low,
        high=high,
    )


def shift(first: Sequence[float], second: Sequence[float]) -> Shift:
    """Compare two samples of positive values.

    Raises:
        ValueError: one is empty or holds a value that is not positive.
    """
    import numpy as np

    a, b = _array(first), _array(second)
    if not a.size or not b.size:
        raise ValueError("there are no samples")
    if a.min() <= 0 or b.min() <= 0:
        raise ValueError("timings must be positive")
    log_a, log_b = np.log(a), np.log(b)
    middle = float(np.exp(_hodges_lehmann(log_a, log_b)))
    low = high = None
    if min(a.size, b.size) >= 3:
        rng = np.random.default_rng(_SEED)
        draws_a = log_a[rng.integers(0, a.size, (RESAMPLES, a.size))]
        draws_b = log_b[rng.integers(0, b.size, (RESAMPLES, b.size))]
        # The median of the differences of a resample is close to the difference of its medians
        # only for large samples, so the estimate itself is resampled, a block at a time.
        estimates = np.concatenate(
            [
                np.median(y[:, None, :] - x[:, :, None], axis=(1, 2))
                for x, y in zip(
                    np.array_split(draws_a, 20), np.array_split(draws_b, 20), strict=True
                )
            ]
        )
        low, high = (float(v) for v in np.exp(np.percentile(estimates, [2.5, 97.5])))
    return Shift(middle, low, high, rank_test(a, b))


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """`Shift.ratio` alone, without the interval, which takes longest."""
    import numpy as np

    return float(np.exp(_hodges_lehmann(np.log(_array(first)), np.log(_array(second)))))


def rank_test(first: Sequence[float] | Values, second: Sequence[float] | Values) -> float:
    """Two-sided p-value of the Mann–Whitney U test: exact for small samples without ties, else the
    normal approximation with corrections for ties and continuity."""
    import numpy as np

    a, b = _array(first), _array(second)
    n, m = a.size, b.size
    if not n or not m:
        raise ValueError("there are no samples")
    ranks, ties = _ranks(np.concatenate([a, b]))
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    if not ties.size and max(n, m) <= _EXACT_LIMIT:
        counts = _rank_sum_counts(n, m)
        smaller = round(min(u, n * m - u))
        return float(min(1.0, 2 * counts[: smaller + 1].sum() / counts.sum()))
    total = n + m
    tied = float((ties**3 - ties).sum()) / (total * (total - 1)) if ties.size else 0.0
    variance = n * m / 12 * (total + 1 - tied)
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def student_quantile(share: float, freedom: float) -> float:
    """The value below which that share of Student's t distribution lies.

    Hill's expansion around the normal quantile: within 1 % from three degrees of freedom on, for
    shares up to 0.975.
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _array(values: Sequence[float] | Values) -> Values:
    import numpy as np

    return np.asarray(values, dtype=np.float64)


def _hodges_lehmann(a: Values, b: Values) -> float:
    import numpy as np

    return float(np.median(b[None, :] - a[:, None]))


def _median_interval(data: Values) -> tuple[float | None, float | None]:
    import numpy as np

    if data.size < 3:
        return None, None
    rng = np.random.default_rng(_SEED)
    medians = np.median(data[rng.integers(0, data.size, (RESAMPLES, data.size))], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def _ranks(values: Values) -> tuple[Values, Values]:
    """Mid-ranks from 1, and the sizes of the groups of equal values."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles = ends - (counts - 1) / 2
    return middles[inverse], counts[counts > 1].astype(np.float64)


@cache
def _rank_sum_counts(n: int, m: int) -> Values:
    """How many of the arrangements of n and m values have U = 0, 1 … n·m: the coefficients of the
    Gaussian binomial."""
    import numpy as np

    counts = np.zeros(n * m + 1)
    counts[0] = 1.0
    for i in range(1, min(n, m) + 1):
        step = max(n, m) + i
        grown = counts.copy()
        grown[step:] -= counts[: counts.size - step] if step < counts.size else 0
        # Division by (1 - q^i): a running sum at stride i.
        for start in range(i):
            grown[start::i] = np.cumsum(grown[start::i])
        counts = grown
    return counts
