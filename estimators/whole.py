"""The statistics of rows that have their benchmark side in common, in one pass.

Rule: what comes out are the bits of `sums.centre` and `ols.solve`, and the rows that
`doubt.doubtful` finds. Those are the readable form; this is the one in which a bar of
thousands of rows is computed.

Theory of operation
-------------------
A row's numbers cost little, but each step over all rows costs a call, and memory that
does not fit the nearest cache. So the steps are as few as there can be, and each writes
where something has just been read for the last time. The sums (Y, XY, YY) stand in
three rows of one array, in which the steps put

    row 0   Y       then  beta * cxy, what the line explains
    row 1   XY      then  cyy
    row 2   YY

so that one division, of rows 0 and 1 by rows 1 and 2, gives r**2 and the inverse of the
asset's spread, and one reduction the least of both. With the least residual sum and the
largest YY that is all it takes to see that no row is doubtful: what holds for the
extremes holds for all rows. Where r**2 is small in some rows, and nothing else is in
the way, those are looked at by themselves.

Nothing is lost but time where it cannot be seen: the readable form decides.
"""

from math import sqrt
from typing import Final

import numpy as np

from .doubt import (
    UNDERFLOW,
    USUAL_SPREAD,
    Rows,
    coarse_limits,
    doubtful,
    doubtful_among,
    is_small,
)
from .moments import Floats
from .ols import R_SQUARED, RESIDUAL_STD, STATISTICS, Moments, solve
from .sums import Basis, Shared

_DOF: Final = 2.0
_NO_ROWS: Final[Rows] = np.empty(0, dtype=np.intp)


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
        self._fewest = max(min_observations, _DOF + 1.0)
        self._min_observations = min_observations
        self._mean_y, self._cxy = np.empty((2, n_rows))

    def takes(self, benchmark: Shared, basis: Basis) -> bool:
        """Return whether such windows are of the kind that this pass is for."""
        return benchmark[0] >= self._fewest and not (basis.is_flat or basis.has_tiny)

    def estimate(
        self, sums: Floats, benchmark: Shared, basis: Basis
    ) -> tuple[Floats, Rows]:
        """Return the statistics of all rows, and which of them are doubtful.

        Parameters
        ----------
        sums
            The asset sides, shape (SIDE, n_rows), at least one row; overwritten.
        benchmark
            The side that the rows have in common, which the pass `takes`.
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
        shift = x / n
        mean_x, cxx = shift + basis.pivot_x, xx - x * shift
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
            np.divide(cxy, cxx, out=beta)
            np.multiply(beta, mean_x, out=alpha)
            np.subtract(mean_y, alpha, out=alpha)
            explained = np.multiply(beta, cxy, out=y)
            np.divide(sums[:2], sums[1:], out=ratios)
            least_r_squared, least_ratio = np.minimum.reduce(ratios, axis=1).tolist()
            ssr = np.subtract(cyy, explained, out=residual_std)
            least_ssr = np.minimum.reduce(ssr)
            np.divide(ssr, n - _DOF, out=residual_std)
            np.sqrt(residual_std, out=residual_std)
            np.divide(residual_std, sqrt(cxx) if cxx > 0.0 else 0.0, out=std_error)
            np.divide(beta, std_error, out=t_stat)
        limits = coarse_limits(n, mean_x, cxx, xx, basis.error)
        if (
            least_ssr > 0.0
            and least_ratio * USUAL_SPREAD > 1.0
            and limits.spread >= USUAL_SPREAD
            and cxx >= UNDERFLOW
            and is_small(*_largest(n, mean_y, yy, basis), limits)
        ):
            least = limits.of_spread * USUAL_SPREAD
            if least_r_squared >= least:
                return out, _NO_ROWS
            rows = np.flatnonzero(r_squared < least)
            moments = Moments(n, mean_x, mean_y, cxx, cxy, cyy, xx, yy)
            return out, doubtful_among(rows, moments, out, basis.error, tiny=False)
        moments = Moments(n, mean_x, mean_y, cxx, cxy, cyy, xx, yy)
        solve(moments, self._min_observations, out)
        return out, doubtful(
            moments, out, self._min_observations, basis.error, tiny=False
        )


def _largest(n: float, mean_y: Floats, yy: Floats, basis: Basis) -> tuple[float, float]:
    # The largest sum of squares, and a bound of the size of all means.
    largest_yy = float(np.maximum.reduce(yy))
    if basis.pivots is None:
        return largest_yy, sqrt(largest_yy / n)
    return largest_yy, float(max(np.maximum.reduce(mean_y), -np.minimum.reduce(mean_y)))
