"""When a window of pairs does what: a static function of where its newest pair lies.

Rule: integers only, computed once. Pair number ``k`` of a row lies in slot
``k mod W``; the slots are divided at fixed boundaries into *segments*, and one passage
of the newest pair through a segment is a *stretch*. Stretches are numbered like pairs,
from 0, and negative ones lie before a row's first pair. What is done when a pair enters
depends on its slot alone, so rows need not be in step with each other.

Theory of operation
-------------------
While the newest pair is in segment ``j``, the window holds::

    oldest                                                        newest
    | j: old, after s | j+1: old | ... | j-2 |  j-1  | j: new, up to s |
    '--------- front: prepared suffixes ----'  '- back: only grows --'

A suffix is the moments of the old pairs from one slot of ``j`` to the segment's end,
and of the closed segments ``j+1 .. j-2`` after it in time. Those of segment ``t = j+1``
are prepared during the stretch of ``j``, by units of work:

    merge   a closed segment, newest first: ``t-2, t-3, ... t+1``
    walk    one old pair of ``t``, from its last down to its second

The units are spread evenly over the slots of ``j``. With about 0.75 * sqrt(W) segments
a slot has one or two.
"""

from itertools import pairwise
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Unit(NamedTuple):
    """One step of preparing the suffixes of the next stretch."""

    segment: int
    """Closed segment to merge; -1 = walk."""
    age: int
    """How many pairs ago the pair came that is walked over; 0 = merge."""
    left: int
    """How many old pairs the suffix that is now complete has; -1 = none is."""


class Units(NamedTuple):
    """The units of every slot that come first, or second, shape (length,) each."""

    segment: Integers
    age: Integers
    left: Integers


_NOTHING = Unit(-1, 0, -1)


class Schedule:
    """What is to be done at each slot of a window.

    Parameters
    ----------
    length
        Window length in pairs, at least 2.

    Raises
    ------
    ValueError
        If the window is shorter.
    """

    def __init__(self, length: int) -> None:
        if length < 2:  # noqa: PLR2004 - one pair has no slope and nothing to slide
            msg = f"a window needs at least 2 pairs, was {length}"
            raise ValueError(msg)
        n_segments = max(2, round(0.75 * sqrt(length)))
        bounds = [i * length // n_segments for i in range(n_segments + 1)]
        lengths = [end - first for first, end in pairwise(bounds)]
        self.length = length
        self.n_segments = n_segments
        self.n_merged = n_segments - 2
        """Closed segments behind a front's stretch."""
        self.longest = max(lengths)
        """Pairs in the longest segment."""
        self.first = np.array(bounds[:-1])
        """First slot of each segment, shape (n_segments,)."""
        self.n_slots = np.array(lengths)
        """Slots of each segment, shape (n_segments,)."""
        self.segment = np.repeat(np.arange(n_segments), lengths)
        """Segment of each slot, shape (length,)."""
        self.begins = np.isin(np.arange(length), self.first)
        """Whether a slot is the first of its segment, shape (length,)."""
        self.left = self.first[self.segment] + self.n_slots[self.segment] - 1
        self.left -= np.arange(length)
        """Old pairs left in the segment behind each slot, shape (length,)."""
        self.units = [self._units_at(slot) for slot in range(length)]
        """Units of work of each slot, for one row at a time."""
        n_turns = max(map(len, self.units))
        padded = [units + [_NOTHING] * (n_turns - len(units)) for units in self.units]
        table = np.array(padded, dtype=np.int64).reshape(length, n_turns, 3)
        self.turns = [
            Units(*(np.ascontiguousarray(table[:, turn, part]) for part in range(3)))
            for turn in range(n_turns)
        ]
        """The same for many rows."""

    def _units_at(self, slot: int) -> list[Unit]:
        n_segments = self.n_segments
        current = int(self.segment[slot])
        target = (current + 1) % n_segments
        n_units = self.n_merged + int(self.n_slots[target]) - 1
        offset, n_slots = slot - int(self.first[current]), int(self.n_slots[current])
        begin, end = (-(-n_units * at // n_slots) for at in (offset, offset + 1))
        last_slot = int(self.first[target] + self.n_slots[target]) - 1
        units: list[Unit] = []
        for unit in range(begin, end):
            walked = unit - self.n_merged
            if walked < 0:
                segment = (current - 1 - unit) % n_segments
                units.append(Unit(segment, 0, 0 if walked == -1 else -1))
            else:
                age = (slot - last_slot + walked) % self.length
                units.append(Unit(-1, age, walked + 1))
        return units

    def stretch_of(self, pairs: Integers) -> Integers:
        """Return the numbers of the stretches in which pairs lie."""
        lap, slot = np.divmod(pairs, self.length)
        stretches: Integers = lap * self.n_segments + self.segment[slot]
        return stretches

    def first_of(self, stretches: Integers) -> Integers:
        """Return the numbers of the first pairs of stretches."""
        lap, segment = np.divmod(stretches, self.n_segments)
        pairs: Integers = lap * self.length + self.first[segment]
        return pairs
