"""How far is far, for each row: robust limits from the row's own past.

Rule: a row's limits are a function of the columns that were settled before, and of
nothing else. They change with `RobustLimits.settle` alone, so that whoever asks in
between gets one answer, however often and in whichever order.

Theory of operation
-------------------
The past of a row is its values in the newest ``length`` settled columns. Its *centre*
is their median, its *scale* 1.4826 times the median distance from the centre (the MAD,
which is so a standard deviation where the values are normal). Values that equal the
centre are left out of the scale: a price that did not change says nothing about how far
it goes when it does, and with them a symbol that trades in every third bar had a scale
of 0. So there is no division by zero: fewer than ``min_observations`` values away from
the centre make no scale, and then only the bound holds.

A value is within its limits when ``low <= value <= high``: one comparison, for both
ends are kept. What they cost is to renew them: a sort of a row's past, and some passes
over it. So a column earns the renewal of a few rows, the next ones in turn, such that
all are renewed once per half a window; while the past is short, per half of what there
is. Limits are therefore those of a past that ended up to half a window before: the
price of paying about the same small sum with every column instead of a sort per value.
"""

from math import isnan
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import Floats
from .state import PerRow, State

TO_DEVIATION: Final = 1.4826
"""From the MAD of normal values to their standard deviation: 1 / Phi^-1(3/4)."""

BLOCK: Final = 64
"""Rows that are renewed at once: fewer, and what a call of numpy costs is most of it;
many more, and a bar now and then would take noticeably longer than the others."""

Counts = NDArray[np.intp]


class Limits(NamedTuple):
    """What is within reach of each row."""

    low: Floats
    """Shape (n_rows,); -inf = no limit, as for ``high``."""
    high: Floats

    def copy(self) -> "Limits":
        """Return limits that stay as they are."""
        return Limits(self.low.copy(), self.high.copy())


def robust_scale(values: Floats, min_observations: int) -> tuple[Floats, Floats]:
    """Return the centre and the scale of each row.

    Parameters
    ----------
    values
        Shape (n_rows, n); NaN = missing.
    min_observations
        Values away from the centre below which a row has neither.

    Returns
    -------
    centre, scale
        Shape (n_rows,); NaN = not known.
    """
    ordered = np.sort(values, axis=1)  # NaN stands last
    n = _number(~np.isnan(ordered))
    centre = _middle(ordered, 0, n)
    n_still = np.count_nonzero(ordered == centre[:, None], axis=1)
    n_moved = n - n_still
    still = int(n_still[0])
    if isinstance(n, int) and n > still and (n_still == still).all():
        scale = _middle_distance(ordered[:, :n], centre, still)
    else:
        distance = np.sort(np.abs(ordered - centre[:, None]), axis=1)
        scale = _middle(distance, n_still, n_moved)
    is_known = n_moved >= min_observations
    return (
        np.where(is_known, centre, np.nan),
        np.where(is_known, TO_DEVIATION * scale, np.nan),
    )


def _middle_distance(ordered: Floats, centre: Floats, n_still: int) -> Floats:
    # The median distance without a second sort: the k values that are next to the
    # centre stand side by side, so that the k-th distance is the least, over all k in a
    # row, of that of the outer one.
    n = ordered.shape[1]
    middle = np.zeros(len(centre))
    for rank in (n_still + (n - n_still - 1) // 2, n_still + (n - n_still) // 2):
        outer = centre[:, None] - ordered[:, : n - rank]
        np.maximum(outer, ordered[:, rank:] - centre[:, None], out=outer)
        middle += outer.min(axis=1)
    return 0.5 * middle


def _number(there: NDArray[np.bool_]) -> Counts | int:
    # How many stand at the front of each row; one number where that is the same in all.
    n_all = int(np.count_nonzero(there[0]))
    if there[:, :n_all].all() and not there[:, n_all:].any():
        return n_all
    counts: Counts = np.count_nonzero(there, axis=1)
    return counts


def _middle(ordered: Floats, first: Counts | int, n: Counts | int) -> Floats:
    # The median of the n values of each row that begin at `first`.
    last = ordered.shape[1] - 1
    lower, upper = first + (n - 1) // 2, first + n // 2
    if isinstance(lower, int) and isinstance(upper, int):
        lower, upper = min(max(lower, 0), last), min(upper, last)
        return 0.5 * (ordered[:, lower] + ordered[:, upper])
    ranks = np.stack([lower, upper], axis=1).clip(0, last)
    both = np.take_along_axis(ordered, ranks, axis=1)
    middle: Floats = 0.5 * (both[:, 0] + both[:, 1])
    return middle


class RobustLimits:
    """The limits of many rows, renewed a few rows at a time.

    Parameters
    ----------
    n_rows
        Number of rows.
    bound
        Largest absolute value; ``None`` = any.
    max_z
        Largest distance from the centre, in scales; ``None`` = any.
    length
        Settled columns that a row's past reaches back.
    min_observations
        See `robust_scale`.
    """

    def __init__(
        self,
        n_rows: int,
        *,
        bound: float | None,
        max_z: float | None,
        length: int,
        min_observations: int,
    ) -> None:
        self.reach = np.inf if bound is None else bound
        """``bound``, or infinity."""
        self._max_z = max_z
        self._length = length
        self._min_observations = min_observations
        self._n_settled = 0
        self._next_row = 0
        self._n_due = 0.0  # rows that may be renewed, with the part of one that is left
        self._past = np.full((0 if max_z is None else length, n_rows), np.nan)
        self.centre: Floats = np.full(n_rows, np.nan)
        """Shape (n_rows,); NaN = not known, as for ``scale``."""
        self.scale: Floats = np.full(n_rows, np.nan)
        self.bounds = Limits(np.full(n_rows, -self.reach), np.full(n_rows, self.reach))
        """The limits of values that have no past to be held against."""
        self.limits = self.bounds.copy()
        """Those of the next column; `settle` writes into them."""

    def settle(self, column: Floats) -> None:
        """Add a column to the past of its rows, and renew the next few limits.

        Parameters
        ----------
        column
            Shape (n_rows,); NaN = none.
        """
        if self._max_z is None:
            return
        self._past[self._n_settled % self._length] = column
        self._n_settled += 1
        n_rows = len(column)
        n_columns = min(self._n_settled, self._length)
        self._n_due = min(self._n_due + n_rows / max(n_columns // 2, 1), n_rows)
        if self._n_due < min(n_rows, BLOCK):
            return
        n_left = int(self._n_due)
        self._n_due -= n_left
        while n_left:
            first = self._next_row
            n_renewed = min(n_left, n_rows - first)
            past = self._past[:n_columns, first : first + n_renewed]
            known = robust_scale(np.ascontiguousarray(past.T), self._min_observations)
            self._set(slice(first, first + n_renewed), *known)
            self._next_row = (first + n_renewed) % n_rows
            n_left -= n_renewed

    def z_of(self, row: int, value: float) -> float | None:
        """Return the distance from a row's centre in scales, if those are known."""
        z = abs(value - float(self.centre[row])) / float(self.scale[row])
        return None if isnan(z) else z

    def forget(self, row: int) -> None:
        """Forget one row's past."""
        self._past[:, row] = np.nan
        self._set(slice(row, row + 1), np.array([np.nan]), np.array([np.nan]))

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        n_columns = min(self._n_settled, len(self._past))
        return {
            "length": self._length,
            "min_observations": self._min_observations,
            "is_measured": self._max_z is not None,
            "n_settled": self._n_settled,
            "next_row": self._next_row,
            "n_due": self._n_due,
            "past": PerRow(self._past[:n_columns], np.nan),
            "centre": PerRow(self.centre, np.nan),
            "scale": PerRow(self.scale, np.nan),
        }

    def restore(self, state: State) -> bool:
        """Go on from a `state`; return whether it is one of such a past."""
        shape = state["length"], state["min_observations"], state["is_measured"]
        is_measured = self._max_z is not None
        if shape != (self._length, self._min_observations, is_measured):
            return False
        past = state["past"]
        n_rows = len(self.centre)
        self._n_settled = state["n_settled"]
        self._next_row = state["next_row"] % n_rows
        self._n_due = state["n_due"]
        self._past[: len(past)] = past
        self._set(slice(0, n_rows), state["centre"], state["scale"])
        return True

    def _set(self, rows: slice, centre: Floats, scale: Floats) -> None:
        self.centre[rows] = centre
        self.scale[rows] = scale
        reach = (self._max_z or 0.0) * scale
        # fmax and fmin pass over what is not known
        self.limits.low[rows] = np.fmax(centre - reach, -self.reach)
        self.limits.high[rows] = np.fmin(centre + reach, self.reach)
