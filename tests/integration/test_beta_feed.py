"""What a strategy's beta inputs ask a sidecar for, and how it comes back to them."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import aclosing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import qmtl_double
from beta_factory import Factor, Role
from beta_factory.messages import RejectedError
from beta_factory.runtime.access import Access, Grant
from strategies import wide_universe
from testkit import PATIENCE_S, SMALL, bars_of, sidecar

pytestmark = pytest.mark.integration
over_sockets = pytest.mark.anyio

WIDE = wide_universe(40)
SECOND = 1_000_000_000
FACTORS = [Factor("SPY", "market", SMALL), Factor("SPY", "sector", SMALL)]
FEED = Grant("feed", frozenset((Role.FEED,)))


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.qmtl)])
def bridge(request: pytest.FixtureRequest) -> Generator[Any]:
    """`beta_factory.qmtl`, on the double and on the real qmtl."""
    if request.param == "double":
        with qmtl_double.installed() as module:
            yield module
    else:
        yield request.getfixturevalue("real_bridge")


def one(bridge: Any, symbol: str = WIDE[0], factor: str = "market") -> Any:
    return bridge.BetaInput(symbol, factor, interval=1, period=2)


def many(bridge: Any, n_symbols: int) -> Any:
    return bridge.UniverseBetas(WIDE[:n_symbols], interval=1, period=2)


async def take(
    feed: Any,
    path: Path,
    count: int,
    *,
    access: Access,
    factors: Sequence[Factor] = FACTORS,
) -> list[Any]:
    """Return the first ticks of a feed to which three bars are sent."""
    taken: list[Any] = []
    async with (
        sidecar(path, symbols=WIDE, factors=factors, access=access) as running,
        aclosing(aiter(feed)) as ticks,
    ):
        source = await running.connect("source", Role.FEED)
        first, second, third = (
            [structs.replace(m, ts_event=ts * SECOND) for m in bar]
            for ts, bar in enumerate(bars_of(3, WIDE), 1)
        )
        await source.send(*first)
        async for tick in ticks:
            taken.append(tick)
            if len(taken) == 1:
                await source.send(*second, *third)
            if len(taken) == count:
                break
    return taken


ASKED: dict[str, tuple[Callable[[Any], list[Any]], list[str]]] = {
    "one symbol": (lambda b: [one(b)], [f"beta.market.{WIDE[0]}"]),
    "one symbol, two factors": (
        lambda b: [one(b), one(b, factor="sector")],
        [f"beta.market.{WIDE[0]}", f"beta.sector.{WIDE[0]}"],
    ),
    "a small universe": (
        lambda b: [many(b, 32)],
        [f"beta.market.{symbol}" for symbol in WIDE[:32]],
    ),
    "a large one, and one symbol": (
        lambda b: [many(b, 33), one(b, factor="sector")],
        ["beta.market.*", f"beta.sector.{WIDE[0]}"],
    ),
}


@over_sockets
@pytest.mark.parametrize(("make", "granted"), ASKED.values(), ids=ASKED)
async def test_no_more_has_to_be_granted_than_the_inputs_are_for(
    bridge: Any, socket_path: Path, make: Any, granted: list[str]
) -> None:
    inputs = make(bridge)
    access = Access([Grant("desk", topics=tuple(granted)), FEED])
    feed = bridge.BetaFeed(inputs, str(socket_path))
    ticks = await take(feed, socket_path, 3 * len(inputs), access=access)
    for node in inputs:
        assert [tick.ts for tick in ticks if tick.node is node] == [1, 2, 3]


@over_sockets
@pytest.mark.parametrize("n_symbols", [3, 40])
async def test_a_universe_comes_as_one_payload_a_bar(
    bridge: Any, socket_path: Path, n_symbols: int
) -> None:
    feed = bridge.BetaFeed([many(bridge, n_symbols)], str(socket_path))
    ticks = await take(feed, socket_path, 3, access=Access([Grant("anybody")]))
    assert [[*tick.payload] for tick in ticks] == [[*WIDE[:n_symbols]]] * 3


@over_sockets
@pytest.mark.parametrize("n_symbols", [3, 40])
async def test_universes_of_two_factors_do_not_take_each_other_apart(
    bridge: Any, socket_path: Path, n_symbols: int
) -> None:
    symbols = WIDE[:n_symbols]
    sector = bridge.UniverseBetas(symbols, "sector", interval=1, period=2)
    feed = bridge.BetaFeed([many(bridge, n_symbols), sector], str(socket_path))
    ticks = await take(feed, socket_path, 6, access=Access([Grant("anybody")]))
    assert [[*tick.payload] for tick in ticks] == [[*symbols]] * 6
    assert [tick.ts for tick in ticks if tick.node is sector] == [1, 2, 3]


@over_sockets
async def test_a_snapshot_may_be_larger_than_what_may_wait(
    bridge: Any, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(bridge.BetaFeed.__module__)
    monkeypatch.setattr(module, "BUFFER_CAPACITY", 64)
    inputs = [many(bridge, 40), one(bridge, factor="sector")]
    feed = bridge.BetaFeed(inputs, str(socket_path))
    async with sidecar(
        socket_path, symbols=WIDE, factors=FACTORS, access=Access([Grant("anybody")])
    ) as running:
        source = await running.connect("source", Role.FEED)
        watcher = await running.subscriber()
        (bar,) = bars_of(1, WIDE)
        await source.send(*bar)
        await watcher.updates(2 * len(WIDE))
        async with aclosing(aiter(feed)) as feeding, asyncio.timeout(PATIENCE_S):
            ticks = [await anext(feeding) for _ in inputs]
    (panel,) = [tick.payload for tick in ticks if tick.node is inputs[0]]
    assert [*panel] == [*WIDE]


@over_sockets
async def test_many_factors_are_no_more_subscriptions_than_one_may_have(
    bridge: Any, socket_path: Path
) -> None:
    names = [f"F{i}" for i in range(32)]
    inputs = [
        bridge.UniverseBetas(WIDE[:32], name, interval=1, period=2) for name in names
    ]
    feed = bridge.BetaFeed(inputs, str(socket_path))
    ticks = await take(
        feed,
        socket_path,
        len(inputs),
        access=Access([Grant("anybody")]),
        factors=[Factor("SPY", name, SMALL) for name in names],
    )
    assert {tick.node.factor for tick in ticks} == {*names}


@over_sockets
async def test_a_symbol_that_the_sidecar_does_not_have_is_told(
    bridge: Any, socket_path: Path
) -> None:
    feed = bridge.BetaFeed([one(bridge), one(bridge, "XYZ")], str(socket_path))
    with pytest.raises(RejectedError, match="there is no symbol XYZ"):
        await take(feed, socket_path, 1, access=Access([Grant("anybody")]))
