"""Centred co-moments of pairs: add one pair, merge two sets, never subtract.

Rule: every number that a window publishes is made by the two operations of this
file, and neither of them ever takes anything out of a sum.

Theory of operation
-------------------
A set of pairs (x, y) is kept as ten numbers: how many (``N``), a pivot (``PX, PY``),
the means relative to the pivot (``MX, MY``) with what their rounding lost so far
(``EX, EY``), and the centred sums (``CXX, CXY, CYY``). Adding a pair is Welford's step,
merging two sets is Chan's. Both only add terms of one sign to ``CXX`` and ``CYY``, so
rounding stays relative to what the set holds *now*; nothing remembers what it held
before.

The pivot always lies among the set's own pairs: it is the first to arrive, or, once
`recentre` was called, their mean. So ``|mean - pivot|`` is at most ``sqrt(N)`` standard
deviations, and the rounding of the means is harmless at any offset: returns, or prices
around 1e8. A first pair that is itself a bad print is a poor pivot, though a legal
one; `recentre` keeps it from outliving its segment.

A column of equal values gives differences that are exactly 0, hence a variance that is
exactly 0, which is how a flat benchmark is told from a quiet one.

Error: with ``n`` pairs the relative error of ``CXX`` and ``CYY`` is of order
``sqrt(n)`` units in the last place (1e-14 at n = 10,000), that of ``CXY`` the same
relative to ``sqrt(CXX * CYY)``.

Every operation stands here twice: over arrays, and over floats for turns of a few
rows. They are the same operations in the same order, so they agree to the last bit.

References
----------
B. P. Welford, "Note on a method for calculating corrected sums of squares and
products", Technometrics 4 (1962). T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms
for computing the sample variance", The American Statistician 37 (1983).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def cells_of(array: Floats) -> "memoryview[float]":
    """Return a contiguous array's memory as flat scalars, much faster than numpy's."""
    memory = array.data if array.size else memoryview(b"")  # no shape with a 0 casts
    return memory.cast("B").cast("d")


LARGEST: Final = 1e150
"""Largest magnitude whose squares can be summed over any window; what is larger is no
return, and counts as missing."""

N: Final = 0
PX: Final = 1
PY: Final = 2
MX: Final = 3
MY: Final = 4
EX: Final = 5
EY: Final = 6
CXX: Final = 7
CXY: Final = 8
CYY: Final = 9
FIELDS: Final = 10
"""Numbers per set of pairs; the constants above are their positions."""

_PIVOT: Final = slice(PX, PY + 1)
_MEAN: Final = slice(MX, MY + 1)
_LOST: Final = slice(EX, EY + 1)
_CX: Final = slice(CXX, CXY + 1)
_CENTRED: Final = slice(CXX, CYY + 1)


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
        self.step = np.zeros((n_lanes, 2, n_sets))
        self.taken = np.zeros((n_lanes, 2, n_sets))
        self.mean = np.zeros((n_lanes, 2, n_sets))
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
    step = scratch.step[:n_lanes, :, :n_sets]
    gain = scratch.gain[:n_lanes, :n_sets]
    weight = scratch.weight[:n_lanes, :n_sets]

    # The first pair of an empty set is its pivot.
    count = lanes[:, N]
    fresh = scratch.fresh[:n_lanes, :n_sets]
    np.less(count, present, out=fresh)
    if fresh.any():
        np.copyto(out[:, _PIVOT], pair, where=fresh[:, None])

    # gain = 1/n where present, else 0; weight = (n-1)/n where present, else 0
    np.add(count, present, out=out[:, N])
    np.maximum(out[:, N], 1.0, out=gain)
    np.divide(present, gain, out=gain)
    np.subtract(present, gain, out=weight)

    np.subtract(pair, out[:, _PIVOT], out=deviation)
    np.subtract(deviation, lanes[:, _MEAN], out=deviation)
    np.subtract(deviation, lanes[:, _LOST], out=deviation)
    np.multiply(deviation, gain[:, None], out=step)
    # mean += step, and what the sum cannot hold goes to `lost` (Dekker's fast two-sum)
    mean = np.add(lanes[:, _MEAN], step, out=scratch.mean[:n_lanes, :, :n_sets])
    taken = np.subtract(mean, lanes[:, _MEAN], out=scratch.taken[:n_lanes, :, :n_sets])
    np.subtract(step, taken, out=step)
    np.add(lanes[:, _LOST], step, out=out[:, _LOST])
    out[:, _MEAN] = mean
    # step becomes the weighted deviation: C += (n-1)/n * deviation * deviation
    np.multiply(deviation, weight[:, None], out=step)
    product = gain  # no longer needed as a gain
    np.multiply(step[:, 1], deviation[:, 1], out=product)
    np.add(lanes[:, CYY], product, out=out[:, CYY])
    np.multiply(step[:, :1], deviation, out=deviation)
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
    mx, my = at + 3 * stride, at + 4 * stride
    ex, ey = at + 5 * stride, at + 6 * stride
    cxx, cxy, cyy = at + 7 * stride, at + 8 * stride, at + 9 * stride
    count = cells[at] + 1.0
    if count == 1.0:
        cells[px] = x
        cells[py] = y
    gain = 1.0 / count
    weight = 1.0 - gain
    mean_x, mean_y = cells[mx], cells[my]
    dx = ((x - cells[px]) - mean_x) - cells[ex]
    dy = ((y - cells[py]) - mean_y) - cells[ey]
    wx = dx * weight
    step_x, step_y = dx * gain, dy * gain
    moved_x, moved_y = mean_x + step_x, mean_y + step_y
    cells[at] = count
    cells[mx] = moved_x
    cells[my] = moved_y
    cells[ex] += step_x - (moved_x - mean_x)
    cells[ey] += step_y - (moved_y - mean_y)
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
        np.copyto(target[_MEAN], other[_MEAN], where=empty)
        np.copyto(target[_LOST], other[_LOST], where=empty)
    count = target[N] + other[N]
    share = other[N] / np.maximum(count, 1.0)
    delta = (other[_PIVOT] - target[_PIVOT]) + (other[_MEAN] - target[_MEAN])
    delta += other[_LOST] - target[_LOST]
    weighted = delta * (target[N] * share)
    target[CYY] += other[CYY] + weighted[1] * delta[1]
    target[_CX] += other[_CX] + weighted[0] * delta
    step = delta * share
    mean = target[_MEAN] + step
    target[_LOST] += step - (mean - target[_MEAN])
    target[_MEAN] = mean
    target[N] = count


def recentre(sets: Floats) -> None:
    """Move each set's pivot to its mean, exactly.

    Parameters
    ----------
    sets
        Sets of pairs, shape (FIELDS, n_sets). Equal values stay exactly on their pivot.
    """
    pivot, mean, lost = sets[_PIVOT], sets[_MEAN], sets[_LOST]
    # Knuth's two-sum: what the new pivot cannot hold stays in the mean
    centre = pivot + mean
    part = centre - pivot
    mean[:] = ((pivot - (centre - part)) + (mean - part)) + lost
    pivot[:] = centre
    lost[:] = 0.0


class Joined:
    """The union of two sets per row: what the statistics are computed from.

    Parameters
    ----------
    n_sets
        Largest number of rows in one call.
    """

    def __init__(self, n_sets: int) -> None:
        self._delta = np.zeros((2, n_sets))
        self._weighted = np.zeros((2, n_sets))
        self._lost = np.zeros((2, n_sets))
        self._share = np.zeros(n_sets)
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
        weighted = self._weighted[:, :n_sets]
        lost = self._lost[:, :n_sets]
        share = self._share[:n_sets]
        n = self._n[:n_sets]
        mean = self._mean[:, :n_sets]
        centred = self._centred[:, :n_sets]
        # share = n_back / n: how far the joint mean lies from the front's
        np.add(front[N], back[N], out=n)
        np.maximum(n, 1.0, out=share)
        np.divide(back[N], share, out=share)
        np.subtract(back[_PIVOT], front[_PIVOT], out=delta)
        np.subtract(back[_MEAN], front[_MEAN], out=mean)
        np.add(delta, mean, out=delta)
        np.subtract(back[_LOST], front[_LOST], out=mean)
        np.add(delta, mean, out=delta)
        # The pivot and the mean may cancel: what their sum loses is added at the end.
        np.add(front[_PIVOT], front[_MEAN], out=mean)
        np.subtract(mean, front[_PIVOT], out=weighted)
        np.subtract(front[_MEAN], weighted, out=lost)
        np.add(lost, front[_LOST], out=lost)
        np.multiply(delta, share, out=weighted)
        np.add(mean, weighted, out=mean)
        np.add(mean, lost, out=mean)
        # C = C_front + C_back + delta * delta * n_front * n_back / n
        np.multiply(share, front[N], out=share)
        np.multiply(delta, share, out=weighted)
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
    n1, px1, py1, mx1, my1, ex1, ey1, cxx1, cxy1, cyy1 = front
    n2, px2, py2, mx2, my2, ex2, ey2, cxx2, cxy2, cyy2 = back
    n = n1 + n2
    share = n2 / (max(1.0, n))
    dx = ((px2 - px1) + (mx2 - mx1)) + (ex2 - ex1)
    dy = ((py2 - py1) + (my2 - my1)) + (ey2 - ey1)
    front_x, front_y = px1 + mx1, py1 + my1
    lost_x = (mx1 - (front_x - px1)) + ex1
    lost_y = (my1 - (front_y - py1)) + ey1
    weight = share * n1
    wx = dx * weight
    return (
        n,
        (front_x + dx * share) + lost_x,
        (front_y + dy * share) + lost_y,
        (cxx1 + cxx2) + dx * wx,
        (cxy1 + cxy2) + dy * wx,
        (cyy1 + cyy2) + (dy * weight) * dy,
    )
