"""Ordinary least squares of y on x with an intercept, from centred sums.

    beta = cxy / cxx                 alpha = mean_y - beta * mean_x
    ssr  = cyy - beta * cxy          residual_std = sqrt(ssr / (n - 2))
    std_error       = residual_std / sqrt(cxx)
    alpha_std_error = residual_std * sqrt(1/n + mean_x^2 / cxx)
    t_stat = beta / std_error        r_squared = beta * cxy / cyy

Rule: an undefined number is NaN and nothing else is. All are undefined below
``min_observations`` pairs and where the benchmark did not move (``cxx <= 0``: one that
stands still gives an exact 0, see `sums`, and rounding may go below). The residual
statistics need three pairs. A constant asset has beta 0 and standard error 0, and
neither r_squared nor t_stat. On an exact line the standard error is 0 and t_stat
infinite.

Roots are taken before products, so that data of 1e-150 does not underflow.

The formulas stand in five places, each for a number of rows, and give the same bits in
all of them (`tests/estimators/test_ols.py`): whoever changes an operation here, or the
order of two, changes it there.

* `solve`, the readable one, over arrays;
* `solve_one`, over the floats of one row;
* `lone.LonePairs.take_one`, over one row of which the bar's share is known;
* `whole.WholePass.estimate`, over all rows of a bar;
* `panel_solve.Solver.solve`, over all bars of complete columns.

Two more solve sums of more digits, with results of their own: `recalc`, for windows
that doubles cannot answer, and `ewma_sums`, with weights.

References
----------
D. C. Montgomery, E. A. Peck, G. G. Vining, "Introduction to Linear Regression
Analysis", par. 2.2-2.4.
"""

from math import copysign, inf, nan, sqrt
from typing import Final, NamedTuple

import numpy as np

from .arrays import Statistics
from .moments import Floats

BETA: Final = 0
ALPHA: Final = 1
STD_ERROR: Final = 2
T_STAT: Final = 3
R_SQUARED: Final = 4
RESIDUAL_STD: Final = 5
STATISTICS: Final = 6
"""Numbers per published estimate; the constants above are their positions."""

ALPHA_STD_ERROR: Final = 6
CORRELATION: Final = 7
ALL_STATISTICS: Final = 8
"""The same with the two that are not published."""

DOF: Final = 2.0
"""Degrees of freedom that a regression takes: intercept and slope."""


RowMoments = tuple[float, float, float, float, float, float, float, float]
"""`Moments` of one row."""


class Moments(NamedTuple):
    """What the statistics of some windows are computed from.

    Arrays have shape (..., k). What is said of the benchmark is a float where it holds
    for every row.
    """

    n: Floats | float
    mean_x: Floats | float
    mean_y: Floats
    cxx: Floats | float
    cxy: Floats
    cyy: Floats
    xx: Floats | float
    """Sum of squares about the pivot, of which ``cxx`` is a part."""
    yy: Floats


def solve(moments: Moments, min_observations: int, out: Floats) -> None:
    """Compute the statistics of every row.

    Parameters
    ----------
    moments
        Of the windows, see `Moments`.
    min_observations
        Rows with fewer pairs get NaN.
    out
        Filled with the statistics, shape (STATISTICS, n_sets) or
        (ALL_STATISTICS, n_sets).
    """
    n, mean_x, mean_y, cxx, cxy, cyy, _, _ = moments
    if not isinstance(n, np.ndarray) and (n < min_observations or cxx <= 0.0):
        out[:] = nan
        return
    beta, alpha, std_error, t_stat, r_squared, residual_std = out[:STATISTICS]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        np.divide(cxy, cxx, out=beta)
        np.multiply(beta, mean_x, out=alpha)
        np.subtract(mean_y, alpha, out=alpha)
        explained = np.multiply(beta, cxy, out=r_squared)
        ssr = np.subtract(cyy, explained, out=residual_std)
        is_over = not np.minimum.reduce(ssr, axis=None, initial=0.0) >= 0.0  # or NaN
        if is_over:
            np.maximum(ssr, 0.0, out=ssr)  # negative by rounding alone
        dof = n - DOF
        np.divide(ssr, dof, out=residual_std)
        if min_observations <= DOF:
            np.copyto(residual_std, nan, where=dof <= 0.0)
        np.sqrt(residual_std, out=residual_std)
        np.divide(explained, cyy, out=r_squared)
        if is_over:
            np.minimum(r_squared, 1.0, out=r_squared)
        root_x = np.sqrt(cxx)
        np.divide(residual_std, root_x, out=std_error)
        np.divide(beta, std_error, out=t_stat)
        if len(out) > STATISTICS:
            leverage = mean_x / root_x
            out[ALPHA_STD_ERROR] = residual_std * np.sqrt(1.0 / n + leverage * leverage)
            np.divide(cxy, root_x * np.sqrt(cyy), out=out[CORRELATION])
            np.clip(out[CORRELATION], -1.0, 1.0, out=out[CORRELATION])
    # 0 / 0 has a sign bit on some machines: one NaN, so that bytes can be compared
    if not np.minimum.reduce(cyy, axis=None, initial=1.0) > 0.0:
        flat = cyy == 0.0
        np.copyto(out[T_STAT : R_SQUARED + 1], nan, where=flat)
        np.copyto(out[CORRELATION:], nan, where=flat)
    if isinstance(n, np.ndarray):
        fewest = np.minimum.reduce(n, axis=None, initial=min_observations)
        least = np.minimum.reduce(np.asarray(cxx), axis=None, initial=1.0)
        if fewest < min_observations or not least > 0.0:
            undefined = np.less(n, min_observations) | np.less_equal(cxx, 0.0)
            np.copyto(out, nan, where=undefined)
    if len(out) > STATISTICS and min_observations <= DOF:
        two = n <= DOF
        np.copyto(out[ALPHA_STD_ERROR], nan, where=two)


def solve_one(moments: RowMoments, min_observations: int) -> Statistics:
    """Return one row's statistics: `solve` over floats."""
    n, mean_x, mean_y, cxx, cxy, cyy, _, _ = moments
    if n < min_observations or cxx <= 0.0:
        return nan, nan, nan, nan, nan, nan
    beta = cxy / cxx
    alpha = mean_y - beta * mean_x
    explained = beta * cxy
    residual_std = sqrt(max(0.0, cyy - explained) / (n - DOF)) if n > DOF else nan
    r_squared = explained / cyy if cyy else nan
    r_squared = min(r_squared, 1.0)
    std_error = residual_std / sqrt(cxx)
    exact_line = copysign(inf, beta) if beta else nan
    t_stat = beta / std_error if std_error else exact_line  # NaN is true
    return beta, alpha, std_error, t_stat, r_squared, residual_std
