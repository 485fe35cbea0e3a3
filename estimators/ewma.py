"""Exponential windows: every pair counts, and the less the older it is.

Rule: this file knows bars, and what may yet change in them; what the pairs add up to is
the business of `EwmaSums`.

Nothing can be taken out of sums that have decayed. So the pairs of the bars that may
yet be amended are in the grid, and those of all older bars in a second set of sums, the
base; an amendment sets the rows concerned back to the base and adds the bars after it
again, in order, so that the result is that of arrival in order, to the last bit.
Without lateness there is no base, and only the open bar can be amended, by what it has
not yet got.

Memory per row: 200 bytes of sums, as much again for the base, and 8 bytes for each of
the lateness + 1 bars.
"""

from math import isnan, nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows, Statistics
from .decay import Decay
from .ewma_sums import EwmaSums
from .grid import AmendableGrid, usable
from .moments import Floats
from .ols import STATISTICS
from .state import State

Clock = Literal["bars", "pairs", "time"]

_ROOM = 16
"""Bars to make room for at first."""


class EwmaWindows(AmendableGrid):
    """Exponentially weighted windows, one per row.

    Parameters
    ----------
    n_rows
        Number of rows (symbols).
    half_life
        The age at which a pair has half the weight of a new one, above 0; in bars,
        pairs, or units of the stamps.
    min_observations
        Complete pairs since the beginning below which a row's statistics are NaN.
    clock
        What ages pairs: each bar, each complete pair of the row, or time.
    lateness
        How many bars after its own a return may come, or be corrected.

    Raises
    ------
    ValueError
        If the half-life is not above 0 and finite, or the lateness below 0.

    Notes
    -----
    ``n`` counts the pairs since the beginning; `effective` is what they are worth. The
    residual statistics are undefined while that is 2 or less. The benchmark is flat
    when nothing of its variance is left, see `ewma_sums`.
    """

    scalar_rows = 0
    is_weighted = True

    newest: int
    oldest: int

    def __init__(
        self,
        n_rows: int,
        half_life: float,
        min_observations: int,
        *,
        clock: Clock,
        lateness: int,
    ) -> None:
        if not 0.0 < half_life < float("inf"):
            msg = f"a half-life is above 0 and finite, was {half_life}"
            raise ValueError(msg)
        if lateness < 0:
            msg = f"a lateness is at least 0 bars, was {lateness}"
            raise ValueError(msg)
        super().__init__(n_rows, min(lateness + 1, _ROOM))
        self.half_life = half_life
        self.min_observations = min_observations
        self.clock = clock
        self.lateness = lateness
        decay = Decay(half_life)
        self._sums = EwmaSums(n_rows, decay)
        self._base = EwmaSums(n_rows, decay) if lateness else None
        self._all_rows: Rows = np.arange(n_rows, dtype=np.intp)
        self._first_stamp = 0
        self._is_empty = True
        self._has_dropped = False
        """Whether a bar of the window is not kept any more."""

    def advance(self, stamp: int, benchmark_return: float) -> None:
        """Open the next bar; the one that is too old to be amended joins the base."""
        if self._is_empty:
            self._is_empty = False
            self._first_stamp = stamp
        self._drop(self.newest + 1 - self.lateness)
        self._open(stamp, benchmark_return)

    def _drop(self, oldest: int) -> None:
        # No bar before this one can be amended from now on.
        while self.oldest < oldest:
            if self._base:
                self._add_bar(self._base, self._all_rows, self.oldest)
            self._has_dropped = True
            self.oldest += 1

    def fill(self, returns: Floats, absent: Rows | None = None) -> None:
        """Add the newest bar's returns of all rows."""
        del absent
        rows = np.flatnonzero(~np.isnan(returns))
        self._y[self.newest % len(self.stamps), rows] = returns[rows]
        self.add(rows)

    def add(self, rows: Rows) -> None:
        """Add the newest bar's returns of some rows, as they stand in `cells`."""
        self._add_bar(self._sums, rows, self.newest)

    def add_one(self, row: int) -> None:
        """Add the newest bar's return of one row, as it stands in `cells`."""
        self.add(np.array([row]))

    def _add_bar(self, sums: EwmaSums, rows: Rows, bar: int) -> None:
        # What some rows have in a bar.
        slot = bar % len(self.stamps)
        x = float(self._x[slot])
        if isnan(x):
            return
        y = self._y[slot, rows]
        present = ~np.isnan(y)
        if not present.all():
            rows, y = rows[present], y[present]
        sums.add(rows, x, y, self._reading(bar))

    def _reading(self, bar: int) -> int | None:
        # What the clock of the ages says in a bar; None when each pair is a tick.
        if self.clock == "bars":
            return bar
        return self.stamp(bar) if self.clock == "time" else None

    def estimate(
        self, rows: Rows | None = None, *, full: bool = False
    ) -> tuple[Floats, Floats]:
        """Return (n, statistics) of all or some rows."""
        rows = self._all_rows if rows is None else rows
        statistics = self._sums.statistics(rows, self.min_observations)
        return self._sums.n[rows], statistics if full else statistics[:STATISTICS]

    def estimate_one(self, row: int) -> tuple[float, Statistics]:
        """Return (n, statistics) of one row."""
        n, statistics = self.estimate(np.array([row]))
        beta, alpha, std_error, t_stat, r_squared, residual_std = statistics[
            :, 0
        ].tolist()
        return float(n[0]), (beta, alpha, std_error, t_stat, r_squared, residual_std)

    def effective(self, rows: Rows | None = None) -> Floats:
        """Return the effective number of pairs, shape (k,); 0 without any."""
        return self._sums.effective(self._all_rows if rows is None else rows)

    def window_starts(self, rows: Rows | None = None) -> NDArray[np.int64]:
        """Return the stamp of the first bar since the beginning, shape (1,)."""
        del rows
        return np.array([self._first_stamp])

    def window_start_of(self, row: int) -> int:
        """Return the stamp of the first bar since the beginning."""
        del row
        return self._first_stamp

    def reset(self) -> None:
        """Forget every bar: the next one begins empty windows."""
        self._clear(self.newest + 1)
        self._is_empty = True

    def _clear(self, oldest: int) -> None:
        self.oldest = oldest
        self._has_dropped = False
        self._sums.reset()
        if self._base:
            self._base.reset()

    def amend(self, row: int, bar: int, value: float) -> None:
        """Set one cell of a bar that is kept, empty so far or not."""
        slot = bar % len(self.stamps)
        was_missing = isnan(self._y[slot, row])
        self._y[slot, row] = value
        rows = np.array([row])
        if bar == self.newest and was_missing:
            self._add_bar(self._sums, rows, bar)
        else:
            self._replay(rows)

    def amend_column(self, bar: int, returns: Floats) -> None:
        """Set every cell of a bar for which there is a return, NaN = none."""
        rows = np.flatnonzero(~np.isnan(returns))
        slot = bar % len(self.stamps)
        was_missing = np.isnan(self._y[slot, rows])
        self._y[slot, rows] = returns[rows]
        if bar == self.newest and was_missing.all():
            self._add_bar(self._sums, rows, bar)
        else:
            self._replay(rows)

    def amend_benchmark(self, bar: int, value: float) -> None:
        """Set the benchmark's return of a bar that is kept; not finite = missing."""
        slot = bar % len(self.stamps)
        was_missing = isnan(self._x[slot])
        self._x[slot] = usable(value)
        rows = self.rows_of(bar)
        if bar == self.newest and was_missing:
            self._add_bar(self._sums, rows, bar)
        else:
            self._replay(rows)

    def insert(self, stamp: int, benchmark_return: float) -> int | None:
        """Open a bar between two that are there; return its index."""
        at = self._position(stamp)
        if at == self.oldest and self._has_dropped:
            return None
        if self.newest - self.oldest >= self.lateness:
            if at == self.oldest:
                return None
            self._drop(self.oldest + 1)
        self._put_between(at, stamp, benchmark_return)
        self._first_stamp = min(self._first_stamp, stamp)
        if self.clock == "bars":  # all pairs before it are a bar older
            self._replay(self._all_rows)
        return at

    def restart(self, bar: int) -> None:
        """Forget every bar before one that is kept: the windows begin with it."""
        self._clear(bar)
        self._first_stamp = self.stamp(bar)
        self._add_kept(self._all_rows)

    def forget(self, row: int) -> None:
        """Take out every return of one row."""
        self._y[:, row] = nan
        rows = np.array([row])
        self._sums.reset(rows)
        if self._base:
            self._base.reset(rows)

    def state(self) -> State:
        """Return the bars that are kept and the sums."""
        state = {
            **self._bars(),
            "sums": self._sums.state(),
            "first_stamp": self._first_stamp,
            "is_empty": self._is_empty,
            "has_dropped": self._has_dropped,
        }
        return {**state, "base": self._base.state()} if self._base else state

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self._restore_bars(state)
        self._sums.restore(state["sums"])
        if self._base:
            self._base.restore(state["base"])
        self._first_stamp = state["first_stamp"]
        self._is_empty = state["is_empty"]
        self._has_dropped = state["has_dropped"]

    def _replay(self, rows: Rows) -> None:
        # These rows, from the base and the bars that are kept.
        if self._base:
            self._sums.copy(rows, self._base)
        elif self._has_dropped:
            msg = "without lateness a pair cannot be taken back"
            raise ValueError(msg)
        else:
            self._sums.reset(rows)
        self._add_kept(rows)

    def _add_kept(self, rows: Rows) -> None:
        for bar in range(self.oldest, self.newest + 1):
            self._add_bar(self._sums, rows, bar)
