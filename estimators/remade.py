"""Making sets of pairs anew, from the grid.

Rule: a set is a function of the grid and the pivots. Made anew, by the same operations
in the same order, it has the bits that it had or would have had: where a return came
late or was corrected (`amend`), and where the deviations are to be taken from another
pivot, because the values turned out to lie far from this one.

Rows are made beside one that lacks no bar: its benchmark side is that which all share.
"""

from collections.abc import Sequence

import numpy as np

from .arrays import Rows
from .growing import BACK, HEAD
from .moments import Floats
from .slab_sets import Segment, SlabSets
from .sums import FEWEST, SIDE, YY, N, Sets, Y, better_pivot, is_odd, plus


class RemadeSets(SlabSets):
    """`SlabSets` that can be made anew, about better pivots where that is due."""

    def _repivot(self) -> None:
        # Look for a better pivot where the mean is far from it.
        error = self.basis.error
        sets, at = self._front()
        n, x, xx = map(np.asarray, plus(sets.shared[at], self._growing.shared[BACK]))
        moves = bool(n >= FEWEST and is_odd(n, x, xx, np.asarray(self._pivot_x), error))
        asset, benchmark = self.sums()
        counts = np.broadcast_to(benchmark[N], (self.n_rows,))
        odd = is_odd(counts, asset[Y], asset[YY], self._pivots, error)
        odd &= counts >= FEWEST
        rows = np.flatnonzero(odd)
        if not moves and not len(rows):
            return
        slots = np.arange(self.oldest, self.newest + 1) % len(self.stamps)
        x = self._x[slots]
        if moves:
            self._pivot_x = float(better_pivot(x[:, None], error)[0])
        if len(rows):
            pairs = np.where(
                np.isnan(x)[:, None], np.nan, self._y[slots[:, None], rows]
            )
            pivots = self._pivots.copy()
            pivots[rows] = better_pivot(pairs, error)
            self._set_pivots(pivots)
        self._remake(np.arange(self.n_rows) if moves else rows)

    def _remake(self, rows: Rows) -> None:
        # Every set of these rows.
        self._settle()
        runs = {
            (segment.first, segment.end)
            for segment in [*self._segments, *self._since, self._next, *self._merged]
            if segment
        }
        made = self._segments_anew(rows, sorted(runs))

        for segment in self._segments:
            part = made[segment.first, segment.end]
            _put(self._slots[segment.slot], 0, rows, part)
        nothing = np.zeros((2 * SIDE, len(rows) + 1))
        closed = nothing.copy()
        for segment in self._since:
            closed += made[segment.first, segment.end]
        _put(self._closed, 0, rows, closed)
        self._remake_growing(rows)

        if self._is_sliding:
            seed = _merged(made, self._merged, nothing)
            suffixes = self._suffixes[self._in_use]
            self._rewalk(rows, self._stretch, seed, self.oldest - 1, suffixes)
        if self._next:
            n_left = len(self._to_merge)
            seed = _merged(made, self._next_merged[n_left:], nothing)
            suffixes = self._suffixes[1 - self._in_use]
            self._rewalk(rows, self._next, seed, self._to_walk, suffixes)

    def _remake_growing(self, rows: Rows) -> None:
        # Back and head, where the other sets are as they were.
        self._settle()
        first, end = self._head_first, self.newest + 1
        nothing = np.zeros((2 * SIDE, len(rows) + 1))
        start = nothing
        if self._is_sliding:
            start = nothing.copy()
            start[:SIDE, :-1] = self._closed.asset[0][:, rows]
            start[SIDE:, :-1] = self._closed.benchmark_of(0, rows)
            start[SIDE:, -1] = self._closed.shared[0]
        _put(self._growing, BACK, rows, self._run(rows, first, end, start))
        _put(self._growing, HEAD, rows, self._run(rows, first, end, nothing))

    def _segments_anew(
        self, rows: Rows, runs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], Floats]:
        # Closed segments are independent: one pair of each is added per step.
        if not runs:
            return {}
        firsts = np.array([first for first, _ in runs])
        lengths = np.array([end - first for first, end in runs])
        sums = np.zeros((2 * SIDE, len(runs), len(rows) + 1))
        for step in range(int(lengths.max())):
            terms = self._terms_of(rows, firsts + np.minimum(step, lengths - 1))
            terms[:, step >= lengths] = 0.0
            sums += terms
        return {run: sums[:, i] for i, run in enumerate(runs)}

    def _run(self, rows: Rows, first: int, end: int, start: Floats) -> Floats:
        # The pairs of some bars, added to sets one by one.
        sums = start.copy()
        for bar in range(first, end):
            sums += self._terms_of(rows, np.array([bar]))[:, 0]
        return sums

    def _rewalk(
        self, rows: Rows, stretch: Segment, seed: Floats, to: int, suffixes: Sets
    ) -> None:
        # Suffixes of a stretch from its end down to the bar after `to`.
        sums = seed.copy()
        _put(suffixes, stretch.n_bars - 1, rows, sums)
        for bar in range(stretch.end - 1, max(to, stretch.first), -1):
            sums += self._terms_of(rows, np.array([bar]))[:, 0]
            _put(suffixes, bar - stretch.first - 1, rows, sums)

    def _terms_of(self, rows: Rows, bars: Rows) -> Floats:
        # Both sides of `Terms`, shape (2 * SIDE, bars, rows + 1).
        slots = bars % len(self.stamps)
        x = self._x[slots][:, None] - self._pivot_x
        y = np.zeros((len(bars), len(rows) + 1))
        y[:, :-1] = self._y[slots[:, None], rows] - self._pivots[rows]
        absent = np.isnan(x) | np.isnan(y)
        x, y = np.where(absent, 0.0, x), np.where(absent, 0.0, y)
        return np.stack((y, y * x, y * y, (~absent).astype(float), x, x * x))


def _put(sets: Sets, at: int, rows: Rows, made: Floats) -> None:
    # Made anew: the sides of these rows, and what all rows share behind them.
    sets.asset[at][:, rows] = made[:SIDE, :-1]
    n, x, xx = made[SIDE:, -1].tolist()
    sets.shared[at] = n, x, xx
    if sets.is_own[at]:
        sets.own[at][:, rows] = made[SIDE:, :-1]


def _merged(
    made: dict[tuple[int, int], Floats], segments: Sequence[Segment], nothing: Floats
) -> Floats:
    # Segments merged newest first.
    sums = nothing.copy()
    for segment in reversed(segments):
        sums += made[segment.first, segment.end]
    return sums
