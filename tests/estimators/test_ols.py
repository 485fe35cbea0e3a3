"""From centred sums to statistics: formulas, what is undefined, and one set of bits."""

import math
from collections.abc import Sequence
from math import inf, nan

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import AmendableSlab
from beta_factory.estimators.ols import (
    ALL_STATISTICS,
    ALPHA,
    ALPHA_STD_ERROR,
    BETA,
    CORRELATION,
    R_SQUARED,
    RESIDUAL_STD,
    STATISTICS,
    STD_ERROR,
    T_STAT,
    Moments,
    RowMoments,
    solve,
    solve_one,
)
from beta_factory.estimators.panel import Panel
from beta_factory.estimators.sums import centre_one
from exact import exact_ols
from strategies import FloatArray, examples, seeds

Pair = tuple[float, float]

nasty = st.one_of(
    st.sampled_from([0.0, 1.0, 0.1, -0.1, 1e8, 1e-150, -1e-150, 1e100, -1e100]),
    st.floats(1e-150, 1e100),
    st.floats(-1e100, -1e-150),
)


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


def moments(content: Sequence[Pair]) -> RowMoments:
    """Return the moments of some pairs, about the first as a pivot."""
    pivot_x, pivot_y = content[0] if content else (0.0, 0.0)
    sums = [0.0] * 6
    for pair in content:
        x, y = pair[0] - pivot_x, pair[1] - pivot_y
        for position, term in enumerate((y, x * y, y * y, 1.0, x, x * x)):
            sums[position] += term
    y, xy, yy, n, x, xx = sums
    return centre_one((y, xy, yy), (n, x, xx), pivot_x, pivot_y)


def solved(
    rows: Sequence[RowMoments], min_observations: int, n_statistics: int = STATISTICS
) -> FloatArray:
    """Return the statistics by `solve`, shape (n_statistics, n_rows)."""
    out = np.full((n_statistics, len(rows)), 12345.0)
    solve(Moments(*np.array(rows).T), min_observations, out)
    return out


def one(content: Sequence[Pair], min_observations: int = 3) -> list[float]:
    """Return the statistics of some pairs, after seeing that both forms agree."""
    joined = moments(content)
    scalars = solve_one(joined, min_observations)
    assert bits(scalars) == bits(solved([joined], min_observations)[:, 0])
    return list(scalars)


NOTHING = pytest.approx([nan] * STATISTICS, nan_ok=True)


@examples(133)
@given(
    st.lists(st.lists(st.tuples(nasty, nasty), max_size=7), min_size=1, max_size=5),
    st.integers(2, 5),
)
def test_solving_arrays_and_solving_floats_gives_the_same_bits(
    contents: list[list[Pair]], min_observations: int
) -> None:
    rows = [moments(content) for content in contents]
    scalars = [solve_one(row, min_observations) for row in rows]
    assert bits(np.array(scalars).T) == bits(solved(rows, min_observations))


@examples(25)
@given(
    seed=seeds,
    fewest=st.integers(2, 5),
    noise=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e4]),
    digits=st.sampled_from([1, 17]),
    missing=st.sampled_from([0.0, 0.0, 0.3]),
)
def test_all_five_places_of_the_formulas_have_the_same_bits(
    seed: int, fewest: int, noise: float, digits: int, missing: float
) -> None:
    rng = np.random.default_rng(seed)
    n_bars, n_rows, length = 20, 4, 8
    x = rng.normal(size=n_bars).round(digits)
    y = np.outer(x, rng.normal(size=n_rows)) + noise * rng.normal(size=(n_bars, n_rows))
    y[rng.random(y.shape) < missing] = nan
    panel = Panel(list(y.T), x, lookback_length=length, min_observations=fewest)
    columns = panel.estimate() or [None] * n_rows
    together, one_by_one, alone = (
        AmendableSlab(n_rows, length, fewest) for _ in range(3)
    )
    for bar, returns in enumerate(y):
        for slab in (together, one_by_one, alone):
            slab.advance(bar, float(x[bar]))
        together.fill(returns)
        _, whole = together.estimate()
        readable = together.estimate(full=True)[1][:STATISTICS]
        assert bits(whole) == bits(readable)
        for row, value in enumerate(returns.tolist()):
            wanted = bits(readable[:, row])
            column = columns[row]
            if column is not None:
                assert bits(column.statistics[:STATISTICS, bar]) == wanted
            if not math.isnan(value):
                one_by_one.cells[row] = alone.cells[row] = value
                one_by_one.add_one(row)
                assert bits(one_by_one.estimate_one(row)[1]) == wanted
                assert bits(alone.take_one(row)[1]) == wanted


@examples(67)
@given(seeds, st.integers(3, 9), st.sampled_from([1e-8, 1e-3, 1.0, 1e6]))
def test_statistics_are_those_of_exact_arithmetic(
    seed: int, n: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1, n)
    y = 0.7 * x + rng.normal(0, noise, n)
    content = list(zip(x.tolist(), y.tolist(), strict=True))
    beta, alpha, std_error, t_stat, r_squared, residual_std = one(content)
    true = exact_ols(x, y)
    assert beta == pytest.approx(true.beta, rel=1e-12, abs=1e-12)
    assert alpha == pytest.approx(true.alpha, rel=1e-10, abs=1e-10)
    assert r_squared == pytest.approx(true.r_squared, rel=1e-11)
    if n > 3 and noise > 1e-8:  # with fewer the residuals may be rounding alone
        assert std_error == pytest.approx(true.std_error, rel=1e-8)
        assert t_stat == pytest.approx(true.t_stat, rel=1e-8)
        assert residual_std == pytest.approx(true.residual_std, rel=1e-8)


def test_a_worked_example_has_the_textbook_values() -> None:
    # residuals 1/6, -1/3, 1/6: their squares sum to 1/6
    beta, alpha, std_error, t_stat, r_squared, residual_std = one(
        [(1.0, 1.0), (2.0, 2.0), (3.0, 4.0)]
    )
    assert beta == pytest.approx(1.5)
    assert alpha == pytest.approx(7 / 3 - 3)
    assert residual_std == pytest.approx(math.sqrt(1 / 6))
    assert std_error == pytest.approx(math.sqrt(1 / 12))
    assert t_stat == pytest.approx(1.5 * math.sqrt(12))
    assert r_squared == pytest.approx(27 / 28)


def test_statistics_stand_at_their_positions() -> None:
    assert tuple(range(STATISTICS)) == (
        BETA,
        ALPHA,
        STD_ERROR,
        T_STAT,
        R_SQUARED,
        RESIDUAL_STD,
    )


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_few_pairs_define_nothing(n: int) -> None:
    content = [(1.0, 2.0), (2.0, 5.0), (4.0, 4.0), (5.0, 9.0)]
    assert one(content[:n], min_observations=4) == NOTHING
    assert not any(map(math.isnan, one(content, min_observations=4)))


@pytest.mark.parametrize("x", [0.0, 0.1, -1e8, 1e-150])
@pytest.mark.parametrize("y", [[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
def test_a_flat_benchmark_defines_nothing(x: float, y: list[float]) -> None:
    assert one([(x, value) for value in y]) == NOTHING


@pytest.mark.parametrize("y", [0.0, 0.1, -1e8])
def test_a_constant_asset_has_beta_zero_for_certain_and_no_fit(y: float) -> None:
    statistics = one([(1.0, y), (2.0, y), (4.0, y)])
    assert statistics == pytest.approx([0.0, y, 0.0, nan, nan, 0.0], abs=0, nan_ok=True)


@pytest.mark.parametrize(("slope", "t_stat"), [(2.0, inf), (-0.5, -inf)])
def test_an_exact_line_has_no_error_and_an_infinite_t(
    slope: float, t_stat: float
) -> None:
    statistics = one([(x, slope * x + 1.0) for x in (0.25, 1.0, 3.0, 3.5)])
    assert statistics == [slope, 1.0, 0.0, t_stat, 1.0, 0.0]


def test_rounding_never_makes_a_negative_error_or_a_fit_above_one() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        x = rng.normal(0, 1, 6)
        slope = rng.normal()
        pairs = zip(x.tolist(), (slope * x).tolist(), strict=True)
        _, _, std_error, _, r_squared, residual_std = one(list(pairs))
        assert 0.0 <= std_error < 1e-7
        assert 0.0 <= residual_std < 1e-7
        assert 1.0 - 1e-14 < r_squared <= 1.0


def test_two_pairs_have_a_slope_but_no_residuals() -> None:
    statistics = one([(1.0, 2.0), (3.0, 8.0)], min_observations=2)
    assert statistics == pytest.approx([3.0, -1.0, nan, nan, 1.0, nan], nan_ok=True)


def test_one_pair_has_no_slope_however_little_is_asked_for() -> None:
    assert one([(1.0, 2.0)], min_observations=1) == NOTHING


@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e100])
def test_scale_cancels(scale: float) -> None:
    content = [(0.25, 1.0), (1.0, 2.0), (3.0, 2.5), (4.0, 7.0)]
    scaled = one([(x * scale, y * scale) for x, y in content])
    plain = one(content)
    for position in (BETA, STD_ERROR, T_STAT, R_SQUARED):
        assert scaled[position] == pytest.approx(plain[position], rel=1e-13)
    for position in (ALPHA, RESIDUAL_STD):
        assert scaled[position] == pytest.approx(plain[position] * scale, rel=1e-12)


def test_undefined_numbers_are_the_one_plain_nan() -> None:
    # whatever the sign of the NaN that the division left
    flat = [moments([(1.0, y), (1.0, 2.0), (1.0, 3.0)]) for y in (1.0, 2.0)]
    constant = [moments([(1.0, 5.0), (2.0, 5.0), (4.0, 5.0)])]
    out = solved([*flat, *constant], 3)
    missing = out[np.isnan(out)]
    assert len(missing) == 2 * STATISTICS + 2
    assert bits(missing) == bits([nan] * len(missing))


def test_many_rows_are_solved_each_by_itself() -> None:
    rng = np.random.default_rng(8)
    rows = [moments(rng.normal(0, 1, (n, 2)).tolist()) for n in (0, 2, 3, 9, 4, 1, 30)]
    together = solved(rows, 3)
    for position, row in enumerate(rows):
        assert bits(together[:, position]) == bits(solved([row], 3)[:, 0])


@examples(40)
@given(seeds, st.integers(3, 12))
def test_the_error_of_alpha_and_the_correlation_are_those_of_exact_arithmetic(
    seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    content = rng.normal(0.2, 1, (n, 2))
    true = exact_ols(content[:, 0], content[:, 1])
    out = solved([moments(content.tolist())], 3, ALL_STATISTICS)
    assert out[ALPHA_STD_ERROR, 0] == pytest.approx(true.alpha_std_error, rel=1e-8)
    assert out[CORRELATION, 0] == pytest.approx(true.correlation, rel=1e-11)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)], 1.0),
        ([(1.0, -2.0), (2.0, -4.0), (3.0, -6.0)], -1.0),
        ([(1.0, 2.0), (2.0, 2.0), (3.0, 2.0)], nan),
        ([(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)], nan),
        ([(1.0, 2.0), (2.0, 3.0)], nan),
    ],
    ids=["rising line", "falling line", "constant asset", "flat benchmark", "too few"],
)
def test_the_correlation_is_defined_where_both_sides_move(
    content: list[Pair], expected: float
) -> None:
    out = solved([moments(content)], 3, ALL_STATISTICS)
    assert out[CORRELATION, 0] == pytest.approx(expected, nan_ok=True)


def test_an_undefined_error_of_alpha_is_the_one_plain_nan() -> None:
    n_rows = 9
    out = solved([moments([])] * n_rows, 3, ALL_STATISTICS)
    assert bits(out[ALPHA_STD_ERROR]) == bits([nan] * n_rows)


def test_a_side_that_is_shared_has_the_bits_of_one_row_by_row() -> None:
    # A power of one float may be that of `pow`, which does not round like a product.
    means = np.random.default_rng(1).normal(size=20_000)
    cyy, one = np.full_like(means, 3.0), np.ones_like(means)
    rows = np.empty((ALL_STATISTICS, len(means)))
    solve(Moments(90.0 * one, means, one, one, one, cyy, one, cyy), 3, rows)
    few = np.flatnonzero([mean**2 != mean * mean for mean in means.tolist()])
    for row in [*range(20), *few.tolist()]:
        y, yy = one[:1], cyy[:1]
        shared = np.empty((ALL_STATISTICS, 1))
        solve(Moments(90.0, float(means[row]), y, 1.0, y, yy, 1.0, yy), 3, shared)
        assert shared.tobytes() == rows[:, row].tobytes()
