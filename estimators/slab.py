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

The bars themselves stay in the grid's ring. Rows whose statistics double precision
cannot give within their tolerance are computed from there, see `recalc`.

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
from math import isnan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .extent import BarExtent, Extent
from .grid import Grid, Rows
from .moments import (
    FIELDS,
    Floats,
    Joined,
    Scratch,
    add_pair,
    add_pairs,
    cells_of,
    join_one,
    merge_set,
    merge_sets,
    recentre,
)
from .ols import ALL_STATISTICS, STATISTICS, solve, solve_one
from .recalc import TINY, batches, doubtful, has_tiny, is_doubtful, recalculate

_BACK = 0
_HEAD = 1


class Segment(NamedTuple):
    """A closed run of bars and the slot that holds its moments."""

    first: int
    end: int
    slot: int

    @property
    def n_bars(self) -> int:
        """Length of the run."""
        return self.end - self.first

    def __bool__(self) -> bool:
        return self.end > self.first


_NO_BARS = Segment(0, 0, -1)


class WindowSlab(Grid):
    """Windows over one grid of bars, one per row.

    Parameters
    ----------
    n_rows
        Number of rows (symbols).
    extent
        How far a window reaches back; an int is a number of bars.
    min_observations
        Complete pairs below which a row's statistics are NaN.
    """

    scalar_rows = 12
    """Numpy's fixed cost per commit is about that of this many scalar rows."""

    def __init__(
        self, n_rows: int, extent: Extent | int, min_observations: int
    ) -> None:
        self.extent = BarExtent(extent) if isinstance(extent, int) else extent
        super().__init__(n_rows, self.extent.capacity)
        self.min_observations = min_observations
        self._tiny_bar = -1
        """Newest bar with a value so small that its variance may underflow."""

        # The sets of pairs, see the theory of operation.
        self._growing = np.zeros((2, FIELDS, n_rows))  # back, head
        self._suffixes = [np.zeros((1, FIELDS, n_rows)) for _ in range(2)]
        self._slots = [np.zeros((FIELDS, n_rows)) for _ in range(2)]
        self._free_slots = [1, 0]
        self._segments: deque[Segment] = deque()
        self._allocate_buffers()
        self._begin(0)

    def _allocate_buffers(self) -> None:
        n_rows = self.n_rows
        self._nothing = np.zeros((FIELDS, n_rows))
        self._scratch = Scratch(n_rows)
        self._joined = Joined(n_rows)
        self._statistics = np.zeros((ALL_STATISTICS, n_rows))
        self._growing_cells = cells_of(self._growing)

    def _begin(self, bar: int) -> None:
        # An empty window whose first bar will be `bar`.
        self.oldest = bar
        self._first = bar
        self._is_sliding = False
        self._head_first = bar
        self._growing[:] = 0.0
        while self._segments:
            self._release(self._segments.pop())
        self._in_use = 0
        self._stretch = _NO_BARS
        """The front's suffixes start at each of these bars but the first."""
        self._next = _NO_BARS
        self._to_merge: list[int] = []
        self._to_walk = 0
        # Which bars are in what, so that a correction can make it anew.
        self._back_first = bar
        self._merged: list[Segment] = []
        """What was merged into the front's suffixes, oldest first."""
        self._next_merged: list[Segment] = []

    def window_start_of(self, row: int) -> int:
        """Return the stamp of the window's oldest bar."""
        del row
        return self.window_start

    @property
    def window_start(self) -> int:
        """Stamp of the window's oldest bar."""
        return int(self.stamps[self.oldest % len(self.stamps)])

    def reset(self) -> None:
        """Forget every bar: the next one begins an empty window."""
        self._begin(self.newest + 1)

    def window_starts(self, rows: Rows | None = None) -> NDArray[np.int64]:
        """Return the stamp of the window's oldest bar, shape (1,)."""
        del rows
        return np.array([self.window_start])

    def advance(self, stamp: int, benchmark_return: float) -> None:
        """Open the next bar; what the extent no longer reaches leaves the window."""
        bar = self.newest + 1
        n_evicted = self._evict(bar, stamp)
        self._open(stamp, benchmark_return)
        x = self.benchmark_return
        if abs(x) < TINY and x:
            self._tiny_bar = bar
        if not self._is_sliding:
            self._close_while_filling(bar, stamp)
        elif n_evicted:
            self._walk(self._stretch.end - self.oldest + 1)

    def _evict(self, bar: int, stamp: int) -> int:
        # Bars that leave before `bar` enters; each moves the start by one.
        has_left = self.extent.has_left
        stamps = self.stamps
        before = self.oldest
        while self.oldest < bar and has_left(
            bar, stamp, self.oldest, int(stamps[self.oldest % len(stamps)])
        ):
            if self.oldest == bar - 1:  # nothing is left of the window
                self._begin(bar)
                return 0
            if self.oldest == self._stretch.end or not self._is_sliding:
                self._swap(bar)
            self.oldest += 1
        return self.oldest - before

    def _close_while_filling(self, bar: int, stamp: int) -> None:
        n_bars = bar - self._first
        span = stamp - int(self.stamps[self._first % len(self.stamps)])
        last = self.extent.n_segments - 1
        n_closed = min(self.extent.n_closed(n_bars, span), last)
        if n_closed > len(self._segments) and bar > self._head_first and not self._next:
            self._close_head(bar)
            recentre(self._growing[_BACK])
            if n_closed == last:
                self._begin_walk()
        if self._next:
            self._walk(max(self.extent.bars_left(n_bars, span), 1))

    def fill(self, returns: Floats) -> None:
        """Add the newest bar's returns of all rows."""
        slot = self.newest % len(self.stamps)
        x = self._x[slot]
        complete, y, present = self._split(returns)
        self._look_for_tiny(self.newest, y)
        if complete:
            self._y[slot] = returns
        else:
            np.copyto(self._y[slot], returns, where=present != 0.0)
        if not isnan(x):
            add_pairs(self._growing, x, y, present, self._scratch)

    def add(self, rows: Rows) -> None:
        """Add the newest bar's returns of some rows, as they stand in `cells`."""
        slot = self.newest % len(self.stamps)
        x = self._x[slot]
        if not isnan(x):
            sets = self._growing[:, :, rows]
            returns = self._y[slot, rows]
            self._look_for_tiny(self.newest, returns)
            add_pairs(sets, x, returns, self._everywhere[: len(rows)], self._scratch)
            self._growing[:, :, rows] = sets

    def add_one(self, row: int) -> None:
        """Add the newest bar's return of one row: `add` over floats."""
        x = float(self._x[self.newest % len(self.stamps)])
        if not isnan(x):
            n_rows = self.n_rows
            y = self.cells[row]
            if abs(y) < TINY and y:
                self._tiny_bar = self.newest
            add_pair(self._growing_cells, row, n_rows, x, y)
            add_pair(self._growing_cells, row + FIELDS * n_rows, n_rows, x, y)

    def moments(self, rows: Rows | None = None) -> tuple[Floats, Floats, Floats]:
        """Return (n, mean, centred) of the windows, see `moments.Joined.join`."""
        front, back = self._front(), self._growing[_BACK]
        if rows is not None:
            front, back = front[:, rows], back[:, rows]
        return self._joined.join(front, back)

    def estimate(
        self, rows: Rows | None = None, *, full: bool = False
    ) -> tuple[Floats, Floats]:
        """Return (n, statistics) of all or some rows."""
        n, mean, centred = self.moments(rows)
        n_statistics = ALL_STATISTICS if full else STATISTICS
        statistics = self._statistics[:n_statistics, : n.shape[0]]
        solve(n, mean, centred, self.min_observations, statistics)
        doubts = doubtful(n, mean, centred, statistics, tiny=self._has_tiny)
        for some in batches(doubts, self.newest + 1 - self.oldest):
            exact = self._recalculate(some if rows is None else rows[some])
            statistics[:, some] = exact[:n_statistics]
        return n, statistics

    def estimate_one(
        self, row: int
    ) -> tuple[float, tuple[float, float, float, float, float, float]]:
        """Return (n, statistics) of one row: `estimate` over floats."""
        joined = join_one(
            self._front()[:, row].tolist(), self._growing[_BACK, :, row].tolist()
        )
        statistics = solve_one(joined, self.min_observations)
        if is_doubtful(joined, statistics, tiny=self._has_tiny):
            exact = self._recalculate(np.array([row]))[:STATISTICS, 0]
            beta, alpha, std_error, t_stat, r_squared, residual_std = exact.tolist()
            statistics = beta, alpha, std_error, t_stat, r_squared, residual_std
        return joined[0], statistics

    @property
    def _has_tiny(self) -> bool:
        return self._tiny_bar >= self.oldest

    def _look_for_tiny(self, bar: int, returns: Floats) -> None:
        if bar > self._tiny_bar and has_tiny(returns):
            self._tiny_bar = bar

    def _recalculate(self, rows: Rows) -> Floats:
        slots = np.arange(self.oldest, self.newest + 1) % len(self.stamps)
        y = self._y[slots[:, None], rows]
        return recalculate(self._x[slots], y, self.min_observations)

    def _front(self) -> Floats:
        if not self._is_sliding:  # all is in the back
            return self._nothing
        front: Floats = self._suffixes[self._in_use][
            self.oldest - self._stretch.first - 1
        ]
        return front

    def _release(self, segment: Segment) -> None:
        self._free_slots.append(segment.slot)

    def _close_head(self, bar: int) -> None:
        # The head segment ends before `bar`; its moments go to a free slot.
        if not self._free_slots:
            self._free_slots.append(len(self._slots))
            self._slots.append(np.zeros((FIELDS, self.n_rows)))
        slot = self._free_slots.pop()
        self._slots[slot][:] = self._growing[_HEAD]
        recentre(self._slots[slot])
        self._segments.append(Segment(self._head_first, bar, slot))
        self._head_first = bar
        self._growing[_HEAD] = 0.0

    def _swap(self, bar: int) -> None:
        # The start leaves the front's stretch: the prepared suffixes take over.
        if not self._next:  # filled so unevenly that nothing is prepared
            self._close_head(bar)
            self._begin_walk()
        self._walk(1)
        self._is_sliding = True
        self._in_use = 1 - self._in_use
        self._stretch = self._next
        self._merged = self._next_merged
        self._back_first = self._head_first
        if self._head_first < bar:
            self._close_head(bar)
            self._growing[_BACK] = self._slots[self._segments[-1].slot]
        else:
            self._growing[_BACK] = 0.0
        self._begin_walk()

    def _begin_walk(self) -> None:
        if not self._segments:
            self._next = _NO_BARS
            return
        self._next = stretch = self._segments.popleft()
        self._release(stretch)
        self._next_merged = list(self._segments)
        self._to_merge = [segment.slot for segment in self._segments]
        self._to_walk = stretch.end - 1
        unused = 1 - self._in_use
        if stretch.n_bars > len(self._suffixes[unused]):
            shape = (stretch.n_bars, FIELDS, self.n_rows)
            self._suffixes[unused] = np.zeros(shape)
        self._suffixes[unused][stretch.n_bars - 1] = 0.0

    def _walk(self, turns: int) -> None:
        # Do this turn's share of preparing the next stretch's suffixes.
        first, end = self._next.first, self._next.end
        left = len(self._to_merge) + max(self._to_walk - first, 0)
        if not self._next or not left:
            return
        suffixes = self._suffixes[1 - self._in_use]
        is_small = self.n_rows <= self.scalar_rows
        for _ in range(-(-left // turns)):
            if self._to_merge:
                closed = self._slots[self._to_merge.pop()]
                if is_small:
                    self._merge_ones(suffixes, end - first - 1, closed)
                else:
                    merge_sets(suffixes[end - first - 1], closed)
                continue
            bar = self._to_walk
            self._to_walk = bar - 1
            # suffix of `bar` = suffix of the bar after it, plus the pair of `bar`
            after = suffixes[bar - first : bar - first + 1]
            target = suffixes[bar - first - 1 : bar - first]
            slot = bar % len(self.stamps)
            x = self._x[slot]
            if isnan(x):
                target[:] = after
            elif is_small:
                target[:] = after
                self._add_ones(suffixes, bar - first - 1, x, self._columns[slot])
            else:
                _, y, present = self._split(self._y[slot])
                add_pairs(after, x, y, present, self._scratch, out=target)

    def _merge_ones(self, suffixes: Floats, at: int, closed: Floats) -> None:
        # A closed segment into the suffix of one bar: `merge_sets` over floats.
        n_rows = self.n_rows
        cells, others = cells_of(suffixes), cells_of(closed)
        for row in range(n_rows):
            merge_set(cells, at * FIELDS * n_rows + row, others, n_rows)

    def _add_ones(
        self, suffixes: Floats, at: int, x: float, returns: "memoryview[float]"
    ) -> None:
        # A bar's pairs into the suffix of one bar: `add_pairs` over floats.
        n_rows = self.n_rows
        cells = cells_of(suffixes)
        for row in range(n_rows):
            y = returns[row]
            if y == y:  # noqa: PLR0124 - not NaN
                add_pair(cells, at * FIELDS * n_rows + row, n_rows, x, y)
