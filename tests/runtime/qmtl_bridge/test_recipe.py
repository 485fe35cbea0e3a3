"""One call wires a universe; the strategy adds it as it adds any node set."""

from typing import Any

import pytest

from beta_factory import MarketBetaConfig
from beta_factory.messages import ConfigError
from qmtl_market import BENCHMARK, weekday_market
from qmtl_strategy import CONFIG, PERIOD

MARKET = weekday_market(40, ("AAPL", "MSFT"))


def prices(bridge: Any, sdk: Any) -> dict[str, Any]:
    history = bridge.FrameHistory(MARKET.frames)
    return {
        symbol: sdk.StreamInput(
            interval=MARKET.interval,
            period=PERIOD,
            config={"symbol": symbol},
            history_provider=history,
        )
        for symbol in MARKET.frames
    }


def test_without_a_sink_betas_are_computed_in_the_dag(bridge: Any, sdk: Any) -> None:
    inputs = prices(bridge, sdk)
    feed = bridge.make_market_beta_feed(inputs, BENCHMARK, config=CONFIG)
    strategy = sdk.Strategy()
    strategy.add_nodes([*inputs.values(), feed])
    bridge.run_backtest(strategy)

    last = {symbol: node._updates[-1] for symbol, node in feed.betas.items()}

    assert feed.beta_inputs == ()
    assert {symbol: update.symbol for symbol, update in last.items()} == {
        "AAPL": "AAPL",
        "MSFT": "MSFT",
    }
    assert all(update.status.name == "OK" for update in last.values())
    assert all(update.n_obs == 39 for update in last.values())


def test_with_a_sink_every_return_has_a_tap_and_every_symbol_an_input(
    bridge: Any, sdk: Any
) -> None:
    sink = bridge.BetaSink("unix:///nowhere.sock")
    feed = bridge.make_market_beta_feed(prices(bridge, sdk), BENCHMARK, sink=sink)

    names = [node.name for node in feed]

    assert sink.symbols == ["AAPL", "MSFT"]
    assert sink.benchmarks == [BENCHMARK]
    assert [node.symbol for node in feed.beta_inputs] == ["AAPL", "MSFT"]
    assert names[:2] == ["benchmark_return_SPY", "beta_sink_SPY"]
    assert len({node.node_id for node in feed}) == len(names) == 8


def test_kind_of_return_is_the_models(bridge: Any, sdk: Any) -> None:
    config = MarketBetaConfig(60, 30, returns="log")
    feed = bridge.make_market_beta_feed(prices(bridge, sdk), BENCHMARK, config=config)

    assert {node.kind for node in feed.returns.values()} == {"log"}


def test_adapter_wires_by_port_and_marks_the_world(bridge: Any, sdk: Any) -> None:
    adapter = bridge.MarketBetaFeedAdapter(("AAPL", "MSFT"), BENCHMARK, config=CONFIG)
    inputs = prices(bridge, sdk)

    feed = adapter.build(inputs, world_id="alpha")

    assert [port.name for port in adapter.descriptor.inputs] == ["SPY", "AAPL", "MSFT"]
    assert [port.name for port in adapter.descriptor.outputs] == [
        "beta_AAPL",
        "beta_MSFT",
    ]
    assert {node.world_id for node in feed} == {"alpha"}
    with pytest.raises(ValueError, match="missing required Node Set inputs: MSFT"):
        adapter.build({k: v for k, v in inputs.items() if k != "MSFT"}, world_id="a")


def test_what_cannot_be_wired_says_why(bridge: Any, sdk: Any) -> None:
    inputs = prices(bridge, sdk)
    with pytest.raises(ConfigError, match="benchmark: 'QQQ' has no price input"):
        bridge.make_market_beta_feed(inputs, "QQQ")
    with pytest.raises(ConfigError, match="prices: hold no symbol besides 'SPY'"):
        bridge.make_market_beta_feed({"SPY": inputs["SPY"]}, "SPY")


@pytest.mark.qmtl
def test_qmtls_registry_makes_it_by_name(real_bridge: Any) -> None:
    from importlib import import_module  # noqa: PLC0415

    sdk = import_module("beta_factory.runtime.qmtl_bridge.sdk")
    registry = import_module("qmtl.runtime.nodesets.registry")
    registry.discover(["beta_factory.qmtl"])

    inputs = prices(real_bridge, sdk)
    feed = registry.make("market_beta_feed", inputs, BENCHMARK, config=CONFIG)

    assert "market_beta_feed" in registry.list_registered()
    assert feed.describe()["node_count"] == 5
    assert feed.capabilities()["modes"] == ["simulate", "paper", "live"]
