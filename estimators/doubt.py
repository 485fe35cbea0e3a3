"""Which rows double precision cannot answer within their tolerance.

Rule: a published number is within its tolerance. The sums of a window are kept in
double precision, which is enough for nearly every window; `doubtful` finds the rows for
which it may not be. `recalc` computes those anew.

Theory of operation
-------------------
Let u = 2**-53, and let xx, xy and yy be the sums of squares and products about the
pivots, of which the centred ones, cxx, cxy and cyy, are a part (`sums`). The *spread*
of a side, xx / cxx or yy / cyy, is 1 where the mean is at the pivot. Let each sum be
wrong by at most the part g of the sizes of its terms: xx by g * xx, xy by
g * sqrt(xx * yy), a mean by g * sqrt(xx / n) + 4u * |mean|. Then with
q = sqrt(yy / cxx)

    error of beta    <= g * (sqrt(spread_x) * q + spread_x * |beta|)
    error of alpha   <= |mean_x| * that + error of mean_y + |beta| * error of mean_x
    error of t_stat  <= g * sqrt(spread_x * spread_y) / |r|, relative, at small |r|
    error of r**2    <= 4 g * max(spread_x, spread_y), and that of r half as much

and, in units of 1 / (1 - r**2), the residual statistics have errors of a few
g * spread. What exceeds half its tolerance is doubtful: an asset that varies a thousand
times as much as its benchmark without following it, a small alpha between large levels,
a t statistic next to zero, values far from their pivot. So is a sum of squares of which
underflow may have taken a part.

Where sums are made of segments, g counts the additions that a term goes through
(`sums.error_of`). It is a bound: of all windows of the data sets in
tests/support/nasty.py, the worst, of equal values, came to 0.4 of it. For windows of
pairs, which add by Welford's step and merge by Chan's (`moments`), it is measured. The
largest errors there were, in units of u,

    pairs            3   30   390   2,000   10,000
    largest error  5.3  8.0  19.6      52       78
    g               11   19    47      97      208

where g = (8 + 2 sqrt(n)) u leaves a factor of two, and half the tolerance another.

`doubtful` has two steps, so that the usual case costs a dozen passes over the rows: a
coarse one without roots, which implies the bounds above, and the bounds themselves for
the rows that it lets through. The second alone decides; `is_doubtful` is its twin over
floats.
"""

from collections.abc import Sequence
from math import nan, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows, Statistics
from .moments import Floats
from .ols import ALPHA, BETA, R_SQUARED, Moments, RowMoments

U: Final = 2.0**-53
_HALF: Final = 0.5e-12
"""Half the tolerance of a coefficient, absolute below 1 and relative above."""
_HALF_RESIDUAL: Final = 0.5e-11
"""Half the relative tolerance of a residual statistic."""
_OF_MEAN: Final = 48.0 * U * U
"""A factor for the square of a mean, see `_Limits`."""
USUAL_SPREAD: Final = 1.5
"""Most assets have a smaller one."""
_QUARTER: Final = _HALF * _HALF
_OF_TWO_MEANS: Final = 2.0 * _OF_MEAN
_USUAL_R_SQUARED: Final = USUAL_SPREAD / _HALF_RESIDUAL**2
NO_ROWS: Final[Rows] = np.empty(0, dtype=np.intp)

UNDERFLOW: Final = 1e-290
"""Sums of squares below this may have lost a part of themselves."""
TINY: Final = 1e-140
"""Values that differ, and are 0 or not below this, have a variance that is not 0."""


def has_tiny(returns: Floats) -> bool:
    """Return whether any value is so close to 0 that its variance may underflow."""
    small = np.abs(returns) < TINY
    return bool(small.any() and returns[small].any())


def largest_spread(error: float) -> float:
    """Return up to which spread no correlation leaves its tolerance.

    The spread of a side is its sum of squares about the pivot by that about the mean.
    """
    return _HALF / 4.0 / error


def welford_error(n: Floats) -> Floats:
    """Return the bound of the relative error of sums by `moments`, of n pairs."""
    error: Floats = 8.0 * U + 2.0 * U * np.sqrt(n)
    return error


def doubtful(
    moments: Moments,
    statistics: Floats,
    min_observations: int,
    error: Floats | float,
    *,
    tiny: bool = True,
) -> Rows:
    """Return the rows whose statistics may be outside their tolerance.

    Parameters
    ----------
    moments
        Of the windows.
    statistics
        What `ols.solve` made of them, shape (STATISTICS, ..., k) or more.
    min_observations
        Complete pairs below which a row has no statistics to doubt.
    error
        Bound g of the relative rounding error of the sums.
    tiny
        Whether the window may hold a value for which `has_tiny`. Without one a
        variance of 0 is that of equal values.

    Returns
    -------
    rows
        Positions of these rows, ascending; of the flat array where there are bars, too.
    """
    n, _, mean_y, cxx, _, cyy, _, yy = moments
    r_squared = statistics[R_SQUARED]
    if not isinstance(n, np.ndarray) and n < min_observations:
        return NO_ROWS
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        limits = coarse_limits(n, moments.mean_x, cxx, moments.xx, error)
        if isinstance(limits.of_yy, float) and _is_usual(moments, r_squared, limits):
            return NO_ROWS
        # what beta and alpha are made of, squared, is within their tolerance
        size = yy * limits.of_yy
        size += _OF_MEAN * (mean_y * mean_y)
        trusted = size <= _HALF * _HALF
        # so is r_squared, and t_stat is not too close to 0
        spread_y = np.divide(yy, cyy, out=size)
        trusted &= spread_y <= limits.spread
        spread_y *= limits.of_spread
        trusted &= r_squared >= spread_y
    trusted &= cyy >= UNDERFLOW
    trusted &= cxx >= UNDERFLOW
    if isinstance(n, np.ndarray):
        trusted |= n < min_observations
    if trusted.all():
        return NO_ROWS
    rows = np.flatnonzero(~trusted)
    return doubtful_among(rows, moments, statistics, error, tiny=tiny)


def doubtful_among(
    rows: Rows,
    moments: Moments,
    statistics: Floats,
    error: Floats | float,
    *,
    tiny: bool = True,
) -> Rows:
    """Return which of some rows `doubtful` would return, where all have statistics."""
    shape = moments.cyy.shape
    numbers = [statistics[i].reshape(-1)[rows] for i in range(R_SQUARED + 1)]
    some = Moments(*(_taken(part, shape, rows) for part in moments))  # type: ignore[arg-type]
    g = _taken(error, shape, rows)
    return rows[_are_doubtful(some, numbers, g, tiny=tiny)]


def hardly_following(
    rows: Rows, moments: Moments, r_squared: Floats, error: float
) -> Rows:
    """Return which of some rows `doubtful` would for their t statistic alone.

    Parameters
    ----------
    rows
        Such as have passed the coarse step in all else.
    moments, error
        As for `doubtful`; one window per row.
    r_squared
        Of all rows.
    """
    yy, cyy = moments.yy[rows], moments.cyy[rows]
    cxx, xx = moments.cxx, moments.xx
    if isinstance(cxx, np.ndarray) and isinstance(xx, np.ndarray):
        cxx, xx = cxx[rows], xx[rows]
    square = error * error * (xx / cxx) * (yy / cyy)
    return rows[~(square <= _HALF_RESIDUAL**2 * r_squared[rows])]


def _taken(part: Floats | float, shape: tuple[int, ...], rows: Rows) -> Floats | float:
    # Of one value per row, those of some.
    if not isinstance(part, np.ndarray):
        return np.float64(part)  # which can be divided by, be it 0
    taken: Floats = np.broadcast_to(part, shape).reshape(-1)[rows]
    return taken


class Limits(NamedTuple):
    """Of the coarse step; floats where they hold for every row."""

    of_yy: Floats | float
    """A factor for yy, whose product is part of the square of an error."""
    spread: Floats | float
    """Largest spread of an asset; NaN where the benchmark's own is too large."""
    of_spread: Floats | float
    """A factor for the spread, whose product is a least r_squared."""


_NO_LIMITS = Limits(nan, nan, nan)


def coarse_limits(
    n: Floats | float,
    mean_x: Floats | float,
    cxx: Floats | float,
    xx: Floats | float,
    g: Floats | float,
) -> Limits:
    """Return what the coarse step asks of an asset, from the benchmark's moments."""
    if not isinstance(cxx, np.ndarray) and cxx <= 0.0:
        return _NO_LIMITS
    spread_x = xx / cxx
    largest = _HALF / 4.0 / g
    within = spread_x <= largest
    if isinstance(within, np.ndarray):
        largest = np.where(within, largest, nan)
    elif not within:
        largest = nan
    squared = g * g * spread_x
    of_beta = 48.0 * spread_x * (1.0 + mean_x * mean_x) / cxx
    of_spread = squared / _HALF_RESIDUAL**2
    return Limits(squared * (of_beta + 12.0 / n), largest, of_spread)


def is_small(largest_yy: float, largest_mean: float, limits: Limits) -> bool:
    """Return whether beta and alpha pass the coarse step by the largest of all rows."""
    size = largest_yy * limits.of_yy + _OF_MEAN * largest_mean * largest_mean
    return bool(size <= _HALF * _HALF)


def _is_usual(moments: Moments, r_squared: Floats, limits: Limits) -> bool:
    # Whether the extremes of all rows pass the coarse step together, which takes half
    # as many passes. NaN passes nothing.
    mean_y, cyy, yy = moments.mean_y, moments.cyy, moments.yy
    if not (limits.spread >= USUAL_SPREAD and moments.cxx >= UNDERFLOW):
        return False
    least = np.minimum.reduce(r_squared, axis=None, initial=1.0)
    if not least >= limits.of_spread * USUAL_SPREAD:
        return False
    mean = max(
        np.maximum.reduce(mean_y, axis=None, initial=0.0),
        -np.minimum.reduce(mean_y, axis=None, initial=0.0),
    )
    if not is_small(np.maximum.reduce(yy, axis=None, initial=0.0), mean, limits):
        return False
    if not np.minimum.reduce(cyy, axis=None, initial=1.0) >= UNDERFLOW:
        return False
    return bool((yy <= USUAL_SPREAD * cyy).all())


def _are_doubtful(
    moments: Moments,
    statistics: Sequence[Floats],
    g: Floats | float,
    *,
    tiny: bool,
) -> NDArray[np.bool_]:
    n, mean_x, mean_y, cxx, _, cyy, xx, yy = moments
    mean_x, mean_y = np.abs(mean_x), np.abs(mean_y)
    beta, alpha = np.abs(statistics[BETA]), np.abs(statistics[ALPHA])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread_x, spread_y = xx / cxx, yy / cyy
        q = np.sqrt(yy) / np.sqrt(cxx)
        of_beta = g * (np.sqrt(spread_x) * q + spread_x * beta)
        of_mean_x = 4 * U * mean_x + g * np.sqrt(xx / n)
        of_mean_y = 4 * U * mean_y + g * np.sqrt(yy / n)
        of_alpha = of_beta * mean_x + of_mean_y + beta * of_mean_x
        trusted = of_beta <= _HALF * np.maximum(1.0, beta)
        trusted &= of_alpha <= _HALF * np.maximum(1.0, alpha)
        trusted &= 4.0 * g * np.maximum(spread_x, spread_y) <= _HALF
        trusted &= (
            g * g * spread_x * spread_y <= _HALF_RESIDUAL**2 * statistics[R_SQUARED]
        )
        # squares that are all 0 are those of equal values, but for underflow
        trusted |= (xx == 0.0) | (yy == 0.0)
        small = (cxx < UNDERFLOW) & ((xx != 0.0) | (tiny & (mean_x < TINY)))
        small |= (cyy < UNDERFLOW) & ((yy != 0.0) | (tiny & (mean_y < TINY)))
    doubts: NDArray[np.bool_] = ~trusted
    doubts |= small & (n > 1.0)
    return doubts


def is_doubtful(
    moments: RowMoments,
    statistics: Statistics,
    min_observations: int,
    error: float,
    *,
    tiny: bool = True,
) -> bool:
    """Return whether one row is among those of `doubtful`."""
    n, mean_x, mean_y, cxx, _, cyy, xx, yy = moments
    if n < min_observations:
        return False
    mean_x, mean_y = abs(mean_x), abs(mean_y)
    if n > 1.0:
        if cxx < UNDERFLOW and (xx or (tiny and mean_x < TINY)):
            return True
        if cyy < UNDERFLOW and (yy or (tiny and mean_y < TINY)):
            return True
    if xx == 0.0 or yy == 0.0:
        return False
    beta, alpha = abs(statistics[BETA]), abs(statistics[ALPHA])
    g = error
    spread_x, spread_y = xx / cxx, yy / cyy
    of_beta = g * (sqrt(spread_x) * (sqrt(yy) / sqrt(cxx)) + spread_x * beta)
    of_mean_x = 4 * U * mean_x + g * sqrt(xx / n)
    of_mean_y = 4 * U * mean_y + g * sqrt(yy / n)
    of_alpha = of_beta * mean_x + of_mean_y + beta * of_mean_x
    return not (
        of_beta <= _HALF * max(1.0, beta)
        and of_alpha <= _HALF * max(1.0, alpha)
        and 4.0 * g * max(spread_x, spread_y) <= _HALF
        and g * g * spread_x * spread_y <= _HALF_RESIDUAL**2 * statistics[R_SQUARED]
    )


def usual_limits(
    n: float,
    mean_x: float,
    cxx: float,
    xx: float,
    error: float,
    *,
    pivot_y: float = 0.0,
) -> tuple[float, float]:
    """Return within which limits one row passes the coarse step of `doubtful`.

    That is a row whose spread is at most `USUAL_SPREAD`. Of the extremes of many rows,
    these are limits for all of them.

    Parameters
    ----------
    n, mean_x, cxx, xx
        Of its benchmark, see `Moments`; ``cxx`` is positive.
    error
        Bound of the relative rounding error of the sums.
    pivot_y
        How far from 0 the asset's pivot is.

    Returns
    -------
    most_yy, least_r_squared
        NaN where no row passes.
    """
    spread_x = xx / cxx
    if not (spread_x <= _HALF / 4.0 / error >= USUAL_SPREAD and cxx >= UNDERFLOW):
        return nan, nan
    squared = error * error * spread_x
    of_yy = squared * (48.0 * spread_x * (1.0 + mean_x * mean_x) / cxx + 12.0 / n)
    # the square of a mean is at most 2 * (yy / n + pivot_y**2), or half of it about 0
    left = _QUARTER - _OF_TWO_MEANS * pivot_y * pivot_y
    most_yy = left / (of_yy + _OF_TWO_MEANS / n)
    return most_yy, squared * _USUAL_R_SQUARED
