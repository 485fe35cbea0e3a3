"""The pairs of many rows and the sets that their windows are made of.

Rule: rows, pairs and sums; no bars. A row is told which pairs it has, one by one or
anew from some pair on, and keeps the two sets whose union is its window: the front,
which is looked up, and the back, which only grows. What is done when is in
`pair_schedule`, the arithmetic in `moments`.

Every row is a pure function of its pairs: their number says what the sets must be, so
rows that are given other pairs are brought back to a boundary that they passed, and let
those pairs land again. There is no second way to make a set but for closed segments,
which are independent of each other and made side by side.

A window that is not full yet is full of *absent* pairs, those with negative numbers:
they take part in everything and change nothing.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .moments import (
    FIELDS,
    Floats,
    Scratch,
    add_pair,
    add_pairs,
    cells_of,
    merge_sets,
    recentre,
)
from .pair_schedule import Integers, Schedule
from .state import PerRow, State

BACK: Final = 0
HEAD: Final = 1
_WALK: Final = 2

_DENSE: Final = 0.6
"""Share of all rows from which on adding to all, absent pairs to the rest, is faster
than to take the sets out and put them back."""

_ONE_BY_ONE: Final = 6
"""Up to here rows are cheaper one by one than together."""

_SIDE_BY_SIDE: Final = 8192
"""Closed segments made in one pass: what fits into a cache."""


class Column(NamedTuple):
    """One bar of some rows."""

    stamp: int
    x: float
    y: Floats
    """Shape (k,), NaN = no pair."""


class PairSets:
    """The pairs and the sets of every row.

    Parameters
    ----------
    n_rows
        Number of rows.
    schedule
        Of windows of this length.
    n_changeable
        How many of a row's newest pairs may yet change.
    """

    def __init__(self, n_rows: int, schedule: Schedule, n_changeable: int) -> None:
        self.schedule = schedule
        self.n_rows = n_rows
        self.n_pairs: Integers = np.zeros(n_rows, dtype=np.int64)
        """Pairs of each row since the beginning."""
        # A pair that is taken back makes room for the one that left before it.
        self._n_kept = schedule.length + n_changeable
        self._pairs = np.zeros((n_rows * self._n_kept, 2))
        self._stamps = np.zeros(n_rows * self._n_kept, dtype=np.int64)
        self.growing = np.zeros((3, FIELDS, n_rows))  # back, head, walk
        self._segments = np.zeros((n_rows * schedule.n_segments, FIELDS))
        # Those in use and those being prepared, by the parity of the stretch.
        self._suffixes = np.zeros((n_rows * 2 * schedule.longest, FIELDS))
        self._reached: Integers = np.full(n_rows, -1)
        """The last stretch that may have left its mark on the closed segments."""

        self._pair_cells = cells_of(self._pairs)
        self._growing_cells = cells_of(self.growing)
        self._scratch = Scratch(n_rows)
        self._everywhere = np.ones(n_rows)
        self._spread = np.zeros((3, n_rows))  # x, y, present

    def reset(self) -> None:
        """Forget every pair."""
        self.n_pairs[:] = 0
        self.growing[:] = 0.0
        self._segments[:] = 0.0
        self._suffixes[:] = 0.0
        self._reached[:] = -1

    def forget(self, row: int) -> None:
        """Forget every pair of one row."""
        self.n_pairs[row] = 0
        self.growing[:, :, row] = 0.0
        for of_rows in (self._segments, self._suffixes):
            self._by_row(of_rows)[row] = 0.0
        self._reached[row] = -1

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        kept = {
            name: PerRow(self._by_row(column).T, 0)
            for name, column in self._columns().items()
        }
        return {
            **kept,
            "growing": PerRow(self.growing, 0),
            "reached": PerRow(self._reached, -1),
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for name, column in self._columns().items():
            self._by_row(column)[:] = state[name].T
        self.growing[:] = state["growing"]
        self._reached[:] = state["reached"]

    def _by_row(self, column: NDArray[Any]) -> NDArray[Any]:
        # Shape (n_rows, ...); -1 would not do where there are no rows.
        return column.reshape(self.n_rows, column.size // max(self.n_rows, 1))

    def _columns(self) -> dict[str, NDArray[Any]]:
        # All that is kept row by row, each row's values together.
        return {
            "n_pairs": self.n_pairs,
            "pairs": self._pairs,
            "stamps": self._stamps,
            "segments": self._segments,
            "suffixes": self._suffixes,
        }

    def land(self, rows: Rows, x: float, y: Floats, stamp: int) -> None:
        """Give some rows one pair more.

        Parameters
        ----------
        rows
            Shape (k,), each once.
        x, y
            The pairs; finite, ``y`` of shape (k,).
        stamp
            Of the bar that they are from.
        """
        numbers = self.n_pairs[rows]
        self.n_pairs[rows] = numbers + 1
        at = rows * self._n_kept + numbers % self._n_kept
        pairs = self._pairs
        pairs[at, 0] = x
        pairs[at, 1] = y
        self._stamps[at] = stamp
        self._enter(rows, numbers, x, y, self._everywhere[: len(rows)])

    def land_one(self, row: int, x: float, y: float, stamp: int) -> None:
        """Give one row one pair more: `land` over floats."""
        number = int(self.n_pairs[row])
        self.n_pairs[row] = number + 1
        at = row * self._n_kept + number % self._n_kept
        self._pair_cells[2 * at] = x
        self._pair_cells[2 * at + 1] = y
        self._stamps[at] = stamp
        self._enter_one(row, number)

    def front(self, rows: Rows) -> Floats:
        """Return the older sets of some windows, shape (FIELDS, k)."""
        schedule = self.schedule
        lap, slot = np.divmod(self.n_pairs[rows] - 1, schedule.length)
        stretch = lap * schedule.n_segments + schedule.segment[slot]
        at = (rows * 2 + (stretch & 1)) * schedule.longest + schedule.left[slot]
        return np.ascontiguousarray(self._suffixes.take(at, axis=0).T)

    def first_stamps(self, rows: Rows) -> Integers:
        """Return the stamps of the oldest pairs of some windows that have any."""
        oldest = np.maximum(self.n_pairs[rows] - self.schedule.length, 0)
        stamps: Integers = self._stamps[rows * self._n_kept + oldest % self._n_kept]
        return stamps

    def window(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return x and y of the pairs of some windows, oldest first, NaN = absent.

        Shape (length, k) each.
        """
        length = self.schedule.length
        numbers = self.n_pairs[rows] + np.arange(-length, 0)[:, None]
        pairs = self._pairs[rows * self._n_kept + numbers % self._n_kept]
        pairs[numbers < 0] = np.nan
        return pairs[..., 0], pairs[..., 1]

    def replace(self, rows: Rows, first: Integers, columns: Iterable[Column]) -> None:
        """Give some rows other pairs from some pair on, as if they had come so.

        Parameters
        ----------
        rows
            Shape (k,), each once.
        first
            Number of the first pair to replace, shape (k,); it is one of the
            changeable ones, or the next.
        columns
            All pairs of these rows from there on, in the order of their bars.
        """
        before = self.n_pairs[rows]
        numbers = first.copy()
        for column in columns:
            has_pair = ~np.isnan(column.y)
            at = rows * self._n_kept + numbers % self._n_kept
            at = at[has_pair]
            self._pairs[at, 0] = column.x
            self._pairs[at, 1] = column.y[has_pair]
            self._stamps[at] = column.stamp
            numbers += has_pair
        self.n_pairs[rows] = numbers
        self._remake(rows, first, before)

    def _enter(
        self,
        rows: Rows,
        numbers: Integers,
        x: float | Floats,
        y: Floats,
        present: Floats,
        *,
        is_reopened: bool = False,
    ) -> None:
        # What the schedule has for pairs of these numbers.
        schedule = self.schedule
        lap, slot = np.divmod(numbers, schedule.length)
        segment = schedule.segment[slot]
        if not is_reopened:
            begins = np.flatnonzero(schedule.begins[slot])
            if len(begins):
                self._close_head(_of(rows, begins), segment[begins] - 1)
        self._add(self.growing[:_WALK], rows, x, y, present)
        parity = (lap * schedule.n_segments + segment + 1) & 1
        suffixes = (rows * 2 + parity) * schedule.longest
        for units in schedule.turns:
            merged = units.segment[slot]
            some = np.flatnonzero(merged >= 0)
            if len(some):
                self._merge(_of(rows, some), merged[some])
            age = units.age[slot]
            some = np.flatnonzero(age)
            if len(some):
                self._walk(_of(rows, some), numbers[some] - age[some])
            left = units.left[slot]
            some = np.flatnonzero(left >= 0)
            if len(some):
                sets = self._taken(_WALK, _of(rows, some))
                self._suffixes[suffixes[some] + left[some]] = sets.T

    def _enter_one(self, row: int, number: int, *, is_reopened: bool = False) -> None:
        # `_enter` over floats.
        schedule, n_rows = self.schedule, self.n_rows
        lap, slot = divmod(number, schedule.length)
        segment = int(schedule.segment[slot])
        if schedule.begins[slot] and not is_reopened:
            self._close_head(np.array([row]), np.array([segment - 1]))
        growing, pairs = self._growing_cells, self._pair_cells
        first_pair = row * self._n_kept
        if number >= 0:
            at = 2 * (first_pair + number % self._n_kept)
            x, y = pairs[at], pairs[at + 1]
            add_pair(growing, row, n_rows, x, y)
            add_pair(growing, row + FIELDS * n_rows, n_rows, x, y)
        parity = (lap * schedule.n_segments + segment + 1) & 1
        suffixes = (row * 2 + parity) * schedule.longest
        for unit in schedule.units[slot]:
            if unit.age:
                number_walked = number - unit.age
                if number_walked >= 0:
                    at = 2 * (first_pair + number_walked % self._n_kept)
                    walk = row + _WALK * FIELDS * n_rows
                    add_pair(growing, walk, n_rows, pairs[at], pairs[at + 1])
            else:
                closed = self._segments[row * schedule.n_segments + unit.segment]
                merge_sets(self.growing[_WALK, :, row : row + 1], closed[:, None])
            if unit.left >= 0:
                self._suffixes[suffixes + unit.left] = self.growing[_WALK, :, row]

    def _close_head(self, rows: Rows, segments: Integers) -> None:
        # The heads end; the backs shrink to them, and the next walks begin.
        head = self._taken(HEAD, rows)
        recentre(head)
        n_segments = self.schedule.n_segments
        self._segments[rows * n_segments + segments % n_segments] = head.T
        self._reopen(rows, head)

    def _reopen(self, rows: Rows, closed: Floats) -> None:
        self.growing[BACK][:, rows] = closed
        self.growing[HEAD:, :, rows] = 0.0

    def _taken(self, lane: int, rows: Rows) -> Floats:
        sets: Floats = self.growing[lane].take(rows, axis=1)
        return sets

    def _add(
        self, lanes: Floats, rows: Rows, x: float | Floats, y: Floats, present: Floats
    ) -> None:
        # One pair to each set of these rows, in all lanes.
        if len(rows) >= _DENSE * self.n_rows:
            spread_x, spread_y, spread_present = self._spread
            if isinstance(x, np.ndarray):
                spread_x[rows] = x
                x = spread_x
            spread_y[rows] = y
            spread_present[:] = 0.0
            spread_present[rows] = present
            add_pairs(lanes, x, spread_y, spread_present, self._scratch)
        else:
            sets = lanes.take(rows, axis=2)
            add_pairs(sets, x, y, present, self._scratch)
            lanes[:, :, rows] = sets

    def _walk(self, rows: Rows, numbers: Integers) -> None:
        pairs = self._pairs.take(rows * self._n_kept + numbers % self._n_kept, axis=0)
        present = (numbers >= 0).astype(np.float64)
        self._add(self.growing[_WALK:], rows, pairs[:, 0], pairs[:, 1], present)

    def _merge(self, rows: Rows, segments: Integers) -> None:
        closed = self._segments.take(rows * self.schedule.n_segments + segments, axis=0)
        sets = self._taken(_WALK, rows)
        merge_sets(sets, np.ascontiguousarray(closed.T))
        self.growing[_WALK][:, rows] = sets

    def _remake(self, rows: Rows, first: Integers, before: Integers) -> None:
        # The sets of rows whose pairs differ from `first` on, and which had `before`.
        schedule = self.schedule
        n_segments, n_merged = schedule.n_segments, schedule.n_merged
        now = schedule.stretch_of(self.n_pairs[rows] - 1)
        was = schedule.stretch_of(before - 1)
        begin = np.minimum(schedule.stretch_of(first), now)
        # The suffixes in use now are there still, unless those of a later stretch
        # took their place.
        begin -= (now == begin) & (was > begin)
        # Closed segments that the stretches from `begin` on merge, or start from.
        reached = np.maximum(self._reached[rows], was)
        has_segments = reached - begin <= n_segments - max(n_merged, 1)
        has_segments &= now - begin < n_segments
        begin = np.where(has_segments, begin, now - 1)
        lacking = np.flatnonzero(~has_segments)
        if len(lacking):
            self._close_again(rows[lacking], begin[lacking])
        self._reached[rows] = np.where(has_segments, np.maximum(reached, now), now + 1)
        self._land_again(rows, begin)

    def _close_again(self, rows: Rows, begin: Integers) -> None:
        # The closed segments that the walks from stretch `begin` on merge.
        schedule = self.schedule
        n_merged = schedule.n_merged
        if not n_merged:
            return
        n_together = max(_SIDE_BY_SIDE // n_merged, 1)
        for start in range(0, len(rows), n_together):
            some = slice(start, start + n_together)
            stretches = begin[some, None] - np.arange(1, n_merged + 1)
            segments = stretches % schedule.n_segments
            at = rows[some, None] * schedule.n_segments + segments
            of_rows = np.repeat(rows[some], n_merged)
            first = schedule.first_of(stretches).reshape(-1)
            n_slots = schedule.n_slots[segments].reshape(-1)
            sets = np.zeros((1, FIELDS, len(first)))
            scratch = Scratch(len(first), 1)
            for step in range(schedule.longest):
                numbers = first + step
                pairs = self._pairs[of_rows * self._n_kept + numbers % self._n_kept]
                present = ((step < n_slots) & (numbers >= 0)).astype(np.float64)
                add_pairs(sets, pairs[:, 0], pairs[:, 1], present, scratch)
            recentre(sets[0])
            self._segments[at.reshape(-1)] = sets[0].T

    def _land_again(self, rows: Rows, begin: Integers) -> None:
        # The pairs from the first of a stretch on, up to each row's newest.
        schedule = self.schedule
        n_segments = schedule.n_segments
        closed = self._segments[rows * n_segments + (begin - 1) % n_segments]
        self._reopen(rows, np.ascontiguousarray(closed.T))
        numbers = schedule.first_of(begin)
        ends = self.n_pairs[rows]
        if len(rows) <= _ONE_BY_ONE:
            for row, first, end in zip(
                rows.tolist(), numbers.tolist(), ends.tolist(), strict=True
            ):
                for number in range(first, end):
                    self._enter_one(row, number, is_reopened=number == first)
            return
        is_reopened = True
        while len(rows):
            at = rows * self._n_kept + numbers % self._n_kept
            pairs = self._pairs.take(at, axis=0)
            present = (numbers >= 0).astype(np.float64)
            x, y = pairs[:, 0], pairs[:, 1]
            self._enter(rows, numbers, x, y, present, is_reopened=is_reopened)
            is_reopened = False
            numbers = numbers + 1
            left = numbers < ends
            rows, numbers, ends = rows[left], numbers[left], ends[left]


def _of(rows: Rows, some: NDArray[np.intp]) -> Rows:
    return rows if len(some) == len(rows) else rows[some]
