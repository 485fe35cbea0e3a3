"""The recalc lane: rows that double precision cannot answer, from their very pairs.

Rule: what `doubt` does not trust is computed anew, in double-double arithmetic.

Theory of operation
-------------------
Most doubtful rows are returns that hardly follow their benchmark: all is well with
them but the relative error of a covariance next to 0. Their sums are taken by `slices`,
which is fast for one row as for many. What comes out says whether that was enough
(`_are_plain`).

Other rows take the long way: the deviations from a pivot next to the mean, which are
exact as two doubles, are summed with their products to 106 bits. The centred sums come
from those by one subtraction that costs at most some 20 bits. Powers of two keep
squares in range. Where that leaves less than 12 digits, a covariance of exactly 0 for
instance, `integers` has the last word.

Which way a row takes follows from its own pairs, so that it has the same bits beside
any others.
"""

from collections.abc import Iterator
from math import inf, nan
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import double_double as dd
from . import slices
from .arrays import Rows
from .doubt import USUAL_SPREAD
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
)

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

_FEWEST: Final = 3
_LEAST_R_SQUARED: Final = 2.0**-48
_MOST_R_SQUARED: Final = 0.5
_WITHIN_REACH: Final = 2.0**8
"""Between what rows are answered by slices."""


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
    everyone: Rows = np.arange(n_rows, dtype=np.intp)
    for rows in batches(everyone, n_bars):
        those = x if x.ndim == 1 else x[:, rows]
        out[:, rows] = _recalculated(those, y[:, rows], min_observations)
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
    result, is_done = by_slices(x, y, min_observations)
    rest = np.flatnonzero(~is_done)
    if len(rest):
        x = x[:, None] if x.ndim == 1 else x[:, rest]
        x = np.broadcast_to(x, (len(x), len(rest)))
        result[:, rest] = by_deviations(x, y[:, rest], min_observations)
    return result


def by_slices(
    x: Floats, y: Floats, min_observations: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return statistics by `slices`, and for which rows that was enough.

    Parameters
    ----------
    x, y, min_observations
        As for `recalculate`.

    Returns
    -------
    statistics, is_done
        Shapes (ALL_STATISTICS, k) and (k,).
    """
    n_bars, n_rows = y.shape
    result = np.empty((ALL_STATISTICS, n_rows))
    is_done = np.zeros(n_rows, dtype=np.bool_)
    x, y = np.ascontiguousarray(np.atleast_2d(x.T)), np.ascontiguousarray(y.T)
    n = np.full(n_rows, float(n_bars))
    absent = np.isnan(x) | np.isnan(y)
    if np.count_nonzero(absent):
        n -= np.count_nonzero(absent, axis=1)
        x, y = np.where(absent, 0.0, x), np.where(absent, 0.0, y)
    exponents = [slices.exponents(values) for values in (x, y)]
    fits = (n >= max(min_observations, _FEWEST)) & (n <= slices.LONGEST)
    for each in exponents:
        fits &= np.abs(each) <= slices.LARGEST_EXPONENT
    if not np.count_nonzero(fits):
        return result, is_done
    totals = slices.totals(x, y, *exponents)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sums = _plain_sums(n, totals)
        result = _solved(n, sums)
        is_done = fits & _are_plain(n, totals.high, sums)
    return result, is_done


def _plain_sums(n: Floats, totals: dd.Double2) -> "_Sums":
    # Of values that lie about 0 and are hardly in line, so that only the covariance
    # needs more than doubles.
    high, low = totals
    x, y, xx, xy, yy = high
    factors = np.stack((n, x)), np.stack((xy, y))
    product, error = dd.two_product(*factors)
    error[0] += n * low[3]
    error[1] += x * low[1] + low[0] * y
    centred, rest = dd.two_difference(product[0], product[1])
    cxy = centred + (rest + (error[0] - error[1]))
    cxx, cyy = n * xx - x * x, n * yy - y * y
    mean_x = x / n
    alpha = y / n - cxy / cxx * mean_x
    unscaled = np.zeros(len(n), dtype=np.int64)
    determinant = cxx * cyy - cxy * cxy
    return _Sums(cxx, cxy, cyy, determinant, mean_x, alpha, unscaled, unscaled)


def _are_plain(n: Floats, totals: Floats, sums: "_Sums") -> NDArray[np.bool_]:
    # Whether they do, and alpha is no small difference of larger numbers.
    r_squared = sums.cxy / sums.cxx * (sums.cxy / sums.cyy)
    is_plain = (r_squared >= _LEAST_R_SQUARED) & (r_squared <= _MOST_R_SQUARED)
    is_plain &= n * totals[2] <= USUAL_SPREAD * sums.cxx
    is_plain &= n * totals[4] <= USUAL_SPREAD * sums.cyy
    part = np.abs(sums.cxy / sums.cxx * sums.mean_x)
    is_plain &= part <= _WITHIN_REACH * np.maximum(np.abs(sums.alpha), 1.0)
    result: NDArray[np.bool_] = is_plain
    return result


def by_deviations(x: Floats, y: Floats, min_observations: int) -> Floats:
    """Return the statistics of any rows, the long way; see `by_slices`."""
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
