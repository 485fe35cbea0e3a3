"""Centred co-moments of pairs: add one pair, merge two sets, never subtract.

Rule: every number that a window publishes is made by the two operations of this
file, and neither of them ever takes anything out of a sum.

Theory of operation
-------------------
A set of pairs (x, y) is kept as ten numbers: how many (``N``), a pivot (``PX, PY``),
the sums of the deviations from it (``SX, SY``) with what their rounding lost so far
(``EX, EY``), and the centred sums (``CXX, CXY, CYY``). Adding a pair is Welford's step,
merging two sets is Chan's. Both only add terms of one sign to ``CXX`` and ``CYY``, so
rounding stays relative to what the set holds *now*; nothing remembers what it held
before.

The pivot always lies among the set's own pairs: it is the first to arrive, or, once
`recentre` found that one odd, their mean. So ``|mean - pivot|`` is at most ``sqrt(N)``
standard deviations, and the rounding of the means is harmless at any offset: returns,
or prices around 1e8.

A column of equal values gives differences that are exactly 0, hence a variance that is
exactly 0, which is how a flat benchmark is told from a quiet one.

Error: with ``n`` pairs the relative error of ``CXX`` and ``CYY`` is of order
``sqrt(n)`` units in the last place (1e-14 at n = 10,000), that of ``CXY`` the same
relative to ``sqrt(CXX * CYY)``. The sums behind the means are compensated: what is left
is the rounding of each single deviation from the pivot, however many are added.

Every operation stands here twice: over arrays, and over floats for turns of a few
rows. They are the same operations in the same order, so they agree to the last bit.

References
----------
B. P. Welford, "Note on a method for calculating corrected sums of squares and
products", Technometrics 4 (1962). T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms
for computing the sample variance", The American Statistician 37 (1983). D. E. Knuth,
"The Art of Computer Programming" vol. 2, par. 4.2.2 (the exact error of a sum).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def cells_of(array: Floats) -> "memoryview[float]":
    """Return a contiguous array's memory as flat scalars, much faster than numpy's."""
    # no shape with a 0 casts
    memory = array.data if array.size else memoryview(bytearray())
    return memory.cast("B").cast("d")


LARGEST: Final = 1e150
"""Largest magnitude whose squares can be summed over any window; what is larger is no
return, and counts as missing."""

N: Final = 0
PX: Final = 1
PY: Final = 2
SX: Final = 3
SY: Final = 4
EX: Final = 5
EY: Final = 6
CXX: Final = 7
CXY: Final = 8
CYY: Final = 9
FIELDS: Final = 10
"""Numbers per set of pairs; the constants above are their positions."""

_PIVOT: Final = slice(PX, PY + 1)
_SUM: Final = slice(SX, SY + 1)
_LOST: Final = slice(EX, EY + 1)
_CX: Final = slice(CXX, CXY + 1)
_CENTRED: Final = slice(CXX, CYY + 1)


ODD_PIVOT: Final = 4.0
"""Standard deviations between pivot and mean above which a pivot is odd: rare among
ordinary returns, certain when a print a thousand times their size came first."""


class Scratch:
    """Buffers for the operations below, so that a commit allocates nothing.

    Parameters
    ----------
    n_sets
        Largest number of sets (rows) in one call.
    n_lanes
        Largest number of lanes in one call.
    """

    def __init__(self, n_sets: int, n_lanes: int = 2) -> None:
        self.pair = np.zeros((2, n_sets))  # shape: (x and y, sets)
        self.deviation = np.zeros((n_lanes, 2, n_sets))
        self.mean = np.zeros((n_lanes, 2, n_sets))
        self.total = np.zeros((n_lanes, 2, n_sets))
        self.part = np.zeros((n_lanes, 2, n_sets))
        self.rest = np.zeros((n_lanes, 2, n_sets))
        self.gain = np.zeros((n_lanes, n_sets))
        self.weight = np.zeros((n_lanes, n_sets))
        self.fresh = np.zeros((n_lanes, n_sets), dtype=np.bool_)


def add_pairs(
    lanes: Floats,
    x: float | Floats,
    y: Floats,
    present: Floats,
    scratch: Scratch,
    *,
    out: Floats | None = None,
) -> None:
    """Add one pair to each set of each lane, where it is present.

    Parameters
    ----------
    lanes
        Sets of pairs, shape (n_lanes, FIELDS, n_sets). Every lane takes the same pair.
    x
        Benchmark value, one for all sets or shape (n_sets,); finite.
    y
        Asset values, shape (n_sets,); finite, anything where the pair is absent.
    present
        1.0 where the pair is complete, else 0.0; shape (n_sets,).
    scratch
        Buffers of at least this many sets and lanes.
    out
        Where the result goes, shaped like ``lanes``; in place by default.
    """
    n_lanes, _, n_sets = lanes.shape
    if out is None:
        out = lanes
    else:
        out[:, _PIVOT] = lanes[:, _PIVOT]
    pair = scratch.pair[:, :n_sets]
    pair[0] = x
    pair[1] = y
    deviation = scratch.deviation[:n_lanes, :, :n_sets]
    mean = scratch.mean[:n_lanes, :, :n_sets]
    total = scratch.total[:n_lanes, :, :n_sets]
    part = scratch.part[:n_lanes, :, :n_sets]
    rest = scratch.rest[:n_lanes, :, :n_sets]
    gain = scratch.gain[:n_lanes, :n_sets]
    weight = scratch.weight[:n_lanes, :n_sets]

    # The first pair of an empty set is its pivot.
    count = lanes[:, N]
    fresh = scratch.fresh[:n_lanes, :n_sets]
    np.less(count, present, out=fresh)
    if fresh.any():
        np.copyto(out[:, _PIVOT], pair, where=fresh[:, None])

    # mean = sum / n before this pair; weight = n / (n + 1) where present, else 0
    np.maximum(count, 1.0, out=gain)
    np.divide(1.0, gain, out=gain)
    np.multiply(lanes[:, _SUM], gain[:, None], out=mean)
    np.add(count, present, out=gain)
    np.maximum(gain, 1.0, out=weight)
    np.divide(count, weight, out=weight)
    np.multiply(weight, present, out=weight)
    out[:, N] = gain

    # sum += pair - pivot, and what the sum cannot hold goes to `lost` (Knuth)
    np.subtract(pair, out[:, _PIVOT], out=deviation)
    np.multiply(deviation, present, out=deviation)
    before = lanes[:, _SUM]
    np.add(before, deviation, out=total)
    np.subtract(total, before, out=part)
    np.subtract(total, part, out=rest)
    np.subtract(before, rest, out=rest)
    np.subtract(deviation, part, out=part)
    np.add(rest, part, out=rest)
    np.add(lanes[:, _LOST], rest, out=out[:, _LOST])
    out[:, _SUM] = total

    # C += n / (n + 1) * deviation * deviation, about the mean before this pair
    np.subtract(deviation, mean, out=deviation)
    weighted = np.multiply(deviation, weight[:, None], out=mean)
    product = np.multiply(weighted[:, 1], deviation[:, 1], out=gain)
    np.add(lanes[:, CYY], product, out=out[:, CYY])
    np.multiply(weighted[:, :1], deviation, out=deviation)
    np.add(lanes[:, _CX], deviation, out=out[:, _CX])


def add_pair(
    cells: "memoryview[float]", at: int, stride: int, x: float, y: float
) -> None:
    """Add one pair to one set: `add_pairs` over floats.

    Parameters
    ----------
    cells
        A flat float64 view of the array that holds the set.
    at
        Position of the set's ``N``.
    stride
        Distance between its fields.
    x, y
        The pair; both finite.
    """
    px, py = at + stride, at + 2 * stride
    sx, sy = at + 3 * stride, at + 4 * stride
    ex, ey = at + 5 * stride, at + 6 * stride
    cxx, cxy, cyy = at + 7 * stride, at + 8 * stride, at + 9 * stride
    count = cells[at]
    if count == 0.0:
        cells[px] = x
        cells[py] = y
    gain = 1.0 / (count or 1.0)
    weight = count / (count + 1.0)
    sum_x, sum_y = cells[sx], cells[sy]
    dx, dy = x - cells[px], y - cells[py]
    total_x, total_y = sum_x + dx, sum_y + dy
    part_x, part_y = total_x - sum_x, total_y - sum_y
    cells[at] = count + 1.0
    cells[sx] = total_x
    cells[sy] = total_y
    cells[ex] += (sum_x - (total_x - part_x)) + (dx - part_x)
    cells[ey] += (sum_y - (total_y - part_y)) + (dy - part_y)
    dx -= sum_x * gain
    dy -= sum_y * gain
    wx = dx * weight
    cells[cxx] += wx * dx
    cells[cxy] += wx * dy
    cells[cyy] += (dy * weight) * dy


def merge_sets(target: Floats, other: Floats) -> None:
    """Merge ``other`` into ``target``, set by set.

    Parameters
    ----------
    target, other
        Sets of pairs, shape (FIELDS, n_sets). An empty target takes over the other's
        pivot, so the pivot stays one of the set's own pairs.
    """
    empty = target[N] == 0.0
    if empty.any():
        np.copyto(target[_PIVOT], other[_PIVOT], where=empty)
    count = target[N] + other[N]
    share = other[N] / np.maximum(count, 1.0)
    apart = other[_PIVOT] - target[_PIVOT]
    delta = apart + (
        other[_SUM] / np.maximum(other[N], 1.0)
        - target[_SUM] / np.maximum(target[N], 1.0)
    )
    weighted = delta * (target[N] * share)
    target[CYY] += other[CYY] + weighted[1] * delta[1]
    target[_CX] += other[_CX] + weighted[0] * delta
    # the other's deviations, seen from our pivot
    moved = other[_SUM] + other[N] * apart
    total = target[_SUM] + moved
    part = total - target[_SUM]
    target[_LOST] += (target[_SUM] - (total - part)) + (moved - part)
    target[_LOST] += other[_LOST]
    target[_SUM] = total
    target[N] = count


def recentre(sets: Floats) -> None:
    """Move the pivot of a set to its mean where it turned out to be odd.

    A first pair that is a bad print is a poor pivot, though a legal one. Where the mean
    lies more than `ODD_PIVOT` standard deviations away, the pivot goes there; all other
    sets stay as they are, to the last bit.

    Parameters
    ----------
    sets
        Sets of pairs, shape (FIELDS, n_sets).
    """
    n, total = sets[N], sets[_SUM]
    odd = total * total > ODD_PIVOT**2 * n * sets[CXX::2]
    if odd.any():
        pivot = sets[_PIVOT]
        centre = pivot + total / np.maximum(n, 1.0)
        np.copyto(total, total - n * (centre - pivot), where=odd)
        np.copyto(pivot, centre, where=odd)


class Joined:
    """The union of two sets per row: what the statistics are computed from.

    Parameters
    ----------
    n_sets
        Largest number of rows in one call.
    """

    def __init__(self, n_sets: int) -> None:
        self._delta = np.zeros((2, n_sets))
        self._moved = np.zeros((2, n_sets))
        self._part = np.zeros((2, n_sets))
        self._rest = np.zeros((2, n_sets))
        self._share = np.zeros(n_sets)
        self._gain = np.zeros(n_sets)
        self._n = np.zeros(n_sets)
        self._mean = np.zeros((2, n_sets))
        self._centred = np.zeros((3, n_sets))

    def join(self, front: Floats, back: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the union of an older and a newer set, row by row.

        Parameters
        ----------
        front, back
            Sets of pairs, shape (FIELDS, n_sets).

        Returns
        -------
        n, mean, centred
            Counts, shape (n_sets,); means of x and y, shape (2, n_sets); the sums
            ``CXX, CXY, CYY``, shape (3, n_sets). Views of buffers that the next call
            overwrites.
        """
        n_sets = front.shape[1]
        delta = self._delta[:, :n_sets]
        moved = self._moved[:, :n_sets]
        part = self._part[:, :n_sets]
        rest = self._rest[:, :n_sets]
        share = self._share[:n_sets]
        gain = self._gain[:n_sets]
        n = self._n[:n_sets]
        mean = self._mean[:, :n_sets]
        centred = self._centred[:, :n_sets]
        # moved = the front's deviations, seen from the back's pivot
        np.subtract(back[_PIVOT], front[_PIVOT], out=delta)
        np.multiply(delta, front[N], out=moved)
        np.subtract(front[_SUM], moved, out=moved)
        # delta = mean of the back - mean of the front
        np.maximum(back[N], 1.0, out=gain)
        np.divide(back[_SUM], gain, out=mean)
        np.maximum(front[N], 1.0, out=gain)
        np.divide(front[_SUM], gain, out=part)
        np.subtract(mean, part, out=mean)
        np.add(delta, mean, out=delta)
        # mean = pivot + (sum + what the sums lost) / n
        np.add(front[N], back[N], out=n)
        np.maximum(n, 1.0, out=gain)
        np.add(back[_SUM], moved, out=mean)
        np.subtract(mean, back[_SUM], out=part)
        np.subtract(mean, part, out=rest)
        np.subtract(back[_SUM], rest, out=rest)
        np.subtract(moved, part, out=part)
        np.add(rest, part, out=rest)
        np.add(front[_LOST], back[_LOST], out=part)
        np.add(rest, part, out=rest)
        np.add(mean, rest, out=mean)
        np.divide(mean, gain, out=mean)
        np.add(back[_PIVOT], mean, out=mean)
        # C = C_front + C_back + delta * delta * n_front * n_back / n
        np.divide(back[N], gain, out=share)
        np.multiply(share, front[N], out=share)
        weighted = np.multiply(delta, share, out=moved)
        np.add(front[_CENTRED], back[_CENTRED], out=centred)
        np.multiply(weighted[1], delta[1], out=share)
        np.add(centred[2], share, out=centred[2])
        np.multiply(delta, weighted[0], out=delta)
        np.add(centred[:2], delta, out=centred[:2])
        return n, mean, centred


def join_one(
    front: Sequence[float], back: Sequence[float]
) -> tuple[float, float, float, float, float, float]:
    """Return (n, mean x, mean y, cxx, cxy, cyy) of one row: `Joined` over floats."""
    n1, px1, py1, sx1, sy1, ex1, ey1, cxx1, cxy1, cyy1 = front
    n2, px2, py2, sx2, sy2, ex2, ey2, cxx2, cxy2, cyy2 = back
    apart_x, apart_y = px2 - px1, py2 - py1
    moved_x, moved_y = sx1 - apart_x * n1, sy1 - apart_y * n1
    own1, own2 = n1 or 1.0, n2 or 1.0
    dx = apart_x + (sx2 / own2 - sx1 / own1)
    dy = apart_y + (sy2 / own2 - sy1 / own1)
    n = n1 + n2
    whole = n or 1.0
    sum_x, sum_y = sx2 + moved_x, sy2 + moved_y
    part_x, part_y = sum_x - sx2, sum_y - sy2
    lost_x = ((sx2 - (sum_x - part_x)) + (moved_x - part_x)) + (ex1 + ex2)
    lost_y = ((sy2 - (sum_y - part_y)) + (moved_y - part_y)) + (ey1 + ey2)
    weight = n2 / whole * n1
    wx = dx * weight
    return (
        n,
        px2 + (sum_x + lost_x) / whole,
        py2 + (sum_y + lost_y) / whole,
        (cxx1 + cxx2) + dx * wx,
        (cxy1 + cxy2) + dy * wx,
        (cyy1 + cyy2) + (dy * weight) * dy,
    )
