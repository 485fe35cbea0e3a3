"""What was refused is counted, and kept where somebody is wrong."""

from math import inf, nan

import numpy as np
import pytest

from beta_factory.actors.tally import (
    AT_FAULT,
    MAX_REFUSED,
    Drop,
    Tally,
    refuse,
)
from beta_factory.messages import Goodbye, HaltSymbol, SessionOpened
from strategies import asset, bench

MESSAGE = asset("AAPL", 1, 0.5)


@pytest.mark.parametrize("reason", list(Drop))
def test_every_drop_is_counted_under_its_reason_alone(reason: Drop) -> None:
    tally = Tally()
    tally.drop(reason)
    tally.drop(reason, MESSAGE)
    tally.drop(reason, count=5)
    assert dict(tally.dropped) == {reason: 7}


@pytest.mark.parametrize("reason", list(Drop))
def test_messages_are_kept_where_somebody_is_wrong(reason: Drop) -> None:
    tally = Tally()
    tally.drop(reason, MESSAGE)
    assert list(tally.refused) == [(reason, MESSAGE)] * (reason in AT_FAULT)


@pytest.mark.parametrize(
    "reason", [Drop.DUPLICATE, Drop.LATE, Drop.UNPAIRED], ids=lambda drop: drop.value
)
def test_what_a_healthy_feed_also_does_is_not_kept(reason: Drop) -> None:
    assert reason not in AT_FAULT


def test_the_newest_messages_are_kept_and_no_more_than_agreed() -> None:
    tally = Tally()
    for ts in range(MAX_REFUSED + 3):
        tally.drop(Drop.CONFLICT, asset("AAPL", ts, 0.5))
    assert tally.dropped[Drop.CONFLICT] == MAX_REFUSED + 3
    assert len(tally.refused) == MAX_REFUSED
    assert tally.refused[0] == (Drop.CONFLICT, asset("AAPL", 3, 0.5))


def test_a_drop_without_a_message_keeps_nothing() -> None:
    tally = Tally()
    tally.drop(Drop.CONFLICT)
    assert not tally.refused


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0.0, None),
        (-0.5, None),
        (1e150, None),
        (-1e150, None),
        (1.0000001e150, Drop.OUT_OF_RANGE),
        (-1.7e308, Drop.OUT_OF_RANGE),
        (nan, Drop.NOT_FINITE),
        (inf, Drop.NOT_FINITE),
        (-inf, Drop.NOT_FINITE),
    ],
)
def test_what_cannot_be_squared_is_no_return(value: float, reason: Drop | None) -> None:
    assert refuse(value) is reason


def test_a_drop_is_counted_by_source_and_by_what_it_was_about() -> None:
    tally = Tally({"AAPL": 0, "BAC": 1}, ["SPY"])
    tally.source = tally.sources.number("qmtl")
    tally.drop(Drop.LATE, asset("BAC", 1, 0.5))
    tally.drop(Drop.LATE, bench(1, 0.5))
    with tally.told_by(tally.sources.number("replay")):
        tally.drop(Drop.UNKNOWN_SYMBOL, asset("IBM", 1, 0.5))
        tally.drop(Drop.UNKNOWN_BENCHMARK, bench(1, 0.5, benchmark="QQQ"))
    tally.drop(Drop.LATE, asset("BAC", 2, 0.5))
    by_name = dict(zip(tally.sources.names, tally.sources.dropped, strict=True))
    assert dict(by_name["qmtl"]) == {"late": 3}
    assert dict(by_name["replay"]) == {"unknown_symbol": 1, "unknown_benchmark": 1}
    assert {r: counts.tolist() for r, counts in tally.of_symbol.items()} == {
        Drop.LATE: [0, 2]
    }
    # Names that nobody configured have no count of their own: there may be many.
    assert tally.of_benchmark == {"SPY": {"late": 1}}


def test_what_no_factor_sees_counts_once_for_each_that_would_have_used_it() -> None:
    tally = Tally({"AAPL": 0}, ["SPY", "QQQ", "SPY"])
    for message, n_factors in (
        (asset("AAPL", 1, nan), 3),
        (asset("IBM", 1, 0.1), 3),
        (bench(1, nan), 2),
        (bench(1, nan, benchmark="QQQ"), 1),
        (bench(1, nan, benchmark="DIA"), 1),
        (SessionOpened(benchmark="SPY", ts_event=1), 2),
        (HaltSymbol(symbol="AAPL"), 0),  # no observation
        (Goodbye(reason="late"), 0),
    ):
        before = tally.dropped[Drop.UNDELIVERABLE]
        tally.drop_for_all(Drop.UNDELIVERABLE, message)
        assert tally.dropped[Drop.UNDELIVERABLE] - before == n_factors, message
    tally.drop_for_all(Drop.OVERFLOW, bench(1, 0.1), count=5)
    assert tally.dropped[Drop.OVERFLOW] == 10
    assert tally.of_benchmark["SPY"] == {"undeliverable": 4, "overflow": 10}


def test_what_waited_in_vain_is_counted_for_those_who_sent_it() -> None:
    tally = Tally({"AAPL": 0, "BAC": 1, "IBM": 2})
    first, second = tally.sources.number("a"), tally.sources.number("b")
    sources = np.array([second, first, second], dtype=np.uint16)
    tally.drop_waiting(Drop.UNPAIRED, np.array([0.1, 0.2, nan]), sources)
    tally.drop_waiting(Drop.UNPAIRED, np.full(3, nan), sources)
    assert tally.dropped == {Drop.UNPAIRED: 2}
    assert tally.sources.dropped[first] == {"unpaired": 1}
    assert tally.sources.dropped[second] == {"unpaired": 1}
    assert tally.of_symbol[Drop.UNPAIRED].tolist() == [1, 1, 0]
