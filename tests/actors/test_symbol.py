"""Conversations with one symbol's actor."""

from math import inf, nan

import pytest

from beta_factory.actors import Factor, MarketBetaConfig
from beta_factory.actors.behavior import Behavior
from beta_factory.actors.cohort import Cohort
from beta_factory.actors.row_mask import RowMask
from beta_factory.actors.symbol import SymbolActor, SymbolWindow
from beta_factory.actors.tally import Drop, Tally
from beta_factory.messages import BetaUpdated, Heartbeat, Message
from strategies import BENCHMARK, asset, bench, frame, numbered

CONFIG = MarketBetaConfig(5, 3)
BAC = 1


class Stage:
    """An actor of the second of three rows, in as many factors as wanted."""

    def __init__(self, *benchmarks: str) -> None:
        self.tally = Tally()
        self.cohorts = {
            name: Cohort(Factor(name, name, CONFIG), ("AAPL", "BAC", "IBM"), self.tally)
            for name in benchmarks
        }
        windows = tuple(
            SymbolWindow(
                cohort.stage, cohort.override, cohort.forget, BAC, cohort.release
            )
            for cohort in self.cohorts.values()
        )
        self.apart = RowMask(3)
        self.actor = SymbolActor("BAC", windows, self.tally, self.apart)

    def open(self, benchmark: str, ts: int, value: float) -> None:
        self.cohorts[benchmark].open_bar(ts, value, 0)

    def updates(self) -> list[BetaUpdated]:
        found: list[BetaUpdated] = []
        for cohort in self.cohorts.values():
            cohort.commit()
            found += numbered(cohort.symbols, cohort.updates)
            cohort.updates = []
        return found


def drops(stage: Stage) -> dict[Drop, int]:
    return {reason: count for reason, count in stage.tally.dropped.items() if count}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (asset("BAC", 20, 0.5), None),
        (asset("BAC", 30, 0.5), None),
        (asset("BAC", 19, 0.5), Drop.LATE),
        (asset("BAC", 10, 0.5), Drop.LATE),
        (asset("BAC", 20, nan), Drop.NOT_FINITE),
        (asset("BAC", 20, inf), Drop.NOT_FINITE),
        (asset("BAC", 19, -inf), Drop.NOT_FINITE),
        (asset("BAC", 20, 1e150), None),
        (asset("BAC", 20, 1.1e150), Drop.OUT_OF_RANGE),
        (asset("BAC", 30, -1e300), Drop.OUT_OF_RANGE),
    ],
)
def test_a_return_is_taken_or_dropped_for_one_reason(
    message: Message, reason: Drop | None
) -> None:
    stage = Stage(BENCHMARK)
    stage.open(BENCHMARK, 10, 0.1)
    stage.open(BENCHMARK, 20, 0.1)
    assert list(stage.actor.receive(message)) == []
    assert drops(stage) == ({} if reason is None else {reason: 1})


@pytest.mark.parametrize("ts", [20, 30], ids=["the open bar", "a later bar"])
@pytest.mark.parametrize(
    ("second", "reason"), [(0.5, Drop.DUPLICATE), (0.6, Drop.CONFLICT)]
)
def test_a_second_return_for_a_bar_is_a_duplicate_or_a_conflict(
    ts: int, second: float, reason: Drop
) -> None:
    stage = Stage(BENCHMARK)
    stage.open(BENCHMARK, 20, 0.1)
    stage.actor.receive(asset("BAC", ts, 0.5))
    stage.actor.receive(asset("BAC", ts, second))
    stage.updates()
    stage.actor.receive(asset("BAC", ts, second))
    assert drops(stage) == {reason: 2}


def test_the_first_value_stands() -> None:
    contested, clean = Stage(BENCHMARK), Stage(BENCHMARK)
    for ts, x, y in ((1, 0.1, 0.3), (2, 0.2, 0.1), (3, -0.1, 0.2)):
        for stage in (contested, clean):
            stage.open(BENCHMARK, ts, x)
            stage.actor.receive(asset("BAC", ts, y))
        contested.actor.receive(asset("BAC", ts, 9.9))
        assert contested.updates() == clean.updates()


def test_a_pair_is_published_for_the_actors_own_row() -> None:
    stage = Stage(BENCHMARK)
    stage.open(BENCHMARK, 20, 0.1)
    stage.actor.receive(asset("BAC", 20, 0.5, ts_init=21))
    (update,) = stage.updates()
    assert (update.symbol, update.ts_event, update.ts_init) == ("BAC", 20, 21)
    assert update.n_obs == 1


def test_a_return_goes_to_the_windows_of_all_factors() -> None:
    stage = Stage("QQQ", "SPY")
    stage.open("QQQ", 20, 0.1)
    stage.actor.receive(asset("BAC", 20, 0.5))
    assert [update.factor for update in stage.updates()] == ["QQQ"]
    stage.open("SPY", 20, 0.1)
    assert [update.factor for update in stage.updates()] == ["SPY"]
    assert drops(stage) == {}


def test_a_return_can_be_late_for_one_factor_and_timely_for_another() -> None:
    stage = Stage("QQQ", "SPY")
    stage.open("QQQ", 20, 0.1)
    stage.open("SPY", 10, 0.1)
    stage.actor.receive(asset("BAC", 10, 0.5))
    assert [update.factor for update in stage.updates()] == ["SPY"]
    assert drops(stage) == {Drop.LATE: 1}


@pytest.mark.parametrize(
    "message", [bench(1, 0.1), frame(1, ["BAC"], [0.1]), Heartbeat(ts_init=1)]
)
def test_any_other_message_is_a_mistake_of_the_caller(message: Message) -> None:
    with pytest.raises(TypeError, match="BAC takes ReturnObserved"):
        Stage(BENCHMARK).actor.receive(message)


def test_hooks_change_nothing() -> None:
    stage = Stage(BENCHMARK)
    behavior: Behavior = stage.actor
    assert behavior.name == "BAC"
    behavior.on_start()
    stage.open(BENCHMARK, 20, 0.1)
    behavior.receive(asset("BAC", 20, 0.5))
    behavior.on_restart(RuntimeError("boom"))
    behavior.on_stop()
    (update,) = stage.updates()
    assert update.n_obs == 1
