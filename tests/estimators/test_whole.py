"""All rows in one pass: the bits of the readable form, and the same doubts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from beta_factory.estimators.doubt import doubtful
from beta_factory.estimators.ols import STATISTICS, solve
from beta_factory.estimators.sums import Basis, Shared, error_of, moments_of
from beta_factory.estimators.whole import WholePass

Floats = NDArray[np.float64]
MIN_OBSERVATIONS = 3
ERROR = error_of(60)


def sums_of(
    x: Floats, y: Floats, pivot_x: float, pivots: Floats | None
) -> tuple[Floats, Shared]:
    """Return both sides of windows of all pairs, about some pivots."""
    dx = x - pivot_x
    dy = y if pivots is None else y - pivots
    asset = np.array([dy.sum(axis=0), dx @ dy, (dy * dy).sum(axis=0)])
    return asset, (float(len(x)), float(dx.sum()), float((dx * dx).sum()))


def both_forms(
    x: Floats, y: Floats, pivot_x: float = 0.0, pivots: Floats | None = None
) -> None:
    """Compare the pass with the readable form on windows of these pairs."""
    asset, benchmark = sums_of(x, y, pivot_x, pivots)
    basis = Basis(pivot_x, pivots, is_flat=False, has_tiny=False, error=ERROR)
    n_rows = y.shape[1]
    moments = moments_of(asset.copy(), benchmark, basis)
    expected = np.empty((STATISTICS, n_rows))
    solve(moments, MIN_OBSERVATIONS, expected)
    doubts = doubtful(moments, expected, MIN_OBSERVATIONS, ERROR, tiny=False)
    whole = WholePass(n_rows, MIN_OBSERVATIONS)
    assert whole.takes(benchmark, basis)
    statistics, found = whole.estimate(asset, benchmark, basis)
    assert statistics.tobytes() == expected.tobytes()
    assert found.tolist() == doubts.tolist()


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 60),
    n_rows=st.integers(1, 9),
    scale=st.sampled_from([1e-8, 1e-2, 1.0, 1e4]),
    level=st.sampled_from([0.0, 0.0, 1.0, 1e5]),
    noise=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e6]),
)
def test_any_rows_have_the_bits_and_the_doubts_of_the_readable_form(
    *, seed: int, n: int, n_rows: int, scale: float, level: float, noise: float
) -> None:
    """Lines, noise, unrelated assets, levels far from the pivot."""
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(size=n)
    slopes = rng.choice([0.0, 1e-9, 1.0, -3.0], size=n_rows)
    y = level + np.outer(x, slopes) + scale * noise * rng.normal(size=(n, n_rows))
    both_forms(x, y)
    both_forms(x, y, 0.1 * scale, y.mean(axis=0))


@pytest.mark.parametrize(
    "row", [np.zeros(20), np.ones(20), np.arange(20.0), -np.arange(20.0), None]
)
def test_rows_that_are_no_cloud_are_left_to_the_readable_form(
    row: Floats | None,
) -> None:
    """Constant rows, exact lines, and one whose t statistic is next to zero."""
    x = np.arange(20.0) - 9.5
    rng = np.random.default_rng(3)
    y = x[:, None] + rng.normal(size=(20, 4))
    if row is None:
        away = rng.normal(size=20)
        row = away - x * (away @ x) / (x @ x)
    y[:, 2] = row
    both_forms(x, y)
    both_forms(x, y, 0.0, np.array([0.0, 0.0, float(row.mean()), 0.0]))


def test_a_benchmark_that_stands_still_leaves_everything_undefined() -> None:
    y = np.random.default_rng(4).normal(size=(9, 3))
    both_forms(np.full(9, 0.5), y, 0.5)


@pytest.mark.parametrize(
    ("n", "is_flat", "has_tiny"),
    [(2.0, False, False), (9.0, True, False), (9.0, False, True)],
)
def test_windows_with_rules_of_their_own_are_not_taken(
    n: float,
    is_flat: bool,
    has_tiny: bool,
) -> None:
    basis = Basis(0.0, None, is_flat, has_tiny, ERROR)
    assert not WholePass(3, 2).takes((n, 0.1, 1.0), basis)
