"""Exponential windows against 200 digits, and against themselves in another order."""

import math
from collections.abc import Iterable
from decimal import Decimal, localcontext
from math import inf, nan
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import EwmaWindows, PerRow, State, ewma_sums
from beta_factory.estimators.ewma import Clock
from beta_factory.estimators.ols import (
    ALPHA,
    ALPHA_STD_ERROR,
    BETA,
    CORRELATION,
    R_SQUARED,
    RESIDUAL_STD,
    STD_ERROR,
    T_STAT,
)
from exact import ExactEwma, exact_ewma_ols, exact_ols
from nasty import NASTY, Returns, return_series
from strategies import FloatArray, examples, seeds

ORACLE = Path(__file__).parents[2].parent / "shared" / "oracle"

COEFFICIENTS = {
    "beta": BETA,
    "alpha": ALPHA,
    "r_squared": R_SQUARED,
    "correlation": CORRELATION,
}
RESIDUALS = {
    "std_error": STD_ERROR,
    "t_stat": T_STAT,
    "residual_std": RESIDUAL_STD,
}
CLOCKS: tuple[Clock, ...] = ("bars", "pairs", "time")


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


def said(windows: EwmaWindows) -> bytes:
    """Return everything that windows publish, bit by bit."""
    n, statistics = windows.estimate(full=True)
    return bits(n) + bits(windows.effective()) + bits(statistics)


def feed(windows: EwmaWindows, x: FloatArray, y: FloatArray, stamp: int = 0) -> None:
    """Feed whole bars, ten stamps apart."""
    for i, value in enumerate(x.tolist()):
        windows.advance(stamp + 10 * i, value)
        windows.fill(y[i])


def run(
    x: FloatArray,
    y: FloatArray,
    half_life: float,
    clock: Clock,
    stamps: npt.ArrayLike,
    *,
    step: int = 1,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return n, n_eff and the statistics of one asset at every so many bars."""
    windows = EwmaWindows(1, half_life, 2, clock=clock, lateness=0)
    n: list[float] = []
    n_eff: list[float] = []
    statistics: list[FloatArray] = []
    for bar, stamp in enumerate(np.asarray(stamps).tolist()):
        windows.advance(stamp, float(x[bar]))
        windows.fill(y[[bar]])
        if bar % step:
            continue
        counts, numbers = windows.estimate(full=True)
        n.append(float(counts[0]))
        n_eff.append(float(windows.effective()[0]))
        statistics.append(numbers[:, 0])
    return np.array(n), np.array(n_eff), np.array(statistics).T


def assert_exact(
    x: FloatArray, y: FloatArray, half_life: float, clock: Clock, step: int = 1
) -> None:
    """Compare with 200 digits, within the promise for all windows."""
    x, y = np.where(np.isfinite(x), x, nan), np.where(np.isfinite(y), y, nan)
    stamps = np.cumsum(1 + np.arange(len(x)) * 7 % 5)
    n, n_eff, ours = run(x, y, half_life, clock, stamps, step=step)
    exact = exact_ewma_ols(x, y, half_life=half_life, clock=clock, ts=stamps, step=step)
    assert n.tolist() == exact.n_obs.tolist()
    seen = ~np.isnan(exact.n_eff)
    np.testing.assert_allclose(n_eff[seen], exact.n_eff[seen], 1e-14, 0)
    for name, at in {**COEFFICIENTS, **RESIDUALS}.items():
        true = getattr(exact, name)
        undefined = np.isnan(true)
        assert np.isnan(ours[at]).tolist() == undefined.tolist(), name
        errors = error(name, ours[at][~undefined], true[~undefined], exact, undefined)
        assert errors.max(initial=0.0) <= 1.0, name


def error(
    name: str,
    ours: FloatArray,
    true: FloatArray,
    exact: ExactEwma,
    undefined: npt.NDArray[np.bool_],
) -> FloatArray:
    """Return the error in units of the tolerance."""
    share = 1.0 - exact.r_squared[~undefined]
    share = np.where(np.isnan(share), 1.0, share)
    with np.errstate(divide="ignore", invalid="ignore"):
        if name in COEFFICIENTS:
            ratio = np.abs(ours - true) / (1e-12 * np.maximum(1.0, np.abs(true)))
        else:
            ratio = np.abs(ours - true) / np.abs(true) * share / 1e-11
    if name in RESIDUALS:
        line = share < 1e-12
        sound = ours * np.where(name == "t_stat", np.sign(true), 1.0) >= 0.0
        ratio[line] = np.where(sound[line], 0.0, inf)
    result: FloatArray = np.where(ours == true, 0.0, ratio)
    return result


@pytest.mark.parametrize("name", ["ewma_pairs", "ewma_time"])
def test_windows_have_the_published_values(name: str) -> None:
    path = ORACLE / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"expected values are not here: {path}")
    with np.load(path) as archive:
        file = dict(archive)
    is_time = name == "ewma_time"
    half_life = file["halflife_time"] if is_time else math.log(2) / -math.log(63 / 64)
    clock: Clock = "time" if is_time else "pairs"
    x, y = file["bench"], file["asset"]
    n_bars, step = 600, 7
    n, n_eff, ours = run(
        *(x[:n_bars], y[:n_bars], float(half_life), clock, file["t"][:n_bars]),
        step=step,
    )
    file = {key: column[:n_bars:step] for key, column in file.items() if column.ndim}
    assert n.tolist() == file["n"].tolist()
    for name_, at in (("beta", BETA), ("alpha", ALPHA)):
        assert np.isnan(ours[at]).tolist() == np.isnan(file[name_]).tolist()
        np.testing.assert_allclose(ours[at], file[name_], 1e-12, 1e-12)
    seen = ~np.isnan(file["neff"])
    np.testing.assert_allclose(n_eff[seen], file["neff"][seen], 1e-12, 0)


@pytest.mark.parametrize(("half_life", "clock"), [(30.0, "pairs"), (7.5, "time")])
@pytest.mark.parametrize("name", NASTY)
def test_windows_are_exact(name: str, half_life: float, clock: Clock) -> None:
    x, y = NASTY[name](80)
    assert_exact(x, y[:, 0], half_life, clock, step=3)


@examples(15)
@given(return_series(), st.sampled_from([3.0, 20.5, 1e6]), st.sampled_from(CLOCKS))
def test_windows_are_exact_on_any_mix(
    returns: Returns, half_life: float, clock: Clock
) -> None:
    x, y = returns[0][:60], returns[1][:60, 0]
    assert_exact(x, y, half_life, clock)


def test_equal_weights_are_those_of_a_plain_regression() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    n, n_eff, ours = run(x, y, 1e17, "bars", np.arange(40))
    true = exact_ols(x, y)
    assert n_eff[-1] == pytest.approx(n[-1])
    for at, value in (
        (BETA, true.beta),
        (ALPHA, true.alpha),
        (STD_ERROR, true.std_error),
        (T_STAT, true.t_stat),
        (R_SQUARED, true.r_squared),
        (RESIDUAL_STD, true.residual_std),
        (ALPHA_STD_ERROR, true.alpha_std_error),
        (CORRELATION, true.correlation),
    ):
        assert ours[at, -1] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 0.3, 1e4])
def test_errors_are_those_of_sums_over_independent_residuals(offset: float) -> None:
    rng = np.random.default_rng(2)
    x, y = offset + rng.normal(0, 1, 25), rng.normal(0, 1, 25)
    _, _, ours = run(x, y, 5.0, "bars", np.arange(25))
    with localcontext(prec=80):
        ages = range(24, -1, -1)
        weights = [Decimal(2) ** (Decimal(-age) / 5) for age in ages]
        xs, ys = [Decimal(v) for v in x.tolist()], [Decimal(v) for v in y.tolist()]
        w = total(weights)
        mean = total(a * b for a, b in zip(weights, xs, strict=True)) / w
        c = total(a * (b - mean) ** 2 for a, b in zip(weights, xs, strict=True))
        # the estimators as sums over y
        of_beta = [a * (b - mean) / c for a, b in zip(weights, xs, strict=True)]
        of_alpha = [a / w - mean * b for a, b in zip(weights, of_beta, strict=True)]
        beta = total(a * b for a, b in zip(of_beta, ys, strict=True))
        alpha = total(a * b for a, b in zip(of_alpha, ys, strict=True))
        assert ours[BETA, -1] == pytest.approx(float(beta), rel=1e-12)
        assert ours[ALPHA, -1] == pytest.approx(float(alpha), rel=1e-12)
        s = Decimal(float(ours[RESIDUAL_STD, -1]))
        for at, parts in ((STD_ERROR, of_beta), (ALPHA_STD_ERROR, of_alpha)):
            root = total(part**2 for part in parts).sqrt()
            assert ours[at, -1] == pytest.approx(float(s * root), rel=1e-12)


def total(terms: Iterable[Decimal]) -> Decimal:
    return sum(terms, Decimal(0))


class TestDegenerate:
    """What has no beta says so."""

    def test_a_benchmark_that_stops_is_flat_when_its_past_has_decayed(self) -> None:
        rng = np.random.default_rng(3)
        x = np.concatenate((rng.normal(0, 1, 30), np.full(400, 0.1), [0.2, 0.3, 0.1]))
        _, _, ours = run(x, rng.normal(0, 1, 433), 2.0, "bars", np.arange(433))
        defined = ~np.isnan(ours[BETA])
        assert defined[2:30].all()
        # 104 half-lives, and a few more bars while the mean moves
        assert 230 <= np.flatnonzero(~defined)[2] <= 250
        assert not defined[250:430].any()
        assert defined[430:].all()

    def test_a_flat_benchmark_and_a_constant_asset(self) -> None:
        rng = np.random.default_rng(4)
        x, y = rng.normal(0, 1, 9), rng.normal(0, 1, 9)
        flat, still = np.full(9, 0.1), np.full(9, 1 / 3)
        assert np.isnan(run(flat, y, 3.0, "bars", np.arange(9))[2]).all()
        last = run(x, still, 3.0, "bars", np.arange(9))[2][:, -1]
        assert last[[BETA, STD_ERROR, RESIDUAL_STD]].tolist() == [0.0, 0.0, 0.0]
        assert last[ALPHA] == 1 / 3
        assert np.isnan(last[[T_STAT, R_SQUARED, CORRELATION]]).all()

    def test_residuals_need_more_than_two_effective_pairs(self) -> None:
        rng = np.random.default_rng(5)
        x, y = rng.normal(0, 1, (2, 60))
        _, n_eff, ours = run(x, y, 0.6, "bars", np.arange(60))
        assert n_eff.max() < 2.0
        assert np.isnan(ours[[STD_ERROR, T_STAT, RESIDUAL_STD, ALPHA_STD_ERROR]]).all()
        assert not np.isnan(ours[BETA, 1:]).any()

    @pytest.mark.parametrize(("size", "n_bars"), [(1e8, 150), (1e150, 1_150)])
    def test_a_bad_print_leaves_nothing_behind(self, size: float, n_bars: int) -> None:
        # as many half-lives as its square is powers of two above the others'
        rng = np.random.default_rng(6)
        x = rng.normal(0, 1e-3, n_bars)
        y = 0.7 * x + rng.normal(0, 1e-3, n_bars)
        windows = EwmaWindows(2, 1.0, 2, clock="bars", lateness=0)
        prints = y.copy()
        prints[7] = -size
        feed(windows, x, np.column_stack((y, prints)))
        clean, hit = windows.estimate(full=True)[1].T
        np.testing.assert_allclose(hit, clean, 1e-12, 1e-15)
        x[3] = size
        windows.reset()
        feed(windows, x, np.column_stack((y, prints)))
        for hit in windows.estimate(full=True)[1].T:
            np.testing.assert_allclose(hit, clean, 1e-12, 1e-15)

    @pytest.mark.parametrize("clock", CLOCKS)
    def test_a_silence_of_any_length_makes_pairs_no_less_equal(
        self, clock: Clock
    ) -> None:
        windows = EwmaWindows(1, 2.0, 2, clock=clock, lateness=0)
        rng = np.random.default_rng(7)
        feed(windows, rng.normal(0, 1, 20), rng.normal(0, 1, (20, 1)))
        before = said(windows)
        for stamp in range(10**6, 10**6 + 3_000):
            windows.advance(stamp, 1.0)
        assert said(windows) == before

    @pytest.mark.parametrize("half_life", [0.0, -1.0, inf, nan])
    def test_a_half_life_that_is_none_is_refused(self, half_life: float) -> None:
        with pytest.raises(ValueError, match=rf"half-life .* was {half_life}"):
            EwmaWindows(1, half_life, 3, clock="bars", lateness=0)

    def test_a_negative_lateness_is_refused(self) -> None:
        with pytest.raises(ValueError, match="was -1"):
            EwmaWindows(1, 1.0, 3, clock="bars", lateness=-1)


def with_gaps(seed: int, n_bars: int, n_rows: int) -> tuple[FloatArray, FloatArray]:
    """Return benchmark and assets with holes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, n_bars)
    y = rng.normal(0, 1, (n_bars, n_rows)) + x[:, None]
    x[rng.random(n_bars) < 0.1] = nan
    y[rng.random(y.shape) < 0.3] = nan
    return x, y


@pytest.mark.parametrize("few_rows", [0, 2, ewma_sums.FEW_ROWS])
@pytest.mark.parametrize("size", [1e-150, 1.0, 1e147])
def test_few_rows_have_the_bits_of_many(few_rows: int, size: float) -> None:
    n_rows = ewma_sums.FEW_ROWS + 1
    x, y = with_gaps(13, 40, n_rows)
    x, y = size * x, size * y
    x[20:25], y[20:25, 1] = 0.1, 0.3  # sides that stand still
    y[3, 2] = 1e3 * size
    whole, parts = (
        EwmaWindows(n_rows, 0.7, 2, clock="time", lateness=0) for _ in range(2)
    )
    for bar in range(40):
        with mock.patch.object(ewma_sums, "FEW_ROWS", 0):
            whole.advance(7 * bar, float(x[bar]))
            whole.fill(y[bar])
        with mock.patch.object(ewma_sums, "FEW_ROWS", few_rows):
            parts.advance(7 * bar, float(x[bar]))
            parts.column[:] = y[bar]
            for rows in np.array_split(np.arange(n_rows), 4):
                parts.add(rows)
        assert said(whole) == said(parts)
    assert not np.isnan(whole.estimate(full=True)[1][BETA]).any()


@examples(20)
@given(seeds, st.sampled_from(CLOCKS))
def test_a_column_equals_its_rows_in_any_order_and_partition(
    seed: int, clock: Clock
) -> None:
    x, y = with_gaps(seed, 15, 5)
    rng = np.random.default_rng(seed)
    whole, parts, singles = (
        EwmaWindows(5, 4.0, 2, clock=clock, lateness=0) for _ in range(3)
    )
    for bar in range(15):
        for windows in (whole, parts, singles):
            windows.advance(bar * 3, float(x[bar]))
        with mock.patch.object(ewma_sums, "FEW_ROWS", 0):
            whole.fill(y[bar])
        rows = rng.permutation(np.flatnonzero(~np.isnan(y[bar])))
        for chunk in np.split(rows, [len(rows) // 2]):
            parts.column[chunk] = y[bar, chunk]
            parts.add(chunk)
        for row in rows.tolist():
            singles.cells[row] = y[bar, row]
            singles.add_one(row)
        if bar % 3 == 2:
            assert len({said(windows) for windows in (whole, parts, singles)}) == 1
    n, statistics = whole.estimate()
    for row in range(5):
        one_n, one = whole.estimate_one(row)
        assert (one_n, bits(one)) == (n[row], bits(statistics[:, row]))


@examples(15)
@given(seeds, st.sampled_from(CLOCKS), st.integers(1, 6))
def test_late_corrected_and_inserted_values_end_where_order_ends(
    seed: int, clock: Clock, lateness: int
) -> None:
    n_bars, n_rows = 25, 3
    x, y = with_gaps(seed, n_bars, n_rows)
    x = np.nan_to_num(x)
    rng = np.random.default_rng(seed)
    ordered, shuffled = (
        EwmaWindows(n_rows, 4.0, 2, clock=clock, lateness=lateness) for _ in range(2)
    )
    feed(ordered, x, y)
    skipped: set[int] = set()
    waiting: list[tuple[int, int, int]] = []  # (due bar, bar, row)
    for bar in range(n_bars):
        last_chance = bar in (0, n_bars - 1) or skipped
        if not last_chance and rng.random() < 0.2:
            skipped.add(bar)  # the benchmark's bar itself is late
            continue
        shuffled.advance(10 * bar, float(x[bar]))
        opened = [bar]
        if skipped:
            late = skipped.pop()
            assert shuffled.insert(10 * late, float(x[late])) is not None
            opened.insert(0, late)
        for late in opened:
            for row in np.flatnonzero(~np.isnan(y[late])).tolist():
                delay = int(rng.integers(0, max(1, lateness - 1)))
                waiting.append((min(late + delay, n_bars - 1), late, row))
        due = [item for item in waiting if item[0] <= bar]
        waiting = [item for item in waiting if item[0] > bar]
        order: list[int] = rng.permutation(len(due)).tolist()
        for position in order:
            _, late, row = due[position]
            at = shuffled.bar_of(10 * late)
            assert at is not None
            if rng.random() < 0.3:  # a wrong value first
                shuffled.amend(row, at, 99.0)
            shuffled.amend(row, at, float(y[late, row]))
    assert said(shuffled) == said(ordered)
    assert shuffled.window_starts().tolist() == ordered.window_starts().tolist() == [0]


def test_a_corrected_benchmark_and_a_late_column_end_where_order_ends() -> None:
    x, y = with_gaps(8, 12, 4)
    x = np.nan_to_num(x)
    ordered, amended = (
        EwmaWindows(4, 4.0, 2, clock="time", lateness=3) for _ in range(2)
    )
    feed(ordered, x, y)
    for bar in range(12):
        amended.advance(10 * bar, 5.0 if bar == 9 else float(x[bar]))
        if bar != 10:
            amended.fill(y[bar])
    amended.amend_benchmark(9, float(x[9]))
    amended.amend_column(10, y[10])
    assert said(amended) == said(ordered)


@pytest.mark.parametrize("lateness", [0, 3])
class TestForgetting:
    """Resets, restarts, rows that leave, and what is kept in between."""

    def windows(self, lateness: int, n_rows: int = 3) -> EwmaWindows:
        return EwmaWindows(n_rows, 4.0, 2, clock="bars", lateness=lateness)

    def test_a_reset_begins_anew(self, lateness: int) -> None:
        x, y = with_gaps(9, 20, 3)
        used, fresh = self.windows(lateness), self.windows(lateness)
        feed(used, x * 1e8, y)
        used.reset()
        feed(used, x, y, stamp=1_000)
        feed(fresh, x, y, stamp=1_000)
        assert said(used) == said(fresh)
        assert used.window_starts().tolist() == [1_000]

    def test_a_restart_forgets_the_bars_before(self, lateness: int) -> None:
        x, y = with_gaps(10, 20, 3)
        used, fresh = self.windows(lateness), self.windows(lateness)
        feed(used, x, y)
        used.restart(used.newest - lateness)
        first = 19 - lateness
        feed(fresh, x[first:], y[first:], stamp=10 * first)
        assert said(used) == said(fresh)
        assert used.window_starts().tolist() == [10 * first]

    def test_one_row_is_forgotten_alone(self, lateness: int) -> None:
        x, y = with_gaps(11, 20, 3)
        used, without = self.windows(lateness), self.windows(lateness)
        feed(used, x, y)
        used.forget(1)
        y[:, 1] = nan
        feed(without, x, y)
        assert said(used) == said(without)

    def test_a_restored_state_goes_on_as_if_nothing_had_happened(
        self, lateness: int
    ) -> None:
        x, y = with_gaps(12, 30, 3)
        going, restored = self.windows(lateness), self.windows(lateness)
        feed(going, x[:20], y[:20])
        restored.restore(_plain(going.state()))
        for windows in (going, restored):
            feed(windows, x[20:], y[20:], stamp=200)
            if lateness:
                windows.amend(0, windows.newest - 2, 0.5)
        assert said(going) == said(restored)


def _plain(state: State) -> State:
    # A state as it comes back: arrays in place of `PerRow`.
    plain: State = {}
    for key, value in state.items():
        if isinstance(value, PerRow):
            plain[key] = value.values
        else:
            plain[key] = _plain(value) if key in ("sums", "base") else value
    return plain


def test_without_lateness_a_pair_cannot_be_taken_back() -> None:
    windows = EwmaWindows(1, 4.0, 2, clock="bars", lateness=0)
    feed(windows, np.array([1.0, 2.0]), np.array([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="without lateness"):
        windows.amend(0, windows.newest, 3.0)


def test_a_bar_that_is_too_old_is_not_inserted() -> None:
    windows = EwmaWindows(1, 4.0, 2, clock="bars", lateness=2)
    feed(windows, np.ones(6), np.ones((6, 1)))
    before = said(windows)
    assert windows.insert(25, 1.0) is None
    assert windows.insert(-5, 1.0) is None
    assert said(windows) == before
