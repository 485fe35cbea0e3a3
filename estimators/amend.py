"""Late and corrected returns: windows whose past can change.

Rule: after an amendment every set of pairs is what it would have been, had the return
been there in time, to the last bit: a set is a function of the grid. A late return that
lies behind all others of its row is added like any other; for everything else the rows'
sets are made anew from the grid, with the same operations in the same order.

Making a row's sets anew costs some five stretches of added pairs, for any number of
rows at once: closed segments are independent of each other, so they are all made in
one pass, side by side.
"""

from collections import deque
from collections.abc import Sequence
from math import isnan, nan

import numpy as np

from .grid import AmendableGrid, Rows, usable
from .moments import (
    FIELDS,
    Floats,
    Scratch,
    add_pair,
    add_pairs,
    merge_sets,
    recentre,
)
from .slab import Segment, WindowSlab
from .state import State


class AmendableSlab(WindowSlab, AmendableGrid):
    """A `WindowSlab` whose bars can be filled late, corrected and inserted."""

    def amend(self, row: int, bar: int, value: float) -> None:
        """Set one cell of the window, empty so far or not."""
        slot = bar % len(self.stamps)
        was_missing = isnan(self._y[slot, row])
        self._y[slot, row] = value
        self._look_for_tiny(bar, self._y[slot, row : row + 1])
        x = float(self._x[slot])
        if isnan(x):
            return
        if was_missing and not isnan(value) and self._is_last(row, bar):
            n_rows = self.n_rows
            add_pair(self._growing_cells, row, n_rows, x, value)
            add_pair(self._growing_cells, row + FIELDS * n_rows, n_rows, x, value)
        elif bar < self._head_first or not self._regrow(np.array([row])):
            self._remake(np.array([row]))

    def amend_column(self, bar: int, returns: Floats) -> None:
        """Set every cell of a bar for which there is a return, NaN = none."""
        np.copyto(self._y[bar % len(self.stamps)], returns, where=~np.isnan(returns))
        self._look_for_tiny(bar, returns)
        self._remake(np.flatnonzero(~np.isnan(returns)))

    def amend_benchmark(self, bar: int, value: float) -> None:
        """Set the benchmark's return of a bar of the window; not finite = missing."""
        slot = bar % len(self.stamps)
        self._x[slot] = usable(value)
        self._look_for_tiny(bar, self._x[slot : slot + 1])
        self._remake(np.arange(self.n_rows))

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
        self._y[:, row] = nan
        self._remake(np.array([row]))

    def state(self) -> State:
        """Return the bars and which of them are in which set.

        The sets themselves can be made anew, with the same operations in the same
        order: the state is a seventh of the memory.
        """
        return {
            **self._bars(),
            "first": self._first,
            "is_sliding": self._is_sliding,
            "head_first": self._head_first,
            "back_first": self._back_first,
            "segments": [segment[:2] for segment in self._segments],
            "stretch": self._stretch[:2],
            "next": self._next[:2],
            "merged": [segment[:2] for segment in self._merged],
            "next_merged": [segment[:2] for segment in self._next_merged],
            "n_to_merge": len(self._to_merge),
            "to_walk": self._to_walk,
            "tiny_bar": self._tiny_bar,
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self._restore_bars(state)
        self._first = state["first"]
        self._is_sliding = state["is_sliding"]
        self._head_first = state["head_first"]
        self._back_first = state["back_first"]
        self._slots = [np.zeros((FIELDS, self.n_rows)) for _ in state["segments"]]
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
        self._tiny_bar = state["tiny_bar"]
        self._in_use = 0
        self._suffixes = [
            np.zeros((max(1, run.n_bars), FIELDS, self.n_rows))
            for run in (self._stretch, self._next)
        ]
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

    def _regrow(self, rows: Rows) -> bool:
        # Back and head of a full window, whose other sets are as they were, if what
        # the back began with is still there.
        if not self._is_sliding:
            return False
        head_first, end = self._head_first, self.newest + 1
        start = None
        if self._back_first < head_first:
            if not self._segments or self._segments[-1].end != head_first:
                return False
            start = self._slots[self._segments[-1].slot][:, rows]
        self._growing[0][:, rows] = self._run(rows, head_first, end, start)
        self._growing[1][:, rows] = self._run(rows, head_first, end)
        return True

    def _remake(self, rows: Rows) -> None:
        # Every set of these rows, from the grid.
        back_first, head_first = self._back_first, self._head_first
        runs = {
            (segment.first, segment.end)
            for segment in [*self._segments, self._next, *self._merged]
            if segment
        }
        if self._is_sliding and back_first < head_first:
            runs.add((back_first, head_first))
        sets_of = self._segment_sets(rows, sorted(runs))

        for segment in self._segments:
            self._slots[segment.slot][:, rows] = sets_of[segment.first, segment.end]
        head = self._run(rows, head_first, self.newest + 1)
        self._growing[1][:, rows] = head
        if self._is_sliding:
            start = sets_of.get((back_first, head_first))
            back = self._run(rows, head_first, self.newest + 1, start)
        else:  # recentred wherever a segment closed
            back = np.zeros((FIELDS, len(rows)))
            closed = [s for s in [self._next, *self._segments] if s]
            for segment in closed:
                back = self._run(rows, segment.first, segment.end, back)
                recentre(back)
            back = self._run(rows, head_first, self.newest + 1, back)
        self._growing[0][:, rows] = back

        if self._is_sliding:
            seed = self._merge(rows, self._merged, sets_of)
            stretch = self._stretch
            suffixes = self._suffixes[self._in_use]
            self._rewalk(rows, stretch, seed, self.oldest - 1, suffixes)
        if self._next:
            n_merged = len(self._next_merged) - len(self._to_merge)
            merged = self._next_merged[len(self._next_merged) - n_merged :]
            seed = self._merge(rows, merged, sets_of)
            suffixes = self._suffixes[1 - self._in_use]
            self._rewalk(rows, self._next, seed, self._to_walk, suffixes)

    def _segment_sets(
        self, rows: Rows, runs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], Floats]:
        # Closed segments are independent: one pair of each is added per step.
        k = len(rows)
        if not runs:
            return {}
        firsts = np.array([first for first, _ in runs])
        lengths = np.array([end - first for first, end in runs])
        sets = np.zeros((1, FIELDS, len(runs) * k))
        scratch = Scratch(len(runs) * k, 1)
        for step in range(int(lengths.max())):
            slots = (firsts + np.minimum(step, lengths - 1)) % len(self.stamps)
            x = np.repeat(self._x[slots], k)
            y = self._y[slots][:, rows].reshape(-1)
            present = np.repeat(step < lengths, k) & ~np.isnan(x) & ~np.isnan(y)
            clean_x, clean_y = np.where(present, x, 0.0), np.where(present, y, 0.0)
            add_pairs(sets, clean_x, clean_y, present.astype(float), scratch)
        recentre(sets[0])
        return {
            run: sets[0, :, i * k : (i + 1) * k].copy() for i, run in enumerate(runs)
        }

    def _run(
        self, rows: Rows, first: int, end: int, start: Floats | None = None
    ) -> Floats:
        # The pairs of some bars, added to a set one by one.
        sets = np.zeros((1, FIELDS, len(rows)))
        if start is not None:
            sets[0] = start
        scratch = Scratch(len(rows), 1)
        for bar in range(first, end):
            self._add_bar(rows, bar, sets, scratch, sets)
        result: Floats = sets[0]
        return result

    def _add_bar(
        self, rows: Rows, bar: int, sets: Floats, scratch: Scratch, out: Floats
    ) -> None:
        slot = bar % len(self.stamps)
        x = float(self._x[slot])
        y = self._y[slot, rows]
        present = ~np.isnan(y)
        if isnan(x):
            out[:] = sets
        else:
            clean = np.where(present, y, 0.0)
            add_pairs(sets, x, clean, present.astype(float), scratch, out=out)

    def _merge(
        self,
        rows: Rows,
        merged: Sequence[Segment],
        sets_of: dict[tuple[int, int], Floats],
    ) -> Floats:
        seed = np.zeros((FIELDS, len(rows)))
        for segment in reversed(merged):
            merge_sets(seed, sets_of[segment.first, segment.end])
        return seed

    def _rewalk(
        self, rows: Rows, stretch: Segment, seed: Floats, to: int, suffixes: Floats
    ) -> None:
        # Suffixes of a stretch from its end down to the bar after `to`.
        scratch = Scratch(len(rows), 1)
        suffixes[stretch.n_bars - 1][:, rows] = seed
        current = seed[None].copy()
        for bar in range(stretch.end - 1, max(to, stretch.first), -1):
            target = np.zeros_like(current)
            self._add_bar(rows, bar, current, scratch, target)
            suffixes[bar - stretch.first - 1][:, rows] = target[0]
            current = target


def _segment(run: Sequence[int]) -> Segment:
    first, end = run
    return Segment(first, end, -1)
