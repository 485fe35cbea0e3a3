"""The simulated market: its truth, its accidents, and honest standard errors."""

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from beta_factory.runtime.simulation import (
    BETA_RANGE,
    MarketSpec,
    SimulatedMarket,
    simulate_market,
    to_bars,
)

Floats = NDArray[np.float64]

SMALL = MarketSpec(n_symbols=5, n_bars=40, halted_from_bar=10, halted_to_bar=20)


def changed(**changes: float | str) -> SimulatedMarket:
    return simulate_market(msgspec.structs.replace(SMALL, **changes))


def slopes_and_errors(benchmark: Floats, assets: Floats) -> tuple[Floats, Floats]:
    slopes: list[float] = []
    errors: list[float] = []
    for column in assets.T:
        is_there = ~np.isnan(column)
        x, y = benchmark[is_there], column[is_there]
        design = np.column_stack((np.ones(len(x)), x))
        inverse = np.linalg.inv(design.T @ design)
        coefficients = inverse @ design.T @ y
        residuals = y - design @ coefficients
        variance = residuals @ residuals / (len(x) - 2)
        slopes.append(float(coefficients[1]))
        errors.append(float(np.sqrt(variance * inverse[1, 1])))
    return np.array(slopes), np.array(errors)


def coverage(bars: slice, *, seeds: range) -> float:
    hits: list[NDArray[np.bool_]] = []
    for seed in seeds:
        market = simulate_market(MarketSpec(seed=seed))
        slopes, errors = slopes_and_errors(
            market.benchmark_returns[bars], market.asset_returns[bars]
        )
        hits.append(np.abs(slopes - market.true_betas) <= 1.96 * errors)
    return float(np.mean(hits))


def test_default_market_is_one_hour_from_the_open_in_new_york() -> None:
    market = simulate_market()
    opening = datetime(2025, 6, 2, 9, 30, tzinfo=ZoneInfo("America/New_York"))
    assert market.spec.start_ts == int(opening.timestamp()) * 10**9
    assert market.ts_events[0] == market.spec.start_ts + 10**9
    assert market.ts_events[-1] == market.spec.start_ts + 3600 * 10**9
    assert np.all(np.diff(market.ts_events) == 10**9)
    assert market.benchmark_returns.shape == (3600,)
    assert market.asset_returns.shape == (3600, 50)
    assert len(market.symbols) == len(market.true_betas) == 50
    assert market.benchmark == "SPY"


def test_betas_are_spread_over_the_promised_range_in_no_order() -> None:
    betas = simulate_market().true_betas
    np.testing.assert_allclose(np.sort(betas), np.linspace(*BETA_RANGE, 50))
    assert not np.array_equal(np.sort(betas), betas)


def test_names_are_distinct_and_include_a_dot_and_a_slash() -> None:
    assert {"BRK.B", "BTC/USDT"} <= set(simulate_market(SMALL).symbols)
    large = changed(n_symbols=500).symbols
    assert len(set(large)) == 500
    assert "SPY" not in large


def test_benchmark_with_the_name_of_a_symbol_takes_its_place() -> None:
    market = changed(benchmark="BRK.B")
    assert market.symbols[:2] == ("GME", "BTC/USDT")
    for n_symbols in range(50, 70):
        assert len(changed(benchmark="AAPL", n_symbols=n_symbols).symbols) == n_symbols


def test_same_spec_gives_the_same_bits_and_another_seed_does_not() -> None:
    first, second, other = (changed(seed=seed) for seed in (7, 7, 8))
    for name in ("true_betas", "ts_events", "benchmark_returns", "asset_returns"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.benchmark_returns.tobytes() != other.benchmark_returns.tobytes()


def test_longer_session_begins_with_the_shorter_one() -> None:
    short, long = changed(n_bars=15), changed(n_bars=40)
    np.testing.assert_array_equal(long.benchmark_returns[:15], short.benchmark_returns)
    np.testing.assert_array_equal(long.asset_returns[:15], short.asset_returns)


def test_missing_fraction_changes_no_return() -> None:
    whole, holed = changed(missing_fraction=0.0), changed(missing_fraction=0.5)
    is_there = ~np.isnan(holed.asset_returns)
    assert 0 < is_there.sum() < (~np.isnan(whole.asset_returns)).sum()
    np.testing.assert_array_equal(
        holed.asset_returns[is_there], whole.asset_returns[is_there]
    )


def test_halted_symbol_has_no_bars_during_the_halt() -> None:
    market = changed(missing_fraction=0.0, halted_index=3)
    assert market.halted == market.symbols[3]
    is_missing = np.isnan(market.asset_returns)
    assert is_missing[10:20, 3].all()
    assert is_missing.sum() == 10


def test_benchmark_is_never_missing_and_assets_are_as_often_as_asked() -> None:
    market = simulate_market()
    assert not np.isnan(market.benchmark_returns).any()
    never_halted = market.asset_returns[:, 1:]
    assert np.isnan(never_halted).mean() == pytest.approx(0.05, abs=0.002)


def test_opening_burst_scales_benchmark_and_residuals_alike() -> None:
    spec = MarketSpec(missing_fraction=0.0, halted_to_bar=1200)
    market = simulate_market(spec)
    calm = simulate_market(msgspec.structs.replace(spec, opening_burst_bars=0))
    burst = slice(spec.opening_burst_bars)
    rest = slice(spec.opening_burst_bars, None)
    np.testing.assert_allclose(
        market.benchmark_returns[burst], 2 * calm.benchmark_returns[burst]
    )
    # The drift alone does not scale; it is the same in every bar.
    drift = 2 * calm.asset_returns[burst] - market.asset_returns[burst]
    np.testing.assert_allclose(
        drift, np.broadcast_to(drift[0], drift.shape), atol=1e-17
    )
    np.testing.assert_array_equal(market.asset_returns[rest], calm.asset_returns[rest])


def test_textbook_errors_are_honest_after_the_burst() -> None:
    # 2000 intervals: the share is within 0.015 of 0.95 for all but 2 in 1000 seeds.
    share = coverage(slice(1800, 3600), seeds=range(40))
    assert share == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("n_bars", "expected"), [(300, 0.95), (600, 0.91), (1800, 0.88)]
)
def test_textbook_errors_are_too_small_across_the_end_of_the_burst(
    n_bars: int, expected: float
) -> None:
    share = coverage(slice(n_bars), seeds=range(40))
    assert share == pytest.approx(expected, abs=0.02)


def test_to_bars_is_the_market_with_the_benchmark_as_a_symbol() -> None:
    market = simulate_market(SMALL)
    bars = to_bars(market)
    assert bars.symbols == tuple(sorted(("SPY", *market.symbols)))
    np.testing.assert_array_equal(bars.ts_events, market.ts_events)
    columns = dict(zip(market.symbols, market.asset_returns.T, strict=True))
    columns["SPY"] = market.benchmark_returns
    grid = np.full((bars.n_bars, len(bars.symbols)), np.nan)
    rows = np.repeat(np.arange(bars.n_bars), np.diff(bars.offsets))
    grid[rows, bars.symbol_ids] = bars.period_returns
    expected = np.column_stack([columns[name] for name in bars.symbols])
    np.testing.assert_array_equal(grid, expected)
    assert bars.n_rows == bars.n_source_rows == np.count_nonzero(~np.isnan(expected))
    for start, end in zip(bars.offsets[:-1], bars.offsets[1:], strict=True):
        assert np.all(np.diff(bars.symbol_ids[start:end]) > 0)
    assert bars.symbol_ids.dtype == np.int32
    assert bars.offsets.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("n_symbols", 0, "at least 1"),
        ("n_bars", 0, "at least 1"),
        ("bar_interval_ns", 0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("start_ts", -1, "at least 0"),
        ("benchmark_vol", float("nan"), "at least 0"),
        ("residual_vol", -1e-9, "at least 0"),
        ("opening_burst_bars", -1, "at least 0"),
        ("opening_burst_scale", -0.5, "at least 0"),
        ("missing_fraction", 1.5, "at least 0 and at most 1"),
        ("halted_index", 5, "at least 0 and at most 4"),
        ("halted_index", -1, "at least 0 and at most 4"),
        ("halted_to_bar", 9, "at least 10"),
    ],
)
def test_impossible_spec_is_refused(name: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be {rule}, was {value}$"):
        msgspec.structs.replace(SMALL, **{name: value})


def test_symbols_and_betas_may_be_given() -> None:
    betas = {"ZM": 1.5, "A": -0.5}
    spec = MarketSpec(n_symbols=2, n_bars=50, betas=betas, residual_vol=0.0)
    market = simulate_market(spec)
    assert market.symbols == ("ZM", "A")
    assert market.true_betas.tolist() == [1.5, -0.5]
    present = ~np.isnan(market.asset_returns).any(axis=1)
    slopes = np.polyfit(
        market.benchmark_returns[present], market.asset_returns[present], 1
    )[0]
    assert slopes == pytest.approx([1.5, -0.5])


def test_as_many_betas_as_symbols() -> None:
    with pytest.raises(ValueError, match=r"betas must be 3 \(n_symbols\), was 1"):
        MarketSpec(n_symbols=3, betas={"A": 1.0})
