"""What goes wrong in other systems where more comes than is taken, one test each.

The companion of `test_pitfalls`: queues that reorder, logs that drown, senders that are
told of what is not their fault.
"""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaFactory, Factor
from beta_factory.messages import (
    Acknowledged,
    Hello,
    MailboxFullError,
    Role,
    SymbolsDeclared,
)
from beta_factory.runtime.backlog import MAX_MESSAGES_PER_TURN
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from strategies import asset, bench, examples, frame
from testkit import (
    RESTART_S,
    SMALL,
    SYMBOLS,
    FakeTransport,
    Stage,
    VirtualLoop,
    bars_of,
    framed,
    virtual_loop,
)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


def started(loop: VirtualLoop, **options: object) -> Stage:
    stage = Stage(loop, **options)  # type: ignore[arg-type]
    stage.system.start()
    return stage


@given(
    st.integers(1, 20),
    st.sampled_from(OverflowPolicy),
    st.lists(st.integers(0, 30), min_size=1, max_size=20),
)
@examples(40)
def test_pitfall_a_bounded_queue_overflows_into_an_unbounded_one_and_reorders(
    capacity: int, overflow: OverflowPolicy, bursts: list[int]
) -> None:
    with virtual_loop() as loop:
        stage = started(loop, mailbox_capacity=capacity, overflow=overflow)
        stage.poison("BAC", 1)
        stage.turn(asset("BAC", 1, 0.1))  # from now on its mail waits
        stamp, n_sent = 1, 0
        for burst in bursts:
            for _ in range(burst):
                stamp += 1
                try:
                    stage.take(asset("BAC", stamp, 0.1))
                except MailboxFullError:
                    break  # its source waits, and sends it again
                n_sent += 1
            stage.system.end_turn()
            assert len(stage.cell("BAC").mailbox) <= capacity
            assert loop.n_scheduled <= 2  # its restart, and the end of a turn
        loop.advance(RESTART_S)
        stage.system.end_turn()
        taken = stage.flaky["BAC"].stamps
        assert taken == sorted(taken)
        assert len(taken) == min(n_sent, capacity)
        assert len(taken) + stage.drops.get("overflow", 0) == n_sent


def test_pitfall_a_log_line_per_dropped_message(
    loop: VirtualLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stage = started(loop, mailbox_capacity=1)
    stage.poison("BAC", 1)
    stage.turn(*(asset("BAC", ts, 0.1) for ts in range(1, 3001)))
    stage.turn(*(asset("NOBODY", ts, 0.1) for ts in range(3000)))
    stage.turn(*(asset("IBM", 5, float("nan")) for _ in range(3000)))
    assert sum(stage.drops.values()) == 3000 - 1 + 3000 + 3000
    assert len(caplog.records) < 10


def test_pitfall_telling_a_dead_actor_raises_in_the_sender(loop: VirtualLoop) -> None:
    stage = started(loop)
    stage.poison("BAC", 91, 92, 93, 94)
    for stamp in (91, 92, 93, 94):
        stage.turn(asset("BAC", stamp, 0.1))
        loop.advance(RESTART_S)
    assert stage.cell("BAC").state is CellState.QUARANTINED
    stage.turn(bench(100, 0.1), asset("BAC", 100, 0.1), asset("IBM", 100, 0.1))
    stage.turn(frame(101, SYMBOLS, [0.1, 0.2, 0.3]), bench(101, 0.1))
    assert [u.symbol for u in stage.updates if u.ts_event == 101] == ["AAPL", "IBM"]
    assert [x for x in stage.letters if x[1] in (100, 101)] == [
        ("BAC", 100, "actor quarantined"),
        ("BAC", 101, "actor quarantined"),
    ]
    stage.system.stop()
    stage.turn(asset("IBM", 102, 0.1))
    assert stage.letters[-1] == ("IBM", 102, "actor stopped")


def test_pitfall_stamps_that_never_match_stop_the_engine(loop: VirtualLoop) -> None:
    stage = started(loop)
    for ts in range(1, 400):
        stage.turn(bench(10 * ts, 0.1), *(asset(s, 10 * ts + 1, 0.2) for s in SYMBOLS))
    assert stage.updates == []
    n_waiting = sum(cohort.n_waiting for cohort in stage.factory.cohorts)
    assert n_waiting <= 16
    n_counted = stage.drops["unpaired"]
    assert n_counted + len(SYMBOLS) * n_waiting == 399 * len(SYMBOLS)
    bar = bars_of(1, first=5000)[0]
    stage.turn(*bar)
    assert {u.symbol for u in stage.updates} == set(SYMBOLS)


def test_pitfall_stash_lost_on_stop(loop: VirtualLoop) -> None:
    # What waits for its benchmark when a factory ends is in its snapshot.
    stage = started(loop)
    stage.turn(*bars_of(1)[0])
    stage.turn(asset("BAC", 2, 0.3), frame(2, ["AAPL"], [0.4]))
    stage.system.stop()
    factory = BetaFactory(SYMBOLS, factors=[Factor("SPY", model=SMALL)])
    factory.restore(stage.factory.snapshot())
    updates = factory.receive(bench(2, 0.1))
    assert [(u.symbol, u.n_obs) for u in updates] == [("AAPL", 2), ("BAC", 2)]


def test_pitfall_what_was_read_and_not_taken_is_acknowledged_on_stop(
    loop: VirtualLoop,
) -> None:
    # What a connection holds when the sidecar ends is its feed's: it sends it again.
    stage = started(loop)
    server = Server(stage.system, instance="test")
    feed = Connection(server, loop)
    transport = FakeTransport(feed.pause_writing, feed.resume_writing)
    feed.connection_made(transport)  # type: ignore[arg-type]
    mail = [asset("BAC", ts, 0.1, seq=ts) for ts in range(1, 2000)]
    declared = SymbolsDeclared(table=1, symbols=SYMBOLS)
    feed.data_received(framed(Hello(role=Role.FEED, name="prices"), declared, *mail))
    server.stop_reading()
    stage.system.stop()
    loop.settle()
    feed.say_goodbye("enough")
    acknowledged = [m.seq for m in transport.messages() if type(m) is Acknowledged]
    taken = stage.flaky["BAC"].stamps
    assert acknowledged == [taken[-1]]
    assert len(taken) < MAX_MESSAGES_PER_TURN + 1 < len(mail)
    assert stage.factory.tally.sources.received[-1] == len(taken)
