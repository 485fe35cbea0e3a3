"""Sums of pairs about a pivot: add one pair, merge two sets, never subtract.

Rule: a set of pairs is six sums, and the only thing that is ever done to one is to add
to it.

Theory of operation
-------------------
A set of pairs (x, y) is kept as sums of deviations from a pivot (px, py),

    asset side          Y = sum(y - py)    XY = sum((x - px)(y - py))    YY, likewise
    benchmark side      N = how many       X = sum(x - px)               XX, likewise

Adding a pair is an addition to each, and so is merging two sets that have their pivot
in common, as all sets of one row do. Nothing remembers what a set held before.

The benchmark side is the same for every row that lacks no bar. So it is kept once for
all rows, as three floats, and row by row only in sets in which some row lacks a bar.
Either takes part in the same expressions: numpy spreads a float over the rows.

The centred sums, which statistics are made of, are

    cxx = XX - X * X / N      cxy = XY - X * Y / N      cyy = YY - Y * Y / N

and lose nothing that matters as long as the mean is near the pivot: with
``k = YY / cyy = 1 + (mean - py)**2 / variance`` the error of cyy is k times that of its
sums. Returns have their mean next to 0, hence k next to 1 with the pivot 0. For what
is no return, levels for instance, `is_odd` tells that a pivot is far off, and whoever
keeps the sets makes them anew about a better one (`better_pivot`). Until then, `doubt`
looks at k with every estimate, and computes the row from its very pairs where it is
too large. So the pivot is a matter of time, never of the published number.

Values that are all equal to their pivot give sums that are exactly 0: this is how a
flat benchmark is told from a quiet one.

Every operation stands here twice: over arrays, and over floats for turns of a few
rows. They are the same operations in the same order, so they agree to the last bit.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .doubt import NO_ROWS, TINY, U, largest_spread
from .moments import Floats, cells_of
from .ols import Moments, RowMoments

Y: Final = 0
XY: Final = 1
YY: Final = 2
N: Final = 0
X: Final = 1
XX: Final = 2
SIDE: Final = 3
"""Numbers per side of a set; the constants above are their positions in it."""

FEWEST: Final = 16
"""Pairs that say where a mean is: of fewer, that of returns is far from 0 by chance,
and they are quickly recalculated."""

Shared = tuple[float, float, float]
"""A benchmark side that all rows have in common."""
NOTHING: Final[Shared] = (0.0, 0.0, 0.0)


class Sets:
    """Some sets of pairs, each of all rows.

    Parameters
    ----------
    n_sets, n_rows
        How many.

    Notes
    -----
    ``shared`` is what the benchmark side would be if no row lacked a bar, and always
    kept; ``own`` is the true one where some row does.
    """

    def __init__(self, n_sets: int, n_rows: int) -> None:
        self.n_sets = n_sets
        self.n_rows = n_rows
        self.asset = np.zeros((n_sets, SIDE, n_rows))
        self.flat = list(self.asset.reshape(n_sets, SIDE * n_rows))
        """``asset`` as one column per set."""
        self.cells = cells_of(self.asset)
        """``asset`` as flat scalars."""
        self.shared: list[Shared] = [NOTHING] * n_sets
        self.is_own = [False] * n_sets
        self._own: Floats | None = None
        self._own_cells: memoryview[float] | None = None

    @property
    def own(self) -> Floats:
        """The benchmark sides row by row, shape (n_sets, SIDE, n_rows)."""
        if self._own is None:
            self._own = np.zeros((self.n_sets, SIDE, self.n_rows))
            self._own_cells = cells_of(self._own)
        return self._own

    @property
    def own_cells(self) -> "memoryview[float]":
        """``own`` as flat scalars."""
        if self._own_cells is None:
            self._own_cells = cells_of(self.own)
        return self._own_cells

    def row(self, at: int, row: int) -> tuple[float, float, float]:
        """Return the asset side of one row."""
        cells, n_rows = self.cells, self.n_rows
        place = at * SIDE * n_rows + row
        return cells[place], cells[place + n_rows], cells[place + 2 * n_rows]

    def benchmark_row(self, at: int, row: int) -> tuple[float, float, float]:
        """Return the benchmark side of one row."""
        cells = self._own_cells
        if cells is None or not self.is_own[at]:
            return self.shared[at]
        n_rows = self.n_rows
        place = at * SIDE * n_rows + row
        return cells[place], cells[place + n_rows], cells[place + 2 * n_rows]

    def benchmark(self, at: int) -> Floats:
        """Return the benchmark side of a set, shape (SIDE, n_rows) or (SIDE, 1)."""
        return self.own[at] if self.is_own[at] else column(self.shared[at])

    def benchmark_of(self, at: int, rows: Rows) -> Floats:
        """Return the benchmark side of some rows, shape (SIDE, k) or (SIDE, 1)."""
        return self.own[at][:, rows] if self.is_own[at] else column(self.shared[at])

    def split(self, at: int) -> Floats:
        """Keep the benchmark side of a set row by row from now on; return it."""
        side: Floats = self.own[at]
        if not self.is_own[at]:
            side[:] = column(self.shared[at])
            self.is_own[at] = True
        return side

    def clear(self, at: int) -> None:
        """Empty a set."""
        self.asset[at] = 0.0
        self.shared[at] = NOTHING
        self.is_own[at] = False

    def copy(self, at: int, other: "Sets", of: int) -> None:
        """Make a set equal to one of another."""
        self.asset[at] = other.asset[of]
        self.shared[at] = other.shared[of]
        self.is_own[at] = other.is_own[of]
        if other.is_own[of]:
            self.own[at] = other.own[of]

    def add(self, at: int, of: int, terms: "Terms") -> None:
        """Make a set equal to another with one bar more."""
        np.add(self.flat[of], terms.flat, self.flat[at])
        is_complete = not len(terms.absent)
        is_own = self.is_own[of] or not is_complete
        if is_own:
            side = column(terms.shared) if is_complete else terms.own
            np.add(self.benchmark(of), side, self.own[at])
        self.is_own[at] = is_own
        self.shared[at] = plus(self.shared[of], terms.shared)

    def merge(self, at: int, other: "Sets", of: int) -> None:
        """Add one of other sets to a set."""
        np.add(self.flat[at], other.flat[of], self.flat[at])
        if self.is_own[at] or other.is_own[of]:
            side = self.split(at)
            side += other.benchmark(of)
        self.shared[at] = plus(self.shared[at], other.shared[of])


class Terms:
    """What one bar adds to a set, computed into buffers.

    Parameters
    ----------
    n_rows
        Number of rows.
    scratch
        Terms whose ``asset`` is computed into too: only one of the two is needed at a
        time, and what was just used is in the nearest cache.
    """

    def __init__(self, n_rows: int, scratch: "Terms | None" = None) -> None:
        self.asset: Floats = scratch.asset if scratch else np.zeros((SIDE, n_rows))
        """y, xy and yy as deviations; 0 where the pair is missing."""
        self.flat = self.asset.reshape(-1)
        """The same as one column."""
        self.shared = NOTHING
        """1, x and xx of a pair that is there."""
        self.own = np.zeros((SIDE, n_rows))
        """1, x and xx of the pairs that are there, 0 elsewhere: where some are not."""
        self.absent = NO_ROWS
        """Rows without a pair."""
        self._y, self._xy, self._yy = self.asset
        self._y_cells = self._y.data
        self._present, self._own_x, self._own_xx = self.own
        self._x: Floats = np.zeros(())
        self._xx: Floats = np.zeros(())

    def of_benchmark(self, deviation: float) -> None:
        """Compute ``shared`` from the benchmark's deviation."""
        square = deviation * deviation
        self.shared = 1.0, deviation, square
        self._x[()], self._xx[()] = deviation, square

    def of_bar(self, returns: Floats, pivots: Floats | None, absent: Rows) -> None:
        """Compute ``asset``, and ``own`` where some return is missing.

        Parameters
        ----------
        returns
            Shape (n_rows,); NaN = missing.
        pivots
            Of the assets, shape (n_rows,); ``None`` = 0.
        absent
            Rows whose return is missing.
        """
        y = self._y
        if pivots is None:
            self._y_cells[:] = returns.data  # ``y[:] = returns``, in half the time
        else:
            np.subtract(returns, pivots, y)
        if len(absent):
            y[absent] = 0.0
            present = self._present
            present.fill(1.0)
            present[absent] = 0.0
            np.multiply(present, self._x, self._own_x)
            np.multiply(present, self._xx, self._own_xx)
        np.multiply(y, self._x, self._xy)
        np.multiply(y, y, self._yy)
        self.absent = absent

    def smallest_square(self) -> float:
        """Return the least yy of the pairs that are there; NaN = not all of them are.

        Infinite where none is.
        """
        yy, absent = self._yy, self.absent
        if len(absent) == len(yy):
            return np.inf
        if len(absent):
            yy[absent] = np.inf
        smallest: float = yy.item(yy.argmin())
        if len(absent):
            yy[absent] = 0.0
        return smallest


def absent_in(returns: Floats) -> Rows:
    """Return the rows whose return is missing."""
    return np.isnan(returns).nonzero()[0]


def plus(one: Shared, other: Shared) -> Shared:
    """Return the sums of two sets together."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def column(side: Shared) -> Floats:
    """Return a side that rows share as an array, shape (SIDE, 1)."""
    return np.array(side)[:, None]


def add_pair(
    cells: "memoryview[float]", at: int, stride: int, x: float, y: float
) -> None:
    """Add one pair to the asset side of one set.

    Parameters
    ----------
    cells
        A flat float64 view of the array that holds the set.
    at
        Position of the set's ``Y``.
    stride
        Distance between its sums.
    x, y
        Deviations from the pivots.
    """
    cells[at] += y
    cells[at + stride] += y * x
    cells[at + 2 * stride] += y * y


def count_pair(cells: "memoryview[float]", at: int, stride: int, x: float) -> None:
    """Add one pair to the benchmark side of one set, see `add_pair`."""
    cells[at] += 1.0
    cells[at + stride] += x
    cells[at + 2 * stride] += x * x


class Basis(NamedTuple):
    """What sums are about, and what is known of their window besides."""

    pivot_x: float
    pivots: Floats | None
    """Of the assets, shape (n_rows,); ``None`` = 0. Other pivots are another array."""
    is_flat: bool
    """Whether the benchmark stood still."""
    has_tiny: bool
    """Whether squares may have underflowed."""
    error: float
    """Bound of the relative rounding error of a sum, see `error_of`."""


def error_of(n_additions: int) -> float:
    """Return by what part of the sum of its terms' sizes a sum may be wrong.

    Parameters
    ----------
    n_additions
        How many lie between a term and the sum at most. Each of them may round by one
        unit, U, and so may the deviation, the product, the last addition and the mean.
    """
    return (n_additions + 6) * U


def moments_of(
    asset: Floats, benchmark: Floats | Shared, basis: Basis, rows: Rows | None = None
) -> Moments:
    """Return what the statistics are computed from.

    Parameters
    ----------
    asset
        Sums of the windows, shape (SIDE, ..., k).
    benchmark
        Shape (SIDE, ..., k) or (SIDE, ..., 1), or three floats for all.
    basis
        What they are about.
    rows
        Which rows these are, shape (k,); ``None`` = all.
    """
    pivots = basis.pivots
    if pivots is not None and rows is not None:
        pivots = pivots[rows]
    moments = centre(asset, benchmark, basis.pivot_x, pivots)
    if basis.is_flat:  # and not by rounding alone
        still = moments.cxx * 0.0
        return moments._replace(cxx=still, xx=still)
    return moments


def centre(
    asset: Floats, benchmark: Floats | Shared, pivot_x: float, pivots: Floats | None
) -> Moments:
    """Return the moments that sums about some pivots amount to, see `moments_of`."""
    y, xy, yy = asset
    n: Floats | float
    n, x, xx = benchmark
    count = np.maximum(n, 1.0) if isinstance(n, np.ndarray) else max(n, 1.0)
    mean_x = x / count
    mean_y = y / count
    cxx = xx - x * mean_x
    cxy = x * mean_y
    np.subtract(xy, cxy, out=cxy)
    cyy = y * mean_y
    np.subtract(yy, cyy, out=cyy)
    if pivots is not None:
        mean_y += pivots
    return Moments(n, mean_x + pivot_x, mean_y, cxx, cxy, cyy, xx, yy)


def centre_one(
    asset: Shared, benchmark: Shared, pivot_x: float, pivot_y: float
) -> RowMoments:
    """Return `Moments` of one row: `centre` over floats."""
    y, xy, yy = asset
    n, x, xx = benchmark
    count = max(1.0, n)
    mean_x, mean_y = x / count, y / count
    return (
        n,
        mean_x + pivot_x,
        mean_y + pivot_y,
        xx - x * mean_x,
        xy - x * mean_y,
        yy - y * mean_y,
        xx,
        yy,
    )


def is_odd(
    n: Floats, total: Floats, squares: Floats, pivot: Floats, error: float
) -> NDArray[np.bool_]:
    """Return where another pivot should be taken.

    That is where the mean is too far from it; and where it is not 0, though 0 would
    do: so a pivot does not outlive what it was taken for.

    Parameters
    ----------
    n, total, squares
        Of one side: how many, their sum and that of their squares, about the pivot.
    pivot
        From which the deviations were taken.
    error
        Of the sums, see `error_of`.
    """
    limit = largest_spread(error) / 2.0  # half of what an estimate bears
    count = np.maximum(n, 1.0)
    mean = total / count
    centred = squares - total * mean
    odd = squares > limit * centred
    odd |= (pivot != 0.0) & ((mean + pivot) ** 2 * count <= (limit - 1.0) * centred)
    result: NDArray[np.bool_] = odd & (squares != 0.0)
    return result


def better_pivot(values: Floats, error: float) -> Floats:
    """Return a pivot for each column of values, NaN = missing.

    It is 0 where that will do, else the mean; and where the values are equal, exactly
    their value. A mean so small that deviations from it might underflow is none.
    """
    there = ~np.isnan(values)
    n = np.maximum(there.sum(axis=0), 1.0)
    mean = np.where(there, values, 0.0).sum(axis=0) / n
    away = np.where(there, values - mean, 0.0)
    zero_will_do = mean * mean * n <= (largest_spread(error) / 2.0 - 1.0) * (
        away**2
    ).sum(axis=0)
    mean += away.sum(axis=0) / n
    mean[zero_will_do | (np.abs(mean) < TINY)] = 0.0
    pivots: Floats = mean
    return pivots
