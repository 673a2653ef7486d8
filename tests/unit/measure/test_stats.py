"""Against known values, exhaustive enumeration, and the properties a statistic must have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ishowtts_ops.measure import stats

positive = st.floats(1e-4, 1e4, allow_nan=False)
samples = st.lists(positive, min_size=3, max_size=30)


def by_enumeration(first: list[float], second: list[float]) -> float:
    """Every way to deal the values out, counted: what "exact" means."""
    pool = first + second
    n, m = len(first), len(second)

    def u_of(chosen: tuple[int, ...]) -> int:
        ours = [pool[i] for i in chosen]
        rest = [pool[i] for i in range(n + m) if i not in chosen]
        return sum(x > y for x in ours for y in rest)

    seen = u_of(tuple(range(n)))
    extreme = min(seen, n * m - seen)
    every = [u_of(c) for c in itertools.combinations(range(n + m), n)]
    return min(1.0, 2 * sum(u <= extreme for u in every) / len(every))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (4, 4), (3, 7), (6, 5)])
def test_the_rank_test_is_exact(n: int, m: int) -> None:
    rng = np.random.default_rng(n * 10 + m)
    values = [float(v) for v in rng.permutation(n + m) + 1]
    expected = by_enumeration(values[:n], values[n:])
    assert stats.rank_test(values[:n], values[n:]) == pytest.approx(expected, abs=1e-12)


def test_known_values() -> None:
    assert stats.rank_test([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    same = [0.25] * 10
    assert stats.rank_test(same, same) == 1.0
    far = stats.rank_test(list(range(1, 101)), list(range(101, 201)))
    assert far < 1e-30


def test_ties_agree_with_scipy() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    a, b = np.round(rng.normal(5, 1, 30), 1), np.round(rng.normal(5.4, 1, 22), 1)
    expected = scipy_stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert stats.rank_test(a, b) == pytest.approx(expected, rel=1e-9)


def test_under_no_difference_p_is_uniform() -> None:
    rng = np.random.default_rng(7)
    found = np.array([stats.rank_test(rng.normal(size=12), rng.normal(size=9)) for _ in range(800)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(found <= level) == pytest.approx(level, abs=0.05)


@given(samples, samples)
@settings(max_examples=40, deadline=None)
def test_a_shift_and_its_inverse(first: list[float], second: list[float]) -> None:
    there, back = stats.shift(first, second), stats.shift(second, first)
    assert there.ratio * back.ratio == pytest.approx(1.0, rel=1e-9)
    assert there.p == pytest.approx(back.p, rel=1e-9)
    assert there.low is not None and there.high is not None
    assert there.low <= there.high


@given(samples, st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_scaling_a_sample_scales_the_ratio(first: list[float], factor: float) -> None:
    assert stats.shift(first, [v * factor for v in first]).ratio == pytest.approx(factor, rel=1e-6)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    rounds = 80
    for _ in range(rounds):
        a = np.exp(0.05 * rng.standard_normal(20))
        b = 1.1 * np.exp(0.05 * rng.standard_normal(20))
        found = stats.shift([float(v) for v in a], [float(v) for v in b])
        assert found.low is not None and found.high is not None
        hits += found.low <= 1.1 <= found.high
    assert 0.88 <= hits / rounds <= 0.99


def test_a_summary_has_the_seeds_spread() -> None:
    found = stats.summarize([float(v) for v in np.linspace(0.94, 1.06, 101)])
    assert found.median == pytest.approx(1.0)
    assert found.spread == pytest.approx(0.054)
    assert found.low is not None and found.low < 1.0
    one = stats.summarize([0.2])
    assert (one.low, one.spread) == (None, 0.0)


def test_what_makes_no_sense_is_refused() -> None:
    for bad in (lambda: stats.summarize([]), lambda: stats.shift([1.0], [0.0])):
        with pytest.raises(ValueError, match=r"no samples|positive"):
            bad()


@pytest.mark.parametrize("freedom", [3, 4, 5, 8, 14, 30, 200])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.975])
def test_students_quantiles_agree_with_scipy(share: float, freedom: int) -> None:
    scipy = pytest.importorskip("scipy.stats")
    expected = float(scipy.t.ppf(share, freedom))
    assert stats.student_quantile(share, freedom) == pytest.approx(expected, rel=0.012, abs=1e-9)
