"""The recalc lane: rows that double precision cannot answer, from their very pairs.

Rule: a published number is within its tolerance. The moments of a window are kept in
double precision, which is enough for nearly every window; `doubtful` finds the rows for
which it may not be, and `recalculate` computes those anew in double-double arithmetic.

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

`recalculate` takes the deviations from a pivot next to the mean, which are exact as two
doubles, and sums them and their products with 106 bits. The centred sums come from
those by one subtraction that costs at most some 20 bits. Powers of two keep squares in
range. Where that leaves less than 12 digits, a covariance of exactly 0 for instance,
`integers` has the last word.
"""

from collections.abc import Iterator, Sequence
from math import inf, nan, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import double_double as dd
from .integers import centred_sums
from .moments import Floats
from .ols import (
    ALL_STATISTICS,
    ALPHA,
    ALPHA_STD_ERROR,
    BETA,
    CORRELATION,
    R_SQUARED,
    RESIDUAL_STD,
    STD_ERROR,
    T_STAT,
    Moments,
    RowMoments,
)

Rows = NDArray[np.intp]

U: Final = 2.0**-53
_HALF: Final = 0.5e-12
"""Half the tolerance of a coefficient, absolute below 1 and relative above."""
_HALF_RESIDUAL: Final = 0.5e-11
"""Half the relative tolerance of a residual statistic."""


_OF_MEAN: Final = 48.0 * U * U
_USUAL_SPREAD: Final = 1.5
_NO_ROWS: Final[Rows] = np.empty(0, dtype=np.intp)

UNDERFLOW: Final = 1e-290
"""Sums of squares below this may have lost a part of themselves."""
TINY: Final = 1e-140
"""Values that differ, and are 0 or not below this, have a variance that is not 0."""

_BLOCK: Final = 1 << 14
"""Pairs of a row whose terms are summed at once: some dozen arrays fit a cache."""
_CHUNK: Final = 1 << 14
"""Pairs of all rows that are recalculated at once, for the same reason."""
_NOISE: Final = 2.0**-96
"""What is left of a sum when it is less than this part of its terms."""
_UNRESOLVED: Final = 2.0**-40
"""Correlations below this are left to integers."""
_OUT_OF_REACH: Final = 2.0**38
"""So are alphas that are this much smaller than what they are the difference of."""
_LONGEST_SHIFT: Final = 1000


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
        return _NO_ROWS
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        limits = _coarse_limits(moments, error)
        if isinstance(limits.of_yy, float) and _is_usual(moments, r_squared, limits):
            return _NO_ROWS
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
        return _NO_ROWS
    rows = np.flatnonzero(~trusted)
    numbers = [_taken(statistics[i], trusted.shape, rows) for i in range(R_SQUARED + 1)]
    some = Moments(*(_taken(part, trusted.shape, rows) for part in moments))
    g = _taken(error, trusted.shape, rows)
    doubts = _are_doubtful(some, numbers, g, tiny=tiny)
    return rows[doubts]


def _taken(part: Floats | float, shape: tuple[int, ...], rows: Rows) -> Floats:
    # Of one value per row, those of some; where one holds for all, as often.
    taken: Floats = np.broadcast_to(part, shape).reshape(-1)[rows]
    return taken


class _Limits(NamedTuple):
    # Of the coarse step; floats where they hold for every row.
    of_yy: Floats | float
    """A factor for yy, whose product is part of the square of an error."""
    spread: Floats | float
    """Largest spread of an asset; NaN where the benchmark's own is too large."""
    of_spread: Floats | float
    """A factor for the spread, whose product is a least r_squared."""


_NO_LIMITS = _Limits(nan, nan, nan)


def _coarse_limits(moments: Moments, g: Floats | float) -> _Limits:
    n, mean_x, _, cxx, _, _, xx, _ = moments
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
    return _Limits(squared * (of_beta + 12.0 / n), largest, of_spread)


def _is_usual(moments: Moments, r_squared: Floats, limits: _Limits) -> bool:
    # Whether the extremes of all rows pass the coarse step together, which takes half
    # as many passes. NaN passes nothing.
    mean_y, cyy, yy = moments.mean_y, moments.cyy, moments.yy
    if not (limits.spread >= _USUAL_SPREAD and moments.cxx >= UNDERFLOW):
        return False
    least = np.minimum.reduce(r_squared, axis=None, initial=1.0)
    if not least >= limits.of_spread * _USUAL_SPREAD:
        return False
    mean = max(
        np.maximum.reduce(mean_y, axis=None, initial=0.0),
        -np.minimum.reduce(mean_y, axis=None, initial=0.0),
    )
    size = np.maximum.reduce(yy, axis=None, initial=0.0) * limits.of_yy
    if not size + _OF_MEAN * mean * mean <= _HALF * _HALF:
        return False
    if not np.minimum.reduce(cyy, axis=None, initial=1.0) >= UNDERFLOW:
        return False
    return bool((yy <= _USUAL_SPREAD * cyy).all())


def _are_doubtful(
    moments: Moments, statistics: Sequence[Floats], g: Floats, *, tiny: bool
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
    statistics: tuple[float, float, float, float, float, float],
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


def recalculate(x: Floats, y: Floats, min_observations: int) -> Floats:
    """Return the statistics of some windows from their pairs.

    Parameters
    ----------
    x
        Benchmark returns, shape (W,) when all rows have the same, or (W, k); NaN =
        missing.
    y
        Asset returns, shape (W, k); NaN = missing.
    min_observations
        Complete pairs below which a row's statistics are NaN.

    Returns
    -------
    statistics
        Shape (ALL_STATISTICS, k); NaN = undefined.
    """
    n_bars, n_rows = y.shape
    out = np.full((ALL_STATISTICS, n_rows), nan)
    if not n_bars:
        return out
    x = np.broadcast_to(x if x.ndim > 1 else x[:, None], y.shape)
    everyone: Rows = np.arange(n_rows, dtype=np.intp)
    for rows in batches(everyone, n_bars):
        out[:, rows] = _recalculated(x[:, rows], y[:, rows], min_observations)
    return out


def batches(rows: Rows, n_bars: int) -> Iterator[Rows]:
    """Yield rows in parts whose windows of ``n_bars`` fit a cache."""
    step = max(1, _CHUNK // min(max(n_bars, 1), _BLOCK))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


class _Sums(NamedTuple):
    # As `integers.CentredSums`, with an array of shape (k,) for each.
    cxx: Floats
    cxy: Floats
    cyy: Floats
    determinant: Floats
    mean_x: Floats
    alpha: Floats
    x_scale: NDArray[np.int64]
    y_scale: NDArray[np.int64]


class _Frame(NamedTuple):
    # Where x and y of some rows lie; shape (2, k) each.
    pivot: Floats
    scale: NDArray[np.int64]
    """The exponent of 2 that the largest deviation from the pivot has, about."""
    top: Floats
    moves: NDArray[np.bool_]
    """Whether the values differ at all."""


def _recalculated(x: Floats, y: Floats, min_observations: int) -> Floats:
    pairs = np.stack((x, y))  # shape: (2, W, k)
    complete: NDArray[np.bool_] = ~(np.isnan(x) | np.isnan(y))
    n = np.add.reduce(complete, axis=0, dtype=np.float64)
    count = np.maximum(n, 1.0)
    frame = _frame(pairs, complete, count)
    x_moves, y_moves = frame.moves
    defined = x_moves & (n >= min_observations)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sums, is_resolved = _sums(_totals(pairs, complete, frame), frame, count)
        for row in np.flatnonzero(defined & y_moves & ~is_resolved).tolist():
            those = complete[:, row]
            exact = centred_sums(x[those, row].tolist(), y[those, row].tolist())
            for column, value in zip(sums, exact, strict=True):
                column[row] = value
        result = _solved(n, sums)
    constant = ~y_moves
    if constant.any():
        result[:, constant] = 0.0
        result[ALPHA, constant] = frame.top[1, constant]
        result[np.ix_([T_STAT, R_SQUARED, CORRELATION], constant)] = nan
    two = n <= 2.0  # noqa: PLR2004 - intercept and slope
    if two.any():
        residual = [STD_ERROR, T_STAT, RESIDUAL_STD, ALPHA_STD_ERROR]
        result[np.ix_(residual, two)] = nan
    result[:, ~defined] = nan
    return result


def _frame(pairs: Floats, complete: NDArray[np.bool_], count: Floats) -> _Frame:
    if complete.all():
        top, bottom = pairs.max(axis=1), pairs.min(axis=1)
        pivot = dd.rough_total(pairs) / count
    else:
        top = np.where(complete, pairs, -inf).max(axis=1)
        bottom = np.where(complete, pairs, inf).min(axis=1)
        pivot = dd.rough_total(np.where(complete, pairs, 0.0)) / count
    largest = np.where(count > 1.0, np.maximum(top - pivot, pivot - bottom), 0.0)
    _, exponents = np.frexp(largest)
    scale = np.clip(exponents.astype(np.int64), -_LONGEST_SHIFT, _LONGEST_SHIFT)
    return _Frame(pivot, scale, top, top > bottom)


def _totals(pairs: Floats, complete: NDArray[np.bool_], frame: _Frame) -> dd.Double2:
    # The sums of x, y, xx, xy and yy in the frame, shape (5, k)
    parts: list[dd.Double2] = []
    away, factor = -frame.pivot[:, None], np.ldexp(1.0, -frame.scale)[:, None]
    for first in range(0, pairs.shape[1], _BLOCK):
        block = slice(first, first + _BLOCK)
        high, low = dd.two_sum(pairs[:, block], away)
        high *= factor
        low *= factor
        here = complete[block]
        if not here.all():
            high, low = np.where(here, high, 0.0), np.where(here, low, 0.0)
        parts.append(dd.total(_terms(high, low)))
    if len(parts) == 1:
        return parts[0]
    highs, lows = (np.stack(column, axis=1) for column in zip(*parts, strict=True))
    return dd.total(dd.Double2(highs, lows))


def _sums(
    totals: dd.Double2, frame: _Frame, n: Floats
) -> tuple[_Sums, NDArray[np.bool_]]:
    # The sums, and where they have digits enough; anything where a side is constant.
    times_n = dd.exactly(n)
    high, low = totals
    raw = dd.Double2(high[2:], low[2:])
    first = dd.Double2(high[_FIRST], low[_FIRST])
    second = dd.Double2(high[_SECOND], low[_SECOND])
    centred = dd.subtract(dd.multiply(times_n, raw), dd.multiply(first, second))
    cxx, cxy, cyy = (dd.Double2(*parts) for parts in zip(*centred, strict=True))
    whole = dd.multiply(cxx, cyy)
    determinant = dd.subtract(whole, dd.multiply(cxy, cxy)).high
    determinant[determinant < _NOISE * whole.high] = 0.0
    pivot = dd.exactly(frame.pivot * np.ldexp(1.0, -frame.scale))
    mean = dd.add(pivot, dd.divide(dd.Double2(high[:2], low[:2]), times_n))
    mean_x, mean_y = (dd.Double2(*parts) for parts in zip(*mean, strict=True))
    explained = dd.multiply(dd.divide(cxy, cxx), mean_x)
    alpha = dd.subtract(mean_y, explained).high

    x_scale, y_scale = frame.scale
    root_x, root_y = np.sqrt(cxx.high), np.sqrt(cyy.high)
    resolved = np.abs(cxy.high) >= _UNRESOLVED * root_x * root_y
    terms = np.abs(mean_y.high) + root_y / root_x * np.abs(mean_x.high)
    unit = np.maximum(np.ldexp(1.0, -y_scale), np.abs(alpha))
    resolved &= terms <= _OUT_OF_REACH * unit
    return _Sums(
        cxx.high, cxy.high, cyy.high, determinant, mean_x.high, alpha, x_scale, y_scale
    ), resolved


_FIRST, _SECOND = [0, 0, 1], [0, 1, 1]
"""The two factors of xx, xy and yy."""


def _terms(high: Floats, low: Floats) -> dd.Double2:
    # x, y, xx, xy and yy of every pair, shape (5, W, k), from x and y.
    _, n_bars, n_rows = high.shape
    terms = dd.Double2(*np.empty((2, 5, n_bars, n_rows)))
    terms.high[:2] = high
    terms.low[:2] = low
    head, tail = dd.split(high)
    for at, (a, b) in enumerate(zip(_FIRST, _SECOND, strict=True), 2):
        product = np.multiply(high[a], high[b], out=terms.high[at])
        error = np.multiply(head[a], head[b], out=terms.low[at])
        error -= product
        if a == b:
            cross = head[a] * tail[a] + high[a] * low[a]
            cross += cross
        else:
            cross = head[a] * tail[b]
            cross += tail[a] * head[b]
            cross += high[a] * low[b]
            cross += low[a] * high[b]
        error += cross
        error += tail[a] * tail[b]
    return terms


def _solved(n: Floats, sums: _Sums) -> Floats:
    # The formulas of `ols`, over sums that are n times as large.
    cxx, cxy, cyy, determinant, mean_x, alpha, x_scale, y_scale = sums
    slope = cxy / cxx
    variance = determinant / cxx / n / (n - 2.0)
    error = np.sqrt(determinant / cxx / cxx / (n - 2.0))
    root_x, root_y = np.sqrt(cxx), np.sqrt(cyy)
    residual_std = np.sqrt(variance)
    leverage = mean_x / root_x
    out = np.empty((ALL_STATISTICS, len(n)))
    out[BETA] = np.ldexp(slope, y_scale - x_scale)
    out[ALPHA] = np.ldexp(alpha, y_scale)
    out[STD_ERROR] = np.ldexp(error, y_scale - x_scale)
    out[T_STAT] = slope / error
    out[R_SQUARED] = np.minimum(slope * (cxy / cyy), 1.0)
    out[RESIDUAL_STD] = np.ldexp(residual_std, y_scale)
    spread = np.sqrt(1.0 / n + n * (leverage * leverage))
    out[ALPHA_STD_ERROR] = np.ldexp(residual_std * spread, y_scale)
    out[CORRELATION] = np.clip(cxy / (root_x * root_y), -1.0, 1.0)
    return out
