"""Which side of a pair has died, and what a topic then says."""

from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaFactory, BetaUpdated, MarketBetaConfig, Reason, Status
from beta_factory.actors.watch import Watch
from beta_factory.messages import HaltSymbol, Message, RemoveSymbol, ResumeSymbol
from strategies import BENCHMARK, asset, bench, examples, frame

SECOND = 10**9
MODEL = MarketBetaConfig(8, 3, stale_after=100, feed_timeout="5s", frozen_after=3)
SYMBOLS = ("AAPL", "BAC", "IBM")

ALIVE, FROZEN, SILENT = "alive", "frozen", "silent"
MATRIX = {
    (ALIVE, ALIVE): Reason.NONE,
    (FROZEN, ALIVE): Reason.ASSET_FROZEN,
    (SILENT, ALIVE): Reason.ASSET_SILENT,
    (ALIVE, FROZEN): Reason.BENCHMARK_FROZEN,
    (FROZEN, FROZEN): Reason.BENCHMARK_FROZEN,
    (SILENT, FROZEN): Reason.ASSET_SILENT,
    (ALIVE, SILENT): Reason.BENCHMARK_SILENT,
    (FROZEN, SILENT): Reason.BENCHMARK_SILENT,
    (SILENT, SILENT): Reason.FEED_SILENT,
}
"""What a row says, by its symbol's state and its benchmark's."""


class Feed:
    """A factory whose clock is looked at once a second, and what it publishes."""

    def __init__(self, model: MarketBetaConfig = MODEL) -> None:
        self.factory = BetaFactory(SYMBOLS, benchmark=BENCHMARK, config=model)
        self.second = 0
        self.updates: list[BetaUpdated] = []

    def look(self) -> list[BetaUpdated]:
        """Look at the clock, one second later; return what that brought."""
        self.second += 1
        said = self.factory.advance_clock(self.second * SECOND)
        self.updates += said
        return said

    def tell(self, *messages: Message) -> list[BetaUpdated]:
        said = [u for message in messages for u in self.factory.receive(message)]
        self.updates += said
        return said

    def bar(
        self,
        *,
        benchmark: float | None = 0.0,
        symbols: tuple[str, ...] = SYMBOLS,
        value: float | None = None,
    ) -> list[BetaUpdated]:
        """A look, and a bar of all who are alive."""
        said = self.look()
        ts = self.second * SECOND
        rng = np.random.default_rng(self.second)
        if benchmark is not None:
            said += self.tell(bench(ts, benchmark or rng.normal()))
        for symbol in symbols:
            own = rng.normal()
            said += self.tell(asset(symbol, ts, own if value is None else value))
        return said

    def status(self, symbol: str = "AAPL") -> tuple[Status, Reason] | None:
        latest = self.factory.latest(f"beta.market.{symbol}")
        return None if latest is None else (latest.status, latest.reason)


def stale(reason: Reason) -> tuple[Status, Reason]:
    return Status.STALE, reason


OK = (Status.OK, Reason.NONE)


def a_watch(asset_state: str, benchmark_state: str) -> Watch:
    """Return a watch of one row in these states."""
    watch = Watch(1, MODEL)
    watch.look_at_clock(0)
    for _ in range(3):
        watch.close_bar(
            np.array(
                [0.1 if asset_state == FROZEN else np.random.default_rng().random()]
            ),
            0.2 if benchmark_state == FROZEN else np.random.default_rng().random(),
        )
    watch.look_at_clock(5 * SECOND)
    watch.heard[0] = asset_state != SILENT
    watch.benchmark_heard = benchmark_state != SILENT
    return watch


@pytest.mark.parametrize("states", list(MATRIX))
def test_what_a_row_says_follows_from_both_sides(states: tuple[str, str]) -> None:
    watch = a_watch(*states)
    assert watch.reasons(np.array([0])).tolist() == [MATRIX[states]]
    assert watch.reason_of(0) is MATRIX[states]


@examples(40)
@given(st.data())
def test_one_row_says_what_many_say(data: st.DataObject) -> None:
    watch = Watch(4, MODEL)
    now = 0
    for _ in range(data.draw(st.integers(1, 20))):
        now += data.draw(st.integers(0, 4)) * SECOND
        watch.look_at_clock(now)
        watch.heard[:] = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
        watch.benchmark_heard = data.draw(st.booleans())
        values = st.sampled_from([nan, 0.1, 0.1, 0.2])
        returns = data.draw(st.lists(values, min_size=4, max_size=4))
        watch.close_bar(np.array(returns), data.draw(values))
        many = watch.reasons(np.arange(4)).tolist()
        assert [watch.reason_of(row) for row in range(4)] == many
        assert watch.is_active or many == [0, 0, 0, 0]
        watch.say(np.array([1, 3]))
        watch.say_one(2)
        others = watch.changed().tolist()
        assert set(others) <= {0}  # the other three have just said it
        assert watch.changed().tolist() == []


class TestSilence:
    """A side is silent when nothing of it was taken for the timeout."""

    @pytest.mark.parametrize(
        ("benchmark", "symbols", "reason"),
        [
            (0.0, ("BAC", "IBM"), Reason.ASSET_SILENT),
            (None, SYMBOLS, Reason.BENCHMARK_SILENT),
            (None, (), Reason.FEED_SILENT),
        ],
    )
    def test_it_is_noticed_within_the_bound_and_once(
        self, benchmark: float | None, symbols: tuple[str, ...], reason: Reason
    ) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        died = feed.second
        assert feed.status() == OK
        while feed.second < died + 4:
            feed.bar(benchmark=benchmark, symbols=symbols)
            assert feed.status() == OK
        feed.bar(benchmark=benchmark, symbols=symbols)
        assert feed.second - died == 5
        assert feed.status() == stale(reason)
        before = len([u for u in feed.updates if u.symbol == "AAPL"])
        for _ in range(20):
            feed.bar(benchmark=benchmark, symbols=symbols)
        assert len([u for u in feed.updates if u.symbol == "AAPL"]) == before
        for _ in range(3):
            feed.bar()
        assert feed.status() == OK

    def test_the_others_are_not_concerned(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        for _ in range(30):
            feed.bar(symbols=("AAPL",))
            assert feed.status("AAPL") == OK
        assert feed.status("BAC") == stale(Reason.ASSET_SILENT)

    def test_a_reason_may_change_while_the_status_stays(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        for _ in range(10):
            feed.bar(symbols=())
        assert feed.status() == stale(Reason.ASSET_SILENT)
        for _ in range(6):
            feed.look()
        assert feed.status() == stale(Reason.FEED_SILENT)
        feed.bar(symbols=())
        feed.look()
        assert feed.status() == stale(Reason.ASSET_SILENT)

    def test_a_pair_that_comes_while_its_benchmark_is_silent_says_so(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        feed.bar(symbols=("BAC", "IBM"))
        for _ in range(6):
            feed.look()
            feed.tell(asset("BAC", (feed.second + 9) * SECOND, 0.1))
        open_bar = feed.factory.cohorts[0].ts_event
        (update,) = feed.tell(asset("AAPL", open_bar, 0.3))
        assert (update.status, update.reason) == stale(Reason.BENCHMARK_SILENT)

    @pytest.mark.parametrize("value", [0.3, 99.0], ids=["repeated", "held"])
    def test_what_is_not_taken_is_no_sign_of_life(self, value: float) -> None:
        feed = Feed(
            MarketBetaConfig(
                8, 3, feed_timeout="5s", max_abs_return=9.0, stale_after=99
            )
        )
        for _ in range(6):
            feed.bar()
        ts = feed.second * SECOND
        for _ in range(6):
            feed.bar(symbols=("BAC", "IBM"))
            feed.tell(asset("AAPL", ts if value < 1 else feed.second * SECOND, value))
        assert feed.status() == stale(Reason.ASSET_SILENT)

    def test_a_benchmark_that_is_held_falls_silent(self) -> None:
        feed = Feed(
            MarketBetaConfig(
                8, 3, feed_timeout="5s", max_abs_return=9.0, stale_after=99
            )
        )
        for _ in range(6):
            feed.bar()
        for _ in range(6):
            feed.bar(benchmark=1e6)
        assert feed.status() == stale(Reason.BENCHMARK_SILENT)

    def test_a_symbol_that_never_came_says_so(self) -> None:
        feed = Feed()
        for _ in range(8):
            feed.bar(symbols=("BAC", "IBM"))
        assert feed.status("AAPL") == stale(Reason.ASSET_SILENT)
        (first,) = [u for u in feed.updates if u.symbol == "AAPL"]
        assert (first.n_obs, first.beta) == (0, None)

    def test_nothing_is_said_before_there_is_a_bar(self) -> None:
        feed = Feed()
        for _ in range(9):
            assert feed.look() == []

    def test_columns_are_signs_of_life(self) -> None:
        names = tuple(f"S{i:03d}" for i in range(100))
        factory = BetaFactory(names, benchmark=BENCHMARK, config=MODEL)
        rng = np.random.default_rng(1)
        for second in range(1, 30):
            factory.advance_clock(second * SECOND)
            factory.receive(bench(second * SECOND, rng.normal()))
            returns = rng.normal(size=100)
            if second > 9:
                returns[7] = nan
            factory.receive(frame(second * SECOND, names, returns))
        last = [factory.latest(f"beta.market.{name}") for name in names]
        silent = [u.symbol for u in last if u and u.reason is Reason.ASSET_SILENT]
        assert silent == ["S007"]

    def test_a_halted_symbol_says_that_it_is_halted(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        feed.tell(HaltSymbol(symbol="AAPL"))
        for _ in range(9):
            feed.bar()
        assert feed.status() == (Status.HALTED, Reason.HALTED_BY_OPERATOR)
        (update,) = feed.tell(ResumeSymbol(symbol="AAPL"))
        assert (update.status, update.reason) == stale(Reason.ASSET_SILENT)

    def test_a_removed_symbol_is_not_watched(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        feed.tell(RemoveSymbol(symbol="AAPL"))
        for _ in range(9):
            feed.bar()
        assert feed.status() == (Status.REMOVED, Reason.REMOVED_BY_OPERATOR)


class TestFrost:
    """A side is frozen when it repeats itself for so many bars."""

    def test_a_symbol_that_repeats_itself_is_frozen(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        for _ in range(3):
            feed.bar(symbols=("AAPL",), value=0.25)
            assert feed.status() == OK
        feed.bar(symbols=("AAPL",), value=0.25)
        assert feed.status() == stale(Reason.ASSET_FROZEN)
        feed.bar()  # another value: at the end of its bar it counts
        assert feed.status() == stale(Reason.ASSET_FROZEN)
        feed.bar()
        assert feed.status() == OK

    def test_the_third_bar_tells_when_it_ends(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        for _ in range(3):
            feed.bar(symbols=("AAPL",), value=0.25)
        last = feed.second * SECOND
        said = feed.bar(symbols=())
        assert [(u.symbol, u.ts_event, u.reason) for u in said] == [
            ("AAPL", last, Reason.ASSET_FROZEN)
        ]

    def test_a_missing_return_is_neither_the_same_nor_another(self) -> None:
        feed = Feed()
        for value in (0.25, 0.25, 0.25, 0.25, 0.25):
            feed.bar(symbols=("AAPL",), value=value)
            feed.bar(symbols=())
        assert feed.status() == stale(Reason.ASSET_FROZEN)

    def test_a_benchmark_that_repeats_itself_makes_every_row_stale(self) -> None:
        feed = Feed()
        for _ in range(6):
            feed.bar()
        for _ in range(4):
            assert feed.status("BAC") == OK
            feed.bar(benchmark=0.5)
        assert {feed.status(symbol) for symbol in SYMBOLS} == {
            stale(Reason.BENCHMARK_FROZEN)
        }
        feed.bar()
        feed.bar()
        assert feed.status("BAC") == OK

    def test_without_the_key_nobody_is_frozen(self) -> None:
        feed = Feed(MarketBetaConfig(8, 3, feed_timeout="5s"))
        for _ in range(20):
            feed.bar(value=0.25)
        assert feed.status() == OK
