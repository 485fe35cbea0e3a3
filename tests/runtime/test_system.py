"""Actors that fail, in virtual time: what they lose, what nobody else does."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from math import nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import Factor, Outgoing
from beta_factory.messages import (
    BetaUpdated,
    HaltSymbol,
    Heartbeat,
    MailboxFullError,
    MalformedMessageError,
    Message,
    Reason,
    ResumeSymbol,
    ReturnObserved,
    ReturnsObserved,
    Status,
    SymbolsDeclared,
    encode,
)
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.supervisor import RestartPolicy
from strategies import asset, bench, examples, frame
from testkit import (
    RESTART_S,
    SMALL,
    SYMBOLS,
    Flaky,
    Stage,
    VirtualLoop,
    bars_of,
    column_bars_of,
    virtual_loop,
)

Bars = list[list[Message]]
BarsOf = Callable[[int], Bars]
NEIGHBOURS = ("AAPL", "IBM")

formats = pytest.mark.parametrize(
    "bars_in", [bars_of, column_bars_of], ids=["single", "columns"]
)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


def started(loop: VirtualLoop, **options: object) -> Stage:
    stage = Stage(loop, **options)  # type: ignore[arg-type]
    stage.system.start()
    return stage


def play(stage: Stage, bars: Iterable[list[Message]]) -> None:
    for bar in bars:
        stage.turn(*bar)


def without(bars: Bars, *, symbol: str, stamp: int) -> Bars:
    """Return the bars without one single return."""
    return [
        [
            message
            for message in bar
            if not (
                type(message) is ReturnObserved
                and (message.symbol, message.ts_event) == (symbol, stamp)
            )
        ]
        for bar in bars
    ]


def last_of_each_bar(updates: Iterable[BetaUpdated]) -> list[bytes]:
    """Return the bytes of the update that stands at the end of each bar."""
    return [encode(u) for u in {update.ts_event: update for update in updates}.values()]


def wire(updates: Iterable[BetaUpdated]) -> bytes:
    return b"".join(map(encode, updates))


def fail_once(stage: Stage, name: str = "BAC", *, stamp: int) -> None:
    """Let an actor fail at a return that is not in the bars."""
    stage.poison(name, stamp)
    stage.turn(asset(name, stamp, 0.1))


class TestAnActorThatRaisesInReceive:
    @pytest.mark.parametrize("comes_back", ["in its bar", "in the next bar"])
    @formats
    def test_loses_the_poisoned_message_and_nothing_else(
        self, loop: VirtualLoop, bars_in: BarsOf, comes_back: str
    ) -> None:
        # Bar 6 is single, so that it can be poisoned; the rest is in the format.
        bars = [*bars_in(5), bars_of(6)[5], *bars_in(12)[6:]]
        calm = started(loop)
        play(calm, without(bars, symbol="BAC", stamp=6))
        stage = started(loop)
        stage.poison("BAC", 6)
        play(stage, bars[:6])
        if comes_back == "in its bar":
            loop.advance(RESTART_S)
        play(stage, bars[6:7])
        loop.advance(RESTART_S)
        play(stage, bars[7:])
        assert wire(stage.updates_of(*NEIGHBOURS)) == wire(calm.updates_of(*NEIGHBOURS))
        shown = [u for u in stage.updates_of("BAC") if u.ts_event != 6]
        assert last_of_each_bar(shown) == last_of_each_bar(calm.updates_of("BAC"))
        assert stage.letters == [("BAC", 6, "ValueError: poison at 6")]
        assert stage.drops == {"undeliverable": 1}
        assert stage.system.statistics().n_restarts == 1
        assert stage.cell("BAC").state is CellState.LIVE

    def test_is_shown_as_degraded_until_it_is_back(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        play(stage, bars_of(5))
        before = stage.updates_of("BAC")[-1]
        fail_once(stage, stamp=99)
        loop.advance(RESTART_S)
        down, up = stage.updates_of("BAC")[-2:]
        assert (down.status, down.reason) == (Status.DEGRADED, Reason.ACTOR_RESTARTED)
        assert (up.status, up.reason) == (Status.OK, Reason.NONE)
        # The window is intact: the same numbers as before, in both.
        for update in (down, up):
            assert (update.beta, update.n_obs) == (before.beta, before.n_obs)

    def test_before_the_first_bar_there_is_nothing_to_show(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        fail_once(stage, stamp=99)
        loop.advance(RESTART_S)
        assert stage.updates == []
        assert stage.cell("BAC").state is CellState.LIVE

    def test_pitfall_pending_mailbox_lost_on_restart(self, loop: VirtualLoop) -> None:
        stage, calm = started(loop), started(loop)
        fail_once(stage, stamp=99)
        for one in (stage, calm):
            # Three bars that are still to be opened.
            one.turn(*(asset("BAC", ts, ts / 100) for ts in (1, 2, 3)))
        assert stage.flaky["BAC"].stamps == []
        loop.advance(RESTART_S)
        assert stage.flaky["BAC"].stamps == [1, 2, 3]
        for one in (stage, calm):
            one.turn(*(bench(ts, -ts / 50) for ts in (1, 2, 3)))
        assert wire(stage.updates_of("BAC")) == wire(calm.updates_of("BAC"))

    def test_masked_rows_of_columns_are_mailed_and_come_back_in_order(
        self, loop: VirtualLoop
    ) -> None:
        stage, calm = started(loop), started(loop)
        fail_once(stage, stamp=99)
        for one in (stage, calm):
            for ts in (1, 2, 3):
                one.turn(frame(ts, SYMBOLS, [0.1 * ts, 0.2 * ts, 0.3], ts_init=ts))
        assert len(stage.cell("BAC").mailbox) == 3
        loop.advance(RESTART_S)
        assert stage.flaky["BAC"].seen == [
            asset("BAC", ts, 0.2 * ts, ts_init=ts) for ts in (1, 2, 3)
        ]
        for one in (stage, calm):
            one.turn(*(bench(ts, -ts / 50) for ts in (1, 2, 3)))
        assert wire(stage.updates) == wire(calm.updates)

    def test_a_missing_value_of_a_masked_row_is_no_mail(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        fail_once(stage, stamp=99)
        stage.turn(frame(1, SYMBOLS, [0.1, nan, 0.3]))
        assert len(stage.cell("BAC").mailbox) == 0

    @formats
    def test_what_came_while_it_was_away_comes_before_what_came_later(
        self, loop: VirtualLoop, bars_in: BarsOf
    ) -> None:
        # Two values for one bar: the first one stands, whatever happens in between.
        first, second = asset("BAC", 9, 0.3), asset("BAC", 9, 0.4)
        later: Message = second
        if bars_in is column_bars_of:
            later = frame(9, SYMBOLS, [nan, 0.4, nan])
        stage, calm = started(loop), started(loop)
        for one in (stage, calm):
            play(one, bars_of(8))
            one.turn(bench(9, 0.1))
        fail_once(stage, stamp=99)
        for one in (stage, calm):
            one.turn(first)
        stage.come_back("BAC")
        for one in (stage, calm):
            one.turn(later)
        loop.settle()
        kept = {u.ts_event: u for u in stage.updates_of("BAC")}
        assert wire(kept.values()) == wire(calm.updates_of("BAC"))
        assert stage.drops["conflict"] == calm.drops["conflict"] == 1

    @pytest.mark.parametrize(
        ("allowed_lateness", "drops"),
        [(0, {"late": 2, "undeliverable": 1}), (3, {"undeliverable": 1})],
    )
    @formats
    def test_that_is_away_for_bars_needs_lateness_to_be_allowed(
        self,
        loop: VirtualLoop,
        bars_in: BarsOf,
        allowed_lateness: int,
        drops: dict[str, int],
    ) -> None:
        model = msgspec.structs.replace(SMALL, allowed_lateness=allowed_lateness)
        factors = [Factor("SPY", model=model)]
        stage, calm = started(loop, factors=factors), started(loop, factors=factors)
        bars = [*bars_in(4), bars_of(5)[4], *bars_in(10)[5:]]
        play(calm, without(bars, symbol="BAC", stamp=5))
        stage.poison("BAC", 5)
        play(stage, bars[:8])
        loop.advance(RESTART_S)
        play(stage, bars[8:])
        assert stage.drops == drops
        last, expected = stage.updates_of("BAC")[-1], calm.updates_of("BAC")[-1]
        if allowed_lateness:
            assert last.beta == pytest.approx(expected.beta, rel=1e-12, abs=1e-12)
        assert last.n_obs == expected.n_obs - drops.get("late", 0)

    @pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
    def test_pitfall_cancelled_error_ends_more_than_the_actor(
        self, loop: VirtualLoop, error: type[BaseException]
    ) -> None:
        stage = started(loop)
        stage.flaky["BAC"].poison[1] = error("boom")
        stage.turn(bench(1, 0.1), *(asset(name, 1, 0.1) for name in SYMBOLS))
        assert {u.symbol for u in stage.updates_of(*NEIGHBOURS)} == set(NEIGHBOURS)
        assert stage.letters == [("BAC", 1, f"{error.__name__}: boom")]
        loop.advance(RESTART_S)
        assert stage.cell("BAC").state is CellState.LIVE

    def test_all_actors_may_fail_at_once(self, loop: VirtualLoop) -> None:
        stage, calm = started(loop), started(loop)
        for name in SYMBOLS:
            stage.poison(name, 3)
        bars = bars_of(6)
        play(stage, bars[:3])
        loop.advance(RESTART_S)
        play(stage, bars[3:])
        play(calm, [*bars[:2], bars[2][:1], *bars[3:]])
        for name in SYMBOLS:
            shown = [u for u in stage.updates_of(name) if u.ts_event != 3]
            assert last_of_each_bar(shown) == last_of_each_bar(calm.updates_of(name))
        assert stage.system.statistics().n_restarts == 3


@given(
    poison=st.sets(st.tuples(st.integers(1, 12), st.just("BAC")), max_size=6),
    pauses=st.lists(st.sampled_from([0.0, 0.3, 2.0, 70.0]), min_size=12, max_size=12),
    columnar=st.lists(st.booleans(), min_size=12, max_size=12),
)
@examples(40)
def test_whatever_fails_neighbours_lose_nothing_and_every_return_is_accounted_for(
    poison: set[tuple[int, str]], pauses: list[float], columnar: list[bool]
) -> None:
    single, columns = bars_of(12), column_bars_of(12)
    bars = [columns[i] if columnar[i] else single[i] for i in range(12)]
    with virtual_loop() as loop:
        stage, calm = started(loop), started(loop)
        for stamp, name in poison:
            stage.poison(name, stamp)
        play(calm, bars)
        for bar, pause in zip(bars, pauses, strict=True):
            stage.turn(*bar)
            loop.advance(pause)
        loop.advance(RESTART_S)
        stage.system.stop()
    assert wire(stage.updates_of(*NEIGHBOURS)) == wire(calm.updates_of(*NEIGHBOURS))
    statistics = stage.system.statistics()
    assert statistics.n_pairs + sum(stage.drops.values()) == 36
    assert statistics.n_dead_letters == stage.drops.get("undeliverable", 0)


class TestAnActorThatRaisesInAHook:
    def test_pitfall_on_start_that_throws_leaves_a_zombie(
        self, loop: VirtualLoop
    ) -> None:
        stage, calm = Stage(loop), started(loop)
        stage.flaky["BAC"].raises["on_start"] = ValueError("boom")
        stage.system.start()
        states = {name: stage.cell(name).state for name in SYMBOLS}
        assert states == {
            "AAPL": CellState.LIVE,
            "BAC": CellState.RESTARTING,
            "IBM": CellState.LIVE,
        }
        bars = bars_of(6)
        for one in (stage, calm):
            play(one, bars[:1])
        stage.flaky["BAC"].raises.clear()
        loop.advance(RESTART_S)
        assert stage.flaky["BAC"].calls.count("on_start") == 2
        for one in (stage, calm):
            play(one, bars[1:])
        assert stage.cell("BAC").state is CellState.LIVE
        for name in SYMBOLS:
            shown = last_of_each_bar(stage.updates_of(name))
            assert shown == last_of_each_bar(calm.updates_of(name))

    def test_on_restart_that_throws_is_tried_again(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        play(stage, bars_of(4))
        stage.flaky["BAC"].raises["on_restart"] = ValueError("again")
        fail_once(stage, stamp=99)
        loop.advance(RESTART_S)
        stage.flaky["BAC"].raises.clear()
        stage.turn(asset("BAC", 5, 0.1), bench(5, 0.2))
        loop.advance(2 * RESTART_S)
        assert stage.flaky["BAC"].stamps[-1] == 5
        assert stage.updates[-1].ts_event == 5
        assert stage.cell("BAC").state is CellState.LIVE

    def test_on_restart_that_always_throws_ends_in_quarantine(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        play(stage, bars_of(4))
        stage.flaky["BAC"].raises["on_restart"] = ValueError("again")
        fail_once(stage, stamp=99)
        stage.turn(asset("BAC", 5, 0.1))
        loop.settle()
        assert stage.cell("BAC").state is CellState.QUARANTINED
        # Whoever subscribes hears of it at once, not when something else happens.
        last = stage.updates_of("BAC")[-1]
        assert (last.status, last.reason) == (
            Status.DEGRADED,
            Reason.ACTOR_QUARANTINED,
        )
        assert stage.letters[-1] == ("BAC", 5, "actor quarantined")

    def test_on_stop_that_throws_stops_everybody_all_the_same(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        stage.flaky["AAPL"].raises["on_stop"] = ValueError("boom")
        stage.system.stop()
        for name in SYMBOLS:
            assert stage.cell(name).state is CellState.STOPPED
            assert stage.flaky[name].calls[-1] == "on_stop"


class TestQuarantine:
    @pytest.fixture
    def stage(self, loop: VirtualLoop) -> Stage:
        """A stage with three bars, whose BAC has spent its budget."""
        stage = started(loop)
        play(stage, bars_of(3))
        for stamp in (91, 92, 93, 94):
            fail_once(stage, stamp=stamp)
            loop.advance(RESTART_S)
        assert stage.cell("BAC").state is CellState.QUARANTINED
        return stage

    def test_is_shown(self, stage: Stage) -> None:
        last = stage.updates_of("BAC")[-1]
        assert last.status is Status.DEGRADED
        assert last.reason is Reason.ACTOR_QUARANTINED

    @formats
    def test_takes_no_more_mail_and_says_so(
        self, stage: Stage, bars_in: BarsOf
    ) -> None:
        n_letters = stage.system.statistics().n_dead_letters
        n_updates = len(stage.updates_of("BAC"))
        play(stage, bars_in(6)[3:])
        assert stage.letters[n_letters:] == [
            ("BAC", ts, "actor quarantined") for ts in (4, 5, 6)
        ]
        assert stage.drops == {"undeliverable": n_letters + 3}
        assert len(stage.updates_of("BAC")) == n_updates

    @formats
    def test_touches_no_neighbour(
        self, loop: VirtualLoop, stage: Stage, bars_in: BarsOf
    ) -> None:
        calm = started(loop)
        play(calm, bars_of(3))
        for one in (stage, calm):
            play(one, bars_in(8)[3:])
        expected = calm.updates_of(*NEIGHBOURS)
        assert wire(stage.updates_of(*NEIGHBOURS)) == wire(expected)

    def test_can_be_ended_by_an_operator(self, loop: VirtualLoop, stage: Stage) -> None:
        play(stage, column_bars_of(5)[3:])
        stage.system.supervisor.revive(stage.cell("BAC"))
        loop.settle()
        last = stage.updates_of("BAC")[-1]
        assert (last.status, last.ts_event, last.n_obs) == (Status.OK, 5, 3)
        play(stage, column_bars_of(7)[5:])
        assert stage.updates_of("BAC")[-1].n_obs == 5

    def test_counts_the_mail_that_dies_with_the_actor(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        stage.flaky["BAC"].raises["on_restart"] = ValueError("again")
        fail_once(stage, stamp=99)
        stage.turn(*(asset("BAC", ts, 0.1) for ts in (1, 2, 3)))
        loop.settle()
        assert stage.cell("BAC").state is CellState.QUARANTINED
        assert [stamp for _, stamp, _ in stage.letters] == [99, 1, 2, 3]
        assert stage.drops == {"undeliverable": 4}


class TestTheBroadcaster:
    def test_that_fails_keeps_its_bars_and_their_order(self, loop: VirtualLoop) -> None:
        stage, calm = started(loop), started(loop)
        for one in (stage, calm):
            play(one, bars_of(3))
        stage.broadcaster.poison[4] = ValueError("boom")
        bars = bars_of(8)
        for one in (stage, calm):
            play(one, bars[3:4] if one is stage else [bars[3][1:]])
            play(one, bars[4:6])
        assert stage.updates[-1].ts_event == 3
        loop.advance(RESTART_S)
        for one in (stage, calm):
            play(one, bars[6:])
        for name in SYMBOLS:
            shown = [encode_numbers(u) for u in stage.updates_of(name)]
            assert shown == [encode_numbers(u) for u in calm.updates_of(name)]
        assert stage.letters == [("SPY", 4, "ValueError: boom")]

    def test_of_a_symbols_name_does_not_mask_the_symbol(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop, symbols=("BAC", "SPY"))
        play(stage, bars_of(4, ("BAC", "SPY")))
        stage.broadcaster.poison[9] = ValueError("boom")
        n_updates = len(stage.updates)
        stage.turn(bench(9, 0.1))
        assert len(stage.updates) == n_updates
        stage.turn(asset("SPY", 9, 0.1))
        assert stage.flaky["SPY"].stamps[-1] == 9

    def test_pitfall_restart_budget_shared_with_the_symbol_of_its_name(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop, symbols=("BAC", "SPY"))
        for stamp in (91, 92, 93, 94):
            fail_once(stage, "SPY", stamp=stamp)
            loop.advance(RESTART_S)
        stage.broadcaster.poison[1] = ValueError("boom")
        stage.turn(bench(1, 0.1))
        assert stage.cell("SPY").state is CellState.QUARANTINED
        assert stage.broadcaster_cell.state is CellState.RESTARTING


def encode_numbers(update: BetaUpdated) -> tuple[object, ...]:
    # A pair that completes later has another ts_init.
    return update.ts_event, update.beta, update.std_error, update.n_obs, update.status


class TestOverflow:
    @pytest.mark.parametrize(
        ("policy", "given_up", "handled"),
        [
            (OverflowPolicy.DROP_OLDEST, [1, 2, 3], [4, 5]),
            (OverflowPolicy.DROP_NEWEST, [3, 4, 5], [1, 2]),
            (OverflowPolicy.CONFLATE, [1, 2, 3], [4, 5]),
        ],
    )
    @formats
    def test_pitfall_dropped_messages_never_dead_lettered(
        self,
        loop: VirtualLoop,
        bars_in: BarsOf,
        policy: OverflowPolicy,
        given_up: list[int],
        handled: list[int],
    ) -> None:
        stage = started(loop, mailbox_capacity=2, overflow=policy)
        fail_once(stage, stamp=99)
        for bar in bars_in(5):
            stage.turn(*bar[1:])
        assert stage.letters[1:] == [("BAC", ts, "mailbox full") for ts in given_up]
        assert stage.drops == {"overflow": 3, "undeliverable": 1}
        loop.advance(RESTART_S)
        assert stage.flaky["BAC"].stamps == handled

    def test_conflation_keeps_the_newest_return_of_a_bar(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop, mailbox_capacity=2, overflow=OverflowPolicy.CONFLATE)
        fail_once(stage, stamp=99)
        stage.turn(*(asset("BAC", ts, v) for ts, v in ((1, 0.1), (2, 0.2), (1, 0.3))))
        loop.advance(RESTART_S)
        assert stage.flaky["BAC"].seen == [asset("BAC", 1, 0.3), asset("BAC", 2, 0.2)]
        assert stage.drops["overflow"] == 1

    def test_a_full_mailbox_that_blocks_refuses_and_names_the_actor(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop, mailbox_capacity=2, overflow=OverflowPolicy.BLOCK)
        fail_once(stage, stamp=99)
        stage.take(asset("BAC", 1, 0.1), asset("BAC", 2, 0.1))
        with pytest.raises(MailboxFullError, match="BAC is full at 2"):
            stage.take(asset("BAC", 3, 0.1))
        stage.take(asset("IBM", 3, 0.1))
        assert stage.drops == {"undeliverable": 1}

    @pytest.mark.parametrize("ending", ["restart", "quarantine"])
    def test_whoever_waits_for_room_is_called_when_there_is_some(
        self, loop: VirtualLoop, ending: str
    ) -> None:
        stage = started(loop, mailbox_capacity=1, overflow=OverflowPolicy.BLOCK)
        if ending == "quarantine":
            stage.flaky["BAC"].raises["on_restart"] = ValueError("again")
        fail_once(stage, stamp=99)
        stage.take(asset("BAC", 1, 0.1))
        tried: list[bool] = []

        def try_again() -> None:
            try:
                stage.take(asset("BAC", 2, 0.1))
            except MailboxFullError:
                tried.append(False)
                stage.system.when_room(try_again)
            else:
                tried.append(True)

        stage.system.when_room(try_again)
        loop.settle()
        assert tried[-1] is True
        assert len(tried) < 10
        delivered = stage.flaky["BAC"].stamps == [1, 2]
        assert delivered == (ending == "restart")

    def test_a_columnar_frame_that_is_refused_can_be_taken_again(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop, mailbox_capacity=1, overflow=OverflowPolicy.BLOCK)
        stage.turn(bench(1, 0.1))
        for name in ("AAPL", "BAC"):
            fail_once(stage, name, stamp=99)
        stage.take(asset("BAC", 2, 0.1))
        bar = frame(1, SYMBOLS, [0.1, 0.2, 0.3])
        with pytest.raises(MailboxFullError):
            stage.take(bar)
        loop.advance(RESTART_S)
        stage.turn(bar)
        assert stage.system.statistics().n_pairs == 3
        assert stage.drops == {"undeliverable": 2}

    def test_take_all_stops_where_a_mailbox_is_full(self, loop: VirtualLoop) -> None:
        stage = started(loop, mailbox_capacity=1, overflow=OverflowPolicy.BLOCK)
        fail_once(stage, stamp=99)
        messages: list[Message] = [
            asset("IBM", 1, 0.1),
            asset("BAC", 1, 0.1),
            asset("BAC", 2, 0.1),
            asset("IBM", 2, 0.1),
        ]
        position = stage.system.take_all(messages, stage.tables)
        assert position == 2
        loop.advance(RESTART_S)
        assert stage.system.take_all(messages, stage.tables, position) == 4
        assert stage.flaky["BAC"].stamps == [1, 2]
        assert stage.flaky["IBM"].stamps == [1, 2]

    def test_pitfall_full_mailbox_raises_in_the_sender(self, loop: VirtualLoop) -> None:
        stage = started(loop, mailbox_capacity=1, overflow=OverflowPolicy.BLOCK)
        fail_once(stage, "BAC", stamp=99)
        stage.flaky["IBM"].answers[1] = [asset("BAC", 1, 0.1), asset("BAC", 2, 0.1)]
        stage.turn(asset("IBM", 1, 0.1))
        assert stage.cell("IBM").state is CellState.LIVE
        assert stage.letters[-1] == ("BAC", 2, "mailbox full")
        assert stage.drops["overflow"] == 1
        loop.advance(RESTART_S)
        assert stage.flaky["BAC"].stamps == [1]


class TestATurn:
    @pytest.mark.parametrize("budget", [1, 3, 7])
    def test_handles_its_budget_and_leaves_the_rest_to_the_next(
        self, loop: VirtualLoop, budget: int
    ) -> None:
        stage = started(loop, turn_budget=budget)
        fail_once(stage, stamp=99)
        stage.turn(*(asset("BAC", ts, 0.1) for ts in range(1, 11)))
        seen: list[int] = []
        count = stage.system.end_turn

        def end_turn() -> None:
            count()
            seen.append(len(stage.flaky["BAC"].seen))

        stage.system.end_turn = end_turn  # type: ignore[method-assign]
        loop.advance(RESTART_S)
        loop.settle()
        turns = [b - a for a, b in zip([0, *seen], seen, strict=False)]
        assert max(turns) == budget
        assert stage.flaky["BAC"].stamps == list(range(1, 11))

    def test_that_left_something_schedules_one_more_however_many_end(
        self, loop: VirtualLoop
    ) -> None:
        # Else every read of a busy moment would add a turn to all later rounds.
        stage = started(loop, turn_budget=1)
        fail_once(stage, stamp=999)
        stage.turn(*(asset("BAC", ts, 0.1) for ts in range(1, 101)))
        stage.come_back("BAC")
        for _ in range(20):
            stage.system.end_turn()
        handled = len(stage.flaky["BAC"].seen)
        loop.advance()  # a few rounds of the loop
        assert 0 < len(stage.flaky["BAC"].seen) - handled < 5
        loop.settle()
        assert stage.flaky["BAC"].stamps == list(range(1, 101))

    def test_keeps_the_order_of_arrival_across_actors(self, loop: VirtualLoop) -> None:
        stage = started(loop, turn_budget=2)
        order: list[tuple[str, int]] = []
        for name, flaky in stage.flaky.items():
            note(flaky, name, order)
        fail_once(stage, stamp=99)
        stage.take(asset("BAC", 1, 0.1), asset("BAC", 2, 0.1))
        stage.come_back("BAC")
        later: list[Message] = [
            asset("IBM", 3, 0.1),
            asset("BAC", 4, 0.1),
            asset("AAPL", 5, 0.1),
            asset("IBM", 6, 0.1),
        ]
        assert stage.system.take_all(later, stage.tables) == 4
        assert order == []
        loop.settle()
        assert order == [
            ("BAC", 1),
            ("BAC", 2),
            ("IBM", 3),
            ("BAC", 4),
            ("AAPL", 5),
            ("IBM", 6),
        ]

    def test_commits_once_and_hands_on_nothing_when_nothing_happened(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        stage.turn(*bars_of(1)[0])
        stage.system.end_turn()
        assert len(stage.turns) == 1
        assert [update.symbol for update in stage.updates] == list(SYMBOLS)

    def test_without_failures_is_the_plain_factory(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        play(stage, bars_of(10))
        plain = Stage(loop).factory
        expected = [u for bar in bars_of(10) for m in bar for u in plain.receive(m)]
        assert wire(stage.updates) == wire(expected)


def note(flaky: Flaky, name: str, order: list[tuple[str, int]]) -> None:
    receive = flaky.receive

    def noting(message: Message) -> Outgoing:
        following = receive(message)
        order.append((name, flaky.stamps[-1]))
        return following

    flaky.receive = noting  # type: ignore[method-assign]


class TestStart:
    def test_runs_on_start_of_every_actor_once(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        for flaky in (*stage.flaky.values(), stage.broadcaster):
            assert flaky.calls == ["on_start"]

    def test_what_came_before_it_is_handled_first(self, loop: VirtualLoop) -> None:
        stage = Stage(loop)
        stage.turn(bench(1, 0.1), asset("BAC", 1, 0.2))
        assert stage.flaky["BAC"].calls == []
        stage.system.start()
        stage.turn(asset("BAC", 2, 0.2))
        assert stage.flaky["BAC"].stamps == [1, 2]
        assert [u.ts_event for u in stage.updates] == [1]


class TestStop:
    def test_drains_what_is_queued_whatever_the_budget(self, loop: VirtualLoop) -> None:
        stage = started(loop, turn_budget=2)
        stage.turn(bench(1, 0.1))
        fail_once(stage, stamp=99)
        mail = [asset("BAC", ts, 0.1) for ts in range(1, 11)]
        stage.take(*mail)
        stage.come_back("BAC")
        stage.system.stop()
        assert stage.flaky["BAC"].seen == mail
        assert stage.flaky["BAC"].calls[-1] == "on_stop"
        assert stage.updates[-1].ts_event == 1
        assert stage.updates[-1].n_obs == 1

    def test_publishes_what_was_staged(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        stage.take(*bars_of(1)[0])
        stage.system.stop()
        assert len(stage.updates) == 3

    def test_pitfall_mail_of_a_restarting_actor_lost_on_stop(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        fail_once(stage, stamp=99)
        stage.turn(asset("BAC", 1, 0.1), asset("BAC", 2, 0.1))
        stage.system.stop()
        assert stage.letters[1:] == [
            ("BAC", 1, "actor stopped"),
            ("BAC", 2, "actor stopped"),
        ]
        assert stage.drops == {"undeliverable": 3}
        loop.settle()
        assert stage.cell("BAC").state is CellState.STOPPED

    @formats
    def test_nothing_is_published_after_it(
        self, loop: VirtualLoop, bars_in: BarsOf
    ) -> None:
        stage = started(loop)
        play(stage, bars_in(3))
        stage.system.stop()
        n_updates = len(stage.updates)
        play(stage, bars_in(5)[3:])
        loop.settle()
        assert len(stage.updates) == n_updates
        assert stage.drops == {"undeliverable": 8}


class TestTake:
    def test_a_table_with_unknown_symbols_is_said_once(
        self, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        stage = started(loop)
        stage.take(SymbolsDeclared(table=3, symbols=("AAPL", "TSLA", "GM")))
        for ts in (1, 2):
            stage.take(frame(ts, 3, [0.1, 0.2, 0.3]))
        (record,) = caplog.records
        assert record.getMessage() == (
            "table.unknown_symbols table=3 count=2 first='TSLA'"
        )
        assert stage.drops == {"unknown_symbol": 4}

    def test_a_table_of_known_symbols_is_not_worth_a_line(
        self, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage = started(loop)
        stage.take(SymbolsDeclared(table=3, symbols=SYMBOLS))
        assert caplog.records == []

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (asset("TSLA", 1, 0.1), "unknown_symbol"),
            (bench(1, 0.1, "QQQ"), "unknown_benchmark"),
        ],
    )
    def test_what_has_no_actor_is_counted(
        self, loop: VirtualLoop, message: Message, reason: str
    ) -> None:
        stage = started(loop)
        stage.turn(message)
        assert stage.system.take_all([message], stage.tables) == 1
        assert stage.drops == {reason: 2}
        assert stage.letters == []

    def test_a_command_is_no_observation_and_never_counted_as_one(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        stage.flaky["BAC"].poison[-1] = ValueError("boom")
        stage.turn(HaltSymbol(symbol="BAC"))  # fails
        stage.turn(ResumeSymbol(symbol="BAC"))  # waits, and is left
        stage.system.stop()
        stage.turn(ResumeSymbol(symbol="AAPL"))  # comes too late
        assert stage.drops == {}
        assert [(name, reason) for name, _, reason in stage.letters] == [
            ("BAC", "ValueError: boom"),
            ("BAC", "actor stopped"),
            ("AAPL", "actor stopped"),
        ]

    def test_what_no_factory_takes_is_malformed(self, loop: VirtualLoop) -> None:
        with pytest.raises(MalformedMessageError, match="takes returns, was Heartbeat"):
            started(loop).take(Heartbeat(ts_init=1))

    def test_take_all_stops_at_what_is_no_observation(self, loop: VirtualLoop) -> None:
        stage = started(loop)
        messages: list[Message] = [
            bench(1, 0.1),
            asset("BAC", 1, 0.1),
            frame(1, ["IBM"], [0.3]),
            Heartbeat(ts_init=1),
            asset("AAPL", 1, 0.1),
        ]
        assert stage.system.take_all(messages, stage.tables) == 3
        assert stage.system.take_all(messages, stage.tables, 3) == 3
        assert stage.system.take_all(messages, stage.tables, 4) == 5
        stage.system.end_turn()
        assert stage.system.statistics().n_pairs == 3

    def test_take_all_takes_what_stands_before_a_malformed_message(
        self, loop: VirtualLoop
    ) -> None:
        stage = started(loop)
        messages: list[Message] = [bench(1, 0.1), frame(1, 7, [0.1]), bench(2, 0.1)]
        assert stage.system.take_all(messages, stage.tables) == 1
        with pytest.raises(MalformedMessageError, match="never declared"):
            stage.system.take_all(messages, stage.tables, 1)
        assert stage.system.statistics().n_bars == 1

    def test_an_unknown_table_is_malformed(self, loop: VirtualLoop) -> None:
        bar = ReturnsObserved(ts_event=1, symbols=7, period_returns=b"")
        with pytest.raises(MalformedMessageError, match="table 7 was never declared"):
            started(loop).take(bar)


def test_statistics_add_up_over_factors(loop: VirtualLoop) -> None:
    factors = [Factor("SPY", "market", SMALL), Factor("SPY", "again", SMALL)]
    stage = started(loop, factors=factors, restart_policy=RestartPolicy())
    play(stage, bars_of(4))
    statistics = stage.system.statistics()
    assert statistics[:3] == (8, 24, 24)
    assert {n for n in statistics[3:] if isinstance(n, int)} == {0}
    assert statistics.dropped == {}
