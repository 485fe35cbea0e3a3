"""Pairs of doubles hold 106 bits, against fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import double_double as dd
from beta_factory.estimators import double_scalars
from strategies import FloatArray, examples

numbers = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.1, 2.0**-60, 1 + 2.0**-52]),
    st.floats(1e-40, 1e40),
    st.floats(-1e40, -1e-40),
)
EXACT = Fraction(2) ** -100


def value(pair: dd.Double2) -> Fraction:
    return Fraction(float(pair.high[0])) + Fraction(float(pair.low[0]))


def array(number: float) -> FloatArray:
    return np.array([number])


def double2(high: float, share: float) -> dd.Double2:
    """Return a number with all its bits: share is within half an ulp."""
    return dd.two_sum(array(high), array(high * share * 2.0**-54))


wide = st.builds(double2, numbers, st.floats(-1, 1))


@examples(133)
@given(numbers, numbers)
def test_sums_differences_and_products_of_doubles_are_exact(a: float, b: float) -> None:
    x, y = array(a), array(b)
    assert value(dd.two_sum(x, y)) == Fraction(a) + Fraction(b)
    assert value(dd.two_difference(x, y)) == Fraction(a) - Fraction(b)
    assert value(dd.two_product(x, y)) == Fraction(a) * Fraction(b)


@examples(133)
@given(wide, wide)
def test_operations_have_a_hundred_bits(a: dd.Double2, b: dd.Double2) -> None:
    x, y = value(a), value(b)
    size = abs(x) + abs(y)
    assert abs(value(dd.add(a, b)) - (x + y)) <= EXACT * size
    assert abs(value(dd.subtract(a, b)) - (x - y)) <= EXACT * size
    assert abs(value(dd.multiply(a, b)) - x * y) <= EXACT * abs(x * y)
    if y:
        assert abs(value(dd.divide(a, b)) - x / y) <= EXACT * abs(x / y)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@examples(67)
@given(wide, wide)
def test_one_number_has_the_bits_of_an_array(
    name: str, a: dd.Double2, b: dd.Double2
) -> None:
    if name == "divide" and not value(b):
        return
    x, y = ((float(each.high[0]), float(each.low[0])) for each in (a, b))
    high, low = getattr(dd, name)(a, b)
    one = getattr(double_scalars, name)(x, y)
    assert np.array(one).tobytes() == high.tobytes() + low.tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1001])
def test_a_total_loses_nothing_to_cancellation(n: int) -> None:
    rng = np.random.default_rng(n)
    terms = rng.normal(0, 1, (n, 3)) * 10.0 ** rng.integers(-20, 20, (n, 3))
    low = terms * rng.uniform(-1, 1, (n, 3)) * 2.0**-54
    high, rest = dd.total(dd.two_sum(terms, low))
    for column in range(3):
        parts = [*terms[:, column].tolist(), *low[:, column].tolist()]
        true = sum(map(Fraction, parts))
        size = sum(abs(Fraction(part)) for part in parts)
        ours = Fraction(float(high[column])) + Fraction(float(rest[column]))
        assert abs(ours - true) <= EXACT * size


@pytest.mark.parametrize("n", [1, 5, 390])
def test_totals_of_a_row_do_not_depend_on_the_rows_beside_it(n: int) -> None:
    rng = np.random.default_rng(n)
    terms = rng.normal(0, 1, (n, 9)) * 10.0 ** rng.integers(-9, 9, (n, 9))
    together = dd.total(dd.exactly(terms.copy()))
    rough = dd.rough_total(terms)
    for column in range(9):
        alone = terms[:, [column]]
        assert dd.rough_total(alone)[0] == rough[column]
        high, low = dd.total(dd.exactly(alone.copy()))
        assert (high[0], low[0]) == (together.high[column], together.low[column])
