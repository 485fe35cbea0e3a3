"""Batch betas against exact arithmetic, on data made to break them."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import look

from beta_factory.estimators import WindowSlab, rolling_ols
from exact import assert_matches_exact, exact_rolling_panel
from nasty import NASTY, Returns, return_series

N_BARS = {3: 150, 30: 300, 390: 1_200, 5_000: 7_000}
"""By window: long enough for events to enter and to leave."""

SOAK = (pytest.mark.soak, pytest.mark.timeout(600))


@pytest.mark.parametrize(
    ("lookback_length", "n_bars"),
    [
        (3, N_BARS[3]),
        (30, N_BARS[30]),
        pytest.param(390, N_BARS[390], marks=SOAK),
        pytest.param(10_000, 31_000, marks=SOAK),
    ],
)
@pytest.mark.parametrize("name", NASTY)
def test_batch_is_exact(name: str, lookback_length: int, n_bars: int) -> None:
    benchmark, assets = NASTY[name](n_bars)
    ours = rolling_ols(
        assets, benchmark, lookback_length=lookback_length, min_observations=2
    )
    exact = exact_rolling_panel(benchmark, assets, lookback_length, 2)
    assert_matches_exact(ours, exact)


def check_looks(name: str, lookback_length: int, step: int) -> None:
    benchmark, assets = NASTY[name](N_BARS[lookback_length])
    windows = WindowSlab(assets.shape[1], lookback_length, 2)
    ours = look(windows, benchmark, assets, step)
    exact = exact_rolling_panel(benchmark, assets, lookback_length, 2, step=step)
    assert_matches_exact(ours, exact)


@pytest.mark.parametrize("name", NASTY)
def test_windows_of_a_session_are_exact_wherever_one_looks(name: str) -> None:
    check_looks(name, 390, step=13)


@pytest.mark.slow
def test_windows_are_exact_over_many_bars_wherever_one_looks() -> None:
    check_looks("spike_on_assets", 5_000, step=97)


@pytest.mark.parametrize(
    ("lookback_length", "min_observations"), [(3, 3), (30, 25), (60, 10)]
)
@pytest.mark.parametrize("name", ["clean", "flat_on_both_sides", "gaps_5_percent"])
def test_asking_for_more_pairs_only_hides_what_has_fewer(
    name: str, lookback_length: int, min_observations: int
) -> None:
    benchmark, assets = NASTY[name](150)
    asked, known = (
        rolling_ols(
            assets,
            benchmark,
            lookback_length=lookback_length,
            min_observations=needed,
        )
        for needed in (min_observations, 2)
    )
    short = known.n_obs < min_observations
    assert short.any()
    assert not short.all()
    for field in fields(known):
        ours, theirs = getattr(asked, field.name), getattr(known, field.name)
        if field.name not in {"n_obs", "n_eff"}:
            theirs = np.where(short, np.nan, theirs)
        np.testing.assert_array_equal(ours, theirs)


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
