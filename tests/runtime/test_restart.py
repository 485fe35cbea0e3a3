"""A process that goes on from another one's state, with actors of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import FIRST_NS, RUN, LiveRun, bar, recovered

from beta_factory import BetaFactory, BetaUpdated, beta_topic
from beta_factory.actors.behavior import Outgoing
from beta_factory.actors.symbol import SymbolActor
from beta_factory.messages import HaltSymbol, Message, Reason, Status, encode
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.look_back import replay_store
from strategies import asset, bench
from testkit import RESTART_S, SYMBOLS, Stage, VirtualLoop, bars_of, virtual_loop

OK = Status.OK, Reason.NONE
HALTED = Status.HALTED, Reason.HALTED_BY_OPERATOR


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


def played(loop: VirtualLoop) -> Stage:
    stage = Stage(loop)
    stage.system.start()
    for messages in bars_of(6):
        stage.turn(*messages)
    return stage


def fail(stage: Stage, *, times: int = 1) -> None:
    """Let BAC's actor fail, and come back until it has failed so often."""
    stage.poison("BAC", 99)
    stage.turn(asset("BAC", 99, 0.1))
    for _ in range(times - 1):
        stage.loop.advance(RESTART_S)
        stage.turn(asset("BAC", 99, 0.1))


def gone_on(loop: VirtualLoop, snapshot: bytes) -> Stage:
    """Return another process that went on from a snapshot, after its first turn."""
    stage = Stage(loop)
    for name, flaky in stage.flaky.items():
        assert isinstance(flaky.actor, SymbolActor)
        stage.factory.actors[name] = flaky.actor
    stage.factory.restore(snapshot)
    stage.factory.actors.update(stage.flaky)  # type: ignore[arg-type]
    stage.system.start()
    stage.turn()
    return stage


def said(update: BetaUpdated) -> tuple[Status, Reason]:
    return update.status, update.reason


def said_last(live: LiveRun) -> tuple[Status, Reason]:
    latest = live.factory.latest("beta.market.AAPL")
    assert latest is not None
    return said(latest)


def test_an_actor_that_was_away_is_back_in_the_next_process(loop: VirtualLoop) -> None:
    stage = played(loop)
    fail(stage)
    snapshot = stage.factory.snapshot()
    loop.advance(RESTART_S)
    after = gone_on(loop, snapshot)
    assert [*map(encode, after.updates)] == [encode(stage.updates[-1])]
    assert said(after.updates[0]) == OK
    for messages in bars_of(4, first=7):
        stage.turn(*messages)
        after.turn(*messages)
    n_new = 4 * len(SYMBOLS)
    assert [*map(encode, after.updates[-n_new:])] == [
        *map(encode, stage.updates[-n_new:])
    ]


def test_so_is_one_that_was_quarantined(loop: VirtualLoop) -> None:
    stage = played(loop)
    fail(stage, times=4)
    assert stage.cell("BAC").state is CellState.QUARANTINED
    assert said(stage.updates[-1]) == (Status.DEGRADED, Reason.ACTOR_QUARANTINED)
    (update,) = gone_on(loop, stage.factory.snapshot()).updates
    assert (update.symbol, *said(update)) == ("BAC", *OK)


def test_so_are_all_rows_of_a_broadcaster_that_was(loop: VirtualLoop) -> None:
    stage = played(loop)
    stage.broadcaster.poison[99] = ValueError("poison at 99")
    for _ in range(4):
        stage.turn(bench(99, 0.1))
        loop.advance(RESTART_S)
    assert {said(u) for u in stage.updates[-3:]} == {
        (Status.DEGRADED, Reason.ACTOR_QUARANTINED)
    }
    after = gone_on(loop, stage.factory.snapshot())
    assert [(u.symbol, *said(u)) for u in after.updates] == [
        (symbol, *OK) for symbol in SYMBOLS
    ]
    after.turn(*bars_of(1, first=7)[0])
    assert {said(u) for u in after.updates[3:]} == {OK}


def test_a_halt_outlives_the_failure_of_its_actor(loop: VirtualLoop) -> None:
    stage = played(loop)
    stage.turn(HaltSymbol(symbol="BAC"))
    fail(stage)
    assert said(stage.updates[-1]) == (Status.DEGRADED, Reason.ACTOR_RESTARTED)
    after = gone_on(loop, stage.factory.snapshot())
    assert [(u.symbol, *said(u)) for u in after.updates] == [("BAC", *HALTED)]
    after.turn(*bars_of(1, first=7)[0])
    assert [u.symbol for u in after.updates[1:]] == ["AAPL", "IBM"]


def test_a_halt_is_not_announced_again(loop: VirtualLoop) -> None:
    stage = played(loop)
    stage.turn(HaltSymbol(symbol="BAC"))
    after = gone_on(loop, stage.factory.snapshot())
    assert after.updates == []
    after.turn(*bars_of(1, first=7)[0])
    assert [u.symbol for u in after.updates] == ["AAPL", "IBM"]


def test_a_snapshot_before_the_first_turn_loses_no_return_of_an_actor(
    loop: VirtualLoop,
) -> None:
    stage = played(loop)
    fail(stage)
    between = BetaFactory(SYMBOLS, factors=stage.factory.factors)
    between.restore(stage.factory.snapshot())
    (update,) = gone_on(loop, between.snapshot()).updates
    assert (update.symbol, *said(update)) == ("BAC", *OK)


def test_a_run_after_a_failure_is_recovered_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.sqlite"
    stamp = bar(9)[0].ts_event  # type: ignore[union-attr]
    receive = SymbolActor.receive

    def raise_once(actor: SymbolActor, message: Message) -> Outgoing:
        if actor.name == "MSFT" and getattr(message, "ts_event", 0) == stamp:
            raise RuntimeError
        return receive(actor, message)

    monkeypatch.setattr(SymbolActor, "receive", raise_once)
    LiveRun(path).take(range(10)).end()
    live = LiveRun(path).take(range(10, 12))
    live.end()
    found = recovered(path)
    assert not found.damage
    for factor in RUN.factors:
        for symbol in RUN.symbols:
            topic = beta_topic(factor.name, symbol)
            latest = live.factory.latest(topic)
            assert latest is not None
            assert said(latest) == OK
            assert found.replay.factory.latest(topic) == latest


def test_what_is_heard_after_a_pause_is_not_late(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    LiveRun(path).take(range(10)).end()
    pause = 3600
    live = LiveRun(path, now_ns=FIRST_NS + pause * 10**9)
    assert said_last(live) == (Status.STALE, Reason.NO_RECENT_PAIR)  # for an hour
    live.take(range(pause, pause + 4)).wait(1)
    assert said_last(live) == OK
    live.end()
    found = recovered(path)
    assert not found.damage
    assert replay_store(str(path)).n_updates == found.replay.n_published
