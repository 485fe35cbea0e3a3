"""What goes wrong in other actor systems, one test each, named after it.

Those that concern one part alone stand with that part, under the same name:
``grep -rn test_pitfall tests`` lists them all.
"""

import logging
import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import BetaColumns, BetaRows, Factor, MarketBetaConfig
from beta_factory.messages import (
    BetaUpdated,
    HaltSymbol,
    Message,
    Reason,
    ResumeSymbol,
    Status,
    encode,
)
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.supervisor import RestartPolicy
from strategies import asset, bench, examples
from testkit import (
    RESTART_S,
    SYMBOLS,
    Stage,
    VirtualLoop,
    bars_of,
    column_bars_of,
    virtual_loop,
)

NEIGHBOURS = ("AAPL", "IBM")
Updates = list[BetaColumns | BetaRows]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


def started(loop: VirtualLoop, **options: object) -> Stage:
    stage = Stage(loop, **options)  # type: ignore[arg-type]
    stage.system.start()
    return stage


def play(stage: Stage, bars: list[list[Message]]) -> None:
    for bar in bars:
        stage.turn(*bar)


def quarantine_broadcaster(stage: Stage) -> None:
    for stamp in range(9001, 9005):
        stage.broadcaster.poison[stamp] = ValueError("boom")
        stage.turn(bench(stamp, 0.1))
        stage.loop.advance(RESTART_S)
    assert stage.broadcaster_cell.state is CellState.QUARANTINED


# Mailboxes


def test_pitfall_stop_with_queued_messages_spins_for_ever(loop: VirtualLoop) -> None:
    stage = started(loop)
    echo = asset("BAC", 7, 0.1)
    stage.flaky["BAC"].answers[7] = [echo]
    taken = 0

    def tick() -> float:
        nonlocal taken
        taken += 1
        return taken * 0.01

    stage.take(echo)  # from here on it always has one more message for itself
    stage.loop.monotonic = tick  # type: ignore[method-assign]
    stage.system.stop(timeout_s=1.0)
    assert stage.cell("BAC").state is CellState.STOPPED
    assert len(stage.flaky["BAC"].stamps) < 200
    assert stage.letters[-1] == ("BAC", 7, "actor stopped")


def test_pitfall_shutdown_has_no_overall_deadline(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    stage = started(loop, mailbox_capacity=1000)
    now = 0.0
    stage.loop.monotonic = lambda: now  # type: ignore[method-assign]
    receive = stage.flaky["BAC"].receive

    def slowly(message: Message) -> object:
        nonlocal now
        now += 0.3
        return receive(message)

    stage.flaky["BAC"].receive = slowly  # type: ignore[method-assign, assignment]
    stage.flaky["IBM"].answers[1] = [asset("BAC", ts, 0.1) for ts in range(1, 101)]
    stage.take(asset("IBM", 1, 0.1))
    stage.system.stop(timeout_s=1.0)
    assert stage.flaky["BAC"].stamps == [1, 2, 3, 4]
    buried = [stamp for name, stamp, _ in stage.letters if name == "BAC"]
    assert buried == list(range(5, 101))
    # There is no time left for hooks, and that is said.
    assert "on_stop" not in stage.flaky["AAPL"].calls
    assert "system.overdue queued=96" in caplog.text
    assert "ended without on_stop" in caplog.text


def test_pitfall_a_command_is_evicted_by_data(loop: VirtualLoop) -> None:
    stage = started(loop, mailbox_capacity=2, overflow=OverflowPolicy.DROP_OLDEST)
    play(stage, bars_of(4))
    stage.poison("BAC", 99)
    stage.turn(asset("BAC", 99, 0.1))
    stage.turn(HaltSymbol(symbol="BAC"))
    stage.turn(*(asset("BAC", ts, 0.1) for ts in range(100, 110)))
    loop.advance(RESTART_S)
    assert stage.flaky["BAC"].calls.count("receive") == 4 + 1 + 1 + 2
    assert stage.updates_of("BAC")[-1].status is Status.HALTED
    stage.turn(ResumeSymbol(symbol="BAC"))
    assert stage.updates_of("BAC")[-1].status is Status.OK


def test_pitfall_actors_that_answer_each_other_recurse(loop: VirtualLoop) -> None:
    stage = started(loop)
    stage.flaky["BAC"].answers[1] = [asset("IBM", 2, 0.1)]
    stage.flaky["IBM"].answers[2] = [asset("BAC", 1, 0.1)]
    stage.turn(asset("BAC", 1, 0.1))
    assert stage.letters == []
    # A turn takes what is there at its beginning, and the rest of the world its turn.
    assert (stage.flaky["BAC"].stamps, stage.flaky["IBM"].stamps) == ([1], [2])
    stage.turn(asset("AAPL", 1, 0.1))
    assert stage.flaky["AAPL"].stamps == [1]
    assert stage.flaky["BAC"].stamps == [1, 1]


def test_pitfall_mail_of_a_quarantined_actor_lost_on_stop(loop: VirtualLoop) -> None:
    stage = started(loop)
    stage.poison("BAC", 91, 92, 93, 94)
    for stamp in (91, 92, 93, 94):
        stage.turn(asset("BAC", stamp, 0.1))
        if stamp < 94:
            stage.turn(asset("BAC", stamp + 100, 0.1))
            loop.advance(RESTART_S)
    assert stage.cell("BAC").state is CellState.QUARANTINED
    stage.turn(asset("BAC", 5, 0.1))
    stage.system.stop()
    received = {*stage.flaky["BAC"].stamps, *(letter[1] for letter in stage.letters)}
    assert received == {5, 91, 92, 93, 94, 191, 192, 193}
    assert stage.drops["undeliverable"] == len(stage.letters) == 5


def test_pitfall_dead_letters_with_no_listener(loop: VirtualLoop) -> None:
    stage = started(loop, mailbox_capacity=1)
    stage.poison("BAC", 1)
    stage.turn(*(asset("BAC", ts, 0.1) for ts in range(1, 2001)))
    statistics = stage.system.statistics()
    assert statistics.n_dead_letters == 1 + 1998
    assert statistics.dropped == {"overflow": 1998, "undeliverable": 1}
    # What is kept is bounded, and its numbers say how many went.
    kept = stage.system.supervisor.dead_letters
    assert len(kept) == 1000
    assert [b.number - a.number for a, b in pairwise(kept)] == [1] * 999
    assert kept[-1].number == 1999


# Supervision


def test_pitfall_a_crash_loop_that_nobody_sees(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stage = started(loop)
    play(stage, bars_of(4))
    for stamp in (91, 92, 93, 94):
        stage.poison("BAC", stamp)
        stage.turn(asset("BAC", stamp, 0.1))
        loop.advance(RESTART_S)
    failed = [r for r in caplog.records if "actor.failed" in r.getMessage()]
    assert len(failed) == 3
    assert [bool(record.exc_info) for record in failed] == [True, False, False]
    (last,) = [r for r in caplog.records if "actor.quarantined" in r.getMessage()]
    assert last.levelno == logging.ERROR
    assert last.exc_info
    assert "poison at 94" in caplog.text
    assert "raise self.poison[stamp]" in caplog.text  # where it was raised
    statistics = stage.system.statistics()
    assert (statistics.n_failures, statistics.n_restarts) == (4, 3)
    assert (statistics.n_quarantined, statistics.n_dead_letters) == (1, 4)
    shown = stage.updates_of("BAC")[-1]
    assert (shown.status, shown.reason) == (Status.DEGRADED, Reason.ACTOR_QUARANTINED)


def test_pitfall_a_quarantined_broadcaster_is_silence(loop: VirtualLoop) -> None:
    stage = started(loop)
    play(stage, bars_of(4))
    quarantine_broadcaster(stage)
    last = {update.symbol: update for update in stage.updates}
    for name in SYMBOLS:
        assert last[name].status is Status.DEGRADED
        assert last[name].reason is Reason.ACTOR_QUARANTINED
        assert last[name].beta is not None  # the window is what it was
    stage.broadcaster.poison.clear()
    stage.system.supervisor.revive(stage.broadcaster_cell)
    loop.settle()
    stage.system.end_turn()
    assert {u.status for u in stage.updates[-3:]} == {Status.OK}
    stage.turn(*bars_of(5)[4])
    assert {u.ts_event for u in stage.updates[-3:]} == {5}


def test_pitfall_one_trouble_hides_another(loop: VirtualLoop) -> None:
    stage = started(loop)
    play(stage, bars_of(4))
    stage.turn(HaltSymbol(symbol="IBM"))
    quarantine_broadcaster(stage)
    stage.poison("BAC", 99)
    stage.turn(asset("BAC", 99, 0.1))

    def shown() -> dict[str, Reason]:
        stage.system.end_turn()
        return {update.symbol: update.reason for update in stage.updates}

    assert shown() == {
        "AAPL": Reason.ACTOR_QUARANTINED,
        "BAC": Reason.ACTOR_RESTARTED,
        "IBM": Reason.HALTED_BY_OPERATOR,
    }
    loop.advance(RESTART_S)
    assert shown()["BAC"] is Reason.ACTOR_QUARANTINED
    stage.broadcaster.poison.clear()
    stage.system.supervisor.revive(stage.broadcaster_cell)
    assert shown() == {
        "AAPL": Reason.NONE,
        "BAC": Reason.NONE,
        "IBM": Reason.HALTED_BY_OPERATOR,
    }


def test_pitfall_resuming_hides_that_the_benchmark_is_dead(loop: VirtualLoop) -> None:
    stage = started(loop)
    play(stage, bars_of(4))
    stage.turn(HaltSymbol(symbol="IBM"))
    quarantine_broadcaster(stage)
    stage.turn(ResumeSymbol(symbol="IBM"))
    shown = stage.updates_of("IBM")[-1]
    assert (shown.status, shown.reason) == (Status.DEGRADED, Reason.ACTOR_QUARANTINED)
    stage.broadcaster.poison.clear()
    stage.system.supervisor.revive(stage.broadcaster_cell)
    stage.system.end_turn()
    assert stage.updates_of("IBM")[-1].status is Status.OK


def test_a_broadcaster_that_restarts_is_no_news(loop: VirtualLoop) -> None:
    stage = started(loop)
    play(stage, bars_of(4))
    n_updates = len(stage.updates)
    stage.broadcaster.poison[9] = ValueError("boom")
    stage.turn(bench(9, 0.1))
    loop.advance(RESTART_S)
    stage.system.end_turn()
    assert stage.broadcaster_cell.state is CellState.LIVE
    assert len(stage.updates) == n_updates


@given(st.integers(0, 2**32))
@examples(40)
def test_pitfall_a_neighbour_misses_a_message(seed: int) -> None:
    # One actor fails at random, in receive and in every hook; the others' updates are
    # those of a calm day, byte for byte, and its own are, once it is back.
    rng = random.Random(seed)
    bars_in = rng.choice([bars_of, column_bars_of])
    bars = bars_in(12)
    with virtual_loop() as loop:
        forgiving = RestartPolicy(10**6, 60.0, RESTART_S, RESTART_S)
        patient = Factor("SPY", model=MarketBetaConfig(30, 3, allowed_lateness=20))
        stage, calm = (
            started(loop, restart_policy=forgiving, factors=[patient]) for _ in range(2)
        )
        flaky = stage.flaky["BAC"]
        for bar in bars:
            flaky.raises.clear()
            if rng.random() < 0.4:
                stamp = 1000 + len(flaky.calls)
                stage.poison("BAC", stamp)
                stage.turn(asset("BAC", stamp, 0.1))
            if rng.random() < 0.3:
                flaky.raises["on_restart"] = ValueError("again")
            stage.turn(*bar)
            calm.turn(*bar)
            loop.advance(RESTART_S * rng.choice([0.3, 1.0, 2.0]))
        flaky.raises.clear()
        loop.advance(10 * RESTART_S)
        flaky.raises["on_stop"] = ValueError("at the end")
        for one in (stage, calm):
            one.system.stop()
        shown = [encode(u) for u in stage.updates_of(*NEIGHBOURS)]
        assert shown == [encode(u) for u in calm.updates_of(*NEIGHBOURS)]
        assert numbers(stage) == pytest.approx(numbers(calm), rel=1e-12, abs=1e-12)


def numbers(stage: Stage) -> list[float]:
    """Return what BAC's window says at the end, whatever its status was between."""
    last: BetaUpdated = stage.updates_of("BAC")[-1]
    assert last.beta is not None
    assert last.std_error is not None
    return [last.ts_event, last.beta, last.std_error, last.n_obs, last.status]


# Subscribers' callbacks


def test_pitfall_a_callback_that_raises_reaches_the_publisher(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    stage = started(loop)
    seen: list[int] = []

    def failing(_updates: Updates) -> None:
        msg = "not my day"
        raise ValueError(msg)

    stage.system.listeners.add(failing)
    stage.system.listeners.add(lambda updates: seen.append(len(updates)))
    play(stage, bars_of(5))
    assert len(stage.updates) == 5 * len(SYMBOLS)
    assert seen == [len(turn) for turn in stage.turns]
    # Counted each time, and told once: a log per turn would hide the rest.
    assert stage.system.statistics().n_listener_failures == 5
    assert caplog.text.count("listener.failed") == 1
    assert "not my day" in caplog.text


def test_pitfall_a_callback_that_recovers_is_never_heard_of_again(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    stage = started(loop)
    fails = [True, True, False, True]

    def moody(_updates: Updates) -> None:
        if fails.pop(0):
            raise ValueError

    stage.system.listeners.add(moody)
    play(stage, bars_of(4))
    assert fails == []
    assert caplog.text.count("listener.failed") == 2


def test_pitfall_a_callback_that_leaves_disturbs_the_round(loop: VirtualLoop) -> None:
    stage = started(loop)
    seen: list[str] = []
    removals: dict[str, Callable[[], None]] = {}

    def first(_updates: Updates) -> None:
        seen.append("first")
        for name in ("first", "second"):
            removals[name]()

    removals["first"] = stage.system.listeners.add(first)
    removals["second"] = stage.system.listeners.add(lambda _: seen.append("second"))
    stage.system.listeners.add(lambda _: seen.append("third"))
    play(stage, bars_of(2))
    assert seen == ["first", "third", "third"]
    removals["first"]()
