"""Conversations with the broadcaster of one benchmark."""

from math import inf, nan

import pytest

from beta_factory.actors import Factor, MarketBetaConfig
from beta_factory.actors.behavior import Behavior
from beta_factory.actors.benchmark import BenchmarkBroadcaster
from beta_factory.actors.cohort import Cohort
from beta_factory.actors.tally import Drop, Tally
from beta_factory.messages import Heartbeat, Message
from strategies import asset, bench, frame


class Stage:
    """A broadcaster with as many cohorts as wanted."""

    def __init__(self, *factors: str) -> None:
        self.tally = Tally()
        self.cohorts = tuple(
            Cohort(Factor("SPY", name, MarketBetaConfig(5, 3)), ("AAPL",), self.tally)
            for name in factors
        )
        self.broadcaster = BenchmarkBroadcaster("SPY", self.cohorts, self.tally)

    def drops(self) -> dict[Drop, int]:
        return {reason: count for reason, count in self.tally.dropped.items() if count}


@pytest.mark.parametrize(
    ("messages", "n_bars", "drops"),
    [
        ([], 0, {}),
        ([bench(0, 0.1)], 1, {}),
        ([bench(1, 0.1), bench(2, 0.1), bench(9, 0.3)], 3, {}),
        ([bench(1, 0.1), bench(1, 0.1)], 1, {Drop.DUPLICATE: 1}),
        ([bench(1, 0.1), bench(1, 0.2)], 1, {Drop.CONFLICT: 1}),
        ([bench(5, 0.1), bench(4, 0.1)], 1, {Drop.LATE: 1}),
        ([bench(4, 0.1), bench(5, 0.2), bench(4, 0.1)], 2, {Drop.LATE: 1}),
        ([bench(1, nan)], 0, {Drop.NOT_FINITE: 1}),
        ([bench(1, inf), bench(1, -inf), bench(1, 0.1)], 1, {Drop.NOT_FINITE: 2}),
        ([bench(1, -1e150), bench(2, 1e150)], 2, {}),
        ([bench(1, -1.1e150), bench(1, 1e200)], 0, {Drop.OUT_OF_RANGE: 2}),
    ],
)
def test_a_return_opens_a_bar_or_is_dropped_for_one_reason(
    messages: list[Message], n_bars: int, drops: dict[Drop, int]
) -> None:
    stage = Stage("market")
    for message in messages:
        assert list(stage.broadcaster.receive(message)) == []
    assert stage.cohorts[0].n_bars == n_bars
    assert stage.drops() == drops


def test_the_first_value_stands() -> None:
    stage = Stage("market")
    stage.broadcaster.receive(bench(1, 0.1))
    stage.broadcaster.receive(bench(1, 0.2))
    stage.broadcaster.receive(bench(1, 0.1))
    assert stage.drops() == {Drop.CONFLICT: 1, Drop.DUPLICATE: 1}


def test_all_cohorts_of_the_benchmark_get_the_bar() -> None:
    stage = Stage("fast", "slow")
    stage.broadcaster.receive(bench(7, 0.1))
    assert [cohort.ts_event for cohort in stage.cohorts] == [7, 7]


@pytest.mark.parametrize(
    ("value", "reason"), [(nan, Drop.NOT_FINITE), (1e200, Drop.OUT_OF_RANGE)]
)
def test_what_is_no_return_is_kept_for_inspection(value: float, reason: Drop) -> None:
    stage = Stage("fast", "slow")
    bad = bench(7, value)
    stage.broadcaster.receive(bad)
    assert [why for why, _ in stage.tally.refused] == [reason]
    assert stage.tally.refused[0][1] is bad


def test_conflicting_returns_are_kept_for_inspection() -> None:
    stage = Stage("market")
    stage.broadcaster.receive(bench(7, 0.1))
    stage.broadcaster.receive(bench(7, 0.2))
    assert list(stage.tally.refused) == [(Drop.CONFLICT, bench(7, 0.2))]


@pytest.mark.parametrize(
    "message", [asset("AAPL", 1, 0.1), frame(1, ["SPY"], [0.1]), Heartbeat(ts_init=1)]
)
def test_any_other_message_is_a_mistake_of_the_caller(message: Message) -> None:
    with pytest.raises(TypeError, match="SPY takes BenchmarkReturnObserved"):
        Stage("market").broadcaster.receive(message)


def test_hooks_change_nothing() -> None:
    stage = Stage("market")
    behavior: Behavior = stage.broadcaster
    assert behavior.name == "SPY"
    behavior.on_start()
    behavior.receive(bench(7, 0.1))
    behavior.on_restart(RuntimeError("boom"))
    behavior.on_stop()
    assert stage.cohorts[0].n_bars == 1
