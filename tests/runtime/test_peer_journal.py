"""A connection whose turns are written down: what it is told, and when it is read."""

from collections.abc import Callable, Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from stores import RUN, SYMBOLS, bar

from beta_factory.actors import BetaColumns, BetaRows, Drop
from beta_factory.messages import (
    Acknowledged,
    BetaUpdated,
    Heartbeat,
    Hello,
    Rejected,
    RejectReason,
    ReleaseHeldReturns,
    ReportStatus,
    Role,
    Subscribe,
    decode_payload,
)
from beta_factory.runtime import framing, group_finder, group_reader, server
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.journal import Journal
from beta_factory.runtime.journal_entries import (
    PeerGreeted,
    PeerLeft,
    SubscriptionBegan,
    Taken,
    decode_entries,
)
from beta_factory.runtime.journal_replay import JournalReplay
from beta_factory.runtime.operations import DEAD_LETTERS
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from beta_factory.runtime.status import report
from beta_factory.runtime.store_writer import Entry
from beta_factory.runtime.system import System
from strategies import asset, examples
from testkit import FakeTransport, VirtualLoop, framed, virtual_loop

PER_BAR = len(SYMBOLS) + 1


class Line:
    """A server with a journal whose store is the test."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.entries: list[Entry] = []
        factory = RUN.build()
        self.journal = Journal(
            self,
            ReplayClock(bar(0)[0].ts_event),  # type: ignore[union-attr]
            position=0,
            n_published=lambda: 0,
            max_pending_bytes=4000,
        )
        system = System(
            factory,
            self.journal,
            call_later=loop.call_later,
            call_soon=loop.call_soon,
            on_updates=self._publish,
            on_turn=self.journal.turn_ended,
        )
        self.server = Server(system, instance="test", journal=self.journal)
        system.start()

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        self.server.publish(turn)

    def put(self, entry: Entry) -> None:
        self.entries.append(entry)

    def greet(self, hello: Hello) -> tuple[Connection, FakeTransport]:
        connection = Connection(self.server, self.loop)
        transport = FakeTransport(connection.pause_writing, connection.resume_writing)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(framed(hello))
        return connection, transport

    def connect(
        self, role: Role = Role.FEED, sequence: str = "of today"
    ) -> tuple[Connection, FakeTransport]:
        connection, transport = self.greet(
            Hello(role=role, name="peer", sequence=sequence)
        )
        transport.messages()
        return connection, transport

    def parts(self) -> list[object]:
        return [
            part
            for entry in self.entries
            for placed in decode_entries(entry.position, entry.content)
            for part in placed.turn.parts
        ]


def group_as_much_as_possible(monkeypatch: pytest.MonkeyPatch, smallest: int) -> None:
    """Let so many single returns be a group, however few bytes there are."""
    monkeypatch.setattr(group_finder, "SMALLEST_GROUP", smallest)
    for module in (group_finder, group_reader):
        monkeypatch.setattr(module, "FEWEST_BYTES", 0)


@pytest.fixture(params=[2, 10_000], ids=["groups", "one by one"])
def line(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Generator[Line]:
    group_as_much_as_possible(monkeypatch, request.param)
    with virtual_loop() as loop:
        yield Line(loop)


def acknowledged(transport: FakeTransport) -> list[int]:
    return [m.seq for m in transport.messages() if isinstance(m, Acknowledged)]


def test_feed_is_told_once_its_turn_is_durable_and_not_before(line: Line) -> None:
    connection, transport = line.connect()
    connection.data_received(framed(*bar(0)))
    first = line.journal.position
    connection.data_received(framed(*bar(1)))
    assert acknowledged(transport) == []
    line.journal.became_durable(first)
    assert acknowledged(transport) == [PER_BAR]
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == [2 * PER_BAR]


@pytest.mark.parametrize("is_numbered", [True, False], ids=["numbered", "no numbers"])
def test_feed_is_not_read_while_too_much_waits_for_the_store(
    line: Line, is_numbered: bool
) -> None:
    connection, transport = line.connect()
    number = 0
    while transport.is_read:
        messages = bar(number)
        if not is_numbered:
            messages = [replace(message, seq=0) for message in messages]
        connection.data_received(framed(*messages))
        number += 1
        assert number < 20
    assert not line.journal.has_room
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport)[-1:] == [number * PER_BAR] * is_numbered
    assert transport.is_read


def test_what_a_flood_sent_waits_for_the_store_too(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_MESSAGES_PER_TURN", PER_BAR)
    monkeypatch.setattr(server, "MIN_MESSAGES_PER_TURN", PER_BAR // 2)
    connection, transport = line.connect()
    n_bars = 50
    messages = [message for number in range(n_bars) for message in bar(number)]
    connection.data_received(framed(*messages))
    line.loop.settle()
    assert len(line.entries) <= 10
    n_waits = 0
    was_read = False
    while connection.n_backlog:
        was_read |= transport.is_read
        assert line.server.share == PER_BAR  # it takes no share of what others have
        line.journal.became_durable(line.journal.position)
        line.loop.settle()
        n_waits += 1
    assert n_waits >= n_bars // 10
    line.journal.became_durable(line.journal.position)
    assert (was_read, transport.is_read) == (False, True)
    assert acknowledged(transport)[-1] == n_bars * PER_BAR


def test_a_number_is_waited_for_once_however_much_is_said_meanwhile(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_durable, n_waits = line.journal.when_durable, 0

    def count(callback: Callable[[], None]) -> None:
        nonlocal n_waits
        n_waits += 1
        when_durable(callback)

    monkeypatch.setattr(line.journal, "when_durable", count)
    connection, transport = line.connect()
    connection.data_received(framed(asset(SYMBOLS[0], 1, 0.1, seq=1)))
    n_before = n_waits
    for _ in range(100):
        connection.data_received(framed(Heartbeat(ts_init=1)))
    assert n_waits == n_before
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == [1]


def test_subscriber_does_not_wait_for_the_store(line: Line) -> None:
    subscriber, heard = line.connect(Role.SUBSCRIBER, sequence="")
    subscriber.data_received(framed(Subscribe(subscription=1, pattern="beta.>")))
    feed, _ = line.connect()
    for number in range(4):
        feed.data_received(framed(*bar(number)))
    updates = [m for m in heard.messages() if isinstance(m, BetaUpdated)]
    assert len(updates) == 4 * len(SYMBOLS) * len(RUN.factors)
    assert line.journal.durable == 0


def test_what_was_taken_is_not_taken_again_and_acknowledged_again(line: Line) -> None:
    connection, old = line.connect()
    connection.data_received(framed(*bar(0), *bar(1)))
    again, transport = line.connect()
    assert old.is_aborted
    again.data_received(framed(*bar(0), *bar(1), *bar(2)))
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == [3 * PER_BAR]
    assert not line.server.system.factory.tally.dropped
    assert sum(isinstance(part, Taken) for part in line.parts()) == 2


def test_feed_is_told_what_was_taken_of_its_sequence(line: Line) -> None:
    hello = Hello(role=Role.FEED, name="peer", sequence="of today", taken=0)
    first, transport = line.greet(hello)
    assert [m.taken for m in transport.messages() if isinstance(m, Hello)] == [0]
    first.data_received(framed(*bar(0), *bar(1)))
    _, transport = line.greet(hello)
    # It is known before it is durable, and acknowledged when it is.
    greeting = Hello(role=Role.SIDECAR, name="test", taken=2 * PER_BAR)
    assert transport.messages() == [greeting]
    line.journal.became_durable(line.journal.position)
    assert transport.messages() == [Acknowledged(seq=2 * PER_BAR)]


def test_feed_that_counts_nothing_is_acknowledged_only_what_it_sent(line: Line) -> None:
    line.connect()[0].data_received(framed(*bar(0), *bar(1)))
    again, transport = line.connect()
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == []
    again.data_received(framed(*bar(0)))
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == [PER_BAR]


@pytest.mark.parametrize(
    ("role", "sequence"), [(Role.FEED, ""), (Role.SUBSCRIBER, "of today")]
)
def test_peer_without_a_sequence_is_told_nothing_of_one(
    line: Line, role: Role, sequence: str
) -> None:
    line.connect()[0].data_received(framed(*bar(0)))
    _, transport = line.greet(Hello(role=role, name="peer", sequence=sequence, taken=0))
    line.journal.became_durable(line.journal.position)
    assert transport.messages() == [Hello(role=Role.SIDECAR, name="test")]


def test_what_comes_again_is_counted_for_its_source_and_logged_once(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.connect()[0].data_received(framed(*bar(0), *bar(1)))
    again, _ = line.connect()
    again.data_received(framed(*bar(0)[1:]))
    again.data_received(framed(*bar(1), *bar(2)))
    again.data_received(framed(*bar(3)))
    (source,) = report(line.server, ReportStatus(request=1)).sources
    assert (source.source, source.n_repeated) == ("peer", 2 * PER_BAR - 1)
    assert (source.n_received, source.dropped) == (4 * PER_BAR, {})
    logged = [r.getMessage() for r in caplog.records if "repeats" in r.getMessage()]
    assert logged == [
        f"feed.repeats peer=peer sequence=of today taken={2 * PER_BAR} first=2"
    ]


def test_a_read_of_many_bars_is_taken_in_turns_of_bounded_work(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_MESSAGES_PER_TURN", PER_BAR)
    monkeypatch.setattr(server, "MIN_MESSAGES_PER_TURN", PER_BAR)
    connection, transport = line.connect()
    messages = [message for number in range(3) for message in bar(number)]
    connection.data_received(framed(*messages))
    was_read = transport.is_read
    line.loop.settle()
    line.journal.became_durable(line.journal.position)
    assert (was_read, transport.is_read) == (False, True)
    assert acknowledged(transport)[-1] == 3 * PER_BAR
    taken = [part for part in line.parts() if isinstance(part, Taken)]
    assert len(taken) > 1
    payloads = [decode_payload(part.payload) for part in taken]
    assert [each for payload in payloads for each in payload] == messages


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.booleans())
@examples(40)
def test_a_journal_knows_of_a_sequence_what_the_live_run_knew(
    have_numbers: list[bool], in_groups: bool
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, virtual_loop() as loop:
        if in_groups:
            group_as_much_as_possible(monkeypatch, smallest=2)
        line = Line(loop)
        connection, transport = line.connect()
        numbers = [seq * has for seq, has in enumerate(have_numbers, 1)]
        mail = [asset(SYMBOLS[0], 1, 0.1, seq=seq) for seq in numbers]
        connection.data_received(framed(*mail))
        replay = JournalReplay(RUN)
        for entry in line.entries:
            for placed in decode_entries(entry.position, entry.content):
                replay.take(placed)
        last = max(numbers)
        state = [("peer", "of today", last)] if last else []
        assert line.server.sequences.state() == replay.sequences.state() == state
        line.journal.became_durable(line.journal.position)
        assert acknowledged(transport) == [last] * bool(last)


def test_another_sequence_of_the_same_name_begins_anew(line: Line) -> None:
    line.connect()[0].data_received(framed(*bar(0)))
    other, transport = line.connect(sequence="of tomorrow")
    other.data_received(framed(*bar(0)))
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == [PER_BAR]
    # They reach the windows, which know them as duplicates: once per factor.
    dropped = line.server.system.factory.tally.dropped
    assert dropped == {Drop.DUPLICATE: PER_BAR * len(RUN.factors)}


def test_an_answer_to_one_that_was_rejected_meanwhile_harms_nobody(line: Line) -> None:
    operator, told = line.connect(Role.OPERATOR, sequence="")
    feed, transport = line.connect()
    operator.data_received(framed(ReleaseHeldReturns(request=1, numbers=(1,))))
    feed.data_received(framed(*bar(0)))
    operator.data_received(framing.frame(b"\xc1"))
    line.journal.became_durable(line.journal.position)
    assert acknowledged(transport) == [PER_BAR]
    assert [type(message) for message in told.messages()] == [Rejected]


@pytest.mark.parametrize("role", [Role.FEED, Role.OPERATOR, Role.SUBSCRIBER])
def test_nobody_may_take_the_name_under_which_letters_are_requeued(
    line: Line, role: Role
) -> None:
    _, transport = line.greet(Hello(role=role, name=DEAD_LETTERS))
    assert transport.messages() == [
        Rejected(
            reason=RejectReason.NOT_ALLOWED,
            detail="no peer may be called (dead letters): choose another name",
        )
    ]
    line.journal.turn_ended(())
    assert line.parts() == []


def test_who_came_asked_and_went_is_written_down(line: Line) -> None:
    connection, _ = line.connect(Role.SUBSCRIBER, sequence="")
    connection.data_received(framed(Subscribe(subscription=7, pattern="beta.market.*")))
    connection.connection_lost(None)
    line.connect()[0].data_received(framed(*bar(0)))
    kinds = [part for part in line.parts() if not isinstance(part, Taken)]
    assert kinds == [
        PeerGreeted(1, "peer", ""),
        SubscriptionBegan(1, 7, "beta.market.*"),
        PeerLeft(1),
        PeerGreeted(2, "peer", "of today"),
    ]
