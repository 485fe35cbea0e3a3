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
Rows = NDArray[np.intp]
MIN_OBSERVATIONS = 3
ERROR = error_of(60)
LEAST_R = ERROR / 0.5e-11
"""Where half the tolerance of a t statistic is its error bound."""


def sums_of(
    x: Floats, y: Floats, pivot_x: float, pivots: Floats | None
) -> tuple[Floats, Floats]:
    """Return both sides of windows of all pairs about some pivots, row by row."""
    there = ~np.isnan(y)
    dx = np.where(there, (x - pivot_x)[:, None], 0.0)
    dy = np.where(there, y if pivots is None else y - pivots, 0.0)
    asset = np.array([dy.sum(axis=0), (dx * dy).sum(axis=0), (dy * dy).sum(axis=0)])
    side = np.array([there.sum(axis=0), dx.sum(axis=0), (dx * dx).sum(axis=0)])
    return asset, side


def readable(
    asset: Floats, benchmark: Floats | Shared, basis: Basis
) -> tuple[Floats, Rows]:
    """Return the statistics and doubts that the readable form finds."""
    moments = moments_of(asset.copy(), benchmark, basis)
    statistics = np.empty((STATISTICS, asset.shape[1]))
    solve(moments, MIN_OBSERVATIONS, statistics)
    return statistics, doubtful(
        moments, statistics, MIN_OBSERVATIONS, basis.error, tiny=False
    )


def both_forms(
    x: Floats, y: Floats, pivot_x: float = 0.0, pivots: Floats | None = None
) -> int:
    """Compare the pass with the readable form; return how many rows are doubtful."""
    asset, own = sums_of(x, y, pivot_x, pivots)
    basis = Basis(pivot_x, pivots, is_flat=False, has_tiny=False, error=ERROR)
    whole = WholePass(y.shape[1], MIN_OBSERVATIONS)
    n_doubtful = 0
    sides: list[Floats | Shared] = [own]
    if not np.isnan(y).any():
        n, sum_x, xx = own[:, 0].tolist()
        sides.append((n, sum_x, xx))
    for side in sides:
        statistics, doubts = readable(asset, side, basis)
        n_doubtful = max(n_doubtful, len(doubts))
        for _ in range(2):  # what the first leaves behind, the second must not find
            assert whole.takes(side, basis)
            given = side.copy() if isinstance(side, np.ndarray) else side
            ours, found = whole.estimate(asset.copy(), given, basis)
            assert ours.tobytes() == statistics.tobytes()
            assert found.tolist() == doubts.tolist()
            assert np.array_equal(given[0], side[0])
    return n_doubtful


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 60),
    n_rows=st.integers(1, 9),
    scale=st.sampled_from([1e-60, 1e-8, 1e-2, 1.0, 1e4, 1e100]),
    level=st.sampled_from([0.0, 0.0, 1.0, 1e5]),
    noise=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e6]),
    missing=st.sampled_from([0.0, 0.1, 0.9]),
)
def test_any_rows_have_the_bits_and_the_doubts_of_the_readable_form(
    *,
    seed: int,
    n: int,
    n_rows: int,
    scale: float,
    level: float,
    noise: float,
    missing: float,
) -> None:
    """Lines, noise, unrelated assets, levels far from the pivot."""
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(size=n)
    slopes = rng.choice([0.0, 1e-9, 1.0, -3.0], size=n_rows)
    y = level + np.outer(x, slopes) + scale * noise * rng.normal(size=(n, n_rows))
    pivots = y.mean(axis=0)
    y[rng.random(y.shape) < missing] = np.nan
    both_forms(x, y)
    both_forms(x, y, 0.1 * scale, pivots)


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
    y[3, [0, 2]] = np.nan
    both_forms(x, y)


@pytest.mark.parametrize("r", [1e-5, 1e-3, 1.4e-3, 1.5e-3, 1.7e-3, 2e-3, 1e-2])
def test_rows_that_hardly_follow_are_looked_at_by_themselves(r: float) -> None:
    """From those that doubles cannot answer to those that they can."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=300)
    x -= x.mean()
    y = x[:, None] + rng.normal(size=(300, 8))
    away = rng.normal(size=300)
    away -= away.mean() + x * (away @ x) / (x @ x)
    y[:, 5] = away / np.linalg.norm(away) + r * x / np.linalg.norm(x)
    gappy = y.copy()
    gappy[7, [2, 5]] = np.nan
    assert both_forms(x, y) == (r < LEAST_R)
    both_forms(x, gappy)


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
