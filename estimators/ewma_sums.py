"""Exponentially weighted sums of pairs, and the regression that they define.

Rule: sums cannot be taken anew when all pairs ever seen are in them, so they have twice
the digits. This file knows rows, pairs and ages; no bars.

Theory of operation
-------------------
A pair of age a has the weight w = 2**(-a / half_life). Beta, and all other statistics,
do not change when all weights are multiplied by one number, so the newest pair of a row
has the weight 1, and the sums are multiplied only when the next one comes: by a factor
for the age that has passed between the two. A row without pairs costs nothing.

The sums are the weighted means, the centred sums about them, and, for the standard
errors, sums of squared weights; they and the factors are double-doubles. A pair comes
in by West's step, which only adds terms of one sign to C and D below; so they lose
nothing to cancellation, and what rounding leaves of a large print decays with the
print.

With S(w) = sum(w), m = S(w x) / S(w), C = S(w (x - m)**2), D = S(w**2 (x - m)**2),
E = S(w**2 (x - m)) and e the residuals::

    n_eff = S(w)**2 / S(w**2)
    s**2 = S(w e**2) / S(w) * n_eff / (n_eff - 2)
    var(beta) = s**2 * D / C**2
    var(alpha) = s**2 * (S(w**2) / S(w)**2 - 2 m E / (S(w) C) + m**2 D / C**2)

The variances are those of sums over independent residuals of one variance: beta is
``sum(w (x - m) y) / C``, and alpha, which is ``mean_y - m * beta``, is ``sum(w a y)``
with ``a = 1 / S(w) - m (x - m) / C``; the last line is ``s**2 * sum(w**2 a**2)``. With
equal weights they are the formulas of `ols`.

A benchmark that stops moving leaves a C that decays for ever. When it is below 2**-104
of what it was at the last move, the benchmark is flat, and nothing is defined.

References
----------
D. H. D. West, "Updating mean and variance estimates: an improved method",
Communications of the ACM 22 (1979).
"""

from math import nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import double_double as dd
from .arrays import Rows
from .decay import Decay
from .double_scalars import Pair
from .ewma_step import LARGE, SMALLER, decayed, step
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
from .state import PerRow, State

_W, _CXX, _CXY, _CYY, _V, _E, _D = range(7)
_ONCE: Final = slice(_W, _V)
_SQUARED: Final = slice(_V, _D + 1)

_FLAT: Final = 2.0**-104
"""The square of the resolution of a double."""
_NOISE: Final = 2.0**-92
"""What is left of a sum when it is less than this part of its terms."""
FEW_ROWS: Final = 12
"""So many are faster one by one: numpy's fixed cost is that of some fifteen of them."""

_Integers = NDArray[np.int64]


class EwmaSums:
    """The weighted sums of some rows.

    Parameters
    ----------
    n_rows
        Number of rows.
    decay
        Of the weights.
    """

    def __init__(self, n_rows: int, decay: Decay) -> None:
        self._decay = decay
        self.n = np.zeros(n_rows)
        """Pairs of each row since the beginning."""
        self._sums = np.zeros((2, 7, n_rows))  # high and low parts
        self._mean = np.zeros((2, 2, n_rows))  # the same, of x and y
        self._last = np.zeros((2, n_rows))  # the newest pair
        self._moves = np.zeros((2, n_rows))  # 1.0 where a side was not constant
        self._peak = np.zeros(n_rows)  # C when the benchmark last moved
        self._at: _Integers = np.zeros(n_rows, dtype=np.int64)

    def _fields(self) -> dict[str, NDArray[Any]]:
        return {
            "n": self.n,
            "sums": self._sums,
            "mean": self._mean,
            "last": self._last,
            "moves": self._moves,
            "peak": self._peak,
            "at": self._at,
        }

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        return {name: PerRow(field, 0) for name, field in self._fields().items()}

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for name, field in self._fields().items():
            field[:] = state[name]

    def reset(self, rows: Rows | None = None) -> None:
        """Forget every pair of all or some rows."""
        for field in self._fields().values():
            field[..., slice(None) if rows is None else rows] = 0

    def copy(self, rows: Rows, other: "EwmaSums") -> None:
        """Take some rows over from other sums."""
        theirs = other._fields()
        for name, field in self._fields().items():
            field[..., rows] = theirs[name][..., rows]

    def add(self, rows: Rows, x: float, y: Floats, at: int | None) -> None:
        """Add one pair to each of some rows.

        Parameters
        ----------
        rows
            Shape (k,), each once.
        x, y
            The pairs; finite, ``y`` of shape (k,).
        at
            What the clock of the ages says; ``None`` when each pair is a tick of it.
        """
        if len(rows) <= FEW_ROWS:
            for row, value in zip(rows.tolist(), y.tolist(), strict=True):
                self._add_one(row, x, value, at)
            return
        pair = np.stack((np.full(len(rows), x), y))
        fresh = self.n[rows] == 0.0
        last = np.where(fresh, pair, self._last[:, rows])
        w, cxx, cxy, cyy, v, e, d = self._decayed(rows, self._passed(rows, at, fresh))
        mean = dd.Double2(*self._mean[:, :, rows])
        one = dd.exactly(np.ones(len(rows)))
        deviation = dd.subtract(dd.exactly(pair), mean)
        dx, dy = _sides(deviation)
        # what is alike is done at once: numpy's fixed cost is most of a few rows' time
        parts = dd.divide(_together(dx, dy, w), dd.add(w, one))
        step_x, step_y, share = _sides(parts)
        step = _together(step_x, step_y)
        # the new pair's deviation from the new mean
        rest_x, rest_y = _sides(dd.multiply(deviation, share))
        # the old ones' squared weights, about the new mean
        shifted = dd.subtract(e, dd.multiply(step_x, v))
        d = dd.subtract(d, dd.multiply(step_x, dd.add(e, shifted)))
        xx, xy, yy, squared = _sides(
            dd.multiply(
                _together(rest_x, rest_x, rest_y, rest_x), _together(dx, dy, dy, rest_x)
            )
        )
        old = _together(w, cxx, cxy, cyy, v, shifted, d)
        new = _together(one, xx, xy, yy, one, rest_x, squared)
        self._sums[0][:, rows], self._sums[1][:, rows] = dd.add(old, new)
        self._mean[0][:, rows], self._mean[1][:, rows] = dd.add(mean, step)
        self._last[:, rows] = pair
        self.n[rows] += 1.0
        moved = pair != last
        self._moves[:, rows] = np.maximum(self._moves[:, rows], moved)
        rows = rows[moved[0]]
        self._peak[rows] = self._sums[0, _CXX, rows]

    def _add_one(self, row: int, x: float, y: float, at: int | None) -> None:
        is_fresh = self.n[row] == 0.0
        age = 1
        if at is not None:
            age = 0 if is_fresh else at - int(self._at[row])
            self._at[row] = at
        sums: list[Pair] = list(zip(*self._sums[:, :, row].tolist(), strict=True))
        mean: list[Pair] = list(zip(*self._mean[:, :, row].tolist(), strict=True))
        sums, mean = step(decayed(sums, self._decay.factor(age)), mean, x, y)
        self._sums[:, :, row] = tuple(zip(*sums, strict=True))
        self._mean[:, :, row] = tuple(zip(*mean, strict=True))
        if not is_fresh:
            last_x, last_y = self._last[:, row].tolist()
            if x != last_x:
                self._moves[0, row] = 1.0
                self._peak[row] = sums[_CXX][0]
            if y != last_y:
                self._moves[1, row] = 1.0
        self._last[:, row] = x, y
        self.n[row] += 1.0

    def _passed(
        self, rows: Rows, at: int | None, fresh: NDArray[np.bool_]
    ) -> dd.Double2:
        # The factors for the ages since the rows' newest pairs.
        if at is None:
            ages = np.ones(len(rows), dtype=np.int64)
        else:
            ages = np.where(fresh, 0, at - self._at[rows])
            self._at[rows] = at
        return self._decay.factors(ages)

    def _decayed(self, rows: Rows, factors: dd.Double2) -> list[dd.Double2]:
        # The sums with weights as they are when the next pair comes.
        sums = self._sums[:, :, rows]
        squared = dd.multiply(factors, factors)
        each = np.empty_like(sums)
        each[:, _ONCE] = np.stack(factors)[:, None]
        each[:, _SQUARED] = np.stack(squared)[:, None]
        down = np.where(np.abs(sums[0]) > LARGE, SMALLER, 1.0)
        sums *= down
        decayed = dd.multiply(dd.Double2(*sums), dd.Double2(*each))
        return _sides(dd.scaled(decayed, 1.0 / down))

    def effective(self, rows: Rows) -> Floats:
        """Return the effective number of pairs of some rows, shape (k,)."""
        w, v = self._sums[0][_W, rows], self._sums[0][_V, rows]
        result: Floats = w / np.where(v > 0.0, v, 1.0) * w
        return result

    def statistics(self, rows: Rows, min_observations: int) -> Floats:
        """Return the statistics of some rows, shape (ALL_STATISTICS, k)."""
        n = self.n[rows]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            result, is_flat = self._solved(rows)
        residual = [STD_ERROR, T_STAT, RESIDUAL_STD, ALPHA_STD_ERROR]
        constant = self._moves[1, rows] == 0.0
        if constant.any():
            result[:, constant] = 0.0
            result[ALPHA, constant] = self._last[1, rows[constant]]
            for statistic in (T_STAT, R_SQUARED, CORRELATION):
                result[statistic, constant] = nan
        high, low = self._excess(rows)
        few = (high + low <= 0.0) | (n <= 2.0)  # noqa: PLR2004 - intercept and slope
        for statistic in residual:
            result[statistic, few] = nan
        undefined = (n < max(min_observations, 2)) | is_flat
        result[:, undefined] = nan
        return result

    def _excess(self, rows: Rows) -> dd.Double2:
        # S(w)**2 - 2 S(w**2), which is above 0 where n_eff is above 2
        w, v = (dd.Double2(*self._sums[:, field, rows]) for field in (_W, _V))
        return dd.subtract(dd.multiply(w, w), dd.Double2(2.0 * v.high, 2.0 * v.low))

    def _solved(self, rows: Rows) -> tuple[Floats, NDArray[np.bool_]]:
        # The statistics where both sides move, and where the benchmark does not.
        sums, mean = self._sums[:, :, rows], self._mean[:, :, rows]
        is_flat = sums[0, _CXX] <= _FLAT * self._peak[rows]
        # units in which the centred sums are about 1
        x_scale, y_scale = _scale(sums[0, _CXX]), _scale(sums[0, _CYY])
        by_x, by_y = np.ldexp(1.0, -x_scale), np.ldexp(1.0, -y_scale)
        for field in (_CXX, _CXX, _CXY, _E, _D, _D):
            sums[:, field] *= by_x
        for field in (_CXY, _CYY, _CYY):
            sums[:, field] *= by_y
        mean[:, 0] *= by_x
        mean[:, 1] *= by_y
        w, cxx, cxy, cyy, v, e, d = _sides(dd.Double2(*sums))
        mean_x, mean_y = _sides(dd.Double2(*mean))

        whole, explained, weighted = _sides(
            dd.multiply(_together(cxx, cxy, mean_x), _together(cyy, cxy, w))
        )
        determinant = dd.subtract(whole, explained).high
        determinant[determinant < _NOISE * whole.high] = 0.0
        # a is (1 - lever * (x - m)) / S(w)
        beta, lever = _sides(dd.divide(_together(cxy, weighted), cxx))
        alpha = dd.subtract(mean_y, dd.multiply(beta, mean_x)).high
        cross = dd.multiply(lever, e)
        spread = dd.subtract(v, dd.add(cross, cross))
        spread = dd.add(spread, dd.multiply(dd.multiply(lever, lever), d))

        slope = cxy.high / cxx.high
        # n_eff / (n_eff - 2) is S(w)**2 / excess
        s = np.sqrt(determinant / cxx.high * (w.high / self._excess(rows).high))
        error = s * np.sqrt(d.high) / cxx.high
        out = np.empty((ALL_STATISTICS, len(rows)))
        out[BETA] = np.ldexp(slope, y_scale - x_scale)
        out[ALPHA] = np.ldexp(alpha, y_scale)
        out[STD_ERROR] = np.ldexp(error, y_scale - x_scale)
        out[T_STAT] = slope / error
        out[R_SQUARED] = np.minimum(slope * (cxy.high / cyy.high), 1.0)
        out[RESIDUAL_STD] = np.ldexp(s, y_scale)
        alpha_error = s * np.sqrt(np.maximum(spread.high, 0.0)) / w.high
        out[ALPHA_STD_ERROR] = np.ldexp(alpha_error, y_scale)
        root = np.sqrt(cxx.high) * np.sqrt(cyy.high)
        out[CORRELATION] = np.clip(cxy.high / root, -1.0, 1.0)
        return out, is_flat


def _scale(square: Floats) -> _Integers:
    _, exponents = np.frexp(square)
    scales: _Integers = exponents.astype(np.int64) // 2
    return scales


def _sides(values: dd.Double2) -> list[dd.Double2]:
    # The numbers along the first axis, one by one.
    return [dd.Double2(*parts) for parts in zip(*values, strict=True)]


def _together(*values: dd.Double2) -> dd.Double2:
    # One array of numbers of one shape: the reverse of `_sides`.
    highs, lows = zip(*values, strict=True)
    return dd.Double2(np.array(highs), np.array(lows))
