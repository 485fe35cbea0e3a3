"""Rolling windows of pairs: the last W complete pairs of each row, whatever it missed.

Rule: this file knows bars, and which pair of which row comes from which. A row that
misses a bar keeps its older pairs, so every row moves at its own pace; what its window
then consists of is the business of `PairSets`.

The grid keeps the bars in which something may yet come or be corrected, and no more:
the pairs themselves are kept by row. An amendment hands the rows concerned all their
pairs from the amended bar on. Where that is one pair behind all others, it lands like
any other; else the rows are brought to where those pairs would have led in order, to
the last bit.

Memory per row: 24 bytes for each of W + lateness + 1 pairs, and about
3.4 * sqrt(W) + 5 sets of 80 bytes: 15 kB for 390 pairs.
"""

from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows, Statistics
from .doubt import TINY, doubtful, has_tiny, is_doubtful, welford_error
from .grid import AmendableGrid, usable
from .moments import Floats, Joined, join_one
from .ols import ALL_STATISTICS, STATISTICS, Moments, solve, solve_one
from .pair_schedule import Schedule
from .pair_sets import BACK, Column, PairSets
from .recalc import batches, recalculate
from .state import State

_ROOM = 16
"""Bars to make room for at first."""


class PairWindows(AmendableGrid):
    """Windows over the last pairs, one per row.

    Parameters
    ----------
    n_rows
        Number of rows (symbols).
    length
        Window length in pairs, at least 2.
    min_observations
        Complete pairs below which a row's statistics are NaN.
    lateness
        How many bars after its own a return may come, or be corrected.

    Raises
    ------
    ValueError
        If the length is below 2, or the lateness below 0.
    """

    scalar_rows = 6
    """Numpy's fixed cost per commit is about that of this many scalar rows."""

    newest: int
    oldest: int

    def __init__(
        self, n_rows: int, length: int, min_observations: int, *, lateness: int
    ) -> None:
        if lateness < 0:
            msg = f"a lateness is at least 0 bars, was {lateness}"
            raise ValueError(msg)
        super().__init__(n_rows, min(lateness + 1, _ROOM))
        self.length = length
        self.min_observations = min_observations
        self.lateness = lateness
        self._sets = PairSets(n_rows, Schedule(length), lateness + 1)
        self._all_rows = np.arange(n_rows)
        self._has_tiny = False
        """Whether a value ever came whose variance may underflow."""
        self._joined = Joined(n_rows)

    def advance(self, stamp: int, benchmark_return: float) -> None:
        """Open the next bar; the one that is too old to be amended is forgotten."""
        self.oldest = max(self.oldest, self.newest + 1 - self.lateness)
        self._open(stamp, benchmark_return)

    def fill(self, returns: Floats, absent: Rows | None = None) -> None:
        """Add the newest bar's returns of all rows."""
        del absent
        slot = self.newest % len(self.stamps)
        rows = self._all_rows
        present = ~np.isnan(returns)
        if not present.all():
            rows = np.flatnonzero(present)
        self._y[slot, rows] = returns[rows]
        self.add(rows)

    def add(self, rows: Rows) -> None:
        """Add the newest bar's returns of some rows, as they stand in `cells`."""
        slot = self.newest % len(self.stamps)
        x = float(self._x[slot])
        if len(rows) and not isnan(x):
            self._look_for_tiny(x, self._y[slot, rows])
            self._sets.land(rows, x, self._y[slot, rows], int(self.stamps[slot]))

    def add_one(self, row: int) -> None:
        """Add the newest bar's return of one row: `add` over floats."""
        slot = self.newest % len(self.stamps)
        x = float(self._x[slot])
        if not isnan(x):
            y = self.cells[row]
            if (abs(x) < TINY and x) or (abs(y) < TINY and y):
                self._has_tiny = True
            self._sets.land_one(row, x, y, int(self.stamps[slot]))

    def moments(self, rows: Rows | None = None) -> Moments:
        """Return what the statistics of all or some rows are computed from."""
        back = self._sets.growing[BACK]
        if rows is None:
            rows = self._all_rows
        else:
            back = back[:, rows]
        n, mean, centred = self._joined.join(self._sets.front(rows), back)
        cxx, cxy, cyy = centred
        return Moments(n, mean[0], mean[1], cxx, cxy, cyy, cxx, cyy)

    def estimate(
        self, rows: Rows | None = None, *, full: bool = False
    ) -> tuple[Floats, Floats]:
        """Return (n, statistics) of all or some rows."""
        moments = self.moments(rows)
        n = np.asarray(moments.n)
        n_statistics = ALL_STATISTICS if full else STATISTICS
        statistics = np.empty((n_statistics, n.shape[0]))
        solve(moments, self.min_observations, statistics)
        doubts = doubtful(
            moments,
            statistics,
            self.min_observations,
            welford_error(n),
            tiny=self._has_tiny,
        )
        for some in batches(doubts, self.length):
            exact = self._recalculate(some if rows is None else rows[some])
            statistics[:, some] = exact[:n_statistics]
        return n, statistics

    def estimate_one(self, row: int) -> tuple[float, Statistics]:
        """Return (n, statistics) of one row: `estimate` over floats."""
        front = self._sets.front(np.array([row]))[:, 0].tolist()
        joined = join_one(front, self._sets.growing[BACK, :, row].tolist())
        moments = (*joined, joined[3], joined[5])
        statistics = solve_one(moments, self.min_observations)
        error = float(welford_error(np.asarray(moments[0])))
        fewest, tiny = self.min_observations, self._has_tiny
        if is_doubtful(moments, statistics, fewest, error, tiny=tiny):
            exact = self._recalculate(np.array([row]))[:STATISTICS, 0]
            beta, alpha, std_error, t_stat, r_squared, residual_std = exact.tolist()
            statistics = beta, alpha, std_error, t_stat, r_squared, residual_std
        return joined[0], statistics

    def window_starts(self, rows: Rows | None = None) -> NDArray[np.int64]:
        """Return the stamp of the oldest pair in each row's window, shape (k,).

        That of the newest bar for a row without a pair.
        """
        if rows is None:
            rows = self._all_rows
        has_pairs = self._sets.n_pairs[rows] > 0
        newest = self.stamp(self.newest)
        return np.where(has_pairs, self._sets.first_stamps(rows), newest)

    def window_start_of(self, row: int) -> int:
        """Return the stamp of the oldest pair in one row's window."""
        return int(self.window_starts(np.array([row]))[0])

    def reset(self) -> None:
        """Forget every bar: the next one begins empty windows."""
        self.oldest = self.newest + 1
        self._has_tiny = False
        self._sets.reset()

    def amend(self, row: int, bar: int, value: float) -> None:
        """Set one cell of a bar that is kept, empty so far or not."""
        slot = bar % len(self.stamps)
        had_pair = not (isnan(self._y[slot, row]) or isnan(self._x[slot]))
        self._y[slot, row] = value
        self._amended(np.array([row]), bar, np.array([had_pair]))

    def amend_column(self, bar: int, returns: Floats) -> None:
        """Set every cell of a bar for which there is a return, NaN = none."""
        slot = bar % len(self.stamps)
        rows = np.flatnonzero(~np.isnan(returns))
        had_pair = ~np.isnan(self._y[slot, rows]) & (not isnan(self._x[slot]))
        self._y[slot, rows] = returns[rows]
        self._amended(rows, bar, had_pair)

    def amend_benchmark(self, bar: int, value: float) -> None:
        """Set the benchmark's return of a bar that is kept; not finite = missing."""
        slot = bar % len(self.stamps)
        rows = self.rows_of(bar)
        had_pair = np.full(len(rows), not isnan(self._x[slot]))
        self._x[slot] = usable(value)
        self._amended(rows, bar, had_pair)

    def insert(self, stamp: int, benchmark_return: float) -> int | None:
        """Open a bar between two that are there; return its index."""
        at = self._position(stamp)
        if self.newest - self.oldest >= self.lateness:
            if at == self.oldest:
                return None
            self.oldest += 1
        self._put_between(at, stamp, benchmark_return)
        return at

    def restart(self, bar: int) -> None:
        """Forget every bar before one that is kept: the windows begin with it."""
        self.oldest = bar
        self._sets.reset()
        for at in range(bar, self.newest + 1):
            stamp, x, y = self._column(self._all_rows, at)
            rows = np.flatnonzero(~np.isnan(y))
            if len(rows):
                self._sets.land(rows, x, y[rows], stamp)

    def forget(self, row: int) -> None:
        """Take out every return of one row."""
        self._y[:, row] = nan
        self._sets.forget(row)

    def state(self) -> State:
        """Return the bars that are kept, the pairs and their sets."""
        return {
            **self._bars(),
            "sets": self._sets.state(),
            "has_tiny": self._has_tiny,
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self._restore_bars(state)
        self._sets.restore(state["sets"])
        self._has_tiny = state["has_tiny"]

    def _look_for_tiny(self, x: float, returns: Floats) -> None:
        if (abs(x) < TINY and x) or has_tiny(returns):
            self._has_tiny = True

    def _recalculate(self, rows: Rows) -> Floats:
        x, y = self._sets.window(rows)
        return recalculate(x, y, self.min_observations)

    def _amended(self, rows: Rows, bar: int, had_pair: NDArray[np.bool_]) -> None:
        # The bar is what it should be; make it so for the pairs of these rows.
        columns = [self._column(rows, at) for at in range(bar, self.newest + 1)]
        self._look_for_tiny(columns[0].x, columns[0].y)
        has_pair = ~np.isnan(columns[0].y)
        n_later = np.zeros(len(rows), dtype=np.int64)
        for column in columns[1:]:
            n_later += ~np.isnan(column.y)
        is_last = (n_later == 0) & ~had_pair & has_pair
        if is_last.any():
            stamp, x, y = columns[0]
            self._sets.land(rows[is_last], x, y[is_last], stamp)
        others = np.flatnonzero((had_pair | has_pair) & ~is_last)
        if len(others):
            rows = rows[others]
            first = self._sets.n_pairs[rows] - n_later[others] - had_pair[others]
            tail = [column._replace(y=column.y[others]) for column in columns]
            self._sets.replace(rows, first, tail)

    def _column(self, rows: Rows, bar: int) -> Column:
        slot = bar % len(self.stamps)
        x = float(self._x[slot])
        y = np.full(len(rows), nan) if isnan(x) else self._y[slot, rows]
        return Column(int(self.stamps[slot]), x, y)
