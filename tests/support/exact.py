"""The exact oracle: least squares in integer arithmetic.

The rule of this file: nothing is rounded before the last step.  Every finite
double is an integer times a power of two, so a series becomes a list of Python
integers on one common scale, window sums are differences of exact prefix sums,
and each statistic is one quotient, or the root of one quotient, rounded to the
nearest double once.

Conventions, for the regression of y (the asset) on x (the benchmark) with an
intercept:

* a pair is complete when both sides are finite; other rows never enter a sum;
* fewer than ``max(min_observations, 2)`` pairs, or a flat benchmark: all NaN;
* two pairs: standard errors, t statistic and residual deviation are NaN;
* a constant asset: beta 0, standard errors 0; R2, correlation and t are NaN;
* an exact line: standard errors 0, R2 1, t infinite with the sign of beta.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Context, Decimal, localcontext
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
WindowKind = Literal["bars", "pairs", "time", "session"]
Clock = Literal["bars", "pairs", "time"]

TOLERANCE = 1e-12
RESIDUAL_TOLERANCE = 1e-11
VANISHING = 1e-12
"""An unexplained share 1 - R2 below this leaves the residuals only a sign."""

COEFFICIENTS = ("beta", "alpha", "r_squared", "correlation")
RESIDUAL_STATISTICS = ("std_error", "alpha_std_error", "t_stat", "residual_std")

_NAN = math.nan
_ROOT_BITS = 64


class Estimates(Protocol):
    """What an implementation must return to be compared with the oracle."""

    @property
    def n_obs(self) -> IntArray: ...
    @property
    def beta(self) -> FloatArray: ...
    @property
    def alpha(self) -> FloatArray: ...
    @property
    def std_error(self) -> FloatArray: ...
    @property
    def alpha_std_error(self) -> FloatArray: ...
    @property
    def t_stat(self) -> FloatArray: ...
    @property
    def r_squared(self) -> FloatArray: ...
    @property
    def residual_std(self) -> FloatArray: ...
    @property
    def correlation(self) -> FloatArray: ...


class ExactFit(NamedTuple):
    """One window's statistics, each the double nearest to the true value.

    ``unexplained`` is 1 - R2 without the cancellation of subtracting, for the
    tolerances.
    """

    n_obs: int
    beta: float = _NAN
    alpha: float = _NAN
    std_error: float = _NAN
    alpha_std_error: float = _NAN
    t_stat: float = _NAN
    r_squared: float = _NAN
    residual_std: float = _NAN
    correlation: float = _NAN
    unexplained: float = _NAN


@dataclass(frozen=True)
class ExactSeries:
    """``ExactFit`` for every row: arrays (n_bars,), or (n_bars, n_assets)."""

    n_obs: IntArray
    beta: FloatArray
    alpha: FloatArray
    std_error: FloatArray
    alpha_std_error: FloatArray
    t_stat: FloatArray
    r_squared: FloatArray
    residual_std: FloatArray
    correlation: FloatArray
    unexplained: FloatArray

    def require(self, min_observations: int) -> "ExactSeries":
        """Return the same series with a higher bar for being defined."""
        short = self.n_obs < min_observations
        return replace(
            self,
            **{
                name: np.where(short, np.nan, getattr(self, name))
                for name in _names()
                if name != "n_obs"
            },
        )


class ExactEwma(NamedTuple):
    """Exponentially weighted statistics for every row; arrays (n_bars,)."""

    n_obs: IntArray
    n_eff: FloatArray
    weight_sum: FloatArray
    beta: FloatArray
    alpha: FloatArray
    std_error: FloatArray
    t_stat: FloatArray
    r_squared: FloatArray
    residual_std: FloatArray
    correlation: FloatArray


def _names() -> tuple[str, ...]:
    return tuple(field.name for field in fields(ExactSeries))


# --- numbers ----------------------------------------------------------------


def _as_integers(values: FloatArray) -> tuple[list[int], int]:
    """Return integers k and one exponent e with ``values == k * 2**e`` exactly."""
    significand, exponent = np.frexp(values)
    digits = np.ldexp(significand, 53).astype(np.int64)
    exponents = exponent.astype(np.int64) - 53
    nonzero = digits != 0
    if not nonzero.any():
        return [0] * len(values), 0
    scale = int(exponents[nonzero].min())
    shifts = np.where(nonzero, exponents - scale, 0)
    pairs = zip(digits.tolist(), shifts.tolist(), strict=True)
    return [digit << shift for digit, shift in pairs], scale


def rounded_quotient(numerator: int, denominator: int, exponent: int = 0) -> float:
    """Return ``numerator / denominator * 2**exponent``, rounded once."""
    if exponent >= 0:
        numerator <<= exponent
    else:
        denominator <<= -exponent
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def rounded_root(numerator: int, denominator: int, exponent: int = 0) -> float:
    """Return ``sqrt(numerator / denominator) * 2**exponent``, rounded once.

    The integer root carries at least 64 bits and its last bit is sticky (rounded
    to odd), so that the rounding to 53 bits is that of the true root.
    """
    if numerator == 0:
        return 0.0
    excess = numerator.bit_length() - denominator.bit_length()
    shift = excess // 2 - _ROOT_BITS
    if shift >= 0:
        denominator <<= 2 * shift
    else:
        numerator <<= -2 * shift
    root = math.isqrt(numerator // denominator)
    if root * root * denominator != numerator:
        root |= 1
    return rounded_quotient(root, 1, shift + exponent)


def _signed(magnitude: float, sign: int) -> float:
    return -magnitude if sign < 0 else magnitude


# --- one window -------------------------------------------------------------


def _fit(n: int, sums: Sequence[int], x_scale: int, y_scale: int) -> ExactFit:
    """Turn exact sums (x, y, xx, xy, yy) of n pairs into statistics.

    With c = n * (centred co-moment) every statistic is a quotient of integers:
    n * SSR = (c_xx * c_yy - c_xy**2) / c_xx, and 1/n + mean_x**2 / C_xx is
    sum(x**2) / c_xx.
    """
    if n < 2:
        return ExactFit(n)
    x, y, xx, xy, yy = sums
    c_xx = n * xx - x * x
    c_xy = n * xy - x * y
    c_yy = n * yy - y * y
    if c_xx == 0:
        return ExactFit(n)
    slope_scale = y_scale - x_scale
    determinant = c_xx * c_yy - c_xy * c_xy
    r_squared = correlation = unexplained = _NAN
    if c_yy:
        r_squared = rounded_quotient(c_xy * c_xy, c_xx * c_yy)
        correlation = _signed(rounded_root(c_xy * c_xy, c_xx * c_yy), c_xy)
        unexplained = rounded_quotient(determinant, c_xx * c_yy)
    std_error = alpha_std_error = t_stat = residual_std = _NAN
    if n > 2:
        spread = n * (n - 2) * c_xx
        residual_std = rounded_root(determinant, spread, y_scale)
        std_error = rounded_root(determinant, (n - 2) * c_xx * c_xx, slope_scale)
        alpha_std_error = rounded_root(determinant * xx, spread * c_xx, y_scale)
        if determinant:
            t_stat = _signed(rounded_root(c_xy * c_xy * (n - 2), determinant), c_xy)
        elif c_yy:
            t_stat = _signed(math.inf, c_xy)
    return ExactFit(
        n_obs=n,
        beta=rounded_quotient(c_xy, c_xx, slope_scale),
        alpha=rounded_quotient(xx * y - x * xy, c_xx, y_scale),
        std_error=std_error,
        alpha_std_error=alpha_std_error,
        t_stat=t_stat,
        r_squared=r_squared,
        residual_std=residual_std,
        correlation=correlation,
        unexplained=unexplained,
    )


def exact_ols(
    benchmark: npt.ArrayLike, asset: npt.ArrayLike, min_observations: int = 2
) -> ExactFit:
    """Regress one window of asset returns on benchmark returns."""
    x = np.asarray(benchmark, dtype=np.float64)
    y = np.asarray(asset, dtype=np.float64)
    complete = np.isfinite(x) & np.isfinite(y)
    xs, x_scale = _as_integers(x[complete])
    ys, y_scale = _as_integers(y[complete])
    if len(xs) < min_observations:
        return ExactFit(len(xs))
    return _fit(len(xs), [sum(terms) for terms in _terms(xs, ys)], x_scale, y_scale)


def _terms(xs: list[int], ys: list[int]) -> Iterator[Iterable[int]]:
    # What is summed over the pairs, in the order of `_fit`.
    yield from (xs, ys, map(mul, xs, xs), map(mul, xs, ys), map(mul, ys, ys))


# --- rolling ----------------------------------------------------------------


def _first_rows(
    n_bars: int,
    lookback_length: int,
    window: WindowKind,
    ts: npt.ArrayLike | None,
    session_starts: Sequence[int] | None,
) -> IntArray:
    """Return the first row inside the window that ends at each row."""
    rows = np.arange(n_bars)
    if window == "time":
        stamps = np.asarray(ts)
        if stamps.shape != (n_bars,) or not np.issubdtype(stamps.dtype, np.integer):
            raise ValueError("a time window needs one integer stamp per row")
        if np.any(np.diff(stamps) < 0):
            raise ValueError("stamps must not decrease")
        return np.searchsorted(stamps, stamps - lookback_length, side="right")
    first = np.maximum(rows - lookback_length + 1, 0)
    if window == "session":
        starts = sorted({0, *(session_starts or ())})
        opens = [starts[bisect_right(starts, row) - 1] for row in range(n_bars)]
        first = np.maximum(first, np.array(opens, dtype=np.int64))
    return first


def exact_rolling_ols(
    benchmark: npt.ArrayLike,
    asset: npt.ArrayLike,
    lookback_length: int,
    min_observations: int,
    *,
    window: WindowKind = "bars",
    ts: npt.ArrayLike | None = None,
    session_starts: Sequence[int] | None = None,
    step: int = 1,
) -> ExactSeries:
    """Regress asset on benchmark over the window that ends at each row.

    Parameters
    ----------
    benchmark, asset
        Shape (n_bars,).  A row with a NaN or infinite side is missing.
    lookback_length
        Rows (``bars``), complete pairs (``pairs``), or units of ``ts`` (``time``:
        stamps in ``(ts - lookback_length, ts]``).  In ``session`` windows it
        counts rows and the window never reaches behind the session's open.
    min_observations
        Complete pairs below which everything is NaN; never less than 2.
    ts
        Non-decreasing integer stamps, for ``time``.
    session_starts
        Row numbers at which a session opens, for ``session``.
    step
        Every how many rows there is an answer, from the first on.
    """
    x = np.asarray(benchmark, dtype=np.float64)
    y = np.asarray(asset, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"two equally long series needed, was {x.shape}, {y.shape}")
    complete = np.isfinite(x) & np.isfinite(y)
    pairs_before = np.concatenate(([0], np.cumsum(complete)))
    stop = pairs_before[1:]
    if window == "pairs":
        start = np.maximum(stop - lookback_length, 0)
    else:
        start = pairs_before[
            _first_rows(len(x), lookback_length, window, ts, session_starts)
        ]
    xs, x_scale = _as_integers(x[complete])
    ys, y_scale = _as_integers(y[complete])
    totals = [list(accumulate(terms, initial=0)) for terms in _terms(xs, ys)]
    needed = max(min_observations, 2)
    fits: list[ExactFit] = []
    previous = (-1, -1)
    spans: list[tuple[int, int]] = list(zip(start.tolist(), stop.tolist(), strict=True))
    for lo, hi in spans[::step]:
        if (lo, hi) == previous:
            fits.append(fits[-1])
            continue
        previous = (lo, hi)
        if hi - lo < needed:
            fits.append(ExactFit(hi - lo))
            continue
        sums = [total[hi] - total[lo] for total in totals]
        fits.append(_fit(hi - lo, sums, x_scale, y_scale))
    return as_series(fits)


def as_series(fits: Sequence[ExactFit]) -> ExactSeries:
    """Return fits as the rows of a series."""
    table = np.array(fits, dtype=np.float64).reshape(len(fits), len(_names()))
    return _series(dict(zip(_names(), table.T, strict=True)))


def _series(columns: Mapping[str, FloatArray]) -> ExactSeries:
    return ExactSeries(
        n_obs=columns["n_obs"].astype(np.int64),
        **{name: columns[name] for name in _names()[1:]},
    )


def exact_rolling_panel(
    benchmark: FloatArray,
    assets: FloatArray,
    lookback_length: int,
    min_observations: int,
    *,
    window: WindowKind = "bars",
    step: int = 1,
) -> ExactSeries:
    """Run ``exact_rolling_ols`` on every column of assets, (n_bars, n_assets)."""
    columns = [
        exact_rolling_ols(
            benchmark, y, lookback_length, min_observations, window=window, step=step
        )
        for y in assets.T
    ]
    return _series(
        {
            name: np.column_stack([getattr(column, name) for column in columns])
            for name in _names()
        }
    )


# --- exponential weights ----------------------------------------------------

_DIGITS = 200
_LINE = Decimal(10) ** -120
"""Doubles cannot miss a line by less than this share of their variation."""


def exact_ewma_ols(
    benchmark: npt.ArrayLike,
    asset: npt.ArrayLike,
    min_observations: int = 2,
    *,
    half_life: float | None = None,
    decay: float | None = None,
    clock: Clock = "bars",
    ts: npt.ArrayLike | None = None,
    step: int = 1,
) -> ExactEwma:
    """Regress with weights ``decay**age``, or ``2**(-age / half_life)``.

    Age counts rows (``bars``), complete pairs (``pairs``) or units of ``ts``
    (``time``).  Weights are irrational, so this works with 200 decimal digits
    instead of integers; raw moments lose at most some 40 of them.  Standard
    errors use the effective number of pairs n_eff = (sum w)**2 / sum w**2:
    s**2 = (sum w e**2 / sum w) * n_eff / (n_eff - 2), and var(beta) =
    s**2 * sum(w**2 dx**2) / (sum w dx**2)**2; NaN while n_eff <= 2. There is an
    answer at every ``step`` rows, from the first on.
    """
    if (half_life is None) == (decay is None):
        raise ValueError("give half_life or decay, and not both")
    x = np.asarray(benchmark, dtype=np.float64)
    y = np.asarray(asset, dtype=np.float64)
    complete = (np.isfinite(x) & np.isfinite(y)).tolist()
    if clock == "time":
        stamps = [int(stamp) for stamp in np.asarray(ts)]
        ages = [0, *(b - a for a, b in pairwise(stamps))]
    elif clock == "bars":
        ages = [1] * len(x)
    else:
        ages = [int(seen) for seen in complete]
    needed = max(min_observations, 2)
    with localcontext(Context(prec=_DIGITS)):
        factors = {age: _decay_factor(age, half_life, decay) for age in set(ages)}
        state = _EwmaState()
        rows: list[tuple[float, ...]] = []
        pairs = zip(ages, complete, x.tolist(), y.tolist(), strict=True)
        for row, (age, seen, a, b) in enumerate(pairs):
            state.decay(factors[age])
            if seen:
                state.add(Decimal(a), Decimal(b))
            if row % step == 0:
                rows.append(state.statistics(needed))
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 10)
    return ExactEwma(table[:, 0].astype(np.int64), *table[:, 1:].T)


def _decay_factor(age: int, half_life: float | None, decay: float | None) -> Decimal:
    if decay is not None:
        return Decimal(decay) ** age
    return Decimal(2) ** (Decimal(-age) / Decimal(half_life or 1))


def _plus(totals: Iterable[Decimal], terms: Iterable[Decimal]) -> list[Decimal]:
    return [total + term for total, term in zip(totals, terms, strict=True)]


class _EwmaState:
    """Raw moments: sums of w * (1, x, y, xx, xy, yy) and of w**2 * (1, x, xx)."""

    def __init__(self) -> None:
        self.n = 0
        self.once = [Decimal(0)] * 6
        self.twice = [Decimal(0)] * 3
        self.flat_x = self.flat_y = True
        self.last: tuple[Decimal, Decimal] | None = None

    def decay(self, factor: Decimal) -> None:
        self.once = [total * factor for total in self.once]
        self.twice = [total * factor * factor for total in self.twice]

    def add(self, x: Decimal, y: Decimal) -> None:
        if self.last is not None:
            self.flat_x = self.flat_x and x == self.last[0]
            self.flat_y = self.flat_y and y == self.last[1]
        self.last = (x, y)
        self.n += 1
        one = Decimal(1)
        self.once = _plus(self.once, (one, x, y, x * x, x * y, y * y))
        self.twice = _plus(self.twice, (one, x, x * x))

    def statistics(self, needed: int) -> tuple[float, ...]:
        undefined = (float(self.n), *[_NAN] * 9)
        if self.n < needed:
            return undefined
        w, wx, wy, wxx, wxy, wyy = self.once
        ww, wwx, wwxx = self.twice
        n_eff = w * w / ww
        weights = (float(self.n), float(n_eff), float(w))
        if self.flat_x:
            return (*weights, *[_NAN] * 7)
        mean_x, mean_y = wx / w, wy / w
        c_xx, c_xy = wxx - mean_x * wx, wxy - mean_x * wy
        c_yy = Decimal(0) if self.flat_y else wyy - mean_y * wy
        beta = Decimal(0) if self.flat_y else c_xy / c_xx
        ssr = c_yy - beta * c_xy if c_yy else Decimal(0)
        if self.n == 2 or ssr <= _LINE * c_yy:
            ssr = Decimal(0)
        r_squared = correlation = residual_std = std_error = t_stat = _NAN
        if c_yy:
            share = 1 - ssr / c_yy
            r_squared = float(share)
            correlation = math.copysign(float(share.sqrt()), c_xy)
        if n_eff > 2 and self.n > 2:
            variance = ssr / w * n_eff / (n_eff - 2)
            spread = wwxx - 2 * mean_x * wwx + mean_x * mean_x * ww
            error = (variance * spread).sqrt() / c_xx
            residual_std, std_error = float(variance.sqrt()), float(error)
            if error:
                t_stat = float(beta / error)
            elif c_yy:
                t_stat = math.copysign(math.inf, c_xy)
        return (
            *weights,
            float(beta),
            float(mean_y - beta * mean_x),
            std_error,
            t_stat,
            r_squared,
            residual_std,
            correlation,
        )


# --- comparison -------------------------------------------------------------


class Offender(NamedTuple):
    """The place where a field is furthest from exact, in units of tolerance."""

    field: str
    row: int
    asset: int
    ours: float
    exact: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"{self.field}[row {self.row}, asset {self.asset}]: "
            f"was {self.ours!r}, exact {self.exact!r}, "
            f"error is {self.ratio:.3g} x tolerance"
        )


def _panel(values: npt.ArrayLike) -> FloatArray:
    table = np.asarray(values, dtype=np.float64)
    return table.reshape(len(table), -1)


def tolerances(exact: ExactSeries) -> dict[str, FloatArray]:
    """Return the absolute error allowed to each field, shaped as the field."""
    allowed = {
        name: TOLERANCE * np.maximum(1.0, np.abs(getattr(exact, name)))
        for name in COEFFICIENTS
    }
    # A constant asset has no R2; its residuals are zero and must be exactly so.
    unexplained = np.where(np.isnan(exact.unexplained), 1.0, exact.unexplained)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for name in RESIDUAL_STATISTICS:
            size = np.abs(getattr(exact, name))
            allowed[name] = RESIDUAL_TOLERANCE * size / unexplained
    return allowed


def worst_offenders(ours: Estimates, exact: ExactSeries) -> dict[str, Offender]:
    """Return the worst place of every field; a ratio above 1 is a failure.

    Defined on one side only, or an infinity of the wrong sign, is a ratio of
    infinity.  Where 1 - R2 < 1e-12 the residual statistics are judged by their
    sign alone.
    """
    allowed = tolerances(exact)
    vanishing = _panel(exact.unexplained) < VANISHING
    worst: dict[str, Offender] = {}
    for name in ("n_obs", *COEFFICIENTS, *RESIDUAL_STATISTICS):
        mine, true = _panel(getattr(ours, name)), _panel(getattr(exact, name))
        if mine.shape != true.shape:
            raise AssertionError(f"{name}: shape was {mine.shape}, not {true.shape}")
        tolerance = _panel(allowed[name]) if name in allowed else np.zeros(true.shape)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            ratio = np.abs(mine - true) / tolerance
        ratio[(mine == true) | (np.isnan(mine) & np.isnan(true))] = 0.0
        if name in RESIDUAL_STATISTICS:
            if name == "t_stat":
                sound = np.sign(mine) == np.sign(true)
            else:
                sound = (mine >= 0) & np.isfinite(mine)
            ratio = np.where(
                vanishing & ~np.isnan(true), np.where(sound, 0, np.inf), ratio
            )
        ratio[np.isnan(ratio) | (np.isnan(mine) != np.isnan(true))] = np.inf
        row, asset = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        place = int(row), int(asset)
        worst[name] = Offender(
            name, *place, float(mine[place]), float(true[place]), float(ratio[place])
        )
    return worst


def assert_matches_exact(ours: Estimates, exact: ExactSeries) -> None:
    """Fail, naming the worst offenders first, unless all fields are in tolerance.

    The shapes must agree: (n_bars, n_assets), or (n_bars,) for one asset.
    """
    __tracebackhide__ = True
    failed = [bad for bad in worst_offenders(ours, exact).values() if bad.ratio > 1]
    if failed:
        raise AssertionError(_report(failed))


def _report(failed: Iterable[Offender]) -> str:
    ordered = sorted(failed, key=lambda bad: -bad.ratio)
    return "\n".join(["not exact:", *(f"  {bad}" for bad in ordered)])
