"""A pair that comes alone has the bits of one that is added and estimated."""

from collections.abc import Callable
from math import nan

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import AmendableSlab, EwmaWindows, PairWindows
from beta_factory.estimators.grid import AmendableGrid
from beta_factory.estimators.growing import BACK, HEAD
from nasty import NASTY
from strategies import FloatArray, examples, seeds

N_ROWS = 4


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


class Twins:
    """Two windows of the same bars: pairs come alone in one, in two steps in other."""

    def __init__(self, make: Callable[[], AmendableGrid]) -> None:
        self.alone, self.longhand = make(), make()

    def both(self, act: Callable[[AmendableGrid], object]) -> None:
        act(self.alone)
        act(self.longhand)

    def open(self, benchmark_return: float) -> None:
        """Open the next bar, with room for one between it and the last."""
        stamp = 2 * (self.alone.newest + 1)
        self.both(lambda window: window.advance(stamp, benchmark_return))

    def take(self, row: int, value: float) -> None:
        """Take one return in either way and compare what follows."""
        self.both(lambda window: window.cells.__setitem__(row, value))
        n, statistics = self.alone.take_one(row)
        self.longhand.add_one(row)
        long_n, long = self.longhand.estimate_one(row)
        assert (n, bits(statistics)) == (long_n, bits(long))

    def compare(self) -> None:
        """Compare what all rows have come to."""
        for mine, other in zip(
            self.alone.estimate(full=True),
            self.longhand.estimate(full=True),
            strict=True,
        ):
            assert bits(mine) == bits(other)


def disturb(twins: Twins, returns: FloatArray, rng: np.random.Generator) -> None:
    """Do to both what may come between two lone pairs of a bar."""
    newest = twins.alone.newest
    row = int(rng.integers(N_ROWS))
    bar = int(rng.integers(twins.alone.oldest, newest + 1))
    is_kept = newest > twins.alone.oldest
    value = float(rng.normal(0, 1e-3))
    match int(rng.integers(9)):
        case 0:
            twins.compare()
        case 1:
            twins.both(lambda window: window.estimate(np.array([row])))
        case 2:
            twins.both(lambda window: window.amend(row, bar, value))
        case 3:
            twins.both(lambda window: window.amend_benchmark(bar, value))
        case 4:
            twins.both(lambda window: window.forget(row))
        case 5 if is_kept:
            between = 2 * newest - 1
            twins.both(lambda window: window.insert(between, value))
        case 6:
            twins.both(lambda window: window.prepare())
        case 7:
            empty = np.isnan(twins.alone.column)
            part = np.where(empty & (rng.random(N_ROWS) < 0.5), returns, nan)
            twins.both(lambda window: window.fill(part))
        case _:
            n, statistics = twins.alone.estimate_one(row)
            long_n, long = twins.longhand.estimate_one(row)
            assert (n, bits(statistics)) == (long_n, bits(long))


def run(
    twins: Twins, x: FloatArray, y: FloatArray, rng: np.random.Generator, often: float
) -> None:
    for bar in range(len(x)):
        twins.open(float(x[bar]))
        for row in rng.permutation(N_ROWS).tolist():
            if rng.random() < often:
                disturb(twins, y[bar], rng)
            is_empty = np.isnan(twins.alone.column[row])
            if is_empty and not np.isnan(y[bar, row]):
                twins.take(row, float(y[bar, row]))
            assert bits(twins.alone.column) == bits(twins.longhand.column)
        if rng.random() < 0.3:
            twins.compare()
    twins.compare()


@examples(27)
@given(st.integers(2, 12), st.sampled_from([0.0, 0.0, 0.1, 0.4]), seeds)
def test_alone_and_in_two_steps_are_the_same_bits(
    lookback_length: int, often: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1e-3, 40)
    y = 0.8 * x[:, None] + rng.normal(0, 1e-3, (40, N_ROWS))
    y[rng.random(y.shape) < rng.choice([0.0, 0.05, 0.3])] = nan
    x[rng.random(40) < rng.choice([0.0, 0.1])] = nan
    y[rng.random(y.shape) < 0.05] = 0.0
    twins = Twins(lambda: AmendableSlab(N_ROWS, lookback_length, 3))
    twins.alone.scalar_rows = int(rng.choice([0, 12]))  # how they go into the sets
    run(twins, x, y, rng, often)


@pytest.mark.parametrize("name", NASTY)
def test_data_that_breaks_careless_arithmetic_makes_no_difference(name: str) -> None:
    x, y = NASTY[name](60)
    rng = np.random.default_rng(1)
    y = np.where(np.isfinite(y), y, nan)[:, rng.integers(y.shape[1], size=N_ROWS)]
    twins = Twins(lambda: AmendableSlab(N_ROWS, 30, 3))
    run(twins, np.array(x), y, rng, 0.02)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EwmaWindows(N_ROWS, 5.0, 3, clock="bars", lateness=2),
        lambda: PairWindows(N_ROWS, 9, 3, lateness=2),
    ],
)
def test_other_windows_take_one_too(make: Callable[[], AmendableGrid]) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1e-3, 40)
    y = 0.8 * x[:, None] + rng.normal(0, 1e-3, (40, N_ROWS))
    run(Twins(make), x, y, rng, 0.0)


def test_an_early_row_does_not_split_what_the_others_share() -> None:
    rng = np.random.default_rng(2)
    window = AmendableSlab(N_ROWS, 20, 3)
    growing = vars(window)["_growing"]
    for bar in range(60):
        x = float(rng.normal())
        window.advance(bar, x)
        for row in range(N_ROWS):
            window.cells[row] = x + float(rng.normal())
            window.take_one(row)
            if bar > 20:
                assert not growing.is_own[BACK]
                assert not growing.is_own[HEAD]
