"""Pairs that come late or are corrected lead where punctual ones lead, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import PairWindows, PerRow, State
from strategies import FloatArray, examples, seeds


def state(windows: PairWindows) -> bytes:
    """Return everything that is published, bit by bit."""
    parts = [*windows.moments(), *windows.estimate(full=True), windows.window_starts()]
    return b"".join(np.asarray(part, dtype=np.float64).tobytes() for part in parts)


def copied(windows: PairWindows, empty: PairWindows) -> PairWindows:
    """Return the second windows with the state of the first."""
    empty.restore(plain(windows.state()))
    return empty


def plain(state: State) -> State:
    """Return a state as it comes from where it was kept."""
    values: State = {}
    for name, value in state.items():
        if isinstance(value, PerRow):
            values[name] = value.values.copy()
        else:
            values[name] = plain(value) if name == "sets" else value
    return values


class Tape:
    """Windows with amendments, and the bars as they now are."""

    def __init__(self, n_rows: int, length: int, lateness: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.n_rows, self.length, self.lateness = n_rows, length, lateness
        self.windows = self.empty()
        self.bars: dict[int, tuple[float, FloatArray]] = {}

    def empty(self) -> PairWindows:
        return PairWindows(self.n_rows, self.length, 2, lateness=self.lateness)

    def returns(self) -> FloatArray:
        y = self.rng.normal(size=self.n_rows)
        y[self.rng.random(self.n_rows) < 0.3] = np.nan
        return y

    def benchmark(self) -> float:
        return float(self.rng.normal()) if self.rng.random() < 0.8 else np.nan

    def open(self, stamp: int) -> None:
        self.bars[stamp] = self.benchmark(), self.returns()
        self.windows.advance(stamp, self.bars[stamp][0])
        self.windows.fill(self.bars[stamp][1])

    @property
    def kept(self) -> list[int]:
        return sorted(self.bars)[-self.lateness - 1 :]

    def amend(self) -> None:
        """Change something in some way."""
        stamp = int(self.rng.choice(self.kept))
        bar = self.windows.bar_of(stamp)
        assert bar is not None
        x, y = self.bars[stamp]
        ways = (self.amend_cell, self.amend_column, self.amend_benchmark)
        way = self.rng.random()
        if way < 0.02:
            self.restart(stamp, bar)
        elif way < 0.05:
            self.forget(int(self.rng.integers(self.n_rows)))
        elif way < 0.08:
            self.windows = copied(self.windows, self.empty())
        elif way < 0.25:
            self.insert()
        else:
            ways[int(self.rng.integers(len(ways)))](stamp, bar, x, y)

    def restart(self, stamp: int, bar: int) -> None:
        self.windows.restart(bar)
        self.bars = {at: self.bars[at] for at in self.bars if at >= stamp}

    def forget(self, row: int) -> None:
        self.windows.forget(row)
        for _, y in self.bars.values():
            y[row] = np.nan

    def amend_cell(self, stamp: int, bar: int, x: float, y: FloatArray) -> None:
        row, value = int(self.rng.integers(self.n_rows)), self.benchmark()
        self.windows.amend(row, bar, value)
        y[row] = value
        self.bars[stamp] = x, y

    def amend_column(self, stamp: int, bar: int, x: float, y: FloatArray) -> None:
        column = self.returns()
        self.windows.amend_column(bar, column)
        self.bars[stamp] = x, np.where(np.isnan(column), y, column)

    def amend_benchmark(self, stamp: int, bar: int, x: float, y: FloatArray) -> None:
        x = self.benchmark()
        self.windows.amend_benchmark(bar, x)
        self.bars[stamp] = x, y

    def insert(self) -> None:
        missing = sorted(set(range(self.kept[0], self.kept[-1])) - self.bars.keys())
        if missing:
            stamp, x = int(self.rng.choice(missing)), self.benchmark()
            bar = self.windows.insert(stamp, x)
            if bar is not None:
                assert self.windows.bar_of(stamp) == bar
                self.bars[stamp] = x, self.returns()
                self.windows.amend_column(bar, self.bars[stamp][1])

    def punctual(self) -> PairWindows:
        windows = self.empty()
        for stamp in sorted(self.bars):
            windows.advance(stamp, self.bars[stamp][0])
            windows.fill(self.bars[stamp][1])
        return windows


@examples(20)
@given(
    n_rows=st.sampled_from([1, 3, 9]),
    length=st.sampled_from([2, 3, 5, 8, 11, 12, 13, 20, 33]),
    lateness=st.sampled_from([0, 1, 3, 8, 40]),
    n_bars=st.integers(1, 120),
    seed=seeds,
)
def test_amended_windows_equal_those_of_bars_in_order(
    n_rows: int, length: int, lateness: int, n_bars: int, seed: int
) -> None:
    tape = Tape(n_rows, length, lateness, seed)
    for stamp in range(n_bars):
        if stamp and tape.rng.random() < 0.1:
            continue  # perhaps inserted later
        tape.open(stamp)
        for _ in range(int(tape.rng.integers(3))):
            tape.amend()
        if tape.rng.random() < 0.1 or stamp >= n_bars - 2:
            punctual = tape.punctual()
            assert state(tape.windows) == state(punctual)
            n_bars_kept = punctual.newest - punctual.oldest
            assert tape.windows.newest - tape.windows.oldest == n_bars_kept
            assert tape.windows.column.tobytes() == punctual.column.tobytes()


@pytest.mark.parametrize("length", [2, 12, 30])
@pytest.mark.parametrize("n_taken", [1, 2, 9])
def test_pairs_that_are_taken_back_make_room_for_those_that_left(
    length: int, n_taken: int
) -> None:
    # Without them the window reaches back to pairs that had left it already.
    rng = np.random.default_rng(length)
    x, y = rng.normal(size=(2, 5 * length + 20))
    windows, without = (PairWindows(1, length, 2, lateness=9) for _ in range(2))
    for bar, (value, period_return) in enumerate(zip(x, y, strict=True)):
        for each in (windows, without):
            each.advance(bar, float(value))
        windows.fill(np.array([period_return]))
        if bar < len(x) - n_taken:
            without.fill(np.array([period_return]))
    for bar in range(len(x) - n_taken, len(x)):
        windows.amend(0, bar, np.nan)
    assert state(windows) == state(without)
    assert windows.estimate()[0].tolist() == [length]


def test_windows_without_rows_have_a_state() -> None:
    windows = PairWindows(0, 5, 3, lateness=1)
    windows.advance(1, 0.5)
    assert copied(windows, PairWindows(0, 5, 3, lateness=1)).stamp(0) == 1


def test_a_bar_before_those_that_are_kept_is_not_inserted() -> None:
    windows = PairWindows(1, 5, 3, lateness=2)
    for stamp in range(10, 30, 2):
        windows.advance(stamp, 0.1)
    assert windows.insert(23, 0.1) is None
    assert windows.bar_of(22) is None
    assert windows.bar_of(24) == windows.oldest
    at = windows.insert(25, 0.2)
    assert at is not None
    assert [windows.stamp(at + step) for step in range(3)] == [25, 26, 28]
    assert windows.bar_of(24) is None


def test_returns_may_be_written_to_the_open_bar_after_an_insertion() -> None:
    windows = PairWindows(2, 5, 2, lateness=3)
    for stamp in (1, 2, 4):
        windows.advance(stamp, float(stamp))
        windows.fill(np.array([stamp, np.nan]))
    windows.insert(3, 3.0)
    windows.cells[1] = 5.0
    windows.add_one(1)
    assert windows.value(1, windows.newest) == 5.0
    assert windows.estimate()[0].tolist() == [3.0, 1.0]
    assert windows.window_starts().tolist() == [1, 4]
