"""Returns pulled from a history: aligned, checked, from any provider."""

import asyncio
from typing import Any

import numpy as np
import polars as pl
import pytest

from beta_factory.messages import ConfigError, InvalidReturnsError, PayloadError

FRAMES = {
    "SPY": pl.DataFrame({"ts": [60, 120, 180, 240], "close": [100.0, 101, 102, 103]}),
    "AAPL": pl.DataFrame({"ts": [60, 120, 240], "close": [10.0, 11.0, 12.0]}),
}


def stream(bridge: Any, sdk: Any, symbol: str, provider: Any = None) -> Any:
    provider = provider or bridge.FrameHistory(FRAMES)
    return sdk.StreamInput(
        interval=60, period=9, config={"symbol": symbol}, history_provider=provider
    )


def test_returns_are_aligned_on_the_benchmark(bridge: Any, sdk: Any) -> None:
    spy, aapl = (stream(bridge, sdk, symbol) for symbol in ("SPY", "AAPL"))

    returns = asyncio.run(bridge.load_aligned_returns({"AAPL": aapl}, spy, 0, 1000))

    assert returns.timestamps.tolist() == [120 * 10**9, 180 * 10**9, 240 * 10**9]
    expected = [11.0 / 10.0 - 1, np.nan, 12.0 / 11.0 - 1]
    assert np.array_equal(
        returns.asset_returns_by_symbol["AAPL"], expected, equal_nan=True
    )
    assert returns.benchmark_returns.tolist() == [
        101 / 100 - 1,
        102 / 101 - 1,
        103 / 102 - 1,
    ]


def test_range_is_half_open_and_its_first_price_has_no_return(
    bridge: Any, sdk: Any
) -> None:
    spy = stream(bridge, sdk, "SPY")

    loaded = asyncio.run(bridge.load_benchmark_returns(spy, 120, 240))

    assert loaded.timestamps.tolist() == [180 * 10**9]


def test_parameters_of_a_return_node_hold(bridge: Any, sdk: Any) -> None:
    node = bridge.asset_return_node(
        stream(bridge, sdk, "AAPL"), symbol="Apple", kind="log"
    )

    loaded = asyncio.run(bridge.load_returns(node, 0, 1000))

    assert loaded.symbol == "Apple"
    assert loaded.period_returns == pytest.approx(np.log([1.1, 12 / 11]), rel=1e-14)


def test_bars_outside_the_grid_are_left_out(bridge: Any, sdk: Any) -> None:
    aapl = stream(bridge, sdk, "AAPL")
    loaded = asyncio.run(bridge.load_returns(aapl, 0, 1000))

    on = loaded.on(np.array([60, 120, 180], dtype=np.int64) * 10**9)

    assert np.isnan(on.period_returns).tolist() == [True, False, True]
    assert np.isnan(loaded.on(np.array([], dtype=np.int64)).period_returns).size == 0


def test_first_row_of_a_bar_counts_as_in_qmtl(bridge: Any, sdk: Any) -> None:
    rows = pl.DataFrame({"ts": [60, 61, 125], "close": [100.0, 50.0, 110.0]})
    provider = bridge.FrameHistory({"SPY": rows})

    loaded = asyncio.run(
        bridge.load_returns(stream(bridge, sdk, "SPY", provider), 0, 999)
    )

    assert loaded.timestamps.tolist() == [120 * 10**9]
    assert loaded.period_returns.tolist() == [110.0 / 100.0 - 1]


def test_what_cannot_be_loaded_says_why(bridge: Any, sdk: Any) -> None:
    bare = sdk.StreamInput(interval=60, period=9, config={"symbol": "SPY"})
    unnamed = sdk.StreamInput(interval=60, period=9)
    cases: list[tuple[Any, dict[str, str], type[Exception], str]] = [
        (bare, {}, ConfigError, "SPY: its price input has no history_provider"),
        (unnamed, {}, ConfigError, "symbol: name it, or put it into"),
        (
            stream(bridge, sdk, "SPY"),
            {"field": "open"},
            PayloadError,
            "no field 'open'",
        ),
        (stream(bridge, sdk, "SPY"), {"kind": "x"}, ConfigError, "kind: must be"),
    ]
    for node, options, kind, text in cases:
        with pytest.raises(kind, match=text):
            asyncio.run(bridge.load_returns(node, 0, 1000, **options))


def test_history_without_stamps_is_refused(bridge: Any, sdk: Any) -> None:
    class Unstamped(bridge.FrameHistory):  # type: ignore[misc]
        async def fetch(self, *args: Any, **options: Any) -> Any:
            return pl.DataFrame({"close": [1.0]})

    node = stream(bridge, sdk, "SPY", Unstamped(FRAMES))
    with pytest.raises(InvalidReturnsError, match="SPY: history has no 'ts'"):
        asyncio.run(bridge.load_returns(node, 0, 1000))


def test_input_whose_symbol_has_no_frame_is_refused(bridge: Any, sdk: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"config\.symbol: must name one of AAPL, SPY"
    ):
        stream(bridge, sdk, "MSFT")


@pytest.mark.qmtl
def test_a_provider_of_qmtl_is_as_good(real_bridge: Any) -> None:
    from importlib import import_module  # noqa: PLC0415

    sdk = import_module("beta_factory.runtime.qmtl_bridge.sdk")
    provider = import_module("qmtl.runtime.io").InMemorySeamlessProvider()
    node = sdk.StreamInput(
        interval=60, period=9, config={"symbol": "SPY"}, history_provider=provider
    )
    provider.register_frame(node, FRAMES["SPY"])

    loaded = asyncio.run(real_bridge.load_returns(node, 0, 1000))

    assert loaded.timestamps.tolist() == [120 * 10**9, 180 * 10**9, 240 * 10**9]
