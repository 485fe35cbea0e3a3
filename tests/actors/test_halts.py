"""A halted or removed symbol says so once, and then nothing until it is back."""

import pytest

from beta_factory import BetaFactory, BetaUpdated, MarketBetaConfig, Status
from beta_factory.actors import Drop
from beta_factory.messages import (
    AddSymbol,
    HaltSymbol,
    Message,
    RemoveSymbol,
    ResumeSymbol,
)
from strategies import BENCHMARK, asset, bench, frame

CONFIG = MarketBetaConfig(10, 3, allowed_lateness=3)
LEAVES = [(HaltSymbol, Status.HALTED), (RemoveSymbol, Status.REMOVED)]


def a_warm_factory() -> BetaFactory:
    """Return a factory at bar 5, with a return of AAPL waiting for bar 6."""
    factory = BetaFactory(["AAPL", "BAC"], benchmark=BENCHMARK, config=CONFIG)
    for ts in range(1, 6):
        x = 0.1 * (-1) ** ts
        factory.receive(bench(ts, x))
        factory.receive(asset("AAPL", ts, 2 * x + 0.01 * ts))
        factory.receive(asset("BAC", ts, x))
    factory.receive(asset("AAPL", 6, 0.3))
    return factory


def of(updates: list[BetaUpdated], symbol: str) -> list[Status]:
    return [update.status for update in updates if update.symbol == symbol]


@pytest.mark.parametrize(("command", "status"), LEAVES)
def test_leaving_is_said_once(
    command: type[HaltSymbol | RemoveSymbol], status: Status
) -> None:
    factory = a_warm_factory()
    assert of(factory.receive(command(symbol="AAPL")), "AAPL") == [status]
    assert factory.receive(command(symbol="AAPL")) == []


@pytest.mark.parametrize(
    "message",
    [
        bench(6, 0.2),  # completes the pair that waits
        bench(4, 0.7),  # corrects a bar of its window
        asset("AAPL", 5, 0.9),
        frame(5, ["AAPL"], [0.9]),
    ],
)
@pytest.mark.parametrize(("command", "status"), LEAVES)
def test_nothing_is_said_of_a_symbol_that_is_away(
    command: type[HaltSymbol | RemoveSymbol], status: Status, message: Message
) -> None:
    factory = a_warm_factory()
    factory.receive(command(symbol="AAPL"))
    assert of(factory.receive(message), "AAPL") == []
    latest = factory.latest("beta.market.AAPL")
    assert latest is not None
    assert latest.status is status


def test_a_neighbour_is_heard_as_ever() -> None:
    factory = a_warm_factory()
    factory.receive(HaltSymbol(symbol="AAPL"))
    factory.receive(bench(6, 0.2))
    assert of(factory.receive(asset("BAC", 6, 0.1)), "BAC") == [Status.OK]
    assert of(factory.receive(bench(4, 0.7)), "BAC") == [Status.OK]


def test_what_comes_for_a_halted_symbol_is_counted() -> None:
    factory = a_warm_factory()
    factory.receive(HaltSymbol(symbol="AAPL"))
    factory.receive(asset("AAPL", 5, 0.9))
    assert factory.tally.dropped[Drop.HALTED] == 1


def test_resumed_it_says_what_its_window_says() -> None:
    factory = a_warm_factory()
    factory.receive(HaltSymbol(symbol="AAPL"))
    factory.receive(bench(6, 0.2))
    (update,) = factory.receive(ResumeSymbol(symbol="AAPL"))
    assert (update.status, update.n_obs) == (Status.OK, 6)


def test_added_again_it_begins_with_an_empty_window() -> None:
    factory = a_warm_factory()
    factory.receive(RemoveSymbol(symbol="AAPL"))
    (update,) = factory.receive(AddSymbol(symbol="AAPL"))
    assert (update.status, update.n_obs) == (Status.WARMING, 0)


def test_a_halt_outlives_a_snapshot() -> None:
    factory = a_warm_factory()
    factory.receive(HaltSymbol(symbol="AAPL"))
    after = BetaFactory(["AAPL", "BAC"], benchmark=BENCHMARK, config=CONFIG)
    after.restore(factory.snapshot())
    assert of(after.receive(bench(4, 0.7)), "AAPL") == []
    assert of(after.receive(ResumeSymbol(symbol="AAPL")), "AAPL") == [Status.OK]
