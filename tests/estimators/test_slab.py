"""The slab's window is the last W bars and nothing else, at an even cost per bar."""

from collections.abc import Callable, Sequence
from math import inf, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import WindowSlab, slab, slab_sets, sums
from beta_factory.estimators.ols import ALPHA, BETA, R_SQUARED, STATISTICS, STD_ERROR
from strategies import FloatArray, examples, seeds

LOOKBACK_LENGTHS = (*range(2, 41), 97, 390)
MIN_OBSERVATIONS = 3


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


def state(window: WindowSlab) -> bytes:
    """Return everything a slab publishes, bit by bit."""
    moments = np.broadcast_arrays(*window.moments())
    n, statistics = window.estimate()
    return bits(moments) + bits(n) + bits(statistics)


def feed(window: WindowSlab, x: Sequence[float] | FloatArray, y: FloatArray) -> None:
    """Feed whole bars."""
    for value, returns in zip(x, y, strict=True):
        window.advance(window.newest + 1, float(value))
        window.fill(returns)


def noise(
    n_bars: int, n_rows: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    x = rng.normal(0, 1e-3, n_bars)
    return x, rng.normal(0, 1e-3, (n_bars, n_rows)) + 0.8 * x[:, None]


def with_gaps(
    n_bars: int, n_rows: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return noise with every kind of hole in it."""
    x, y = noise(n_bars, n_rows, rng)
    y[rng.random(y.shape) < rng.choice([0.05, 0.3, 0.8])] = nan
    y[rng.random(n_bars) < 0.1] = nan  # bars without any return
    x[rng.random(n_bars) < 0.1] = nan  # bars that the benchmark missed
    y[: n_bars // 2, 0] = nan  # a row that starts late
    y[n_bars // 2 :, 1] = nan  # a row that ends early
    return x, y


def from_scratch(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (n, beta) of each row over whole arrays, by the definition."""
    complete = ~np.isnan(y) & ~np.isnan(x)[:, None]
    n = complete.sum(axis=0)
    count = np.maximum(n, 1)
    xs = np.where(complete, x[:, None], 0.0)
    ys = np.where(complete, y, 0.0)
    dx = np.where(complete, xs - xs.sum(axis=0) / count, 0.0)
    dy = np.where(complete, ys - ys.sum(axis=0) / count, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        beta = (dx * dy).sum(axis=0) / (dx * dx).sum(axis=0)
    return n.astype(float), np.where(n >= MIN_OBSERVATIONS, beta, nan)


@pytest.mark.parametrize("lookback_length", LOOKBACK_LENGTHS)
def test_every_window_is_that_of_exactly_the_last_bars(lookback_length: int) -> None:
    rng = np.random.default_rng(lookback_length)
    x, y = with_gaps(3 * lookback_length + 7, 4, rng)
    window = WindowSlab(4, lookback_length, MIN_OBSERVATIONS)
    for bar in range(len(x)):
        window.advance(1000 + bar, float(x[bar]))
        window.fill(y[bar])
        oldest = max(0, bar + 1 - lookback_length)
        n, beta = from_scratch(x[oldest : bar + 1], y[oldest : bar + 1])
        counts, statistics = window.estimate()
        assert counts.tolist() == n.tolist()
        assert statistics[BETA] == pytest.approx(
            beta, rel=1e-12, abs=1e-12, nan_ok=True
        )
        assert (window.newest, window.oldest) == (bar, oldest)
        assert window.window_start == 1000 + oldest


@examples(40)
@given(st.integers(2, 45), st.integers(1, 130), seeds)
def test_windows_of_any_length_are_those_of_the_last_bars(
    lookback_length: int, n_bars: int, seed: int
) -> None:
    x, y = with_gaps(n_bars, 3, np.random.default_rng(seed))
    window = WindowSlab(3, lookback_length, MIN_OBSERVATIONS)
    feed(window, x.tolist(), y)
    n, beta = from_scratch(x[-lookback_length:], y[-lookback_length:])
    counts, statistics = window.estimate()
    assert counts.tolist() == n.tolist()
    assert statistics[BETA] == pytest.approx(beta, rel=1e-12, abs=1e-12, nan_ok=True)


class TestWaysOfAdding:
    """A column at once, some rows, or one row: the same bits."""

    @examples(27)
    @given(st.integers(2, 12), seeds)
    def test_a_column_equals_its_rows_in_any_order_and_partition(
        self, lookback_length: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        n_rows = 5
        x, y = with_gaps(3 * lookback_length, n_rows, rng)
        slabs = [
            WindowSlab(n_rows, lookback_length, MIN_OBSERVATIONS) for _ in range(4)
        ]
        by_column, by_rows, by_row, by_parts = slabs
        for bar in range(len(x)):
            for window in slabs:
                window.advance(bar, float(x[bar]))
            by_column.fill(y[bar])
            rows = rng.permutation(np.flatnonzero(~np.isnan(y[bar])))
            chunks = np.split(rows, np.sort(rng.integers(0, len(rows) + 1, 2)))
            for chunk in chunks:
                for row in chunk.tolist():
                    by_rows.cells[row] = y[bar, row]
                by_rows.add(chunk)
            for row in rows.tolist():
                by_row.cells[row] = y[bar, row]
                by_row.add_one(row)
            for position, chunk in enumerate(chunks):
                part = np.full(n_rows, nan)
                part[chunk] = y[bar, chunk]
                if position == 0:
                    by_parts.fill(part)
                elif position == 1:
                    by_parts.column[chunk] = y[bar, chunk]
                    by_parts.add(chunk)
                else:
                    for row in chunk.tolist():
                        by_parts.cells[row] = y[bar, row]
                        by_parts.add_one(row)
            assert len({state(window) for window in slabs}) == 1
            assert len({bits(window.column) for window in slabs}) == 1

    def test_the_cells_hold_what_was_filled_and_only_that(self) -> None:
        window = WindowSlab(3, 4, MIN_OBSERVATIONS)
        window.advance(0, 1.0)
        assert bits(window.column) == bits([nan, nan, nan])
        window.fill(np.array([1.0, nan, 3.0]))
        window.fill(np.array([nan, 2.0, nan]))
        assert window.column.tolist() == [1.0, 2.0, 3.0]
        assert window.cells.tolist() == [1.0, 2.0, 3.0]
        window.advance(1, 1.0)
        assert bits(window.column) == bits([nan, nan, nan])

    def test_a_later_change_of_the_given_column_changes_nothing(self) -> None:
        rng = np.random.default_rng(3)
        given_column, kept = WindowSlab(2, 4, 3), WindowSlab(2, 4, 3)
        for bar, (x, y) in enumerate(rng.normal(0, 1, (12, 2)).tolist()):
            column = np.array([y, 2 * y])
            for window in (given_column, kept):
                window.advance(bar, x)
            kept.fill(column.copy())
            given_column.fill(column)
            column[:] = 1e9
            assert state(given_column) == state(kept)


class TestEstimates:
    """All rows, some rows, one row."""

    @examples(27)
    @given(st.integers(2, 12), st.integers(1, 40), seeds)
    def test_one_row_and_some_rows_have_the_bits_of_the_whole(
        self, lookback_length: int, n_bars: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        x, y = with_gaps(n_bars, 4, rng)
        window = WindowSlab(4, lookback_length, MIN_OBSERVATIONS)
        feed(window, x.tolist(), y)
        n, statistics = (part.copy() for part in window.estimate())
        rows = rng.permutation(4)[: rng.integers(5)]
        some_n, some = window.estimate(rows)
        assert bits(some_n) == bits(n[rows])
        assert bits(some) == bits(statistics[:, rows])
        for row in range(4):
            one_n, one = window.estimate_one(row)
            assert (one_n, bits(one)) == (n[row], bits(statistics[:, row]))

    def test_asking_changes_nothing(self) -> None:
        x, y = with_gaps(30, 3, np.random.default_rng(1))
        asked, unasked = WindowSlab(3, 7, 3), WindowSlab(3, 7, 3)
        for bar in range(30):
            for window in (asked, unasked):
                window.advance(bar, float(x[bar]))
                if window is asked:
                    window.estimate()
                window.fill(y[bar])
            asked.estimate(np.array([2, 0]))
            asked.estimate_one(1)
            asked.moments()
        assert state(asked) == state(unasked)

    def test_each_row_is_on_its_own(self) -> None:
        x, y = with_gaps(40, 4, np.random.default_rng(2))
        together = WindowSlab(4, 9, 3)
        feed(together, x.tolist(), y)
        _, statistics = together.estimate()
        for row in range(4):
            alone = WindowSlab(1, 9, 3)
            feed(alone, x.tolist(), y[:, [row]])
            assert bits(alone.estimate()[1][:, 0]) == bits(statistics[:, row])


class TestForgetting:
    """After W bars nothing tells what came before."""

    @pytest.mark.parametrize("lookback_length", [2, 3, 10, 30, 97])
    @pytest.mark.parametrize("print_size", [1e8, 1e150, 1e300, inf])
    def test_whatever_went_before_the_window_is_forgotten(
        self, lookback_length: int, print_size: float
    ) -> None:
        rng = np.random.default_rng(lookback_length)
        n_rows = 3
        for n_garbage in (1, lookback_length, 2 * lookback_length + 5):
            x, y = with_gaps(n_garbage, n_rows, rng)
            x[rng.random(n_garbage) < 0.5] *= print_size
            y[rng.random(y.shape) < 0.5] *= print_size
            old = WindowSlab(n_rows, lookback_length, MIN_OBSERVATIONS)
            with np.errstate(all="ignore"):
                feed(old, x.tolist(), y)
                x, y = with_gaps(lookback_length, n_rows, rng)
                feed(old, x.tolist(), y)
            fresh = WindowSlab(n_rows, lookback_length, MIN_OBSERVATIONS)
            feed(fresh, x.tolist(), y)
            (old_n, ours), (n, true) = old.estimate(), fresh.estimate()
            assert old_n.tolist() == n.tolist()
            for number in (BETA, ALPHA, R_SQUARED):
                assert ours[number] == pytest.approx(
                    true[number], rel=1e-13, abs=1e-13, nan_ok=True
                )
            assert (np.isnan(ours) == np.isnan(true)).all()

    @pytest.mark.parametrize("lookback_length", [2, 5, 30, 97])
    def test_windows_one_period_apart_with_the_same_bars_have_the_same_bits(
        self, lookback_length: int
    ) -> None:
        # the cuts fall alike, so even the rounding may not remember
        rng = np.random.default_rng(4)
        x, y = with_gaps(4 * lookback_length, 3, rng)
        garbage = rng.normal(0, 1e8, y.shape)
        one, other = (WindowSlab(3, lookback_length, 3) for _ in range(2))
        feed(one, (x * 1e8).tolist(), y)
        feed(other, x.tolist(), garbage)
        feed(one, x.tolist(), y)
        feed(other, x.tolist(), y)
        assert state(one) == state(other)


class TestDegenerate:
    """What has no beta says so exactly."""

    @pytest.mark.parametrize("level", [0.0, 0.1, 1e8, -1e-150])
    @pytest.mark.parametrize("lookback_length", [2, 7, 30])
    def test_a_flat_benchmark_has_no_beta_from_its_first_full_window_on(
        self, level: float, lookback_length: int
    ) -> None:
        rng = np.random.default_rng(6)
        window = WindowSlab(2, lookback_length, 2)
        feed(window, [1e8, 1.0, 0.2], rng.normal(0, 1, (3, 2)))
        for bar in range(3 * lookback_length):
            feed(window, [level], rng.normal(0, 1, (1, 2)))
            flat = bar >= lookback_length - 1
            assert (window.moments().cxx == 0.0) == flat
            undefined = np.isnan(window.estimate()[1])
            assert undefined.all() == flat

    @pytest.mark.parametrize("lookback_length", [3, 7, 30])
    def test_a_constant_asset_has_beta_zero_for_certain(
        self, lookback_length: int
    ) -> None:
        rng = np.random.default_rng(7)
        window = WindowSlab(1, lookback_length, 3)
        feed(window, rng.normal(0, 1, 10).tolist(), rng.normal(0, 1e8, (10, 1)))
        for _ in range(lookback_length):
            feed(window, [float(rng.normal())], np.array([[0.1]]))
        for _ in range(2 * lookback_length):
            feed(window, [float(rng.normal())], np.array([[0.1]]))
            _, (beta, alpha, std_error, t_stat, r_squared, residual_std) = (
                window.estimate_one(0)
            )
            assert (beta, alpha, std_error, residual_std) == (0.0, 0.1, 0.0, 0.0)
            assert np.isnan([t_stat, r_squared]).all()

    @pytest.mark.parametrize("lookback_length", [3, 7, 30])
    def test_an_exact_line_has_no_error_at_any_bar(self, lookback_length: int) -> None:
        rng = np.random.default_rng(8)
        window = WindowSlab(1, lookback_length, 3)
        for bar in range(4 * lookback_length):
            x = float(rng.normal())
            feed(window, [x], np.array([[-2.0 * x]]))
            if bar >= 2:
                _, statistics = window.estimate_one(0)
                assert statistics[BETA] == -2.0
                assert statistics[STD_ERROR] == 0.0
                assert statistics[1:] == (0.0, 0.0, -inf, 1.0, 0.0)

    def test_bars_without_a_benchmark_hold_no_pair_but_take_their_place(self) -> None:
        window = WindowSlab(1, 4, 3)
        for bar, x in enumerate([1.0, nan, 3.0, inf, 6.0]):
            window.advance(bar, x)
            window.cells[0] = 2.0 * bar
            window.add_one(0)
        assert window.estimate()[0].tolist() == [2.0]
        assert window.window_start == 1
        window.advance(5, -inf)
        window.fill(np.array([1.0]))
        window.add(np.array([0]))
        assert window.estimate()[0].tolist() == [2.0]
        assert np.isnan(window.benchmark_return)

    def test_a_slab_without_rows_slides_all_the_same(self) -> None:
        window = WindowSlab(0, 3, 3)
        feed(window, [1.0] * 9, np.empty((9, 0)))
        assert window.newest == 8
        assert window.estimate()[1].shape == (STATISTICS, 0)

    def test_before_the_first_bar_there_is_nothing(self) -> None:
        window = WindowSlab(2, 5, 3)
        n, statistics = window.estimate()
        assert n.tolist() == [0.0, 0.0]
        assert np.isnan(statistics).all()
        assert window.newest == -1

    @pytest.mark.parametrize("lookback_length", [1, 0, -3])
    def test_a_window_of_less_than_two_bars_is_refused(
        self, lookback_length: int
    ) -> None:
        with pytest.raises(
            ValueError,
            match=rf"at least 2\b.*, was {lookback_length}$",
        ):
            WindowSlab(1, lookback_length, 3)


def count_work(
    lookback_length: int, n_bars: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, int]]:
    """Return (operations, sets touched per row) of each bar."""
    work = [0, 0]

    def counted(owner: Any, name: str, n_sets: int | None) -> None:
        operation: Callable[..., Any] = getattr(owner, name)

        def count(*given: Any, **named: Any) -> Any:
            work[0] += 1
            work[1] += len(given[0]) if n_sets is None else n_sets
            return operation(*given, **named)

        monkeypatch.setattr(owner, name, count)

    counted(slab_sets.SlabSets, "fill", 2)
    counted(sums.Sets, "add", 1)
    counted(sums.Sets, "merge", 1)
    counted(slab, "recalculate", None)
    x, y = noise(n_bars, 2, np.random.default_rng(9))
    window = WindowSlab(2, lookback_length, 3)
    bars: list[tuple[int, int]] = []
    for bar in range(n_bars):
        work[:] = [0, 0]
        feed(window, [float(x[bar])], y[[bar]])
        window.estimate()
        bars.append((work[0], work[1]))
    return bars


@pytest.mark.parametrize("lookback_length", [3, 30, 97, 390])
def test_every_bar_costs_about_the_same(
    lookback_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = np.array(count_work(lookback_length, 4 * lookback_length, monkeypatch))
    warm = bars[lookback_length:]
    assert (warm.max(axis=0) <= 3 * np.median(warm, axis=0)).all()
    # the same for all lengths; a window that fills counts its closed segments besides
    assert warm.max(axis=0).tolist() <= [3, 4]
    assert (bars.max(axis=0) <= [4, 5]).all()


@pytest.mark.parametrize("lookback_length", [2, 30, 390])
def test_memory_per_row_is_the_window_and_some_sets(lookback_length: int) -> None:
    window = WindowSlab(100, lookback_length, 3)
    feed(window, *noise(3 * lookback_length, 100, np.random.default_rng(9)))
    parts: list[Any] = [
        *vars(window).values(),
        *vars(window)["_suffixes"],
        *vars(window)["_slots"],
    ]
    for found in [part for part in parts if isinstance(part, sums.Sets)]:
        parts += vars(found).values()
    n_bytes = sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    n_sets = 3 * (0.75 * lookback_length**0.5 + 1) + 8
    limit = 8 * lookback_length + 24 * n_sets * 1.5 + 8 * STATISTICS * 5
    assert n_bytes / 100 <= limit
