"""Batch betas against exact arithmetic, on data made to break them."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import every, look

from beta_factory.estimators import WindowSlab, rolling_ols
from exact import ExactSeries, assert_matches_exact, exact_rolling_panel
from nasty import NASTY, Returns, return_series

N_BARS = {3: 400, 30: 500, 390: 1_200, 10_000: 15_000}
"""By window: long enough for events to enter and to leave."""

CASES = [(3, 2), (3, 3), (30, 2), (30, 30), (390, 60)]
"""Lookback length and minimum of observations."""


@cache
def expected(name: str, lookback_length: int, n_bars: int) -> ExactSeries:
    return exact_rolling_panel(*NASTY[name](n_bars), lookback_length, 2)


def check(name: str, lookback_length: int, min_observations: int, n_bars: int) -> None:
    benchmark, assets = NASTY[name](n_bars)
    ours = rolling_ols(
        assets,
        benchmark,
        lookback_length=lookback_length,
        min_observations=min_observations,
    )
    exact = expected(name, lookback_length, n_bars).require(min_observations)
    assert_matches_exact(ours, exact)


@pytest.mark.parametrize(("lookback_length", "min_observations"), CASES)
@pytest.mark.parametrize("name", NASTY)
def test_batch_is_exact(name: str, lookback_length: int, min_observations: int) -> None:
    check(name, lookback_length, min_observations, N_BARS[lookback_length])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spike_on_assets", "gaps_50_percent"])
def test_windows_are_exact_over_many_bars_wherever_one_looks(name: str) -> None:
    lookback_length, n_bars, step = 10_000, N_BARS[10_000], 97
    benchmark, assets = NASTY[name](n_bars)
    ours = look(
        WindowSlab(assets.shape[1], lookback_length, 2), benchmark, assets, step
    )
    assert_matches_exact(ours, every(expected(name, lookback_length, n_bars), step))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("name", NASTY)
def test_batch_is_exact_over_long_windows_of_anything(name: str) -> None:
    check(name, 10_000, 2, 31_000)


@settings(derandomize=True, max_examples=60)
@given(
    returns=return_series(),
    lookback_length=st.sampled_from([2, 3, 10, 40]),
    min_observations=st.sampled_from([2, 3, 5]),
)
def test_batch_is_exact_on_any_mix(
    returns: Returns, lookback_length: int, min_observations: int
) -> None:
    benchmark, assets = returns
    ours = rolling_ols(
        assets,
        benchmark,
        lookback_length=lookback_length,
        min_observations=min_observations,
    )
    exact = exact_rolling_panel(benchmark, assets, lookback_length, min_observations)
    assert_matches_exact(ours, exact)
