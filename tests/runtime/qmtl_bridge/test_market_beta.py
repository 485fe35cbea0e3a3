"""Betas inside the DAG are those of the arrays, bit for bit, on any grid."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from beta_factory import MarketBetaConfig
from beta_factory.messages import ConfigError, PayloadError, Status
from qmtl_market import BENCHMARK, PriceMarket, minute_market, weekday_market

CONFIG = MarketBetaConfig(lookback_length=40, min_observations=10)
NUMBERS = ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std")
MARKETS = pytest.mark.parametrize("make", [weekday_market, minute_market])
PERIOD = 5_000
"""qmtl replays a window that ends now: long enough for a night between sessions."""


def make_strategy(bridge: Any, sdk: Any, market: PriceMarket) -> Any:
    """Build a strategy that writes down the betas of every asset."""
    history = bridge.FrameHistory(market.frames)

    class Watching(sdk.Strategy):  # type: ignore[misc]
        def setup(self) -> None:
            self.seen: dict[str, list[dict[str, Any]]] = {}
            self.prices = {
                symbol: sdk.StreamInput(
                    interval=market.interval,
                    period=PERIOD,
                    config={"symbol": symbol},
                    history_provider=history,
                )
                for symbol in market.frames
            }
            spy = bridge.benchmark_return_node(self.prices[BENCHMARK], symbol=BENCHMARK)
            self.add_nodes([self.prices[BENCHMARK], spy])
            for symbol in market.assets:
                price = self.prices[symbol]
                asset = bridge.asset_return_node(price, symbol=symbol)
                beta = bridge.market_beta_node(asset, spy, CONFIG)
                self.add_nodes([price, asset, beta, self.tap(symbol, beta)])

        def tap(self, symbol: str, beta: Any) -> Any:
            rows = self.seen.setdefault(symbol, [])

            def write_down(view: Any) -> None:
                rows.append(view[beta][beta.interval][-1][1])

            return bridge.GapTolerantNode(
                input=beta,
                compute_fn=write_down,
                name=f"tap_{symbol}",
                interval=market.interval,
                period=1,
                config={"symbol": symbol},
            )

    return Watching()


def column(rows: list[dict[str, Any]], name: str) -> Any:
    return np.array([np.nan if row[name] is None else row[name] for row in rows])


@MARKETS
def test_replay_gives_the_betas_of_the_arrays_bit_for_bit(
    bridge: Any, sdk: Any, make: Callable[[], PriceMarket]
) -> None:
    market = make()
    strategy = make_strategy(bridge, sdk, market)
    bridge.run_backtest(strategy)
    returns = asyncio.run(
        bridge.load_aligned_returns(
            {symbol: strategy.prices[symbol] for symbol in market.assets},
            strategy.prices[BENCHMARK],
            0,
            2**40,
        )
    )

    betas = returns.market_betas(CONFIG)

    for symbol in market.assets:
        fresh = np.isfinite(returns.asset_returns_by_symbol[symbol])
        by_stamp = {row["ts_event"]: row for row in strategy.seen[symbol]}
        rows = [by_stamp[stamp] for stamp in returns.timestamps[fresh].tolist()]
        assert len(rows) > 80
        for name in NUMBERS:
            expected = getattr(betas[symbol], name)[fresh]
            assert np.array_equal(column(rows, name), expected, equal_nan=True)
        assert [row["n_obs"] for row in rows] == betas[symbol].n_obs[fresh].tolist()


@pytest.mark.qmtl
def test_two_submits_of_one_strategy_give_the_same_payloads(
    real_bridge: Any,
) -> None:
    from beta_factory.runtime.qmtl_bridge import sdk  # noqa: PLC0415

    market = weekday_market(60)
    runs: list[Any] = []
    for _ in range(2):
        strategy = make_strategy(real_bridge, sdk, market)
        real_bridge.run_backtest(strategy)
        runs.append(strategy.seen)

    assert runs[0] == runs[1]


def wired(bridge: Any, sdk: Any) -> tuple[Any, Any, Any]:
    price = sdk.StreamInput(interval=60, period=2, config={"symbol": "AAPL"})
    market = sdk.StreamInput(interval=60, period=2, config={"symbol": "SPY"})
    asset = bridge.asset_return_node(price, symbol="AAPL")
    return asset, bridge.benchmark_return_node(market, symbol="SPY"), market


def returned(symbol: str, ts: int, value: float) -> dict[str, Any]:
    return {"ts": ts, "symbol": symbol, "period_return": value, "kind": "simple"}


@pytest.mark.parametrize("benchmark_first", [True, False])
def test_order_of_arrival_within_a_bar_does_not_matter(
    bridge: Any, sdk: Any, *, benchmark_first: bool
) -> None:
    asset, spy, _ = wired(bridge, sdk)
    config = MarketBetaConfig(lookback_length=5, min_observations=3)
    node = bridge.market_beta_node(asset, spy, config)
    betas: list[float | None] = []
    for bar, value in enumerate((0.01, -0.01, 0.0)):
        ts = 60 * (bar + 1)
        arrivals = [(spy, "SPY", value), (asset, "AAPL", 2 * value)]
        for upstream, symbol, each in arrivals[:: 1 if benchmark_first else -1]:
            payload = returned(symbol, ts, each)
            if node.feed(upstream.node_id, 60, ts, payload):
                betas.append(node.compute_fn(None)["beta"])

    assert betas == [None, None, 2.0]


def test_unpaired_asset_goes_stale_and_says_so(bridge: Any, sdk: Any) -> None:
    asset, spy, _ = wired(bridge, sdk)
    config = MarketBetaConfig(lookback_length=10, min_observations=3)
    node = bridge.market_beta_node(asset, spy, config)
    statuses: list[str] = []
    for bar in range(1, 8):
        ts = 60 * bar
        arrivals = [(spy, returned("SPY", ts, 0.01 * (-1) ** bar))]
        if bar < 5:
            arrivals.append((asset, returned("AAPL", ts, 0.02)))
        for upstream, payload in arrivals:
            if node.feed(upstream.node_id, 60, ts, payload):
                statuses.append(node.compute_fn(None)["status"])

    assert statuses[3] == Status.OK.name.lower()
    assert statuses[4:] == [Status.STALE.name.lower()]


def test_model_enters_the_node_id(bridge: Any, sdk: Any) -> None:
    asset, spy, _ = wired(bridge, sdk)
    configs = [
        MarketBetaConfig(lookback_length=60, min_observations=30),
        MarketBetaConfig(lookback_length=60, min_observations=20),
        MarketBetaConfig(lookback_length=60, min_observations=30, allowed_lateness=1),
    ]
    ids = {bridge.market_beta_node(asset, spy, config).node_id for config in configs}
    ids.add(bridge.market_beta_node(asset, spy, configs[0], factor="other").node_id)

    assert len(ids) == 4


def test_returns_that_cannot_be_paired_are_refused(bridge: Any, sdk: Any) -> None:
    asset, _, market = wired(bridge, sdk)
    daily = sdk.StreamInput(interval="24h", period=2, config={"symbol": "SPY"})
    cases = [
        (asset, "benchmark_return: must come from benchmark_return_node"),
        (
            bridge.benchmark_return_node(daily, symbol="SPY"),
            "benchmark_return.interval: must be the asset's 60 s, was 86400 s",
        ),
        (
            bridge.benchmark_return_node(market, symbol="SPY", kind="log"),
            "benchmark_return.kind: must be simple, was log",
        ),
    ]
    for benchmark, problem in cases:
        with pytest.raises(ConfigError) as caught:
            bridge.market_beta_node(asset, benchmark)
        assert str(caught.value) == problem


def test_what_is_no_return_is_refused_and_changes_nothing(
    bridge: Any, sdk: Any
) -> None:
    asset, spy, _ = wired(bridge, sdk)
    node = bridge.market_beta_node(asset, spy, CONFIG)

    with pytest.raises(PayloadError, match="which no asset_return_node"):
        node.feed(asset.node_id, 60, 60, 0.01)

    assert node.cache.last_timestamps() == {}
