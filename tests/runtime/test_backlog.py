"""A peer that has to wait: what it waits for, and that it makes no work meanwhile."""

from collections.abc import Generator

import pytest

from beta_factory.messages import (
    Acknowledged,
    Goodbye,
    Hello,
    Message,
    Role,
    Subscribe,
    Subscribed,
)
from beta_factory.runtime import group_finder, group_reader
from beta_factory.runtime.backlog import MAX_MESSAGES_PER_TURN, MAX_REQUESTS_PER_TURN
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from beta_factory.runtime.supervisor import RestartPolicy
from strategies import asset, bench
from testkit import (
    FakeTransport,
    Stage,
    VirtualLoop,
    framed,
    messages_in,
    virtual_loop,
)

BACKOFF_S = 100.0


class Line:
    """Connections of one server whose mailboxes block and whose restarts take long."""

    def __init__(self, loop: VirtualLoop, mailbox_capacity: int = 1) -> None:
        self.loop = loop
        self.stage = Stage(
            loop,
            mailbox_capacity=mailbox_capacity,
            overflow=OverflowPolicy.BLOCK,
            restart_policy=RestartPolicy(
                restart_backoff_s=BACKOFF_S, restart_backoff_max_s=BACKOFF_S
            ),
        )
        self.server = Server(
            self.stage.system, instance="test", outbox_high_water_bytes=1000
        )
        self.stage.listeners.append(self.server.publish)
        self.stage.system.start()

    def connect(self, role: Role = Role.FEED) -> tuple[Connection, FakeTransport]:
        connection = Connection(self.server, self.loop)
        transport = FakeTransport(connection.pause_writing, connection.resume_writing)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(framed(Hello(role=role)))
        transport.messages()
        return connection, transport

    def fail(self, symbol: str) -> None:
        """Let an actor fail; what comes for it waits until it is back."""
        self.stage.poison(symbol, 1)
        self.stage.turn(asset(symbol, 1, 0.1))
        self.loop.advance()


@pytest.fixture
def loop() -> Generator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


@pytest.fixture
def line(loop: VirtualLoop) -> Line:
    return Line(loop)


def test_one_that_asks_without_end_and_does_not_read_makes_no_work(line: Line) -> None:
    connection, transport = line.connect(Role.SUBSCRIBER)
    other, _ = line.connect()
    transport.stop_reading()
    ask = Subscribe(subscription=1, pattern="beta.market.*")
    n_asked = 2 * MAX_MESSAGES_PER_TURN
    connection.data_received(framed(*[ask] * n_asked))
    for _ in range(20):
        line.loop.advance()
    assert line.loop.n_scheduled == 0
    assert line.server.share == MAX_MESSAGES_PER_TURN
    other.data_received(framed(asset("IBM", 1, 0.1)))
    assert line.loop.n_scheduled == 0  # another's turn is not what it waits for
    n_answers = 0
    while not transport.is_read:
        transport.read()
        transport.stop_reading()
        line.loop.settle()
        n_answers += sum(type(m) is Subscribed for m in transport.messages())
    assert n_answers == n_asked


def test_one_that_sends_more_than_a_turn_to_an_actor_that_is_away_makes_no_work(
    line: Line,
) -> None:
    line.fail("BAC")
    before = line.loop.n_scheduled  # the restart
    connection, transport = line.connect()
    mail = [asset("BAC", ts, 0.1) for ts in range(2, 5000)]
    connection.data_received(framed(*mail))
    for _ in range(100):
        line.loop.advance()
    assert line.loop.n_scheduled == before
    assert line.server.share == MAX_MESSAGES_PER_TURN
    assert not transport.is_read
    line.loop.advance(BACKOFF_S)
    line.loop.settle()
    assert line.stage.flaky["BAC"].seen == mail
    assert transport.is_read


def test_one_that_is_woken_by_a_turn_of_others_and_cannot_go_on_waits_again(
    line: Line,
) -> None:
    line.fail("BAC")
    before = line.loop.n_scheduled
    connection, _ = line.connect()
    other, _ = line.connect()
    connection.data_received(framed(*(asset("BAC", ts, 0.1) for ts in range(2, 9))))
    for ts in range(2, 50):
        other.data_received(framed(asset("IBM", ts, 0.1)))
        line.loop.advance()
        assert line.loop.n_scheduled == before
    assert line.stage.flaky["IBM"].stamps == [*range(2, 50)]


def test_what_of_a_group_was_taken_is_published_although_its_last_has_to_wait(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A group of three that gives way and leaves one message: no fewer wait than before,
    # and yet there is a turn to end.
    monkeypatch.setattr(group_finder, "SMALLEST_GROUP", 2)
    for module in (group_finder, group_reader):
        monkeypatch.setattr(module, "FEWEST_BYTES", 0)
    line = Line(loop, mailbox_capacity=2)
    line.fail("BAC")
    connection, transport = line.connect()
    limit = MAX_MESSAGES_PER_TURN
    many: list[Message] = [bench(ts, 0.1) for ts in range(1, limit + 1)]
    bar = [asset(s, limit, 0.1, seq=i) for i, s in enumerate(("AAPL", "IBM", "BAC"), 1)]
    line.stage.take(asset("BAC", 2, 0.1), asset("BAC", 3, 0.1))
    after = [asset("IBM", ts, 0.1) for ts in range(limit + 1, 2 * limit + 2)]
    connection.data_received(framed(*many, *bar, *after))
    for _ in range(10):
        loop.advance()
    assert [(u.symbol, u.ts_event) for u in line.stage.updates] == [
        ("AAPL", limit),
        ("IBM", limit),
    ]
    assert transport.messages()[-1] == Acknowledged(seq=2)


def test_requests_beyond_a_turn_share_it_and_others_are_taken_between(
    line: Line,
) -> None:
    connection, transport = line.connect(Role.SUBSCRIBER)
    ask = Subscribe(subscription=1, pattern="beta.market.*")
    connection.data_received(framed(*[ask] * 3 * MAX_REQUESTS_PER_TURN, Goodbye()))
    answers = [m for m in transport.messages() if type(m) is Subscribed]
    assert len(answers) == MAX_REQUESTS_PER_TURN
    assert line.loop.n_scheduled == 1
    line.loop.settle()
    assert len(messages_in(b"".join(transport.writes))) == 1 + len(answers) * 3
    assert transport.is_closed
    assert line.server.share == MAX_MESSAGES_PER_TURN


def test_one_that_is_aborted_is_taken_nothing_more_of(line: Line) -> None:
    connection, transport = line.connect()
    mail = [asset("BAC", ts, 0.1) for ts in range(1, 3 * MAX_MESSAGES_PER_TURN)]
    connection.data_received(framed(*mail))
    connection.abort()
    line.loop.settle()
    assert transport.is_aborted
    assert len(line.stage.flaky["BAC"].seen) == MAX_MESSAGES_PER_TURN
    assert line.server.share == MAX_MESSAGES_PER_TURN
    assert connection.n_backlog == 0
