"""Whatever comes to a bar, in whatever order and parts, a window holds its cells."""

import random
from collections.abc import Callable
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given

from beta_factory.actors.snapshot import pack_state, unpack_state
from beta_factory.estimators import AmendableSlab
from beta_factory.estimators.extent import BarExtent, Extent, TimeExtent
from strategies import examples, seeds

STEP = 10
"""Between the stamps of most bars; late ones are put in between."""


class Bars:
    """Windows beside a table of cells, from which every answer is computed afresh.

    Like a cohort, this looks whether a cell is empty before it writes.
    """

    def __init__(self, rng: random.Random, extent_of: Callable[[int], Extent]) -> None:
        self.rng = rng
        self.n_rows = rng.choice([1, 2, 3, 9, 16, 17, 40])
        self.extent = extent_of(rng.choice([2, 3, 5, 7, 12, 20, 30]))
        self.windows = self.make()
        self.stamps: list[int] = []
        self.x: list[float] = []
        self.y: list[list[float]] = []

    def make(self) -> AmendableSlab:
        return AmendableSlab(self.n_rows, self.extent, 3)

    def value(self) -> float:
        odd = self.rng.random() < 0.05
        return self.rng.choice([0.0, 0.01]) if odd else self.rng.gauss(0.0, 0.01)

    def value_or_none(self, share: float) -> float:
        return nan if self.rng.random() < share else self.value()

    def open(self) -> None:
        newest = self.stamps[-1] if self.stamps else 0
        self.stamps.append(newest + self.rng.choice([STEP, STEP, STEP, 3, 6 * STEP]))
        self.x.append(self.value_or_none(0.1))
        self.y.append([nan] * self.n_rows)
        self.windows.advance(self.stamps[-1], self.x[-1])
        self.forget_what_has_left()

    def forget_what_has_left(self) -> None:
        bar, stamp = len(self.stamps) - 1, self.stamps[-1]
        while self.extent.has_left(bar, stamp, 0, self.stamps[0]):
            del self.stamps[0], self.x[0], self.y[0]
            bar -= 1

    def fill(self) -> None:
        if len(self.empty()) == self.n_rows:
            self.y[-1] = [self.value_or_none(0.1) for _ in range(self.n_rows)]
            self.windows.fill(np.array(self.y[-1]))

    def add(self) -> None:
        empty = self.empty()
        rows = self.rng.sample(empty, self.rng.randint(0, len(empty)))
        for row in rows:
            self.windows.cells[row] = self.y[-1][row] = self.value()
        self.windows.add(np.array(rows, dtype=np.intp))

    def take_one(self) -> None:
        if empty := self.empty():
            row = self.rng.choice(empty)
            self.windows.cells[row] = self.y[-1][row] = self.value()
            if not isnan(self.x[-1]):
                n, statistics = self.windows.take_one(row)
                assert (n, statistics[0]) == self.expected(row)

    def prepare(self) -> None:
        self.windows.prepare()

    def amend(self) -> None:
        at, row = self.some_bar(), self.rng.randrange(self.n_rows)
        self.y[at][row] = self.value_or_none(0.1)
        self.windows.amend(row, self.bar(at), self.y[at][row])

    def amend_benchmark(self) -> None:
        at = self.some_bar()
        self.x[at] = self.value_or_none(0.3)
        self.windows.amend_benchmark(self.bar(at), self.x[at])

    def insert(self) -> None:
        at = self.some_bar()
        stamp = self.stamps[at] - 1
        if at == 0 or stamp in self.stamps:
            return
        self.stamps.insert(at, stamp)
        self.x.insert(at, self.value_or_none(0.2))
        self.y.insert(at, [self.value_or_none(0.4) for _ in range(self.n_rows)])
        bar = self.windows.insert(stamp, self.x[at])
        assert bar is not None
        self.windows.amend_column(bar, np.array(self.y[at]))
        self.forget_what_has_left()

    def forget(self) -> None:
        row = self.rng.randrange(self.n_rows)
        self.windows.forget(row)
        for returns in self.y:
            returns[row] = nan

    def restart(self) -> None:
        if self.rng.random() < 0.2:
            at = self.some_bar()
            self.windows.restart(self.bar(at))
            del self.stamps[:at], self.x[:at], self.y[:at]

    def go_on_from_a_state(self) -> None:
        kept = pack_state(self.windows.state())
        self.windows = self.make()
        self.windows.restore(unpack_state(kept, np.arange(self.n_rows)))

    def compare(self) -> None:
        n, statistics = self.windows.estimate()
        for row in range(self.n_rows):
            assert (n[row], statistics[0, row]) == self.expected(row)

    def empty(self) -> list[int]:
        """Return the rows that have no return in the newest bar."""
        return [row for row, present in enumerate(self.y[-1]) if isnan(present)]

    def some_bar(self) -> int:
        return self.rng.randint(max(len(self.stamps) - 4, 0), len(self.stamps) - 1)

    def bar(self, at: int) -> int:
        bar = self.windows.bar_of(self.stamps[at])
        assert bar is not None
        return bar

    def expected(self, row: int) -> tuple[float, object]:
        """Return n and beta of one row, in two passes over its cells."""
        x, y = np.array(self.x), np.array([returns[row] for returns in self.y])
        complete = ~np.isnan(x) & ~np.isnan(y)
        x, y = x[complete], y[complete]
        if len(x) < 3 or (x == x[0]).all():
            return len(x), pytest.approx(nan, nan_ok=True)
        dx = x - x.mean()
        beta = float(dx @ (y - y.mean()) / (dx @ dx))
        return len(x), pytest.approx(beta, rel=1e-8, abs=1e-8)


PUNCTUAL = (Bars.fill, Bars.add, Bars.take_one, Bars.prepare)
LATE = (Bars.amend, Bars.amend_benchmark, Bars.insert)
BY_OPERATORS = (Bars.forget, Bars.restart, Bars.go_on_from_a_state)


def bars_of(length: int) -> Extent:
    return BarExtent(length)


def time_of(length: int) -> Extent:
    return TimeExtent(STEP * length)


class ShortHeads(TimeExtent):
    """As if there were bursts all the time."""

    def longest_head(self, n_bars: int) -> int:
        return 1 + n_bars // 8


def bursts_of(length: int) -> Extent:
    return ShortHeads(STEP * length)


@pytest.mark.parametrize("extent_of", [bars_of, time_of, bursts_of])
@examples(10)
@given(seed=seeds)
def test_windows_hold_their_cells(
    extent_of: Callable[[int], Extent], seed: int
) -> None:
    rng = random.Random(seed)
    bars = Bars(rng, extent_of)
    others = rng.choice([LATE, BY_OPERATORS, LATE + BY_OPERATORS])
    for _ in range(50):
        bars.open()
        for act in rng.choices(PUNCTUAL + others, k=rng.choice([1, 1, 2, 3, 5])):
            act(bars)
            if rng.random() < 0.3:
                bars.compare()
        bars.compare()


ALL = np.arange(16)


def whole_bar(windows: AmendableSlab, stamp: int) -> None:
    """Open a bar and take a return of every row."""
    rng = np.random.default_rng(stamp)
    windows.advance(stamp, float(rng.normal()))
    windows.fill(rng.normal(size=windows.n_rows))


def correct(windows: AmendableSlab) -> None:
    windows.amend(3, windows.newest, 0.5)


def correct_the_bar_before(windows: AmendableSlab) -> None:
    windows.amend(3, windows.newest - 1, 0.5)


def correct_the_benchmark(windows: AmendableSlab) -> None:
    windows.amend_benchmark(windows.newest, 0.25)


def correct_the_benchmark_before(windows: AmendableSlab) -> None:
    windows.amend_benchmark(windows.newest - 1, 0.25)


def forget(windows: AmendableSlab) -> None:
    windows.forget(3)


def restore(windows: AmendableSlab) -> None:
    windows.restore(unpack_state(pack_state(windows.state()), ALL))


@pytest.mark.parametrize(
    "between",
    [
        correct,
        correct_the_bar_before,
        correct_the_benchmark,
        correct_the_benchmark_before,
        forget,
        restore,
    ],
)
@pytest.mark.parametrize("n_first", [15, 8])
def test_a_return_counts_that_comes_after_its_bar_was_looked_at(
    n_first: int, between: Callable[[AmendableSlab], None]
) -> None:
    windows = AmendableSlab(16, 12, 3)
    for stamp in range(22):
        whole_bar(windows, stamp)
    windows.advance(22, 0.75)
    returns = np.linspace(-1.0, 1.0, 16)
    returns[n_first:] = nan
    windows.fill(returns)
    between(windows)
    rest = ALL[n_first:]
    windows.column[rest] = 0.25
    windows.add(rest)
    assert windows.column[:3].tolist() == returns[:3].tolist()
    for stamp in range(23, 34):  # until it is the oldest bar
        whole_bar(windows, stamp)
        n, _ = windows.estimate()
        assert n[rest].tolist() == [12.0] * len(rest)
