"""A stop that is overdue: whenever the alarm rings, all end and all is counted."""

import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from beta_factory.messages import Message
from beta_factory.runtime import deadline
from beta_factory.runtime.cell import CALLS_BEHAVIOR, CellState
from beta_factory.runtime.deadline import OverdueError, interrupting
from beta_factory.runtime.supervisor import MAX_DEAD_LETTERS, Supervisor
from strategies import asset, bench
from testkit import SYMBOLS, Stage, VirtualLoop, virtual_loop

HOUR_S = 3600.0


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


def ring() -> None:
    """Let the alarm ring now, as the timer would."""
    signal.raise_signal(signal.SIGALRM)


@contextmanager
def ringing_everywhere() -> Generator[list[str]]:
    """Ring with every call that the runtime makes, but for those into an actor."""
    rung: list[str] = []

    def on_event(frame: FrameType, _event: str, _argument: object) -> None:
        is_ours = frame.f_globals.get("__package__") == deadline.__package__
        is_armed = signal.getsignal(signal.SIGALRM).__module__ == deadline.__name__
        if is_ours and is_armed and frame.f_code not in CALLS_BEHAVIOR:
            rung.append(frame.f_code.co_name)
            ring()

    sys.setprofile(on_event)
    try:
        yield rung
    finally:
        sys.setprofile(None)


def queued(loop: VirtualLoop, *mail: Message, **options: object) -> Stage:
    """Return a stage whose mail waits for its turn."""
    stage = Stage(loop, **options)  # type: ignore[arg-type]
    stage.take(*mail)
    stage.system.start()
    return stage


def assert_all_ended(stage: Stage, n_messages: int) -> None:
    states = {cell.state for cell in stage.system.cells.values()}
    assert states == {CellState.STOPPED}
    assert not any(len(cell.mailbox) for cell in stage.system.cells.values())
    n_taken = sum(len(flaky.seen) for flaky in stage.flaky.values())
    statistics = stage.system.statistics()
    assert n_taken + statistics.n_dead_letters == n_messages
    assert statistics.dropped.get("undeliverable", 0) == statistics.n_dead_letters
    tally = stage.factory.tally
    assert sum(n.total() for n in tally.sources.dropped) == tally.dropped.total()


def test_what_is_done_about_actors_is_not_interrupted(loop: VirtualLoop) -> None:
    mail = [asset(symbol, ts, 0.1) for ts in range(1, 5) for symbol in SYMBOLS]
    stage = queued(loop, *mail)
    stage.poison("BAC", 2)  # fails, restarts, and the rest of its mail waits
    stage.flaky["IBM"].answers[1] = [asset("AAPL", 9, 0.1)]
    stage.flaky["AAPL"].raises["on_stop"] = ValueError("boom")
    with ringing_everywhere() as rung:
        stage.system.stop(HOUR_S)
    expected = {"_fail", "_on_failure", "_on_outgoing", "bury", "drain", "_commit"}
    assert expected <= set(rung)
    assert_all_ended(stage, len(mail) + 1)
    assert [letter[1] for letter in stage.letters] == [2, 3, 4]


def test_an_actor_that_does_not_return_is_the_last_that_is_called(
    loop: VirtualLoop,
) -> None:
    mail = [asset(symbol, ts, 0.1) for ts in range(1, 5) for symbol in SYMBOLS]
    stage = queued(loop, *mail)

    def hanging(_message: Message) -> tuple[()]:
        loop.advance(HOUR_S)
        ring()
        return ()

    stage.flaky["BAC"].receive = hanging  # type: ignore[method-assign, assignment]
    stage.system.stop(HOUR_S / 2)
    assert_all_ended(stage, len(mail))
    assert "OverdueError" in stage.letters[0][2]
    assert (stage.flaky["AAPL"].stamps, stage.flaky["IBM"].stamps) == ([1, 2, 3, 4], [])
    assert not any("on_stop" in flaky.calls for flaky in stage.flaky.values())


def test_a_mountain_of_mail_is_counted_and_its_newest_kept(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    buried: list[Message] = []
    bury = Supervisor.bury

    def counted(self: Supervisor, actor: str, message: Message, reason: str) -> None:
        buried.append(message)
        bury(self, actor, message, reason)

    n_each = 700
    mail = [asset(symbol, ts, 0.1) for ts in range(n_each) for symbol in SYMBOLS]
    stage = queued(loop, *mail, mailbox_capacity=n_each)
    monkeypatch.setattr(Supervisor, "bury", counted)
    stage.system.stop(0.0)
    assert_all_ended(stage, len(mail))
    assert len(buried) == MAX_DEAD_LETTERS
    expected = [(s, ts) for s in SYMBOLS for ts in range(n_each)][-MAX_DEAD_LETTERS:]
    assert [letter[:2] for letter in stage.letters] == expected
    assert stage.system.supervisor.dead_letters[-1].number == len(mail) - 1


def test_who_hears_of_the_last_turn_may_fail_and_all_end_the_same(
    loop: VirtualLoop,
) -> None:
    stage = queued(loop, bench(1, 0.1), asset("AAPL", 1, 0.1))
    stage.poison("BAC", 1)
    stage.take(*(asset("BAC", ts, 0.1) for ts in (1, 2, 3)))
    error = RuntimeError("nobody listens")

    def failing(_turn: object) -> None:
        raise error

    stage.listeners.append(failing)
    with pytest.raises(RuntimeError, match="nobody listens"):
        stage.system.stop(HOUR_S)
    assert_all_ended(stage, 4)


def test_only_what_the_named_functions_call_is_interrupted() -> None:
    def actor() -> None:
        ring()

    def caller() -> None:
        actor()
        raise AssertionError

    with interrupting(HOUR_S, frozenset((caller.__code__,))):
        for _ in range(2):  # and again, whoever does not hear
            with pytest.raises(OverdueError, match="deadline of 3600 s"):
                caller()
        ring()  # nobody's business
