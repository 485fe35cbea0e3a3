"""Sums by slices: how exact they are, and what they leave to the long way."""

import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from beta_factory.estimators import double_double as dd
from beta_factory.estimators import recalc, slices

Floats = NDArray[np.float64]
BOUND = Fraction(1, 2**78)
"""Of a sum's error, by the largest product and the number of pairs."""


def totals_of(pairs: Floats) -> tuple[dd.Double2, NDArray[np.int64]]:
    """Return the sums of some rows, and their exponents."""
    x, y = pairs[:, 0], pairs[:, 1]
    exponents = slices.exponents(x), slices.exponents(y)
    return slices.totals(x, y, *exponents), np.stack(exponents, axis=1)


def exact_totals(x: list[float], y: list[float]) -> list[Fraction]:
    """Return the sums of x, y, xx, xy and yy."""
    a, b = [Fraction(value) for value in x], [Fraction(value) for value in y]
    products = [list(map(operator.mul, *both)) for both in ((a, a), (a, b), (b, b))]
    return [sum(values, Fraction(0)) for values in (a, b, *products)]


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    k=st.integers(1, 4),
    exponent=st.integers(-60, 60),
    kind=st.sampled_from(["normal", "spikes", "equal", "opposite", "zeros"]),
)
def test_sums_are_exact_but_for_what_is_left_out(
    *, seed: int, n: int, k: int, exponent: int, kind: str
) -> None:
    """Values of many sizes, and sums in which they cancel."""
    rng = np.random.default_rng(seed)
    pairs = rng.normal(size=(k, 2, n))
    if kind == "spikes":
        pairs *= 2.0 ** rng.integers(-30, 30, pairs.shape)
    elif kind == "equal":
        pairs[:] = pairs[:, :, :1]
    elif kind == "opposite":
        pairs[:, :, n // 2 :] = -pairs[:, :, : n - n // 2]
    elif kind == "zeros":
        pairs[:, :, 1:] = 0.0
    pairs = np.ldexp(pairs, exponent)
    totals, exponents = totals_of(pairs)
    for row in range(k):
        x, y = pairs[row].tolist()
        top_x, top_y = (Fraction(2) ** e for e in exponents[row].tolist())
        tops = [top_x, top_y, top_x**2, top_x * top_y, top_y**2]
        for at, exact in enumerate(exact_totals(x, y)):
            ours = sum(Fraction(float(part[at, row])) for part in totals)
            assert abs(ours - exact) <= BOUND * tops[at] * n


def test_the_longest_row_adds_up_exactly() -> None:
    """All slices as large as they can be."""
    n = slices.LONGEST
    pairs = np.full((1, 2, n), 1.0 - 2.0**-53)
    totals, _ = totals_of(pairs)
    one = Fraction(1.0 - 2.0**-53)
    assert sum(Fraction(float(part[3, 0])) for part in totals) == pytest.approx(
        one * one * n, rel=1e-24
    )
    exact = exact_totals(pairs[0, 0].tolist(), pairs[0, 1].tolist())
    for at in range(5):
        ours = sum(Fraction(float(part[at, 0])) for part in totals)
        assert abs(ours - exact[at]) <= BOUND * n


def hardly_correlated(
    r: float, n: int = 200, *, seed: int = 1
) -> tuple[Floats, Floats]:
    """Return x and y with zero means and about this correlation."""
    rng = np.random.default_rng(seed)
    x, away = rng.normal(size=n), rng.normal(size=n)
    x -= x.mean()
    away -= away.mean() + x * (away @ x) / (x @ x)
    return x, away / np.linalg.norm(away) + r * x / np.linalg.norm(x)


X, Y = hardly_correlated(1e-4)


@pytest.mark.parametrize(
    ("y", "is_done"),
    [
        pytest.param(Y, True, id="plain"),
        pytest.param(np.where(np.arange(len(Y)) % 9, Y, np.nan), True, id="gaps"),
        pytest.param(1e4 * Y, True, id="volatile"),
        pytest.param(X + 0.3 * Y, False, id="in line"),
        pytest.param(Y + 3.0, False, id="far from 0"),
        pytest.param(np.ldexp(Y, 120), False, id="large"),
        pytest.param(np.ldexp(Y, -400), False, id="tiny"),
        pytest.param(0.0 * Y, False, id="zeros"),
    ],
)
def test_rows_with_another_trouble_take_the_long_way(
    y: Floats, *, is_done: bool
) -> None:
    _, done = recalc.by_slices(X[:, None], y[:, None], 3)
    assert done.tolist() == [is_done]


def test_a_benchmark_in_common_is_as_good_as_one_for_each_row() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=50), rng.normal(size=(50, 4))
    x[[3, 7]] = np.nan
    own = np.repeat(x[:, None], 4, axis=1)
    for returns in (y, np.where(rng.random(y.shape) < 0.1, np.nan, y)):
        for found, expected in zip(
            recalc.by_slices(x, returns, 3),
            recalc.by_slices(own, returns, 3),
            strict=True,
        ):
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("r", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_both_ways_agree_to_a_few_units_in_the_last_place(r: float) -> None:
    x, y = hardly_correlated(r)
    ours, done = recalc.by_slices(x[:, None], y[:, None], 3)
    long = recalc.by_deviations(x[:, None], y[:, None], 3)
    assert done.all()
    assert ours == pytest.approx(long, rel=4e-15, abs=1e-17)


def test_a_row_has_the_same_bits_beside_any_others() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=120)
    y = rng.normal(size=(120, 40))
    y[:, 3] = x
    y[5, 7] = np.nan
    together = recalc.recalculate(x, y, 3)
    for row in range(y.shape[1]):
        alone = recalc.recalculate(x, y[:, [row]], 3)
        assert alone.tobytes() == together[:, [row]].tobytes()
