"""The sets of pairs that a slab's windows are made of, and how one becomes another.

Rule: what is in which set, and when one begins or ends, is decided by `slab`; this file
closes segments, walks stretches and joins front and back when it is told to.
"""

from collections import deque
from math import isnan
from typing import Final, NamedTuple

import numpy as np

from .arrays import Rows
from .growing import BACK, HEAD, GrowingSets
from .moments import Floats
from .ols import RowMoments
from .sums import (
    SIDE,
    Basis,
    Sets,
    Shared,
    Terms,
    absent_in,
    centre_one,
    error_of,
    plus,
)


class Segment(NamedTuple):
    """A closed run of bars and the slot that holds its sums."""

    first: int
    end: int
    slot: int

    @property
    def n_bars(self) -> int:
        """Length of the run."""
        return self.end - self.first

    def __bool__(self) -> bool:
        return self.end > self.first


NO_BARS: Final = Segment(0, 0, -1)


class SlabSets(GrowingSets):
    """Front, back and what is prepared, of windows over one grid of bars.

    Parameters
    ----------
    n_rows, capacity, min_observations
        As for `GrowingSets`.
    """

    newest: int
    oldest: int

    def __init__(self, n_rows: int, capacity: int, min_observations: int) -> None:
        super().__init__(n_rows, capacity, min_observations)
        self._suffixes = [Sets(1, n_rows) for _ in range(2)]
        self._slots = [Sets(1, n_rows) for _ in range(2)]
        self._free_slots = [1, 0]
        self._segments: deque[Segment] = deque()
        self._closed = Sets(1, n_rows)
        """The segments that were closed since the front's cut, together. Of a window
        that fills they are the front; else the back begins with them."""
        self._walk_terms = Terms(n_rows, self._terms)
        self._side = np.empty((SIDE, n_rows))
        """Where the benchmark sides of windows go that lack bars."""
        self._n_segments = 0
        """Segments that a window is made of, as far as that is known beforehand,"""
        self._longest_segment = 0
        """and bars in the longest of them."""
        self._begin(0)

    def _begin(self, bar: int) -> None:
        # An empty window whose first bar will be `bar`.
        self.oldest = bar
        self._first = bar
        self._is_sliding = False
        self._n_parts = 0
        """Segments that ended with a part of the window's extent, while it filled."""
        self._is_settled = True
        self._alone.clear()
        self._head_first = bar
        for lane in (BACK, HEAD):
            self._growing.clear(lane)
        while self._segments:
            self._release(self._segments.pop())
        self._closed.clear(0)
        self._since: list[Segment] = []
        """What is in ``_closed``, oldest first."""
        self._cut = bar
        """Where the suffixes being made end."""
        self._in_use = 0
        self._stretch = NO_BARS
        """The front's suffixes start at each of these bars but the first."""
        self._next = NO_BARS
        self._to_merge: list[int] = []
        self._to_walk = 0
        self._has_walked = False
        """Whether the share of the next bar is done already,"""
        self._before_walk = 0, 0
        """and how much was to be merged and walked before."""
        # Which bars are in what, so that a correction can make it anew.
        self._merged: list[Segment] = []
        """What was merged into the front's suffixes, oldest first."""
        self._next_merged: list[Segment] = []
        self._look_for_longest()

    @property
    def basis(self) -> Basis:
        """What the sums are about, and what is known of the window besides."""
        oldest, longest = self.oldest, self._longest
        n_in_head = self.newest + 1 - self._head_first
        n_additions = 2 * max(longest, n_in_head) + self._n_joined
        is_flat, has_tiny = self._flat_since <= oldest, self._tiny_bar >= oldest
        error = error_of(n_additions)
        return Basis(self._pivot_x, self._away, is_flat, has_tiny, error)

    def sums(self, rows: Rows | None = None) -> tuple[Floats, Floats | Shared]:
        """Return the asset and benchmark sides of the windows of all or some rows.

        Parameters
        ----------
        rows
            Shape (k,); ``None`` = all.

        Returns
        -------
        asset, benchmark
            Shapes (SIDE, k) and (SIDE, k), or three floats for every row. Those of all
            rows stand where the next step overwrites them.
        """
        if self._alone:
            self._take_in()
        sets, at = self._front()
        growing = self._growing
        is_shared = not (sets.is_own[at] or growing.is_own[BACK])
        shared = plus(sets.shared[at], growing.shared[BACK])
        if rows is None:
            np.add(sets.flat[at], growing.flat[BACK], self._terms.flat)
            if is_shared:
                return self._terms.asset, shared
            np.add(sets.benchmark(at), growing.benchmark(BACK), self._side)
            return self._terms.asset, self._side
        asset = sets.asset[at][:, rows] + growing.asset[BACK][:, rows]
        if is_shared:
            return asset, shared
        side = sets.benchmark_of(at, rows) + growing.benchmark_of(BACK, rows)
        return asset, side

    def _window_of(self, row: int) -> RowMoments:
        # `Moments` of one row.
        sets, at = self._front()
        growing = self._growing
        moments = centre_one(
            plus(sets.row(at, row), growing.row(BACK, row)),
            plus(sets.benchmark_row(at, row), growing.benchmark_row(BACK, row)),
            self._pivot_x,
            self._pivot_cells[row],
        )
        if self._flat_since <= self.oldest:
            n, mean_x, mean_y, _, cxy, cyy, _, yy = moments
            return n, mean_x, mean_y, 0.0, cxy, cyy, 0.0, yy
        return moments

    def _front(self) -> tuple[Sets, int]:
        if not self._is_sliding:
            return self._closed, 0
        return self._suffixes[self._in_use], self.oldest - self._stretch.first - 1

    def _release(self, segment: Segment) -> None:
        self._free_slots.append(segment.slot)

    def _close_head(self, bar: int) -> None:
        # The head segment ends before `bar`; its sums go to a free slot.
        if not self._free_slots:
            self._free_slots.append(len(self._slots))
            self._slots.append(Sets(1, self.n_rows))
        slot = self._free_slots.pop()
        self._slots[slot].copy(0, self._growing, HEAD)
        segment = Segment(self._head_first, bar, slot)
        self._segments.append(segment)
        self._head_first = bar
        self._growing.clear(HEAD)
        self._join(segment)
        self._begin_back()
        self._look_for_longest()

    def _join(self, segment: Segment) -> None:
        # To what was closed since the front's cut.
        sums = self._slots[segment.slot]
        if self._since:
            self._closed.merge(0, sums, 0)
        else:
            self._closed.copy(0, sums, 0)
        self._since.append(segment)

    def _begin_back(self) -> None:
        # With what was closed since the front's cut, if that is not the front itself.
        if self._is_sliding and self._since:
            self._growing.copy(BACK, self._closed, 0)
        else:
            self._growing.clear(BACK)

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
        self._since = []
        self._closed.clear(0)
        for segment in self._segments:
            if segment.first >= self._cut:
                self._join(segment)
        if self._head_first < bar:
            self._close_head(bar)
        else:
            self._begin_back()
        self._begin_walk()

    def _begin_walk(self) -> None:
        # It ends where the head begins.
        self._cut = self._head_first
        if not self._segments:
            self._next = NO_BARS
            self._next_merged, self._to_merge, self._to_walk = [], [], 0
            self._look_for_longest()
            return
        self._next = stretch = self._segments.popleft()
        self._release(stretch)
        self._next_merged = list(self._segments)
        self._to_merge = [segment.slot for segment in self._segments]
        self._to_walk = stretch.end - 1
        unused = 1 - self._in_use
        if stretch.n_bars > self._suffixes[unused].n_sets:
            self._suffixes[unused] = Sets(stretch.n_bars, self.n_rows)
        self._suffixes[unused].clear(stretch.n_bars - 1)
        self._look_for_longest()

    def _look_for_longest(self) -> None:
        # Of the segments that are in anything: no more additions lie behind a term.
        if self._longest_segment:  # it is known beforehand
            self._longest, self._n_joined = self._longest_segment, self._n_segments
            return
        parts = self._stretch, self._next, *self._merged, *self._segments
        self._longest = max(part.n_bars for part in parts)
        n_joined = max(map(len, (self._merged, self._next_merged, self._since)))
        self._n_joined = max(n_joined + 1, self._n_segments)

    def _walk(self, turns: int) -> None:
        # Do this turn's share of preparing the next stretch's suffixes.
        first, end, _ = self._next
        left = len(self._to_merge) + max(self._to_walk - first, 0)
        if not left:
            return
        suffixes = self._suffixes[1 - self._in_use]
        for _ in range(-(-left // turns)):
            if self._to_merge:
                closed = self._slots[self._to_merge.pop()]
                suffixes.merge(end - first - 1, closed, 0)
            else:
                self._step(suffixes, self._to_walk, self._to_walk - first)
                self._to_walk -= 1

    def _step(self, suffixes: Sets, bar: int, after: int) -> None:
        # suffix of `bar` = suffix of the bar after it, plus the pair of `bar`
        slot = bar % len(self.stamps)
        x = self._x.item(slot)
        if isnan(x):
            suffixes.copy(after - 1, suffixes, after)
            return
        terms = self._walk_terms
        terms.of_benchmark(x - self._pivot_x)
        returns, absent = self._y[slot], self._absent[slot]
        if absent is None:
            absent = absent_in(returns)
        terms.of_bar(returns, self._away, absent)
        suffixes.add(after - 1, after, terms)
