"""One market, four roads: the same betas, bit for bit.

A strategy's replay by `Runner.submit`, its nodes fed live, a sidecar process fed by its
sink, and `compute_market_beta` over the returns of its histories.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beta_factory import BetaUpdated, connect
from qmtl_market import BENCHMARK, PriceMarket, minute_market, weekday_market
from qmtl_strategy import CONFIG, make_strategy, run, sidecar_process, ticks

pytestmark = [pytest.mark.integration, pytest.mark.qmtl]

NUMBERS = ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std")
SAME = (*NUMBERS, "ts_event", "n_obs", "window_start", "status", "reason", "revision")
"""Everything but ``seq``, which counts over all symbols of a sidecar."""

MARKETS = pytest.mark.parametrize("make", [weekday_market, minute_market])


def same(rows: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in SAME) for row in rows]


async def live(
    bridge: Any, strategy: Any, market: PriceMarket, sink: Any, address: str
) -> Any:
    back = bridge.BetaFeed(strategy.beta_inputs, address)
    following = asyncio.ensure_future(back.wait_joined())

    async def after_joining() -> Any:
        await following
        async for tick in ticks(bridge, strategy, market):
            yield tick

    return await bridge.run_live(
        strategy, [after_joining(), back], "world-1", sinks=[sink], warm_up=False
    )


@MARKETS
def test_four_roads_lead_to_the_same_betas(
    real_bridge: Any, make: Callable[[], PriceMarket], tmp_path: Path
) -> None:
    from beta_factory.runtime.qmtl_bridge import sdk  # noqa: PLC0415

    bridge, market = real_bridge, make()
    replayed = make_strategy(bridge, sdk, market)
    bridge.run_backtest(replayed)
    with (
        sidecar_process(tmp_path, market.assets) as address,
        bridge.BetaSink(address) as sink,
    ):
        fed = make_strategy(bridge, sdk, market, sink=sink)
        summary = run(live(bridge, fed, market, sink, address))
    returns = run(
        bridge.load_aligned_returns(
            {symbol: replayed.prices[symbol] for symbol in market.assets},
            replayed.prices[BENCHMARK],
            0,
            2**40,
        )
    )
    arrays = returns.market_betas(CONFIG)

    assert summary.is_delivered
    assert summary.n_ticks == len(market.ticks())
    assert fed.errors == []
    for symbol in market.assets:
        assert len(fed.computed[symbol]) > 80
        assert same(fed.computed[symbol]) == same(replayed.computed[symbol])
        assert same(fed.received[symbol]) == same(replayed.computed[symbol])
        by_stamp = {row["ts_event"]: row for row in fed.received[symbol]}
        fresh = np.isfinite(returns.asset_returns_by_symbol[symbol])
        rows = [by_stamp[stamp] for stamp in returns.timestamps[fresh].tolist()]
        for name in NUMBERS:
            values = [np.nan if row[name] is None else row[name] for row in rows]
            expected = getattr(arrays[symbol], name)[fresh]
            assert np.array_equal(values, expected, equal_nan=True)


@MARKETS
def test_recorded_betas_replay_into_a_backtest(
    real_bridge: Any, make: Callable[[], PriceMarket], tmp_path: Path
) -> None:
    from beta_factory.runtime.qmtl_bridge import sdk  # noqa: PLC0415

    bridge, market = real_bridge, make()

    async def record(address: str, n_updates: int) -> list[BetaUpdated]:
        updates: list[BetaUpdated] = []
        async with (
            asyncio.timeout(20),
            connect(address) as client,
            client.subscribe("beta.market.*") as subscription,
        ):
            await subscription.wait_joined()
            sent = asyncio.ensure_future(asyncio.to_thread(feed))
            async for update in subscription:
                updates.append(update)
                if len(updates) == n_updates:
                    break
            assert await sent
        return updates

    def feed() -> bool:
        bridge.run_backtest(make_strategy(bridge, sdk, market, sink=sink))
        return bool(sink.drain())

    direct = make_strategy(bridge, sdk, market)
    bridge.run_backtest(direct)
    n_updates = sum(map(len, direct.computed.values()))
    with (
        sidecar_process(tmp_path, market.assets) as address,
        bridge.BetaSink(address) as sink,
    ):
        updates = run(record(address, n_updates))
    again = make_strategy(
        bridge, sdk, market, in_dag=False, beta_history=bridge.BetaHistory(updates)
    )
    bridge.run_backtest(again)

    for symbol in market.assets:
        last_by_bar = {row["ts"]: row for row in direct.computed[symbol]}
        assert same(again.received[symbol]) == same([*last_by_bar.values()])


def test_universe_in_one_input_gives_the_betas_of_the_arrays(
    real_bridge: Any, tmp_path: Path
) -> None:
    from beta_factory.runtime.qmtl_bridge import sdk  # noqa: PLC0415

    bridge, market = real_bridge, minute_market(120)
    by_bar: dict[int, dict[str, float]] = {}
    for ts, symbol, row in market.ticks():
        by_bar.setdefault(ts, {})[symbol] = row["close"]
    received: dict[str, list[dict[str, Any]]] = {s: [] for s in market.assets}

    async def main(sink: Any, address: str) -> Any:
        prices = bridge.UniversePrices(
            market.assets, benchmark=BENCHMARK, sink=sink, interval=60, period=2
        )
        betas = bridge.UniverseBetas(market.assets, interval=60, period=2)

        def write_down(view: Any) -> None:
            for _, payload in bridge.recent(view, betas):
                for symbol, row in payload.items():
                    received[symbol].append(row)

        tap = bridge.GapTolerantNode(
            input=betas, compute_fn=write_down, name="tap", interval=60, period=1
        )
        strategy = sdk.Strategy()
        strategy.add_nodes([prices, betas, tap])
        back = bridge.BetaFeed([betas], address)

        async def feed() -> Any:
            await back.wait_joined()
            for ts in sorted(by_bar):
                yield bridge.Tick(prices, ts, by_bar[ts])
                await asyncio.to_thread(sink.drain)
                await back.catch_up()

        return await bridge.run_live(strategy, [feed(), back], "w", sinks=[sink])

    with (
        sidecar_process(tmp_path, market.assets) as address,
        bridge.BetaSink(address) as sink,
    ):
        summary = run(main(sink, address))
    history = bridge.FrameHistory(market.frames)
    inputs = {
        symbol: sdk.StreamInput(
            interval=60, period=2, config={"symbol": symbol}, history_provider=history
        )
        for symbol in market.frames
    }
    returns = run(
        bridge.load_aligned_returns(
            {symbol: inputs[symbol] for symbol in market.assets},
            inputs[BENCHMARK],
            0,
            2**40,
        )
    )
    arrays = returns.market_betas(CONFIG)

    assert summary.is_delivered
    for symbol in market.assets:
        by_stamp = {row["ts_event"]: row for row in received[symbol]}
        fresh = np.isfinite(returns.asset_returns_by_symbol[symbol])
        rows = [by_stamp[stamp] for stamp in returns.timestamps[fresh].tolist()]
        values = [np.nan if row["beta"] is None else row["beta"] for row in rows]
        assert np.array_equal(values, arrays[symbol].beta[fresh], equal_nan=True)
        assert np.isfinite(values).sum() > 50


def test_sidecar_that_is_started_anew_goes_on_with_the_strategy(
    real_bridge: Any, tmp_path: Path
) -> None:
    from beta_factory.runtime.qmtl_bridge import sdk  # noqa: PLC0415

    bridge, market = real_bridge, weekday_market(40, ("AAPL",))
    bars = market.ticks()

    async def main(sink: Any, processes: ExitStack, address: str) -> Any:
        strategy = make_strategy(bridge, sdk, market, sink=sink, warm_up=False)
        back = bridge.BetaFeed(strategy.beta_inputs, address)

        async def feed() -> Any:
            for half in (bars[: len(bars) // 2], bars[len(bars) // 2 :]):
                n_connections = back.n_connections
                process = processes.enter_context(
                    sidecar_process(tmp_path, market.assets)
                )
                assert process == address
                async with asyncio.timeout(30):
                    while back.n_connections == n_connections:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    await back.wait_joined()
                for ts, symbol, row in half:
                    yield bridge.Tick(strategy.prices[symbol], ts, row)
                assert await asyncio.to_thread(sink.drain, 30.0)
                await back.catch_up()
                await asyncio.to_thread(processes.close)

        await bridge.run_live(strategy, [feed(), back], "w", warm_up=False)
        return strategy, back

    address = f"unix://{tmp_path / 'beta.sock'}"
    with ExitStack() as processes, bridge.BetaSink(address) as sink:
        strategy, back = run(main(sink, processes, address))

    assert back.n_connections == 2
    stamps = [row["ts"] for row in strategy.received["AAPL"]]
    assert stamps == [row["ts"] for row in strategy.computed["AAPL"]]
    # the new sidecar knows nothing of what the old one had
    assert strategy.received["AAPL"][-1]["n_obs"] == 20
    assert sink.statistics().n_gaps == 0
