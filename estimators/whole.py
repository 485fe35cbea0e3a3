"""The statistics of all rows in as few steps as there can be.

Rule: what comes out are the bits of `sums.centre` and `ols.solve`, and the rows that
`doubt.doubtful` finds. Those are the readable form; this is the one in which a bar of
thousands of rows is computed.

Theory of operation
-------------------
A row's numbers cost little, but each step over all rows costs a call, and memory that
does not fit the nearest cache. So each step writes where something has just been read
for the last time. The sums (Y, XY, YY) stand in three rows of one array, in which the
steps put

    row 0   Y       then  beta * cxy, what the line explains
    row 1   XY      then  cyy
    row 2   YY

so that one division, of rows 0 and 1 by rows 1 and 2, gives r**2 and the inverse of the
asset's spread. The least of both, the least residual sum and the largest YY are all it
takes to see that no row is doubtful: what holds for the extremes holds for all rows.
Where r**2 is small in some rows, and nothing else is in the way, those are looked at by
themselves. The limits are known first: once YY and the residual sums have passed them,
no step can divide by 0 or overflow.

A benchmark's side that is not shared stands row by row (N, X, XX), in which the steps
put cxx in the place of X; its extremes do the same for its limits. Rows with too few
pairs have no statistics, so they take part with numbers that give no offence, and are
NaN in the end.

Nothing is lost but time where it cannot be seen: then the readable form decides.

With a turn made of forty such steps, what a step costs before it begins counts: a
number that all rows share is an array without dimensions, which takes 0.3 us less than
a float to multiply with; where a step writes is told by position, for 0.1 us; and the
place of the least value is found 0.8 us sooner than the value by reduction.
"""

from math import nan, sqrt
from typing import Final

import numpy as np

from .arrays import Rows
from .doubt import NO_ROWS, USUAL_SPREAD, doubtful, hardly_following, usual_limits
from .moments import Floats
from .ols import (
    ALPHA,
    BETA,
    DOF,
    R_SQUARED,
    RESIDUAL_STD,
    STATISTICS,
    STD_ERROR,
    T_STAT,
    Moments,
    solve,
)
from .sums import XY, YY, Basis, N, Shared, X, Y

Side = Floats | float
"""What is said of the benchmark, row by row or of all rows."""

_HARMLESS: Final = np.array([[0.0], [0.5], [1.0]])
"""Sums of an asset; beside `_HARMLESS_SIDE` its r**2 is a quarter."""
_HARMLESS_SIDE: Final = np.array([[3.0], [0.0], [1.0]])


class WholePass:
    """Computes the statistics of all rows from their sums.

    Parameters
    ----------
    n_rows
        Number of rows, at most.
    min_observations
        Pairs below which statistics are NaN.
    """

    def __init__(self, n_rows: int, min_observations: int) -> None:
        self._min_observations = min_observations
        self._fewest = max(min_observations, DOF + 1.0)
        self._mean_y, self._cxy = np.empty((2, n_rows))
        self._mean_x, self._root_x, self._dof = np.empty((3, n_rows))
        """Of each row, where rows lack different bars."""
        self._of_all: tuple[Floats, ...] = tuple(np.empty(()) for _ in range(6))
        """n, x, mean_x, cxx, its root and the degrees of freedom, where no row does."""

    def takes(self, benchmark: Floats | Shared, basis: Basis) -> bool:
        """Return whether such windows are of the kind that this pass is for.

        Parameters
        ----------
        benchmark
            Shape (SIDE, n_rows), or three floats for every row.
        basis
            What it is about.
        """
        if basis.is_flat or basis.has_tiny:
            return False
        if isinstance(benchmark, np.ndarray):
            return self._min_observations > DOF
        return benchmark[0] >= self._fewest

    def estimate(
        self, sums: Floats, benchmark: Floats | Shared, basis: Basis
    ) -> tuple[Floats, Rows]:
        """Return the statistics of all rows, and which of them are doubtful.

        Parameters
        ----------
        sums
            The asset sides, shape (SIDE, n_rows), at least one row; overwritten.
        benchmark
            The other sides, which the pass `takes`; an array is overwritten but for
            its first row.
        basis
            What they are about.

        Returns
        -------
        statistics
            Shape (STATISTICS, n_rows), a new array.
        doubts
            Rows.
        """
        own = benchmark if isinstance(benchmark, np.ndarray) else None
        few, n_of_few = NO_ROWS, None
        if own is not None and own[N].item(own[N].argmin()) < self._fewest:
            few = np.flatnonzero(own[N] < self._fewest)
            n_of_few = own[N, few]
            sums[:, few], own[:, few] = _HARMLESS, _HARMLESS_SIDE
        n, x, xx = benchmark
        y, xy, yy = sums[Y], sums[XY], sums[YY]
        k = len(y)
        mean_y, cxy = self._mean_y, self._cxy
        if k < len(cxy):
            mean_y, cxy = mean_y[:k], cxy[:k]
        by_n, by_x, by_mean_x, by_cxx, by_root_x, by_dof = self._of_all
        if own is None:
            by_n[()], by_x[()], by_dof[()] = n, x, n - DOF
        else:
            by_n, by_x = own[N], own[X]
        np.divide(y, by_n, mean_y)
        np.multiply(mean_y, by_x, cxy)
        np.subtract(xy, cxy, cxy)
        cyy = np.multiply(y, mean_y, xy)
        np.subtract(yy, cyy, cyy)
        if basis.pivots is not None:
            mean_y += basis.pivots
        mean_x: Side
        cxx: Side
        if isinstance(benchmark, np.ndarray):
            mean_x = by_mean_x = self._means_of(benchmark, basis.pivot_x)
            cxx = by_cxx = benchmark[X]
            extremes = _extremes(benchmark, basis.pivot_x)
        else:
            all_n, all_x, all_xx = benchmark
            shift = all_x / all_n
            mean_x, cxx = shift + basis.pivot_x, all_xx - all_x * shift
            by_mean_x[()], by_cxx[()] = mean_x, cxx
            extremes = all_n, mean_x, cxx, all_xx
        most_yy, least_r_squared = _limits(extremes, basis)
        out = np.empty((STATISTICS, k))
        beta, alpha, std_error = out[BETA], out[ALPHA], out[STD_ERROR]
        t_stat, r_squared, residual_std = out[T_STAT], out[R_SQUARED], out[RESIDUAL_STD]
        # Nothing below divides by 0 or overflows once the extremes have passed.
        least = least_ratio = 0.0
        if yy.item(yy.argmax()) <= most_yy:
            np.divide(cxy, by_cxx, beta)
            explained = np.multiply(beta, cxy, y)
            ssr = np.subtract(cyy, explained, residual_std)
            if ssr.item(ssr.argmin()) > 0.0:
                if own is None:
                    by_root_x[()] = sqrt(cxx)
                else:
                    by_dof = np.subtract(by_n, DOF, self._dof[:k])
                    by_root_x = np.sqrt(by_cxx, self._root_x[:k])
                np.divide(ssr, by_dof, std_error)
                np.divide(sums[:YY], sums[XY:], out[R_SQUARED:])
                least = r_squared.item(r_squared.argmin())
                least_ratio = residual_std.item(residual_std.argmin())
                np.multiply(beta, by_mean_x, alpha)
                np.subtract(mean_y, alpha, alpha)
                np.sqrt(std_error, residual_std)
                np.divide(residual_std, by_root_x, std_error)
                np.divide(beta, std_error, t_stat)
        if own is not None and n_of_few is not None:
            own[N, few] = n_of_few
        if not least_ratio * USUAL_SPREAD > 1.0:
            moments = Moments(n, mean_x, mean_y, cxx, cxy, cyy, xx, yy)
            fewest = self._min_observations
            solve(moments, fewest, out)
            return out, doubtful(moments, out, fewest, basis.error, tiny=False)
        if n_of_few is not None:
            out[:, few] = nan
        if least >= least_r_squared:
            return out, NO_ROWS
        rows = np.flatnonzero(r_squared < least_r_squared)
        moments = Moments(n, mean_x, mean_y, cxx, cxy, cyy, xx, yy)
        return out, hardly_following(rows, moments, r_squared, basis.error)

    def _means_of(self, own: Floats, pivot_x: float) -> Floats:
        # mean_x of each row; cxx takes the place of its sum.
        n, x, xx = own
        mean_x: Floats = np.divide(x, n, self._mean_x[: len(x)])
        cxx = np.multiply(x, mean_x, x)
        np.subtract(xx, cxx, cxx)
        if pivot_x:
            mean_x += pivot_x
        return mean_x


def _extremes(own: Floats, pivot_x: float) -> tuple[float, float, float, float]:
    # Least n, largest mean_x or above it, least cxx, largest xx; cxx stands for x.
    n, cxx, xx = own
    least_n, most_xx = n.item(n.argmin()), xx.item(xx.argmax())
    mean_x = sqrt(most_xx / least_n) + abs(pivot_x)
    return least_n, mean_x, cxx.item(cxx.argmin()), most_xx


def _limits(
    extremes: tuple[float, float, float, float], basis: Basis
) -> tuple[float, float]:
    # The most that yy, and the least that r**2 of a usual row may be.
    n, mean_x, cxx, xx = extremes
    if cxx <= 0.0:
        return nan, nan
    pivots = basis.pivots
    pivot_y = 0.0 if pivots is None else float(np.abs(pivots).max())
    return usual_limits(n, mean_x, cxx, xx, basis.error, pivot_y=pivot_y)
