"""Late and corrected returns: windows whose past can change.

Rule: after an amendment every set of pairs is what it would have been, had the return
been there in time, to the last bit: a set is a function of the grid and the pivots. A
late return that lies behind all others of its row is added like any other; for
everything else the rows' sets are made anew from the grid, with the same operations in
the same order.

Making a row's sets anew costs some five stretches of added pairs, for any number of
rows at once: closed segments are independent of each other, so they are all made in
one pass, side by side.
"""

from collections import deque
from collections.abc import Sequence
from math import isnan, nan

import numpy as np

from .grid import AmendableGrid, usable
from .moments import Floats
from .slab import WindowSlab
from .slab_sets import Segment
from .state import PerRow, State
from .sums import Sets


class AmendableSlab(WindowSlab, AmendableGrid):
    """A `WindowSlab` whose bars can be filled late, corrected and inserted."""

    def amend(self, row: int, bar: int, value: float) -> None:
        """Set one cell of the window, empty so far or not."""
        self._take_in()
        slot = bar % len(self.stamps)
        was_missing = isnan(self._y[slot, row])
        self._y[slot, row] = value
        if bar == self.newest and was_missing:
            if not isnan(value):
                self.add_one(row)
            return
        self._absent[slot] = None
        deviation = value - self._pivot_cells[row]
        self._look_for_tiny(bar, np.array([deviation]))
        x = float(self._x[slot])
        if isnan(x):
            return
        if isnan(value):
            self._split_all()
        if was_missing and not isnan(value) and self._is_last(row, bar):
            self._add_to_growing(row, x - self._pivot_x, deviation)
        elif bar < self._head_first:
            self._remake(np.array([row]))
        else:
            self._remake_growing(np.array([row]))

    def amend_column(self, bar: int, returns: Floats) -> None:
        """Set every cell of a bar for which there is a return, NaN = none."""
        self._take_in()
        slot = bar % len(self.stamps)
        np.copyto(self._y[slot], returns, where=~np.isnan(returns))
        self._absent[slot] = None
        self._look_for_tiny(bar, returns - self._pivots)
        self._remake(np.flatnonzero(~np.isnan(returns)))

    def amend_benchmark(self, bar: int, value: float) -> None:
        """Set the benchmark's return of a bar of the window; not finite = missing."""
        self._take_in()
        slot = bar % len(self.stamps)
        self._x[slot] = usable(value)
        self._look_for_tiny(bar, self._x[slot : slot + 1] - self._pivot_x)
        self._look_for_flat()
        self._split_all()
        self._remake(np.arange(self.n_rows))
        if bar == self.newest:  # and may take more pairs
            self._reopen()

    def insert(self, stamp: int, benchmark_return: float) -> int | None:
        """Open a bar between two that are there; return its index."""
        at = self._position(stamp)
        bars_after, newest = self.newest + 1, self.stamp(self.newest)
        if at == self.oldest and self.extent.has_left(bars_after, newest, at, stamp):
            return None
        kept = self._kept(self.oldest)
        missing = np.full(self.n_rows, nan)
        kept.insert(at - self.oldest, (stamp, benchmark_return, missing))
        self._replay(self.oldest, kept)
        return at

    def restart(self, bar: int) -> None:
        """Forget every bar before one of the window: it begins with that."""
        self._replay(bar, self._kept(bar))

    def forget(self, row: int) -> None:
        """Take out every return of one row."""
        self._take_in()
        self._y[:, row] = nan
        self._absent = [None] * len(self._absent)
        self._split_all()
        self._remake(np.array([row]))

    def state(self) -> State:
        """Return the bars and which of them are in which set.

        The sets themselves can be made anew, with the same operations in the same
        order: the state is a seventh of the memory.
        """
        n_to_merge, to_walk = len(self._to_merge), self._to_walk
        if self._has_walked:  # which is done again, then
            n_to_merge, to_walk = self._before_walk
        return {
            **self._bars(),
            "first": self._first,
            "is_sliding": self._is_sliding,
            "n_parts": self._n_parts,
            "head_first": self._head_first,
            "cut": self._cut,
            "since": [segment[:2] for segment in self._since],
            "segments": [segment[:2] for segment in self._segments],
            "stretch": self._stretch[:2],
            "next": self._next[:2],
            "merged": [segment[:2] for segment in self._merged],
            "next_merged": [segment[:2] for segment in self._next_merged],
            "n_to_merge": n_to_merge,
            "to_walk": to_walk,
            "tiny_bar": self._tiny_bar,
            "pivot_x": self._pivot_x,
            "pivots": PerRow(self._pivots.copy(), 0.0),
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self._restore_bars(state)
        self._first = state["first"]
        self._is_sliding = state["is_sliding"]
        self._n_parts = state["n_parts"]
        self._head_first = state["head_first"]
        self._cut = state["cut"]
        self._since = [_segment(run) for run in state["since"]]
        self._slots = [Sets(1, self.n_rows) for _ in state["segments"]]
        self._free_slots = []
        self._segments = deque(
            Segment(first, end, slot)
            for slot, (first, end) in enumerate(state["segments"])
        )
        slot_of = {segment[:2]: segment.slot for segment in self._segments}
        self._stretch = _segment(state["stretch"])
        self._next = _segment(state["next"])
        self._merged = [_segment(run) for run in state["merged"]]
        self._next_merged = [_segment(run) for run in state["next_merged"]]
        unmerged = self._next_merged[: state["n_to_merge"]]
        self._to_merge = [slot_of[segment[:2]] for segment in unmerged]
        self._to_walk = state["to_walk"]
        self._look_for_longest()
        self._tiny_bar = state["tiny_bar"]
        self._in_use = 0
        self._pivot_x = state["pivot_x"]
        self._set_pivots(np.array(state["pivots"]))
        self._suffixes = [
            Sets(max(1, run.n_bars), self.n_rows) for run in (self._stretch, self._next)
        ]
        if self.newest >= self.oldest:
            self._reopen()
        self._is_settled = True
        self._look_for_flat()
        self._split_all()
        self._remake(np.arange(self.n_rows))

    def _kept(self, first: int) -> list[tuple[int, float, Floats]]:
        # Stamp, benchmark return and returns of the window's bars from one of them on.
        slots = [bar % len(self.stamps) for bar in range(first, self.newest + 1)]
        return [
            (int(self.stamps[s]), float(self._x[s]), self._y[s].copy()) for s in slots
        ]

    def _replay(self, first: int, bars: Sequence[tuple[int, float, Floats]]) -> None:
        # A window that begins with these bars; the first gets the index ``first``.
        self.newest = first - 1
        self._cleared = -1
        self._begin(first)
        for stamp, x, returns in bars:
            self.advance(stamp, x)
            self.fill(returns)

    def _is_last(self, row: int, bar: int) -> bool:
        # Whether a pair of this bar comes behind all others of its row, in the head.
        if bar < self._head_first:
            return False
        later = np.arange(bar + 1, self.newest + 1) % len(self.stamps)
        return not (~np.isnan(self._y[later, row]) & ~np.isnan(self._x[later])).any()

    def _split_all(self) -> None:
        # Some row will lack a bar that none did.
        self._settle()
        for sets in (self._growing, self._closed, *self._slots, *self._suffixes):
            for at in range(sets.n_sets):
                sets.split(at)


def _segment(run: Sequence[int]) -> Segment:
    first, end = run
    return Segment(first, end, -1)
