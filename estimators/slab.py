"""Rolling windows of many symbols in lock step, over one grid of bars.

Rule: a symbol is a row, a bar is a column, a missing return is a missing cell. All
rows see the same bars, so all window control is a handful of integers, and every step
is one array operation over the rows. The arithmetic is that of `moments`: this file
decides *which* pairs are in which set, and subtracts nothing.

Theory of operation
-------------------
A window that slides must forget. Taking the oldest pair out of running sums also
leaves in its rounding error: after a print of 1e8 has passed, plain sums and Welford
with removal are wrong for ever. So the window is the union of two sets that only grow,

    front   the older bars: from the window's start up to a cut
    back    the bars since the cut

and is published as their merge. Sliding forward over the front needs the front's
moments *from every one of its bars onward*. Those suffixes are made by walking a
stretch of bars backward, adding one pair a step, and this walk is done a little each
bar, one stretch ahead of need::

    bars:   | passed |  front stretch  |  next stretch  | ... segments ... | head |
                          ^ start          <- walk
    suffixes in use:      [ start, cut )
    suffixes being made:                  [ each bar, newest cut )

The window is divided into about 0.75 * sqrt(W) *segments* of nearly equal length. When
the start leaves the front's stretch, the prepared suffixes take over (they reach up to
the newest cut), the back shrinks to the head segment, and the next walk begins: it
merges the segments behind the next stretch, newest first, then walks the stretch
itself. Both are spread evenly over the bars until they are needed. So every bar costs
two added pairs (back and head), one to two steps of the walk and one merge, for every
window length; the bar at which a stretch ends costs three copies more. There is no
bar at which anything is recomputed.

Memory per row: W returns, and 3 * 0.75 * sqrt(W) sets of 80 bytes.

Error: every number is made of additions to sets of at most W pairs, each pair added
once to each set, so the bound of `moments` holds whatever passed through before, after
any number of updates. This is the sliding-window aggregation of the two-stacks family
with its flip spread out; the cut at fixed strides is that of van Herk.

References
----------
K. Tangwongsan, M. Hirzel, S. Schneider, "In-order sliding-window aggregation in
worst-case constant time", The VLDB Journal 30 (2021). M. van Herk, "A fast algorithm
for local minimum and maximum filters on rectangular and octagonal kernels", Pattern
Recognition Letters 13 (1992).
"""

from collections import deque
from math import isnan, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import (
    FIELDS,
    LARGEST,
    Floats,
    Joined,
    Scratch,
    add_pair,
    add_pairs,
    cells_of,
    join_one,
    merge_sets,
    recentre,
)
from .ols import STATISTICS, solve, solve_one

MIN_LOOKBACK_LENGTH = 2
"""A window of one bar has no slope and nothing to slide."""

_BACK = 0
_HEAD = 1


class Segment(NamedTuple):
    """A closed run of bars and the slot that holds its moments."""

    first: int
    end: int
    slot: int


class WindowSlab:
    """Windows of the last ``lookback_length`` bars, one per row.

    Parameters
    ----------
    n_rows
        Number of rows (symbols).
    lookback_length
        Window length, in bars.
    min_observations
        Complete pairs below which a row's statistics are NaN.

    Notes
    -----
    A bar is opened by `advance` with the benchmark's return. Then it takes the
    assets' returns: a whole column by `fill`, or single ones, written to `cells` as
    they come and added together by `add` (or by `add_one`, its twin without numpy's
    fixed cost). A row takes at most one return per bar: its cell is NaN until then,
    and the caller looks before it writes.
    """

    def __init__(
        self, n_rows: int, lookback_length: int, min_observations: int
    ) -> None:
        if lookback_length < MIN_LOOKBACK_LENGTH:
            msg = f"lookback_length must be at least 2, was {lookback_length}"
            raise ValueError(msg)
        self.n_rows = n_rows
        self.lookback_length = lookback_length
        self.min_observations = min_observations
        n_segments = max(2, round(0.75 * sqrt(lookback_length)))
        self._bounds = [
            i * lookback_length // n_segments for i in range(n_segments + 1)
        ]
        longest = -(-lookback_length // n_segments)

        self.newest = -1
        """Index of the newest bar since the beginning; -1 before the first."""
        self.oldest = 0
        """Index of the window's oldest bar."""
        self.stamps = np.zeros(lookback_length, dtype=np.int64)
        self._x = np.full(lookback_length, nan)
        self._y = np.full((lookback_length, n_rows), nan)
        self._columns = [cells_of(column) for column in self._y]
        self.cells = self._columns[-1]
        """The newest bar's returns, NaN = none yet; write here, then `add`."""

        self._stretch = (0, 0)
        """Bars that the front's suffixes start at: first (excluded) to end."""
        self._next_stretch = (0, 0)
        self._head_first = 0
        self._segments: deque[Segment] = deque()
        self._slots = np.zeros((n_segments + 1, FIELDS, n_rows))
        self._suffixes = np.zeros((2, longest, FIELDS, n_rows))
        self._in_use = 0
        self._to_merge: list[int] = []
        self._to_walk = 0
        self._growing = np.zeros((2, FIELDS, n_rows))  # back, head
        self._nothing = np.zeros((FIELDS, n_rows))
        self._allocate_buffers()

    def _allocate_buffers(self) -> None:
        n_rows = self.n_rows
        self._scratch = Scratch(n_rows)
        self._joined = Joined(n_rows)
        self._statistics = np.zeros((STATISTICS, n_rows))
        self._everywhere = np.ones(n_rows)
        self._present = np.zeros(n_rows)
        self._clean = np.zeros(n_rows)
        self._absent = np.zeros(n_rows, dtype=np.bool_)
        self._growing_cells = cells_of(self._growing)

    @property
    def window_start(self) -> int:
        """Stamp of the window's oldest bar."""
        return int(self.stamps[self.oldest % self.lookback_length])

    @property
    def benchmark_return(self) -> float:
        """The newest bar's benchmark return; NaN = missing."""
        return float(self._x[self.newest % self.lookback_length])

    @property
    def column(self) -> Floats:
        """`cells` as an array, shape (n_rows,)."""
        column: Floats = self._y[self.newest % self.lookback_length]
        return column

    def advance(self, stamp: int, benchmark_return: float) -> None:
        """Open the next bar; the oldest leaves when the window is full.

        Parameters
        ----------
        stamp
            The bar's stamp, int64; reported as `window_start` when it is the oldest.
        benchmark_return
            The benchmark's return over the bar; not finite or above `LARGEST` =
            missing, so that no pair of this bar is complete.
        """
        bar = self.newest + 1
        length = self.lookback_length
        if bar >= length:
            if self.oldest == self._stretch[1]:
                self._swap(bar)
            self.oldest += 1
            turns = self._stretch[1] - self.oldest + 1
        else:
            position = len(self._segments) + 1
            if bar == self._bounds[position] and position < len(self._bounds) - 1:
                self._close_head(bar)
                recentre(self._growing[_BACK])
                if position == len(self._bounds) - 2:
                    self._begin_walk()
            turns = length - bar
        self.newest = bar
        slot = bar % length
        self.stamps[slot] = stamp
        self._x[slot] = benchmark_return if abs(benchmark_return) <= LARGEST else nan
        self._y[slot] = nan
        self.cells = self._columns[slot]
        self._walk(turns)

    def fill(self, returns: Floats) -> None:
        """Add the newest bar's returns of all rows.

        Parameters
        ----------
        returns
            Shape (n_rows,); NaN = no return for this row (now).
        """
        slot = self.newest % self.lookback_length
        x = self._x[slot]
        complete, y, present = self._split(returns)
        if complete:
            self._y[slot] = returns
        else:
            np.copyto(self._y[slot], returns, where=present != 0.0)
        if not isnan(x):
            add_pairs(self._growing, x, y, present, self._scratch)

    def add(self, rows: NDArray[np.intp]) -> None:
        """Add the newest bar's returns of some rows, as they stand in `cells`.

        Parameters
        ----------
        rows
            Shape (k,), each row once; their cells are finite.
        """
        slot = self.newest % self.lookback_length
        x = self._x[slot]
        if not isnan(x):
            sets = self._growing[:, :, rows]
            returns = self._y[slot, rows]
            add_pairs(sets, x, returns, self._everywhere[: len(rows)], self._scratch)
            self._growing[:, :, rows] = sets

    def add_one(self, row: int) -> None:
        """Add the newest bar's return of one row: `add` over floats."""
        x = float(self._x[self.newest % self.lookback_length])
        if not isnan(x):
            n_rows = self.n_rows
            y = self.cells[row]
            add_pair(self._growing_cells, row, n_rows, x, y)
            add_pair(self._growing_cells, row + FIELDS * n_rows, n_rows, x, y)

    def moments(
        self, rows: NDArray[np.intp] | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Return (n, mean, centred) of the windows, see `moments.Joined.join`."""
        front, back = self._front(), self._growing[_BACK]
        if rows is not None:
            front, back = front[:, rows], back[:, rows]
        return self._joined.join(front, back)

    def estimate(self, rows: NDArray[np.intp] | None = None) -> tuple[Floats, Floats]:
        """Return (n, statistics) of all or some rows.

        Returns
        -------
        n
            Complete pairs per row, shape (k,).
        statistics
            Shape (STATISTICS, k), NaN = undefined. Both are views of buffers that the
            next call overwrites.
        """
        n, mean, centred = self.moments(rows)
        statistics = self._statistics[:, : n.shape[0]]
        solve(n, mean, centred, self.min_observations, statistics)
        return n, statistics

    def estimate_one(
        self, row: int
    ) -> tuple[float, tuple[float, float, float, float, float, float]]:
        """Return (n, statistics) of one row: `estimate` over floats."""
        joined = join_one(
            self._front()[:, row].tolist(), self._growing[_BACK, :, row].tolist()
        )
        return joined[0], solve_one(joined, self.min_observations)

    def _split(self, returns: Floats) -> tuple[bool, Floats, Floats]:
        # (all present?, values with 0 where absent, 1.0 where present)
        np.isnan(returns, out=self._absent)
        if not self._absent.any():
            return True, returns, self._everywhere
        np.copyto(self._clean, returns)
        self._clean[self._absent] = 0.0
        np.subtract(1.0, self._absent, out=self._present)
        return False, self._clean, self._present

    def _front(self) -> Floats:
        first, end = self._stretch
        if end == 0:  # the window is not full yet: all is in the back
            return self._nothing
        front: Floats = self._suffixes[self._in_use, self.oldest - first - 1]
        return front

    def _close_head(self, bar: int) -> None:
        # The head segment ends before `bar`; its moments go to the free slot.
        used = {segment.slot for segment in self._segments}
        slot = next(i for i in range(len(self._slots)) if i not in used)
        self._slots[slot] = self._growing[_HEAD]
        recentre(self._slots[slot])
        self._segments.append(Segment(self._head_first, bar, slot))
        self._head_first = bar
        self._growing[_HEAD] = 0.0

    def _swap(self, bar: int) -> None:
        # The start leaves the front's stretch: the prepared suffixes take over.
        self._walk(1)
        self._in_use = 1 - self._in_use
        self._stretch = self._next_stretch
        self._close_head(bar)
        self._growing[_BACK] = self._slots[self._segments[-1].slot]
        self._begin_walk()

    def _begin_walk(self) -> None:
        stretch = self._segments.popleft()
        self._next_stretch = (stretch.first, stretch.end)
        self._to_merge = [segment.slot for segment in self._segments]
        self._to_walk = stretch.end - 1
        self._suffixes[1 - self._in_use, stretch.end - stretch.first - 1] = 0.0

    def _walk(self, turns: int) -> None:
        # Do this turn's share of preparing the next stretch's suffixes.
        first, end = self._next_stretch
        left = len(self._to_merge) + max(self._to_walk - first, 0)
        if not left:
            return
        suffixes = self._suffixes[1 - self._in_use]
        for _ in range(-(-left // turns)):
            if self._to_merge:
                merge_sets(suffixes[end - first - 1], self._slots[self._to_merge.pop()])
                continue
            bar = self._to_walk
            self._to_walk = bar - 1
            # suffix of `bar` = suffix of the bar after it, plus the pair of `bar`
            after = suffixes[bar - first : bar - first + 1]
            target = suffixes[bar - first - 1 : bar - first]
            slot = bar % self.lookback_length
            x = self._x[slot]
            if isnan(x):
                target[:] = after
            else:
                _, y, present = self._split(self._y[slot])
                add_pairs(after, x, y, present, self._scratch, out=target)
