"""The live loop: its order, its end, and what it does with errors."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from beta_factory.messages import ConfigError
from qmtl_market import weekday_market
from qmtl_strategy import make_strategy, run, ticks

MARKET = weekday_market(40, ("AAPL",))


def test_domain_and_world_come_before_the_warm_up(bridge: Any, sdk: Any) -> None:
    strategy = make_strategy(bridge, sdk, MARKET)

    async def nothing() -> AsyncIterator[Any]:
        return
        yield

    summary = run(bridge.run_live(strategy, [nothing()], "alpha"))

    assert {node.execution_domain for node in strategy.nodes} == {"live"}
    assert {node.world_id for node in strategy.nodes} == {"alpha"}
    # the warm-up replayed the history, and nothing of it was lost to a later reset
    assert len(strategy.computed["AAPL"]) == 39
    assert summary == (0, 0, 0, True)


def test_live_after_the_warm_up_goes_on_where_it_ended(bridge: Any, sdk: Any) -> None:
    rows = {symbol: frame.head(30) for symbol, frame in MARKET.frames.items()}
    early = type(MARKET)(MARKET.interval, rows)
    split = make_strategy(bridge, sdk, early)
    whole = make_strategy(bridge, sdk, MARKET)
    run(bridge.run_live(split, [ticks(bridge, split, MARKET)], "alpha"))
    bridge.run_backtest(whole)

    # what the feed repeats of the history is late, and adds nothing
    assert split.computed == whole.computed


def test_payload_outside_its_schema_is_told_and_the_run_goes_on(
    bridge: Any, sdk: Any
) -> None:
    strategy = make_strategy(bridge, sdk, MARKET, warm_up=False)

    async def feed() -> AsyncIterator[Any]:
        yield bridge.Tick(strategy.prices["AAPL"], 60, {"open": 1.0})
        async for tick in ticks(bridge, strategy, MARKET):
            yield tick

    summary = run(bridge.run_live(strategy, [feed()], "alpha", warm_up=False))

    assert summary.n_refused == 1
    assert summary.n_ticks == len(MARKET.ticks()) + 1
    assert "has no field 'close'" in str(strategy.errors[0])
    assert len(strategy.computed["AAPL"]) == 39


def test_error_of_a_node_is_told_and_ends_the_run(bridge: Any, sdk: Any) -> None:
    strategy = make_strategy(bridge, sdk, MARKET, warm_up=False)

    def fail(view: Any) -> None:
        raise ZeroDivisionError

    price = strategy.prices["AAPL"]
    strategy.add_nodes(
        sdk.ProcessingNode(
            input=price, compute_fn=fail, name="bad", interval=price.interval, period=1
        )
    )
    feed = ticks(bridge, strategy, MARKET)
    with pytest.raises(ExceptionGroup) as caught:
        run(bridge.run_live(strategy, [feed], "alpha", warm_up=False))

    assert caught.group_contains(ZeroDivisionError)
    assert isinstance(strategy.errors[0], ZeroDivisionError)


def test_stop_ends_an_endless_feed_and_closes_it(bridge: Any, sdk: Any) -> None:
    strategy = make_strategy(bridge, sdk, MARKET, warm_up=False)
    closed: list[bool] = []
    finished: list[bool] = []
    strategy.on_finish = lambda: finished.append(True)

    async def endless() -> AsyncIterator[Any]:
        try:
            ts = 0
            while True:
                ts += MARKET.interval
                yield bridge.Tick(strategy.prices["AAPL"], ts, {"close": 1.0 + ts})
        finally:
            closed.append(True)

    async def main() -> Any:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_soon(stop.set)
        return await bridge.run_live(
            strategy, [endless()], "alpha", warm_up=False, stop=stop
        )

    assert run(main()).n_ticks >= 1
    assert closed == finished == [True]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"feeds": []}, "feeds: must hold at least one feed"),
        (
            {"execution_domain": "paper"},
            (
                "execution_domain: must be one of backtest, dryrun, live, shadow, "
                "was 'paper'"
            ),
        ),
    ],
)
def test_what_cannot_run_is_refused(
    bridge: Any, sdk: Any, options: dict[str, Any], problem: str
) -> None:
    strategy = make_strategy(bridge, sdk, MARKET, warm_up=False)
    arguments = {"feeds": [None], "world_id": "alpha", **options}
    with pytest.raises(ConfigError) as caught:
        run(bridge.run_live(strategy, **arguments))

    assert str(caught.value) == problem
