"""The factors of exponential weights, beside powers of 120 digits."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators.decay import Decay
from strategies import examples

DIGITS = 120
HALF_LIVES = st.one_of(
    st.floats(2.0**-20, 1e4),
    st.integers(1, 10**16).map(float),  # ns
    st.sampled_from([1 / 3, 7.5, 60.0, 600e9]),
)


@given(HALF_LIVES, st.floats(0.0, 1050.0))
@examples(100)
def test_a_factor_is_the_double_double_next_to_the_power(
    half_life: float, half_lives: float
) -> None:
    age = int(half_life * half_lives)
    high, low = Decay(half_life).factor(age)
    with localcontext(prec=DIGITS):
        exact = Decimal(2) ** -(Decimal(age) / Decimal(half_life))
        assert high == float(exact)
        error = abs(Decimal(high) + Decimal(low) - exact)
        # Half a unit of the low part, or of the smallest doubles.
        assert error <= exact * Decimal(2) ** -106 + Decimal(2) ** -1074


@pytest.mark.parametrize("half_life", [1.0, 60.0, 600e9])
def test_after_whole_half_lives_it_is_a_power_of_two(half_life: float) -> None:
    decay = Decay(half_life)
    for n in (0, 1, 2, 53, 1074):
        assert decay.factor(n * int(half_life)) == (2.0**-n, 0.0)
    assert decay.factor(2000 * int(half_life)) == (0.0, 0.0)


def test_columns_of_ages_have_the_factors_of_each() -> None:
    decay = Decay(600e9)
    rng = np.random.default_rng(3)
    for ages in (rng.integers(0, 10**13, 40), np.full(5, 7), np.zeros(0, np.int64)):
        high, low = decay.factors(ages)
        singles = [Decay(600e9).factor(age) for age in ages.tolist()]
        assert list(zip(high.tolist(), low.tolist(), strict=True)) == singles


def test_any_half_life_that_is_a_double_will_do() -> None:
    for half_life in (5e-324, 2.0**-1000, 1.7e308):
        high, low = Decay(half_life).factor(1)
        assert 0.0 <= high + low <= 1.0
