"""The oracle against published answers, closed forms and its own conventions.

The rule of this file: an oracle is trusted because it agrees with things made
without it, and a harness because it catches arithmetic known to be bad.
"""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exact import (
    COEFFICIENTS,
    RESIDUAL_STATISTICS,
    ExactFit,
    ExactSeries,
    WindowKind,
    assert_matches_exact,
    exact_ewma_ols,
    exact_ols,
    exact_rolling_ols,
    exact_rolling_panel,
    rounded_quotient,
    rounded_root,
    worst_offenders,
)
from nasty import NASTY

FloatArray = npt.NDArray[np.float64]

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracle"

ROLLING = (
    "pandas_gh24019",
    "pandas_gh28244",
    "pandas_gh66678",
    "real_hf_oneminute_time30min_min10",
    "real_hf_oneminute_w390_min60",
    "real_hf_oneminute_w60_min30_pairs",
    "syn_constant_runs",
    "syn_nan_gaps_pairs",
    "syn_nan_gaps_rows",
)
WINDOWS: dict[str, WindowKind] = {"rows": "bars", "pairs": "pairs", "time": "time"}
ONE_QUOTIENT = {"n_obs": "n", "beta": "beta", "alpha": "alpha", "r_squared": "r2"}
ONE_ROOT = {
    "std_error": "stderr_beta",
    "alpha_std_error": "stderr_alpha",
    "t_stat": "t_beta",
    "residual_std": "resid_std",
    "correlation": "corr",
}
STATISTICS = (*COEFFICIENTS, *RESIDUAL_STATISTICS)


def published(name: str) -> dict[str, npt.NDArray[Any]]:
    path = ORACLE / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"expected values are not here: {path}")
    with np.load(path) as archive:
        return dict(archive)


# --- published answers ------------------------------------------------------


@pytest.mark.parametrize("name", ROLLING)
def test_rolling_equals_the_published_values(name: str) -> None:
    file = published(name)
    exact = exact_rolling_ols(
        file["bench"],
        file["asset"],
        int(file["window"]),
        int(file["min_obs"]),
        window=WINDOWS[str(file["mode"])],
        ts=file.get("t"),
    )
    for ours, theirs in ONE_QUOTIENT.items():
        np.testing.assert_array_equal(getattr(exact, ours), file[theirs], ours)
    for ours, theirs in ONE_ROOT.items():  # they round before the root as well
        np.testing.assert_allclose(getattr(exact, ours), file[theirs], 4e-16, 0)


@pytest.mark.parametrize("name", ["ewma_pairs", "ewma_time"])
def test_ewma_equals_the_published_values(name: str) -> None:
    file = published(name)
    if name == "ewma_pairs":
        exact = exact_ewma_ols(
            file["bench"], file["asset"], decay=float(file["lam"]), clock="pairs"
        )
    else:
        half_life = float(file["halflife_time"])
        exact = exact_ewma_ols(
            file["bench"],
            file["asset"],
            half_life=half_life,
            clock="time",
            ts=file["t"],
        )
    np.testing.assert_array_equal(exact.n_obs, file["n"])
    np.testing.assert_array_equal(exact.beta, file["beta"])
    np.testing.assert_array_equal(exact.alpha, file["alpha"])
    np.testing.assert_array_equal(exact.weight_sum, file["sumw"])
    np.testing.assert_array_equal(exact.n_eff, file["neff"])


def test_pandas_66678_ends_in_minus_a_third_and_minus_a_seventh() -> None:
    x = [1.0, 2.0, 1e12, 1e7, 6.0, 5.0, 8.0, 7.0]
    y = [2.0, 1.0, 3.0, -1e12, 4.0, 7.0, 6.0, 9.0]
    exact = exact_rolling_ols(x, y, 3, 3)
    covariance = exact.beta[-1] * statistics.variance(x[-3:])
    assert covariance == pytest.approx(-1 / 3, rel=1e-15)
    assert exact.correlation[-1] == -1 / 7


# --- closed forms -----------------------------------------------------------


def closed_form(x: list[float], y: list[float]) -> ExactFit:
    """Compute the textbook formulas, residual by residual, in fractions."""
    n = len(x)
    xs, ys = [Fraction(v) for v in x], [Fraction(v) for v in y]
    mean_x, mean_y = total(xs) / n, total(ys) / n
    dx, dy = [a - mean_x for a in xs], [b - mean_y for b in ys]
    c_xx, c_yy = total(a * a for a in dx), total(b * b for b in dy)
    beta = total(a * b for a, b in zip(dx, dy, strict=True)) / c_xx
    alpha = mean_y - beta * mean_x
    residuals = [b - alpha - beta * a for a, b in zip(xs, ys, strict=True)]
    ssr = total(e * e for e in residuals)
    s2 = ssr / (n - 2)
    r_squared = 1 - ssr / c_yy
    sign = -1 if beta < 0 else 1
    return ExactFit(
        n,
        beta=float(beta),
        alpha=float(alpha),
        std_error=root(s2 / c_xx),
        alpha_std_error=root(s2 * (Fraction(1, n) + mean_x**2 / c_xx)),
        t_stat=sign * root(beta**2 * c_xx / s2),
        r_squared=float(r_squared),
        residual_std=root(s2),
        correlation=sign * root(r_squared),
        unexplained=float(ssr / c_yy),
    )


def total(terms: Iterable[Fraction]) -> Fraction:
    return sum(terms, Fraction(0))


def root(square: Fraction) -> float:
    with localcontext(Context(prec=80)):
        return float((Decimal(square.numerator) / square.denominator).sqrt())


@pytest.mark.parametrize("seed", range(20))
def test_one_window_equals_the_closed_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 12))
    scale, offset = 10.0 ** rng.integers(-150, 100), float(rng.choice([0.0, 1.0, 1e8]))
    x = ((rng.normal(size=n) + offset) * scale).tolist()
    y = (rng.normal(size=n) * 10.0 ** rng.integers(-12, 12)).tolist()
    assert exact_ols(x, y) == closed_form(x, y)


def test_one_window_equals_statistics_linear_regression() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 50))
    slope, intercept = statistics.linear_regression(x.tolist(), y.tolist())
    fit = exact_ols(x, y)
    assert fit.beta == pytest.approx(slope, rel=1e-14)
    assert fit.alpha == pytest.approx(intercept, rel=1e-14)
    assert fit.correlation == pytest.approx(
        statistics.correlation(x.tolist(), y.tolist()), rel=1e-14
    )


@pytest.mark.parametrize("seed", range(50))
def test_roots_are_correctly_rounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    top, bottom = (int(v) << int(s) for v, s in rng.integers(1, 200, (2, 2)))
    exponent = int(rng.integers(-40, 40))
    with localcontext(Context(prec=80)):
        expected = (Decimal(top) / Decimal(bottom)).sqrt() * Decimal(2) ** exponent
        assert rounded_root(top, bottom, exponent) == float(expected)


def test_numbers_beyond_doubles_become_infinite_or_denormal() -> None:
    assert rounded_quotient(-1, 3, 2000) == -math.inf
    assert rounded_quotient(3, 2, -1074) == 1e-323  # halfway: to even
    assert rounded_root(4, 1, -1074) == 1e-323


# --- conventions ------------------------------------------------------------

X = [1.0, 2.0, 4.0, 8.0]


def undefined(fit: ExactFit, *names: str) -> bool:
    return all(math.isnan(getattr(fit, name)) for name in names)


@pytest.mark.parametrize("level", [0.0, 0.1, -1e8 / 3])
def test_constant_asset_has_beta_zero_and_no_r_squared(level: float) -> None:
    fit = exact_ols(X, [level] * 4)
    assert (fit.beta, fit.std_error, fit.alpha_std_error) == (0, 0, 0)
    assert (fit.alpha, fit.residual_std) == (level, 0)
    assert undefined(fit, "r_squared", "correlation", "t_stat")


@pytest.mark.parametrize("slope", [2.0, -0.5])
def test_exact_line_has_an_infinite_t(slope: float) -> None:
    fit = exact_ols(X, [slope * x + 1 for x in X])
    assert (fit.beta, fit.alpha, fit.r_squared) == (slope, 1, 1)
    assert (fit.std_error, fit.alpha_std_error, fit.residual_std) == (0, 0, 0)
    assert fit.t_stat == math.copysign(math.inf, slope)
    assert fit.correlation == math.copysign(1, slope)


def test_two_pairs_have_a_line_but_no_residuals() -> None:
    fit = exact_ols([1.0, 3.0], [5.0, 1.0])
    assert (fit.beta, fit.alpha, fit.r_squared, fit.correlation) == (-2, 7, 1, -1)
    assert undefined(fit, *RESIDUAL_STATISTICS)


@pytest.mark.parametrize("x", [[0.1, 0.1, 0.1, 0.1], [7.0], []])
def test_flat_benchmark_and_single_pairs_have_nothing(x: list[float]) -> None:
    n = len(x)
    series = exact_rolling_ols(x, X[:n], 4, 1)
    assert series.n_obs.tolist() == list(range(1, n + 1))
    assert all(np.isnan(getattr(series, name)).all() for name in STATISTICS)


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["benchmark", "asset"])
def test_not_finite_is_missing_on_either_side(hole: float, side: str) -> None:
    x, y = [1.0, 2.0, 4.0, 8.0, 9.0], [3.0, 1.0, 4.0, 1.0, 5.0]
    (x if side == "benchmark" else y)[2] = hole
    bars = exact_rolling_ols(x, y, 3, 2)
    pairs = exact_rolling_ols(x, y, 3, 2, window="pairs")
    assert bars.n_obs.tolist() == [1, 2, 2, 2, 2]
    assert pairs.n_obs.tolist() == [1, 2, 2, 3, 3]
    assert pairs.beta[2] == pairs.beta[1] == exact_ols(x[:2], y[:2]).beta
    assert pairs.beta[4] == exact_ols([2.0, 8.0, 9.0], [1.0, 1.0, 5.0]).beta


def test_min_observations_is_never_below_two_and_can_be_raised_later() -> None:
    x, assets = NASTY["gaps_50_percent"](200)
    loose, strict = (exact_rolling_panel(x, assets, 30, m) for m in (0, 9))
    assert (np.isnan(loose.beta) == (loose.n_obs < 2)).all()
    for name in ("n_obs", *STATISTICS):
        np.testing.assert_array_equal(
            getattr(loose.require(9), name), getattr(strict, name)
        )


@pytest.mark.parametrize("window", ["bars", "pairs", "time", "session"])
def test_every_window_equals_the_one_cut_by_hand(window: WindowKind) -> None:
    rng = np.random.default_rng(5)
    x, assets = NASTY["gaps_infinite"](150)
    y = assets[:, 0]
    ts = np.cumsum(rng.integers(0, 4, 150))
    opens = [40, 41, 90]
    series = exact_rolling_ols(x, y, 17, 3, window=window, ts=ts, session_starts=opens)
    for row in range(150):
        inside = np.arange(150) <= row
        if window == "time":
            inside &= ts > ts[row] - 17
        elif window == "pairs":
            inside &= np.isfinite(x) & np.isfinite(y)
            inside[np.flatnonzero(inside)[:-17]] = False
        else:
            inside &= np.arange(150) > row - 17
        if window == "session":
            inside &= np.arange(150) >= max([0, *(o for o in opens if o <= row)])
        fit = exact_ols(x[inside], y[inside])
        assert series.n_obs[row] == fit.n_obs
        for name in STATISTICS:
            expected = getattr(fit, name) if fit.n_obs >= 3 else math.nan
            np.testing.assert_equal(getattr(series, name)[row], expected)


@pytest.mark.parametrize(
    ("ts", "complaint"),
    [([0, 2, 1], "decrease"), ([0.0, 1.0, 2.0], "integer"), (None, "integer")],
)
def test_time_windows_refuse_bad_stamps(ts: list[float] | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        exact_rolling_ols(X[:3], X[:3], 2, 2, window="time", ts=ts)


def test_series_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        exact_rolling_ols(X, X[:2], 2, 2)


# --- exponential weights ----------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_ewma_equals_weighted_sums_over_all_pairs(offset: float) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(0, 1e-3, (2, 25)) + offset
    exact = exact_ewma_ols(x, y, decay=0.75)  # dyadic: fractions stay exact
    w = [Fraction(3, 4) ** age for age in range(24, -1, -1)]
    xs, ys = [Fraction(v) for v in x.tolist()], [Fraction(v) for v in y.tolist()]
    mean_x = total(p * a for p, a in zip(w, xs, strict=True)) / total(w)
    mean_y = total(p * b for p, b in zip(w, ys, strict=True)) / total(w)
    dx, dy = [a - mean_x for a in xs], [b - mean_y for b in ys]
    c_xx = total(p * a * a for p, a in zip(w, dx, strict=True))
    beta = total(p * a * b for p, a, b in zip(w, dx, dy, strict=True)) / c_xx
    e = [b - beta * a for a, b in zip(dx, dy, strict=True)]
    n_eff = total(w) ** 2 / total(p * p for p in w)
    scatter = total(p * r * r for p, r in zip(w, e, strict=True)) / total(w)
    variance = scatter * n_eff / (n_eff - 2)
    spread = total(p * p * a * a for p, a in zip(w, dx, strict=True))
    assert exact.beta[-1] == float(beta)
    assert exact.alpha[-1] == float(mean_y - beta * mean_x)
    assert exact.n_eff[-1] == float(n_eff)
    assert exact.residual_std[-1] == root(variance)
    assert exact.std_error[-1] == root(variance * spread / c_xx**2)


def test_ewma_without_decay_is_the_expanding_window() -> None:
    x, assets = NASTY["gaps_5_percent"](80)
    y = assets[:, 0]
    weighted = exact_ewma_ols(x, y, decay=1.0)
    plain = exact_rolling_ols(x, y, 80, 2)
    for name in ("n_obs", "beta", "alpha", "r_squared", "residual_std", "t_stat"):
        np.testing.assert_array_equal(getattr(weighted, name), getattr(plain, name))


def test_ewma_keeps_the_conventions_of_windows() -> None:
    flat = exact_ewma_ols([0.1] * 5, [*X, 1.0], half_life=3)
    assert np.isnan(flat.beta).all()
    still = exact_ewma_ols(X, [0.1] * 4, half_life=3)
    assert (still.beta[-1], still.std_error[-1]) == (0, 0)
    assert np.isnan([still.t_stat[-1], still.r_squared[-1]]).all()
    line = exact_ewma_ols(X, [1 - 2 * x for x in X], half_life=3)
    assert (line.std_error[-1], line.r_squared[-1]) == (0, 1)
    assert line.t_stat[-1] == -math.inf
    assert np.isnan(line.std_error[:2]).all()  # n_eff <= 2
    with pytest.raises(ValueError, match="not both"):
        exact_ewma_ols(X, X, half_life=3, decay=0.5)


# --- the harness ------------------------------------------------------------


def from_moments(
    n: FloatArray, mean: FloatArray, centred: FloatArray, min_observations: int
) -> ExactSeries:
    """Compute all statistics in doubles from n, (x, y) and (xx, xy, yy)."""
    mean_x, mean_y = mean
    c_xx, c_xy, c_yy = centred
    with np.errstate(all="ignore"):
        beta = c_xy / c_xx
        ssr = np.maximum(c_yy - beta * c_xy, 0)
        residual_std = np.sqrt(ssr / np.where(n > 2, n - 2, np.nan))
        std_error = residual_std / np.sqrt(c_xx)
        leverage = np.sqrt(1 / n + mean_x / c_xx * mean_x)
        r_squared = beta * c_xy / c_yy
        columns = {
            "beta": beta,
            "alpha": mean_y - beta * mean_x,
            "std_error": std_error,
            "alpha_std_error": residual_std * leverage,
            "t_stat": beta / std_error,
            "r_squared": r_squared,
            "residual_std": residual_std,
            "correlation": c_xy / np.sqrt(c_xx) / np.sqrt(c_yy),
            "unexplained": 1 - r_squared,
        }
    bad = (n < max(min_observations, 2)) | (c_xx <= 0)
    for column in columns.values():
        column[bad] = np.nan
    return ExactSeries(n_obs=n.astype(np.int64), **columns)


def running_sums(x: FloatArray, y: FloatArray, lookback_length: int) -> ExactSeries:
    """Add the new pair to raw sums, subtract the old one: fast and wrong."""
    terms = np.array([np.ones_like(x), x, y, x * x, x * y, y * y])
    change = terms.copy()
    change[:, lookback_length:] -= terms[:, :-lookback_length]
    n, sx, sy, sxx, sxy, syy = np.cumsum(change, axis=1)
    centred = np.array([sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n])
    return from_moments(n, np.array([sx, sy]) / n, centred, 2)


def welford_with_removal(
    x: FloatArray, y: FloatArray, lookback_length: int
) -> ExactSeries:
    """Update centred moments with each new pair, downdate them with the old."""
    n, mean, centred = 0, np.zeros(2), np.zeros(3)
    rows: list[FloatArray] = []
    for row, new in enumerate(np.column_stack([x, y])):
        n += 1
        before, mean = new - mean, mean + (new - mean) / n
        centred += _products(before, new - mean)
        if n > lookback_length:
            old = np.array([x[row - lookback_length], y[row - lookback_length]])
            n -= 1
            after, mean = old - mean, mean - (old - mean) / n
            centred -= _products(after, old - mean)
        rows.append(np.array([n, *mean, *centred]))
    table = np.array(rows).T
    return from_moments(table[0], table[1:3], table[3:], 2)


def _products(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.array([a[0] * b[0], a[0] * b[1], a[1] * b[1]])


def two_pass(x: FloatArray, y: FloatArray, lookback_length: int) -> ExactSeries:
    """Centre every window on its own mean: slow and right."""
    rows: list[list[float]] = []
    for stop in range(1, len(x) + 1):
        window = slice(max(0, stop - lookback_length), stop)
        n = stop - window.start
        pivot = np.array([x[window][0], y[window][0]])
        points = np.array([x[window], y[window]]) - pivot[:, None]
        mean = np.array([math.fsum(side) / n for side in points])
        dx, dy = points - mean[:, None]
        dx, dy = dx - math.fsum(dx) / n, dy - math.fsum(dy) / n
        centred = (math.fsum(dx * dx), math.fsum(dx * dy), math.fsum(dy * dy))
        rows.append([n, *(pivot + mean), *centred])
    table = np.array(rows).T
    return from_moments(table[0], table[1:3], table[3:], 2)


Implementation = Callable[[FloatArray, FloatArray, int], ExactSeries]

SUMS_FAIL = (
    "offset_1e8",
    "offset_1e8_benchmark",
    "spike_on_assets",
    "spike_on_benchmark",
    "spike_on_both",
    "spike_first",
    "spikes_repeated",
    "volatility_regimes",
    "level_step_1e6",
    "level_step_down",
)
WELFORD_FAILS = tuple(name for name in SUMS_FAIL if "offset" not in name)


@pytest.mark.parametrize(
    ("implementation", "name"),
    [(running_sums, name) for name in SUMS_FAIL]
    + [(welford_with_removal, name) for name in WELFORD_FAILS],
)
@pytest.mark.parametrize("lookback_length", [30, 390])
def test_bad_arithmetic_is_caught(
    implementation: Implementation, name: str, lookback_length: int
) -> None:
    x, assets = NASTY[name]()
    y = assets[:, 0]
    exact = exact_rolling_ols(x, y, lookback_length, 2)
    ours = implementation(x, y, lookback_length)
    assert worst_offenders(ours, exact)["beta"].ratio > 10
    with pytest.raises(AssertionError, match="x tolerance"):
        assert_matches_exact(ours, exact)


@pytest.mark.parametrize("name", ["clean", "volatility_regimes", "heavy_tails"])
def test_good_arithmetic_passes(name: str) -> None:
    x, assets = NASTY[name](400)
    y = assets[:, 0]
    assert_matches_exact(two_pass(x, y, 30), exact_rolling_ols(x, y, 30, 2))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("spike_on_both", "alpha"),
        ("level_step_1e6", "alpha"),
        ("tick_lattice", "t_stat"),
    ],
)
def test_good_arithmetic_in_doubles_alone_is_caught(name: str, field: str) -> None:
    x, assets = NASTY[name](400)
    y = assets[:, 0]
    with pytest.raises(AssertionError, match=field):
        assert_matches_exact(two_pass(x, y, 30), exact_rolling_ols(x, y, 30, 2))


@pytest.mark.parametrize("implementation", [running_sums, welford_with_removal])
def test_bad_arithmetic_passes_on_clean_data(implementation: Implementation) -> None:
    x, assets = NASTY["clean"](400)
    y = assets[:, 0]
    exact = exact_rolling_ols(x, y, 30, 2)
    assert_matches_exact(implementation(x, y, 30), exact)


@pytest.fixture(scope="module")
def clean() -> ExactSeries:
    x, assets = NASTY["gaps_5_percent"](120)
    return exact_rolling_panel(x, assets, 20, 5)


@pytest.mark.parametrize("field", ["n_obs", *STATISTICS])
def test_one_wrong_value_is_found_and_named(clean: ExactSeries, field: str) -> None:
    wrong = getattr(clean, field).copy()
    row, asset = 77, 1
    wrong[row, asset] = wrong[row, asset] * 1.01 + 1
    with pytest.raises(AssertionError, match=rf"{field}\[row 77, asset 1\]"):
        assert_matches_exact(replace(clean, **{field: wrong}), clean)


@pytest.mark.parametrize("field", STATISTICS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_undefined_in_place_of_defined_is_found(
    clean: ExactSeries, field: str, value: float
) -> None:
    wrong = getattr(clean, field).copy()
    assert np.isfinite(wrong[77, 1])
    wrong[77, 1] = value
    with pytest.raises(AssertionError, match="inf x tolerance"):
        assert_matches_exact(replace(clean, **{field: wrong}), clean)


@pytest.mark.parametrize("field", STATISTICS)
def test_defined_in_place_of_undefined_is_found(clean: ExactSeries, field: str) -> None:
    wrong = getattr(clean, field).copy()
    assert np.isnan(wrong[0, 0])
    wrong[0, 0] = 0.0
    with pytest.raises(AssertionError, match=rf"{field}\[row 0, asset 0\]"):
        assert_matches_exact(replace(clean, **{field: wrong}), clean)


def test_exact_lines_are_judged_by_sign_alone() -> None:
    x, assets = NASTY["exact_line"](60)
    exact = exact_rolling_panel(x, assets, 10, 3)
    rough = replace(
        exact,
        std_error=exact.std_error + 1e-12,
        t_stat=np.sign(exact.t_stat) * 1e12,
    )
    assert_matches_exact(rough, exact)
    for wrong in (
        replace(exact, t_stat=-exact.t_stat),
        replace(exact, std_error=exact.std_error - 1e-300),
        replace(exact, residual_std=exact.residual_std * np.nan),
    ):
        with pytest.raises(AssertionError):
            assert_matches_exact(wrong, exact)


def test_constant_assets_must_have_residuals_of_exactly_zero() -> None:
    x, assets = NASTY["constant_assets"](60)
    exact = exact_rolling_panel(x, assets, 10, 3)
    with pytest.raises(AssertionError, match="std_error"):
        assert_matches_exact(replace(exact, std_error=exact.std_error + 1e-300), exact)


def test_a_wrong_shape_is_found(clean: ExactSeries) -> None:
    with pytest.raises(AssertionError, match="shape"):
        assert_matches_exact(replace(clean, beta=clean.beta[:, :2]), clean)


# --- the data ---------------------------------------------------------------


@pytest.mark.parametrize("name", NASTY)
def test_data_sets_are_reproducible_and_aligned(name: str) -> None:
    for n_bars in (400, 1_200):
        x, assets = NASTY[name](n_bars)
        again = NASTY[name](n_bars)
        assert x.shape == (n_bars,)
        assert assets.shape[0] == n_bars
        assert x.dtype == assets.dtype == np.float64
        np.testing.assert_array_equal(x, again[0])
        np.testing.assert_array_equal(assets, again[1])
