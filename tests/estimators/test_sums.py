"""Sums about a pivot: shared or row by row, about a pivot that fits."""

from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import WindowSlab, cells_of, recalc, slab
from beta_factory.estimators.growing import BACK
from beta_factory.estimators.sums import (
    SIDE,
    Sets,
    Terms,
    absent_in,
    add_pair,
    better_pivot,
    centre,
    centre_one,
    column,
    count_pair,
    error_of,
    is_odd,
    plus,
)
from strategies import FloatArray, examples, seeds

N_ROWS = 4
ERROR = error_of(30)


def bits(*parts: object) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return b"".join(np.asarray(part, dtype=np.float64).tobytes() for part in parts)


def terms_of(x: float, returns: FloatArray, pivots: FloatArray) -> Terms:
    """Return what a bar adds."""
    terms = Terms(N_ROWS)
    terms.of_benchmark(x)
    terms.of_bar(returns, pivots, absent_in(returns))
    return terms


@examples(40)
@given(seeds, st.integers(1, 12))
def test_adding_columns_and_adding_floats_gives_the_same_bits(
    seed: int, n_bars: int
) -> None:
    rng = np.random.default_rng(seed)
    pivots = rng.normal(0, 1, N_ROWS)
    sets, cells = Sets(1, N_ROWS), np.zeros((2, SIDE, N_ROWS))
    flat = cells_of(cells)
    for _ in range(n_bars):
        x, y = float(rng.normal()), rng.normal(0, 1, N_ROWS)
        y[rng.random(N_ROWS) < rng.choice([0.0, 0.3])] = nan
        sets.add(0, 0, terms_of(x, y, pivots))
        for row in np.flatnonzero(~np.isnan(y)).tolist():
            add_pair(flat, row, N_ROWS, x, float(y[row] - pivots[row]))
            count_pair(flat, row + SIDE * N_ROWS, N_ROWS, x)
    assert bits(sets.asset[0]) == bits(cells[0])
    assert bits(np.broadcast_to(sets.benchmark(0), (SIDE, N_ROWS))) == bits(cells[1])
    ours = centre(sets.asset[0], sets.benchmark(0), 0.5, pivots)
    for row in range(N_ROWS):
        one = centre_one(
            cells[0, :, row].tolist(),
            cells[1, :, row].tolist(),
            0.5,
            float(pivots[row]),
        )
        assert bits(*(np.broadcast_to(p, N_ROWS)[row] for p in ours)) == bits(one)


@examples(27)
@given(seeds, st.tuples(st.booleans(), st.booleans()))
def test_a_split_set_is_worth_what_the_shared_one_is(
    seed: int, splits: tuple[bool, bool]
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (5, N_ROWS + 1))
    shared, split = Sets(2, N_ROWS), Sets(2, N_ROWS)
    for at in (0, 1):
        if splits[at]:
            split.split(at)
        for row in values[at : at + 4]:
            terms = terms_of(float(row[-1]), row[:-1], np.zeros(N_ROWS))
            for sets in (shared, split):
                sets.add(at, at, terms)
    for sets in (shared, split):
        sets.merge(0, sets, 1)
    assert not any(shared.is_own)
    assert split.is_own[0] == any(splits)
    assert split.shared == shared.shared
    wide = np.broadcast_to(shared.benchmark(0), (SIDE, N_ROWS))
    assert bits(np.broadcast_to(split.benchmark(0), wide.shape)) == bits(wide)
    rows = np.array([2, 0])
    some = np.broadcast_to(split.benchmark_of(0, rows), (SIDE, 2))
    assert bits(some) == bits(wide[:, rows])
    assert bits(column(plus(shared.shared[0], (0.0, 0.0, 0.0)))) == bits(wide[:, :1])


class TestPivots:
    """When one is odd, and what a better one is."""

    @pytest.mark.parametrize("level", [0.1, -3e-5, 1e8, 1e150])
    def test_equal_values_are_their_own_pivot_exactly(self, level: float) -> None:
        values = np.full((390, 2), level)
        values[::3, 1] = nan
        assert better_pivot(values, ERROR).tolist() == [level, level]

    def test_returns_and_nothing_at_all_keep_the_pivot_zero(self) -> None:
        values = np.random.default_rng(1).normal(1e-4, 1e-2, (60, 2))
        values[:, 1] = nan
        assert better_pivot(values, ERROR).tolist() == [0.0, 0.0]

    def test_a_mean_so_small_that_deviations_may_underflow_is_no_pivot(self) -> None:
        assert better_pivot(np.full((9, 1), 1e-150), ERROR).tolist() == [0.0]

    @pytest.mark.parametrize(
        ("mean", "pivot", "expected"),
        [(0.0, 0.0, False), (1e8, 0.0, True), (1e8, 1e8, False), (0.0, 1e-3, True)],
        ids=["returns", "levels", "levels about a level", "returns about a level"],
    )
    def test_a_pivot_is_odd_far_from_the_mean_or_when_zero_would_do(
        self, mean: float, pivot: float, expected: bool
    ) -> None:
        away = np.random.default_rng(2).normal(mean, 1e-2, (60, 1)) - pivot
        n, total, squares = np.array([60.0]), away.sum(axis=0), (away**2).sum(axis=0)
        odd = is_odd(n, total, squares, np.array([pivot]), ERROR)
        assert odd.tolist() == [expected]


def levels(n_bars: int, n_rows: int) -> tuple[FloatArray, FloatArray]:
    """Return prices that wander around 1e6."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, n_bars)
    return 1e6 + x, 1e6 + x[:, None] + rng.normal(0, 1, (n_bars, n_rows))


def recalculated(
    window: WindowSlab, x: FloatArray, y: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Feed bars; return how many rows each bar's estimate recalculates."""
    counts: list[int] = []

    def count(x: FloatArray, y: FloatArray, min_observations: int) -> FloatArray:
        counts[-1] += y.shape[1]
        return recalc.recalculate(x, y, min_observations)

    monkeypatch.setattr(slab, "recalculate", count)
    for value, returns in zip(x, y, strict=True):
        counts.append(0)
        window.advance(window.newest + 1, float(value))
        window.fill(returns)
        window.estimate()
    return counts


def test_levels_are_recalculated_until_the_pivot_moves_and_not_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = WindowSlab(3, 60, 5)
    x, y = levels(200, 3)
    counts = recalculated(window, x, 1e2 * (y - x[:, None]) + 1e6, monkeypatch)
    segment = -(-60 // window.extent.n_segments)
    assert max(counts[5:segment]) == 3
    assert sum(counts[segment + 1 :]) < 0.1 * 3 * 140
    assert window.basis.pivot_x == pytest.approx(1e6, abs=10)
    assert window.basis.pivots == pytest.approx(np.full(3, 1e6), abs=1e3)


def test_a_pivot_does_not_outlive_what_it_was_taken_for() -> None:
    window = WindowSlab(3, 60, 5)
    x, y = levels(100, 3)
    rng = np.random.default_rng(6)
    x = np.append(x, rng.normal(0, 1e-2, 130))
    y = np.append(y, rng.normal(0, 1e-2, (130, 3)), axis=0)
    for value, returns in zip(x, y, strict=True):
        window.advance(window.newest + 1, float(value))
        window.fill(returns)
    assert window.basis.pivot_x == 0.0
    assert window.basis.pivots is None


def test_rows_share_the_benchmark_side_again_when_the_gap_has_passed() -> None:
    rng = np.random.default_rng(7)
    window = WindowSlab(3, 30, 5)
    for bar in range(100):
        returns = rng.normal(0, 1e-2, 3)
        if bar == 40:
            returns[1] = nan
        window.advance(bar, float(rng.normal(0, 1e-2)))
        window.fill(returns)
        _, benchmark = window.sums()
        is_shared = not isinstance(benchmark, np.ndarray)
        assert is_shared == (not 40 <= bar < 70)
    assert not vars(window)["_growing"].is_own[BACK]
