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
asset's spread, and one reduction the least of both. With the least residual sum and the
largest YY that is all it takes to see that no row is doubtful: what holds for the
extremes holds for all rows. Where r**2 is small in some rows, and nothing else is in
the way, those are looked at by themselves.

A benchmark's side that is not shared stands row by row (N, X, XX), in which the steps
put cxx in the place of X; its extremes do the same for its limits. Rows with too few
pairs have no statistics, so they take part with numbers that give no offence, and are
NaN in the end.

Nothing is lost but time where it cannot be seen: then the readable form decides.
"""

from math import nan, sqrt
from typing import Final

import numpy as np

from .doubt import (
    UNDERFLOW,
    USUAL_SPREAD,
    Rows,
    coarse_limits,
    doubtful,
    hardly_following,
    is_small,
)
from .moments import Floats
from .ols import R_SQUARED, RESIDUAL_STD, STATISTICS, Moments, solve
from .sums import XY, YY, Basis, N, Shared

Side = Floats | float
"""What is said of the benchmark, row by row or of all rows."""

_DOF: Final = 2.0
_NO_ROWS: Final[Rows] = np.empty(0, dtype=np.intp)
_HARMLESS: Final = np.array([[0.0], [0.5], [1.0]])
"""Sums of an asset; beside `_HARMLESS_SIDE` its r**2 is a quarter."""
_HARMLESS_SIDE: Final = np.array([[3.0], [0.0], [1.0]])


class WholePass:
    """Computes the statistics of all rows from their sums.

    Parameters
    ----------
    n_rows
        Number of rows.
    min_observations
        Pairs below which statistics are NaN.
    """

    def __init__(self, n_rows: int, min_observations: int) -> None:
        self._min_observations = min_observations
        self._fewest = max(min_observations, _DOF + 1.0)
        self._mean_y, self._cxy = np.empty((2, n_rows))
        self._mean_x, self._root_x, self._dof = np.empty((3, n_rows))
        """Of each row, where rows lack different bars."""

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
            return self._min_observations > _DOF
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
        n, x, xx = benchmark
        own = benchmark if isinstance(benchmark, np.ndarray) else None
        few, n_of_few = _NO_ROWS, None
        if own is not None and np.minimum.reduce(own[N]) < self._fewest:
            few = np.flatnonzero(own[N] < self._fewest)
            n_of_few = own[N, few]
            sums[:, few], own[:, few] = _HARMLESS, _HARMLESS_SIDE
        y, xy, yy = sums
        mean_y, cxy = self._mean_y, self._cxy
        out = np.empty((STATISTICS, len(yy)))
        beta, alpha, std_error, t_stat, r_squared, residual_std = out
        ratios = out[R_SQUARED : RESIDUAL_STD + 1]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            np.divide(y, n, out=mean_y)
            np.multiply(mean_y, x, out=cxy)
            np.subtract(xy, cxy, out=cxy)
            cyy = np.multiply(y, mean_y, out=xy)
            np.subtract(yy, cyy, out=cyy)
            if basis.pivots is not None:
                mean_y += basis.pivots
            mean_x, cxx, root_x, dof = self._side(benchmark, basis.pivot_x)
            np.divide(cxy, cxx, out=beta)
            np.multiply(beta, mean_x, out=alpha)
            np.subtract(mean_y, alpha, out=alpha)
            explained = np.multiply(beta, cxy, out=y)
            np.divide(sums[:YY], sums[XY:], out=ratios)
            least_r_squared, least_ratio = np.minimum.reduce(ratios, axis=1).tolist()
            ssr = np.subtract(cyy, explained, out=residual_std)
            least_ssr = np.minimum.reduce(ssr)
            np.divide(ssr, dof, out=residual_std)
            np.sqrt(residual_std, out=residual_std)
            np.divide(residual_std, root_x, out=std_error)
            np.divide(beta, std_error, out=t_stat)
        least_n, least_cxx, most_xx, most_mean_x = _extremes(n, mean_x, cxx, xx, basis)
        limits = coarse_limits(least_n, most_mean_x, least_cxx, most_xx, basis.error)
        most_yy = _most(yy)
        moments = Moments(n, mean_x, mean_y, cxx, cxy, cyy, xx, yy)
        is_usual = (
            least_ssr > 0.0
            and least_ratio * USUAL_SPREAD > 1.0
            and limits.spread >= USUAL_SPREAD
            and least_cxx >= UNDERFLOW
            and is_small(most_yy, _largest(mean_y, most_yy / least_n, basis), limits)
        )
        if own is not None and n_of_few is not None:
            own[N, few], out[:, few] = n_of_few, nan
        if not is_usual:
            fewest = self._min_observations
            solve(moments, fewest, out)
            return out, doubtful(moments, out, fewest, basis.error, tiny=False)
        least = limits.of_spread * USUAL_SPREAD
        if least_r_squared >= least:
            return out, _NO_ROWS
        rows = np.flatnonzero(r_squared < least)
        return out, hardly_following(rows, moments, r_squared, basis.error)

    def _side(self, benchmark: Floats | Shared, pivot_x: float) -> tuple[Side, ...]:
        # mean_x, cxx, its root, and the degrees of freedom.
        if not isinstance(benchmark, np.ndarray):
            n, x, xx = benchmark
            shift = x / n
            cxx = xx - x * shift
            return shift + pivot_x, cxx, sqrt(cxx) if cxx > 0.0 else 0.0, n - _DOF
        counts, sums, squares = benchmark
        mean_x = np.divide(sums, counts, out=self._mean_x)
        centred = np.multiply(sums, mean_x, out=sums)
        np.subtract(squares, centred, out=centred)
        if pivot_x:
            mean_x += pivot_x
        root_x = np.sqrt(centred, out=self._root_x)
        return mean_x, centred, root_x, np.subtract(counts, _DOF, out=self._dof)


def _extremes(
    n: Side, mean_x: Side, cxx: Side, xx: Side, basis: Basis
) -> tuple[float, float, float, float]:
    # Least n and cxx, largest xx and size of mean_x, or a bound of it.
    least_n, least_cxx, most_xx = _least(n), _least(cxx), _most(xx)
    if not isinstance(mean_x, np.ndarray):
        return least_n, least_cxx, most_xx, abs(mean_x)
    return least_n, least_cxx, most_xx, sqrt(most_xx / least_n) + abs(basis.pivot_x)


def _least(values: Side) -> float:
    return float(
        np.minimum.reduce(values) if isinstance(values, np.ndarray) else values
    )


def _most(values: Side) -> float:
    return float(
        np.maximum.reduce(values) if isinstance(values, np.ndarray) else values
    )


def _largest(mean_y: Floats, square: float, basis: Basis) -> float:
    # Size of the means, or the root of what their squares are at most about 0.
    if basis.pivots is None:
        return sqrt(square)
    return max(_most(mean_y), -_least(mean_y))
