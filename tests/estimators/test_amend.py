"""Windows of any extent hold exactly their bars, whatever was amended on the way."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from beta_factory.estimators import AmendableSlab
from beta_factory.estimators.extent import BarExtent, Extent, TimeExtent

FloatArray = npt.NDArray[np.float64]
N_ROWS = 3


def market(rng: np.random.Generator, n_bars: int) -> tuple[FloatArray, FloatArray]:
    x = rng.normal(size=n_bars)
    y = x[:, None] * [1.2, 0.5, 2.0] + rng.normal(size=(n_bars, N_ROWS))
    y[rng.random(y.shape) < 0.15] = np.nan
    return x, y


def stamps_of(
    rng: np.random.Generator, n_bars: int, kind: int
) -> npt.NDArray[np.int64]:
    steps = [
        np.full(n_bars, 10),
        rng.integers(1, 30, n_bars),
        rng.choice([1, 1, 1, 1, 200, 5000], n_bars),
        np.where(rng.random(n_bars) < 0.02, 500, rng.integers(1, 5, n_bars)),
    ][kind]
    return np.cumsum(steps).astype(np.int64)


def two_pass(x: FloatArray, y: FloatArray) -> tuple[int, float]:
    """Return n and beta of one window, computed afresh."""
    complete = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[complete], y[complete]
    if len(x) < 3:
        return len(x), np.nan
    dx = x - x.mean()
    return len(x), float(dx @ (y - y.mean()) / (dx @ dx))


def assert_windows(
    slab: AmendableSlab, x: FloatArray, y: FloatArray, first: int, end: int
) -> None:
    """Check every row against the bars ``first:end``."""
    n, statistics = slab.estimate()
    for row in range(N_ROWS):
        expected_n, expected = two_pass(x[first:end], y[first:end, row])
        assert n[row] == expected_n
        assert statistics[0, row] == pytest.approx(expected, rel=1e-11, nan_ok=True)
        assert slab.estimate_one(row)[0] == expected_n


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("length", [1, 7, 50, 300, 1000])
@pytest.mark.parametrize("resets", [frozenset[int](), frozenset({70, 71, 150})])
def test_a_time_window_holds_the_bars_of_its_last_stretch_of_time(
    kind: int, length: int, resets: frozenset[int]
) -> None:
    rng = np.random.default_rng([kind, length])
    x, y = market(rng, 170)
    x[rng.random(len(x)) < 0.05] = np.nan
    stamps = stamps_of(rng, len(x), kind)
    slab = AmendableSlab(N_ROWS, TimeExtent(length), 3)
    opened = 0
    for bar in range(len(x)):
        if bar in resets:
            slab.reset()
            opened = bar
        slab.advance(int(stamps[bar]), float(x[bar]))
        slab.fill(y[bar])
        inside = np.flatnonzero(stamps > int(stamps[bar]) - length)
        first = max(int(inside[0]), opened)
        assert slab.window_start == stamps[first]
        assert_windows(slab, x, y, first, bar + 1)


def bars_of(length: int) -> Extent:
    return BarExtent(length)


def time_of(length: int) -> Extent:
    return TimeExtent(10 * length)


@pytest.mark.parametrize("extent", [bars_of, time_of])
@pytest.mark.parametrize("length", [2, 3, 5, 9, 30, 77])
def test_late_and_corrected_cells_lead_where_punctual_ones_lead(
    extent: Callable[[int], Extent], length: int
) -> None:
    rng = np.random.default_rng(length)
    x, y = market(rng, 4 * length + 40)
    amended = AmendableSlab(N_ROWS, extent(length), 3)
    punctual = AmendableSlab(N_ROWS, extent(length), 3)
    n_amended = 0
    for bar in range(len(x)):
        stamp = 10 * (bar + 1)
        wrong_y = np.where(rng.random(N_ROWS) < 0.2, np.nan, y[bar])
        wrong_y = np.where(rng.random(N_ROWS) < 0.1, 100.0 + 0 * wrong_y, wrong_y)
        wrong_x = 5.0 if rng.random() < 0.1 else float(x[bar])
        punctual.advance(stamp, float(x[bar]))
        punctual.fill(y[bar])
        amended.advance(stamp, wrong_x)
        amended.fill(wrong_y)
        if bar % 4 != 3:
            continue
        for late in range(bar - 3, bar + 1):  # in whatever order, now or a few bars on
            at = amended.bar_of(10 * (late + 1))
            if at is None:
                continue
            assert at == late
            for row in rng.permutation(N_ROWS).tolist():
                held, true = amended.value(row, at), float(y[late, row])
                if not np.array_equal([held], [true], equal_nan=True):
                    amended.amend(row, at, true)
                    n_amended += 1
            if amended.benchmark_value(at) != x[late]:
                amended.amend_benchmark(at, float(x[late]))
        n, statistics = (part.copy() for part in amended.estimate())
        expected_n, expected = punctual.estimate()
        if bar >= length + 4:  # what left the window before its amendment left with it
            assert n.tolist() == expected_n.tolist()
            assert statistics[0] == pytest.approx(expected[0], rel=1e-11, nan_ok=True)
    assert n_amended >= 8


@pytest.mark.parametrize("length", [4, 8, 20])
@pytest.mark.parametrize("skipped", [3, 17, 40])
def test_an_inserted_bar_leads_where_a_punctual_one_leads(
    length: int, skipped: int
) -> None:
    rng = np.random.default_rng([length, skipped])
    x, y = market(rng, 60)
    late = AmendableSlab(N_ROWS, length, 3)
    punctual = AmendableSlab(N_ROWS, length, 3)
    for bar in range(len(x)):
        for slab in (late, punctual):
            if slab is punctual or bar != skipped:
                slab.advance(bar, float(x[bar]))
                slab.fill(y[bar])
        if bar == skipped + 2:
            at = late.insert(skipped, float(x[skipped]))
            assert at is not None
            late.amend_column(at, y[skipped])
            assert late.newest == punctual.newest
        if bar >= skipped + 2 and (bar >= skipped + length or bar < length):
            n, statistics = (part.copy() for part in late.estimate())
            expected_n, expected = punctual.estimate()
            assert n.tolist() == expected_n.tolist()
            assert statistics[0] == pytest.approx(expected[0], rel=1e-11, nan_ok=True)


def test_a_bar_before_the_window_is_not_inserted() -> None:
    slab = AmendableSlab(N_ROWS, 3, 3)
    for bar in range(10, 20):
        slab.advance(bar, 0.1)
    assert slab.insert(5, 0.1) is None
    assert slab.bar_of(5) is None
    assert slab.n_bars_after(5) == 3


@pytest.mark.parametrize("late", ["cell", "column", "benchmark"])
def test_a_bar_counts_once_where_the_past_changed_before_its_pairs(late: str) -> None:
    """The side that rows share, which tells when a pivot has become odd."""
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=40), rng.normal(size=(40, N_ROWS))
    slab = AmendableSlab(N_ROWS, 12, 3)
    for bar in range(len(x)):
        slab.advance(bar, float(x[bar]))
        if bar == 30 and late == "cell":
            slab.amend(1, 29, 0.25)
        elif bar == 30 and late == "column":
            slab.amend_column(28, np.full(N_ROWS, 0.5))
        elif bar == 30:
            slab.amend_benchmark(28, 0.125)
        slab.fill(y[bar])
        n_shared = slab.sums(np.array([0]))[1][0]
        growing = slab._growing  # pyright: ignore[reportPrivateUsage]
        front, at = slab._front()  # pyright: ignore[reportPrivateUsage]
        n_bars = min(bar + 1, 12)
        assert front.shared[at][0] + growing.shared[0][0] == n_bars
        assert n_shared == n_bars
