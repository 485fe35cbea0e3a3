"""The recalc lane finds what doubles cannot answer, and answers it."""

from dataclasses import replace
from math import nan

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looks import ORDER

from beta_factory.estimators import LARGEST, WindowSlab, doubt, recalc, slab
from beta_factory.estimators.ols import (
    ALL_STATISTICS,
    BETA,
    STATISTICS,
    Moments,
    solve,
    solve_one,
)
from beta_factory.estimators.sums import better_pivot, centre, error_of
from exact import as_series, assert_matches_exact, exact_ols, exact_rolling_panel
from nasty import NASTY, VOLATILITY
from strategies import FloatArray, examples, seeds

ERROR = error_of(30)


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


def assert_exact(x: FloatArray, y: FloatArray, min_observations: int = 2) -> None:
    """Compare `recalculate` with integers, row by row."""
    ours = recalc.recalculate(x, y, min_observations)
    benchmarks = np.broadcast_to(x[:, None] if x.ndim == 1 else x, y.shape)
    for benchmark, asset, numbers in zip(benchmarks.T, y.T, ours.T, strict=True):
        exact = as_series([exact_ols(benchmark, asset, min_observations)])
        found = {name: numbers[[i]] for i, name in enumerate(ORDER)}
        assert_matches_exact(replace(exact, **found), exact)


values = st.one_of(
    st.sampled_from([0.0, nan, 1e-4, -1e-4, 1e8, -1e8, 1e-150, -1e-150, 1e150]),
    st.floats(-1e-2, 1e-2).filter(lambda v: not 0 < abs(v) < 1e-150),
    st.floats(-1e12, 1e12).filter(lambda v: not 0 < abs(v) < 1e-150),
)


@examples(53)
@given(
    st.integers(1, 6).flatmap(
        lambda k: st.lists(
            st.lists(values, min_size=2 * k, max_size=2 * k), min_size=1, max_size=9
        )
    ),
    st.integers(2, 4),
)
def test_any_pairs_have_exact_statistics(
    table: list[list[float]], min_observations: int
) -> None:
    pairs = np.array(table)
    assert_exact(pairs[:, ::2], pairs[:, 1::2], min_observations)


@pytest.mark.parametrize("n", [3, 30, 390, 5_000])
@pytest.mark.parametrize("name", NASTY)
def test_nasty_windows_have_exact_statistics(name: str, n: int) -> None:
    x, y = NASTY[name](max(n, 400))
    inside = np.abs(y) <= LARGEST
    assert_exact(np.where(np.isfinite(x), x, nan)[-n:], np.where(inside, y, nan)[-n:])


def test_a_covariance_of_zero_is_exactly_zero() -> None:
    x = np.array([0.1, -0.1, 0.1, -0.1, 0.3])
    y = np.array([0.7, 0.7, -0.7, -0.7, 0.0])[:, None]
    x[-1] = 0.0
    statistics = recalc.recalculate(x, y, 3)[:, 0]
    assert statistics[[0, 3, 4, 7]].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_what_is_left_between_levels_of_1e100_is_found() -> None:
    x = np.array([1e100, 2e100, 3e100, 5e100])
    y = 2 * x
    assert_exact(x, y[:, None])


@examples(40)
@given(seeds, st.integers(1, 40), st.integers(1, 7))
def test_rows_have_the_same_bits_alone_and_together(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, n) * 10.0 ** rng.integers(-5, 5, n)
    y = rng.normal(0, 1, (n, k)) * 10.0 ** rng.integers(-5, 5, (n, k))
    y[rng.random((n, k)) < 0.2] = nan
    together = recalc.recalculate(x, y, 2)
    assert together.shape == (ALL_STATISTICS, k)
    for row in range(k):
        alone = recalc.recalculate(x, y[:, [row]], 2)
        assert bits(alone[:, 0]) == bits(together[:, row])
        wide = recalc.recalculate(x[:, None], y[:, [row]], 2)
        assert bits(wide[:, 0]) == bits(together[:, row])


def test_windows_beyond_a_block_are_summed_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recalc, "_BLOCK", 16)
    rng = np.random.default_rng(3)
    x, y = rng.normal(1e8, 1, 100), rng.normal(1e8, 1, (100, 3))
    y[rng.random((100, 3)) < 0.3] = nan
    assert_exact(x, y)


def test_no_bars_have_no_statistics() -> None:
    assert np.isnan(recalc.recalculate(np.empty(0), np.empty((0, 3)), 2)).all()


# --- the guard --------------------------------------------------------------


def solved(x: FloatArray, y: FloatArray) -> tuple[Moments, FloatArray]:
    """Return the moments of y's columns, about good pivots, and their statistics."""
    pivot_x, pivots = float(better_pivot(x[:, None], ERROR)[0]), better_pivot(y, ERROR)
    there = ~np.isnan(y)
    dx, dy = (x - pivot_x)[:, None] * there, np.where(there, y - pivots, 0.0)
    asset = np.stack([dy.sum(axis=0), (dx * dy).sum(axis=0), (dy * dy).sum(axis=0)])
    counts = there.sum(axis=0).astype(float)
    benchmark = np.stack([counts, dx.sum(axis=0), (dx * dx).sum(axis=0)])
    moments = centre(asset, benchmark, pivot_x, pivots)
    out = np.empty((STATISTICS, y.shape[1]))
    solve(moments, 2, out)
    return moments, out


scales = st.sampled_from([0.0, 1e-160, 1e-145, 1e-12, 1e-3, 1.0, 50.0, 1e4, 1e8, 1e150])


@examples(200)
@given(seeds, st.integers(1, 9), st.tuples(scales, scales, scales, scales))
def test_scalars_and_arrays_doubt_the_same_rows(
    seed: int, n: int, sizes: tuple[float, float, float, float]
) -> None:
    rng = np.random.default_rng(seed)
    sd_x, sd_y, level_x, level_y = sizes
    tiny = bool(rng.integers(2))
    x = (level_x + sd_x * rng.normal(0, 1, n)).clip(-1e150, 1e150)
    y = (level_y + sd_y * rng.normal(0, 1, (n, 6))).clip(-1e150, 1e150)
    moments, statistics = solved(x, y)
    rows = doubt.doubtful(moments, statistics, 2, ERROR, tiny=tiny).tolist()
    for row in range(6):
        numbers = tuple(np.broadcast_to(part, 6).item(row) for part in moments)
        assert len(numbers) == 8
        found = doubt.is_doubtful(numbers, solve_one(numbers, 2), 2, ERROR, tiny=tiny)
        assert found == (row in rows)


class TestDoubt:
    """What is doubtful, and what is not."""

    def rows(self, x: FloatArray, y: FloatArray, *, tiny: bool = False) -> list[int]:
        rows = doubt.doubtful(*solved(x, y), 2, ERROR, tiny=tiny)
        return [int(row) for row in rows]

    def noise(self, n: int = 60) -> tuple[FloatArray, FloatArray]:
        rng = np.random.default_rng(11)
        x = rng.normal(0, VOLATILITY, n)
        return x, 0.8 * x[:, None] + rng.normal(0, VOLATILITY, (n, 3))

    def test_returns_are_not(self) -> None:
        assert self.rows(*self.noise()) == []

    @pytest.mark.parametrize("tiny", [True, False])
    def test_standing_still_is_not_unless_values_are_tiny(self, tiny: bool) -> None:
        x, y = self.noise()
        assert self.rows(np.full(60, 0.1), y, tiny=tiny) == []
        y[:, 1] = 0.0
        assert self.rows(x, y, tiny=tiny) == [1] * tiny
        assert self.rows(np.zeros(60), y, tiny=tiny) == [0, 1, 2] * tiny

    def test_a_print_that_the_benchmark_did_not_follow_is(self) -> None:
        x, y = self.noise()
        x[30] = (x.sum() - x[30]) / 59  # where the print has no weight in beta
        y[30, 2] = 99.0
        assert self.rows(x, y) == [2]

    def test_a_small_alpha_between_large_levels_is(self) -> None:
        x, y = self.noise()
        assert self.rows(x + 1e6, x[:, None] + 1e-6 * y + 1e6) == [0, 1, 2]

    def test_a_t_stat_next_to_zero_is(self) -> None:
        x, y = self.noise()
        still, plain = x - x.mean(), y[:, 0] - y[:, 0].mean()
        y[:, 0] = plain - still * (still @ plain) / (still @ still)
        assert self.rows(x, y) == [0]

    def test_squares_that_underflow_are(self) -> None:
        x, y = self.noise()
        assert self.rows(x * 1e-147, y) == [0, 1, 2]
        assert self.rows(x, y * 1e-160, tiny=True) == [0, 1, 2]

    def test_tiny_values_are_seen_beside_zeros_and_gaps(self) -> None:
        assert not doubt.has_tiny(np.array([0.0, nan, 1.0, -0.0]))
        assert doubt.has_tiny(np.array([0.0, nan, -1e-150]))


# --- in the windows ---------------------------------------------------------


def recalculated_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of rows of each recalculation."""
    calls: list[int] = []
    recalculate = recalc.recalculate

    def count(x: FloatArray, y: FloatArray, min_observations: int) -> FloatArray:
        calls.append(y.shape[1])
        return recalculate(x, y, min_observations)

    monkeypatch.setattr(slab, "recalculate", count)
    return calls


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_flat_benchmark_recalculates_nothing(
    level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recalculated_rows(monkeypatch)
    y = np.random.default_rng(1).normal(0, 1, (90, 4))
    y[:, 3] = 0.0
    window = WindowSlab(4, 30, 3)
    for bar in range(90):
        window.advance(bar, level)
        window.fill(y[bar])
        window.estimate()
        window.estimate_one(3)
    assert not calls


def test_only_the_doubtful_rows_are_recalculated_and_only_while_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = recalculated_rows(monkeypatch)
    rng = np.random.default_rng(2)
    x = rng.normal(0, VOLATILITY, 200)
    y = x[:, None] + rng.normal(0, VOLATILITY, (200, 5))
    x[40:80] = rng.permutation(np.repeat([VOLATILITY, -VOLATILITY], 20))
    x[50], y[50, 2] = 0.0, 99.0
    window = WindowSlab(5, 30, 10)
    seen: list[int] = []
    for bar in range(200):
        window.advance(bar, float(x[bar]))
        window.fill(y[bar])
        before = len(calls)
        window.estimate()
        seen.append(sum(calls[before:]))
    assert max(seen[50:80]) == 1
    assert sum(seen[50:80]) >= 1
    assert not any(seen[:50] + seen[80:])


@examples(12)
@given(seeds, st.sampled_from([1e-165, 1e-150, 1e-3, 1e3, 1e8]))
def test_one_row_has_the_bits_of_the_whole_when_it_is_recalculated(
    seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 0.0, 1.0], 40) * scale
    y = rng.choice([-2.0, 0.0, 2.0], (40, 4)) * scale
    y[rng.integers(40), 1] = 1e8
    window = WindowSlab(4, 8, 2)
    for bar in range(40):
        window.advance(bar, float(x[bar]))
        window.fill(y[bar])
        _, statistics = (part.copy() for part in window.estimate())
        some = window.estimate(np.array([3, 1]))[1]
        assert bits(some) == bits(statistics[:, [3, 1]])
        for row in range(4):
            assert bits(window.estimate_one(row)[1]) == bits(statistics[:, row])


def test_a_slope_beyond_a_double_is_infinite() -> None:
    x = np.array([0.0, 5e-324, 0.0, 1e-323])
    y = np.array([[0.0], [1e10], [0.0], [2e10]])
    assert recalc.recalculate(x, y, 3)[BETA, 0] == np.inf


@examples(17)
@given(seeds)
def test_variances_that_underflow_are_told_from_none_at_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([0.0, 1e-150, -1e-150, 1e-100], 60, p=[0.6, 0.15, 0.15, 0.1])
    y = rng.choice([0.0, 1e-150, -1e-150], (60, 3), p=[0.7, 0.15, 0.15])
    exact = exact_rolling_panel(x, y, 5, 2)
    window = WindowSlab(3, 5, 2)
    for bar in range(60):
        window.advance(bar, float(x[bar]))
        window.fill(y[bar])
        n, statistics = window.estimate(full=True)
        assert n.tolist() == exact.n_obs[bar].tolist()
        for name, ours in zip(ORDER, statistics, strict=True):
            true = getattr(exact, name)[bar]
            assert np.isnan(ours).tolist() == np.isnan(true).tolist(), name
