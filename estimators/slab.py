"""Rolling windows of many symbols in lock step, over one grid of bars.

Rule: a symbol is a row, a bar is a column, a missing return is a missing cell. All
rows see the same bars, so all window control is a handful of integers, and every step
is one array operation over the rows. The arithmetic is that of `sums`: this file
decides *which* pairs are in which set, and subtracts nothing.

Theory of operation
-------------------
A window that slides must forget. Taking the oldest pair out of running sums also
leaves in its rounding error: after a print of 1e8 has passed, plain sums and Welford
with removal are wrong for ever. So the window is the union of two sets that only grow,

    front   the older bars: from the window's start up to a cut
    back    the bars since the cut

and is published as their sum. Sliding forward over the front needs the front's
sums *from every one of its bars onward*. Those suffixes are made by walking a
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
bar at which anything is recomputed, but for rows whose pivot has become odd: where a
stretch ends, or a part of a window that fills, their sets are made anew from the grid,
about another one.

How many bars a window of time will hold nobody knows. Its segments end with equal
parts of its length, and a burst ends some more of them (`Extent.longest_head`): then
the back is joined anew from the segments since the cut, as if it had grown by them.

Memory per row: W returns, and 3 * 0.75 * sqrt(W) sets of 24 bytes, or of 48 where
bars are missing.

The bars themselves stay in the grid's ring. Rows whose statistics double precision
cannot give within their tolerance are computed from there, see `recalc`.

Error: between a pair and the window's sums lie the additions of its own segment, one
per segment, and those of the stretch or the head: some 3.4 * sqrt(W) in all, each of
which rounds once (`sums.error_of`). That holds whatever passed through before, after
any number of updates. To that end a window that fills is made of segments too: its
front is the sum of those that are closed.

This is the sliding-window aggregation of the two-stacks family with its flip spread
out; the cut at fixed strides is that of van Herk.

References
----------
K. Tangwongsan, M. Hirzel, S. Schneider, "In-order sliding-window aggregation in
worst-case constant time", The VLDB Journal 30 (2021). M. van Herk, "A fast algorithm
for local minimum and maximum filters on rectangular and octagonal kernels", Pattern
Recognition Letters 13 (1992).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows, Statistics
from .doubt import doubtful, is_doubtful
from .extent import BarExtent, Extent
from .lone import LonePairs
from .moments import Floats
from .ols import ALL_STATISTICS, STATISTICS, Moments, solve, solve_one
from .recalc import batches, recalculate
from .sums import Basis, Shared, moments_of
from .whole import WholePass

WHOLE_PASS_SHARE: Final = 4
"""From a quarter of the rows on, a pass over all of them beats gathering some."""


class WindowSlab(LonePairs):
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
        # With one more, for the next bar to be prepared in.
        super().__init__(n_rows, self.extent.capacity + 1, min_observations)
        self._n_segments = self.extent.n_segments
        self._longest_segment = self.extent.longest_segment
        self._look_for_longest()
        self._whole = WholePass(n_rows, min_observations)
        self._n_pairs = np.zeros(max(n_rows, 1))
        """Pairs of every row, while all have as many; another number, another array."""

    def reset(self) -> None:
        """Forget every bar: the next one begins an empty window."""
        self._begin(self.newest + 1)

    def window_starts(self, rows: Rows | None = None) -> NDArray[np.int64]:
        """Return the stamp of the window's oldest bar, shape (1,)."""
        del rows
        slot = self.oldest % len(self.stamps)
        return self.stamps[slot : slot + 1].copy()

    def advance(self, stamp: int, benchmark_return: float) -> None:
        """Open the next bar; what the extent no longer reaches leaves the window."""
        self._close()
        bar = self.newest + 1
        n_evicted = self._evict(bar, stamp)
        if not self._is_sliding:
            self._close_while_filling(bar, stamp)
        if bar - self._head_first >= self.extent.longest_head(bar - self.oldest):
            # Before too many additions are behind a term; for better pivots there is
            # time when a stretch ends.
            self._close_head(bar)
        self._open(stamp, benchmark_return)
        self._await_pairs()
        if self._is_sliding and n_evicted:
            if not self._has_walked or n_evicted > 1:
                self._walk(self._stretch.end - self.oldest + 1)
            self._has_walked = False

    def prepare(self) -> None:
        """Do ahead what the next return will need, of this bar or the next."""
        super().prepare()
        if (
            not self._has_walked
            and self._is_sliding
            and self.oldest < self._stretch.end
        ):
            self._has_walked = True
            self._before_walk = len(self._to_merge), self._to_walk
            self._walk(self._stretch.end - self.oldest)

    def _evict(self, bar: int, stamp: int) -> int:
        # Bars that leave before `bar` enters; each moves the start by one.
        has_left = self.extent.has_left
        stamps = self.stamps
        before = self.oldest
        while self.oldest < bar and has_left(
            bar, stamp, self.oldest, stamps.item(self.oldest % len(stamps))
        ):
            if self.oldest == bar - 1:  # nothing is left of the window
                self._begin(bar)
                return 0
            if self.oldest == self._stretch.end or not self._is_sliding:
                self._repivot()
                self._swap(bar)
            self.oldest += 1
            if self.extent.counts_bars:
                break
        return self.oldest - before

    def _close_while_filling(self, bar: int, stamp: int) -> None:
        n_bars = bar - self._first
        span = stamp - int(self.stamps[self._first % len(self.stamps)])
        last = self.extent.n_segments - 1
        n_closed = min(self.extent.n_closed(n_bars, span), last)
        if n_closed > self._n_parts and bar > self._head_first and not self._next:
            self._repivot()
            self._close_head(bar)
            self._n_parts += 1
            if n_closed == last:
                self._begin_walk()
        if self._next:
            self._walk(max(self.extent.bars_left(n_bars, span), 1))

    def moments(self, rows: Rows | None = None) -> Moments:
        """Return what the statistics of all or some rows are computed from."""
        asset, benchmark = self.sums(rows)
        if isinstance(benchmark, np.ndarray):
            benchmark = benchmark.copy()
        return moments_of(asset.copy(), benchmark, self.basis, rows)

    def estimate(
        self, rows: Rows | None = None, *, full: bool = False
    ) -> tuple[Floats, Floats]:
        """Return (n, statistics) of all or some rows."""
        basis = self.basis
        is_most = rows is None or len(rows) * WHOLE_PASS_SHARE >= self.n_rows
        if is_most and rows is not None:
            asset, benchmark, basis = self._taken(rows, basis)
        else:
            asset, benchmark = self.sums(rows)
        n_rows = asset.shape[1]
        n: Floats | float = benchmark[0]
        if rows is None and isinstance(n, np.ndarray):
            n = n.copy()  # the next step overwrites it
        if is_most and n_rows and not full and self._whole.takes(benchmark, basis):
            statistics, doubts = self._whole.estimate(asset, benchmark, basis)
        else:
            moments = moments_of(asset, benchmark, basis, None if is_most else rows)
            statistics = np.empty((ALL_STATISTICS if full else STATISTICS, n_rows))
            solve(moments, self.min_observations, statistics)
            doubts = doubtful(
                moments,
                statistics,
                self.min_observations,
                basis.error,
                tiny=basis.has_tiny,
            )
        if len(doubts):
            for some in batches(doubts, self.newest + 1 - self.oldest):
                exact = self._recalculate(some if rows is None else rows[some])
                statistics[:, some] = exact[: len(statistics)]
        if isinstance(n, np.ndarray):
            self.are_alike = False
            return n, statistics
        self.are_alike = not len(doubts)
        if n != self._n_pairs.item(0):
            self._n_pairs = np.full(len(self._n_pairs), n)
        all_n = self._n_pairs
        return all_n if n_rows == len(all_n) else all_n[:n_rows], statistics

    def _taken(self, rows: Rows, basis: Basis) -> tuple[Floats, Floats | Shared, Basis]:
        # `sums` and basis of most rows: less is done to all than to take them twice.
        asset, benchmark = self.sums()
        if isinstance(benchmark, np.ndarray):
            benchmark = benchmark.take(rows, 1)
        if basis.pivots is not None:
            basis = basis._replace(pivots=basis.pivots.take(rows))
        return asset.take(rows, 1), benchmark, basis

    def estimate_one(self, row: int) -> tuple[float, Statistics]:
        """Return (n, statistics) of one row: `estimate` over floats."""
        if self._alone:
            self._take_in()
        return self._estimate_added(row)

    def _estimate_added(self, row: int) -> tuple[float, Statistics]:
        # The same of one that has not come alone.
        moments = self._window_of(row)
        statistics = solve_one(moments, self.min_observations)
        basis = self.basis
        if is_doubtful(
            moments,
            statistics,
            self.min_observations,
            basis.error,
            tiny=basis.has_tiny,
        ):
            exact = self._recalculate(np.array([row]))[:STATISTICS, 0]
            beta, alpha, std_error, t_stat, r_squared, residual_std = exact.tolist()
            statistics = beta, alpha, std_error, t_stat, r_squared, residual_std
        return moments[0], statistics

    def _recalculate(self, rows: Rows) -> Floats:
        slots = np.arange(self.oldest, self.newest + 1) % len(self.stamps)
        y = self._y[slots[:, None], rows]
        return recalculate(self._x[slots], y, self.min_observations)
