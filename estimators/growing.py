"""The two sets that every window over a grid grows by its newest bar: back and head.

Rule: a bar takes its returns in parts, while its benchmark is known from the beginning.
However they are cut, the sets end with the same bits.

Until the next bar opens, the benchmark side that all rows share is that *before* the
newest bar; and as soon as only some rows have their pair, the sets keep theirs row by
row. `_settle` ends that: the shared side takes the bar in, and if no row lacks it, the
sets are shared again. That is when the bar closes, or before, when sets are made anew;
pairs that come after it find sets that are split.
"""

from math import isnan, nan
from typing import Final

import numpy as np

from .arrays import Rows
from .doubt import NO_ROWS, TINY, has_tiny
from .grid import Grid
from .moments import Floats, cells_of
from .sums import (
    SIDE,
    Sets,
    Terms,
    X,
    Y,
    absent_in,
    add_pair,
    column,
    count_pair,
    plus,
)

BACK: Final = 0
HEAD: Final = 1
_DENSE: Final = 0.3
"""Share of all rows from which on adding a whole column is cheaper than some rows."""
_FEW: Final = 1 / 8
"""Share of all rows up to which those that lack a bar are remembered."""


class GrowingSets(Grid):
    """Back and head of the windows over one grid of bars, and what they are about.

    Parameters
    ----------
    n_rows
        Number of rows (symbols).
    capacity
        Bars to make room for at first; more come as they are needed.
    min_observations
        Complete pairs below which a row's statistics are NaN.
    """

    def __init__(self, n_rows: int, capacity: int, min_observations: int) -> None:
        super().__init__(n_rows, capacity)
        self.min_observations = min_observations
        self._pivot_x = 0.0
        self._set_pivots(np.zeros(n_rows))
        self._tiny_bar = -1
        """Newest bar with a value so small that its variance may underflow."""
        self._flat_since = 0
        """The oldest bar from which on the benchmark had but one value,"""
        self._last_x = nan
        """which is this."""
        self._growing = Sets(2, n_rows)
        self._asset_cells = self._growing.cells
        self._own_cells = cells_of(self._growing.own)
        self._terms = Terms(n_rows)
        # The newest bar, while it takes pairs.
        self._is_settled = True
        self._n_added = 0
        self._missing = NO_ROWS
        """Rows that its first column lacked."""
        self._were_shared = [True, True]
        self._alone: list[int] = []
        """Rows whose pair came alone and is in no set yet."""

    @property
    def is_untouched(self) -> bool:
        """Whether the newest bar is known to have taken no return yet."""
        return not (self._is_settled or self._n_added or self._alone)

    def fill(self, returns: Floats, absent: Rows | None = None) -> None:
        """Add the newest bar's returns of all rows."""
        if self._alone:
            self._take_in()
        slot = self.newest % len(self.stamps)
        if isnan(self._x[slot]):
            np.copyto(self._y[slot], returns, where=~np.isnan(returns))
            return
        terms, growing = self._terms, self._growing
        terms.of_bar(returns, self._away, NO_ROWS if absent is None else absent)
        smallest = terms.smallest_square()
        if isnan(smallest):
            terms.of_bar(returns, self._away, absent_in(returns))
            smallest = terms.smallest_square()
        if smallest <= TINY * TINY:
            self._look_for_tiny(self.newest, terms.asset[Y])
        for grown in growing.flat:
            np.add(grown, terms.flat, grown)
        if len(terms.absent):
            self._grow_own(slot, returns)
        else:
            self.cells[:] = returns.data
            self._absent[slot] = NO_ROWS
            for lane in (BACK, HEAD):
                if growing.is_own[lane]:
                    side = growing.own[lane]
                    side += column(terms.shared)
            if not self._is_settled:  # else what rows share has the bar already
                back, head = growing.shared
                growing.shared[BACK] = plus(back, terms.shared)
                growing.shared[HEAD] = plus(head, terms.shared)
            self._is_settled = True
            self._n_added = self.n_rows

    def _grow_own(self, slot: int, returns: Floats) -> None:
        # The benchmark side of those rows that have a return.
        terms, growing = self._terms, self._growing
        absent = terms.absent
        if self._n_added:
            np.copyto(self._y[slot], returns, where=~np.isnan(returns))
        else:
            self.cells[:] = returns.data
            self._missing = absent
        self._split_growing()
        np.add(growing.own, terms.own, growing.own)
        self._n_added += self.n_rows - len(absent)

    def add(self, rows: Rows) -> None:
        """Add the newest bar's returns of some rows, as they stand in `cells`."""
        slot = self.newest % len(self.stamps)
        if isnan(self._x[slot]) or not len(rows):
            return
        if len(rows) >= max(_DENSE * self.n_rows, 1):
            returns = np.full(self.n_rows, np.nan)
            returns[rows] = self._y[slot, rows]
            self.fill(returns)
            return
        growing = self._growing
        self._split_growing()
        y = self._y[slot, rows] - self._pivots[rows]
        self._look_for_tiny(self.newest, y)
        x = self._terms.shared[X]
        growing.asset[:, :, rows] += np.stack((y, y * x, y * y))
        growing.own[:, :, rows] += column(self._terms.shared)
        self._n_added += len(rows)

    def add_one(self, row: int) -> None:
        """Add the newest bar's return of one row: `add` over floats."""
        if isnan(self._x[self.newest % len(self.stamps)]):
            return
        if not (self._growing.is_own[BACK] and self._growing.is_own[HEAD]):
            self._split_growing()
        y = self.cells[row] - self._pivot_cells[row]
        if y * y < TINY * TINY and y:
            self._tiny_bar = self.newest
        self._add_to_growing(row, self._terms.shared[X], y)
        self._n_added += 1

    def _set_pivots(self, pivots: Floats) -> None:
        self._pivots = pivots
        self._away = pivots if pivots.any() else None
        """The same, where one of them is not 0."""
        self._pivot_cells = cells_of(pivots)

    def _await_pairs(self) -> None:
        # The newest bar has its benchmark, or will have no pair.
        x: float = self._x.item(self.newest % len(self.stamps))
        self._is_settled = isnan(x)
        if self._is_settled:
            return
        self._n_added = 0
        self._missing = NO_ROWS
        back_is_own, head_is_own = self._growing.is_own
        self._were_shared = [not back_is_own, not head_is_own]
        if x != self._last_x:
            self._last_x, self._flat_since = x, self.newest
        x -= self._pivot_x
        self._terms.of_benchmark(x)
        if x * x < TINY * TINY and x:
            self._tiny_bar = self.newest

    def _reopen(self) -> None:
        # The newest bar is settled, and may take more pairs than it has.
        self._await_pairs()
        self._is_settled = True
        self._n_added = len(self.rows_of(self.newest))

    def _close(self) -> None:
        # The newest bar takes no more pairs. Settled early, it may have taken some of
        # rows that its first column lacked.
        if self._alone:
            self._take_in()
        if not self._is_settled:
            self._absent[self.newest % len(self.stamps)] = self._known_absent()
        self._settle()

    def _settle(self) -> None:
        # What rows share takes the newest bar in; more pairs of it may follow.
        if self._alone:
            self._take_in()
        if self._is_settled:
            return
        self._is_settled = True
        growing = self._growing
        is_complete = self._n_added == self.n_rows
        if not is_complete:
            self._split_growing()
        for lane in (BACK, HEAD):
            if is_complete and self._were_shared[lane]:
                growing.is_own[lane] = False
            growing.shared[lane] = plus(growing.shared[lane], self._terms.shared)

    def _known_absent(self) -> Rows | None:
        # Of the newest bar, if that column was all there was, and lacked few enough
        # rows to remember them for as long as the bar is in the window.
        if self._n_added == self.n_rows:
            return NO_ROWS
        n_missing = len(self._missing)
        is_all = self._n_added + n_missing == self.n_rows
        return self._missing if is_all and n_missing <= _FEW * self.n_rows else None

    def _take_in(self) -> None:
        # The pairs that came alone. The first shows that the bar's cells are in use.
        if self._alone:
            rows, self._alone = self._alone, []
            self.add_one(rows.pop())
            if len(rows) > self.scalar_rows:
                self.add(np.array(rows))
            else:
                for row in rows:
                    self.add_one(row)

    def _split_growing(self) -> None:
        for lane in (BACK, HEAD):
            self._growing.split(lane)

    def _add_to_growing(self, row: int, x: float, y: float) -> None:
        # One pair, as deviations; the sets are split.
        n_rows = self.n_rows
        for at in (row, row + SIDE * n_rows):
            add_pair(self._asset_cells, at, n_rows, x, y)
            count_pair(self._own_cells, at, n_rows, x)

    def _look_for_tiny(self, bar: int, deviations: Floats) -> None:
        if bar > self._tiny_bar:
            self._tiny_bar = bar if has_tiny(deviations) else self._tiny_bar

    def _look_for_flat(self) -> None:
        # The same from the grid.
        bars = np.arange(self.oldest, self.newest + 1)
        x = self._x[bars % len(self.stamps)]
        bars, x = bars[~np.isnan(x)], x[~np.isnan(x)]
        if len(x):
            others = bars[x != x[-1]]
            self._flat_since = int(others[-1]) + 1 if len(others) else self.oldest
            self._last_x = float(x[-1])
