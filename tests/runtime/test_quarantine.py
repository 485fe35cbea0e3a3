"""The quarantine of a running system: asked, written down, recovered, reported."""

import logging
from collections.abc import Generator

import pytest
from stores import FIRST_NS, SYMBOLS, bar

from beta_factory import BetaFactory, MarketBetaConfig, Reason, Status
from beta_factory.actors import BetaColumns, BetaRows, Factor
from beta_factory.actors.quarantine import MAX_HELD
from beta_factory.messages import (
    Answered,
    DiscardHeldReturns,
    HaltSymbol,
    HeldReturnsListed,
    Hello,
    ListHeldReturns,
    Message,
    ReleaseHeldReturns,
    RemoveSymbol,
    Request,
    Role,
    decode,
    encode,
)
from beta_factory.messages.operations import MAX_HELD_RETURNS
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.journal import Journal
from beta_factory.runtime.journal_entries import decode_entries
from beta_factory.runtime.journal_replay import JournalReplay, RunConfig
from beta_factory.runtime.operations import Operations
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.report import MAX_LINES, Report
from beta_factory.runtime.server import Server
from beta_factory.runtime.sidecar import beat
from beta_factory.runtime.store_writer import Entry
from beta_factory.runtime.system import System
from strategies import asset, bench
from testkit import FakeTransport, VirtualLoop, framed, virtual_loop

MODEL = MarketBetaConfig(20, 3, max_abs_return=5.0, allowed_lateness=1)
RUN = RunConfig(SYMBOLS, (Factor("SPY", "market", MODEL),))


class Line:
    """A server with a journal, and connections of a feed and an operator."""

    def __init__(self, loop: VirtualLoop, run: RunConfig = RUN) -> None:
        self.loop = loop
        self.entries: list[Entry] = []
        self.factory = run.build()
        self.clock = ReplayClock(FIRST_NS)
        self.journal = Journal(
            self,
            self.clock,
            position=0,
            n_published=lambda: sum(p.last_seq for p in self.factory.publishers),
        )
        self.system = System(
            self.factory,
            self.journal,
            call_later=loop.call_later,
            call_soon=loop.call_soon,
            on_updates=self._publish,
            on_clock=self.journal.looked_at_clock,
            on_turn=self.journal.turn_ended,
        )
        self.server = Server(self.system, instance="test", journal=self.journal)
        self.journal.run_started("test", run.to_json())
        self.system.start()
        self.system.end_turn()
        self.feed, _ = self._connect(Role.FEED)
        self.operator, self._answers = self._connect(Role.OPERATOR)

    def put(self, entry: Entry) -> None:
        self.entries.append(entry)

    def send(self, *messages: Message) -> None:
        self.feed.data_received(framed(*messages))

    def ask(self, request: Request) -> Message:
        position = self.journal.position
        self.operator.data_received(framed(request))
        if self.journal.position > position:
            assert not self._answers.messages()  # what is answered cannot be lost
            self.journal.became_durable(self.journal.position)
        (answer,) = self._answers.messages()
        return answer

    def hang_up(self) -> None:
        """End the operator's connection."""
        self.operator.connection_lost(None)
        self._answers.close()

    def replayed(self) -> JournalReplay:
        """Do all that was written down once more."""
        replay = JournalReplay(RUN)
        for entry in self.entries:
            for placed in decode_entries(entry.position, entry.content):
                replay.take(placed)
        return replay

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        self.server.publish(turn)

    def _connect(self, role: Role) -> tuple[Connection, FakeTransport]:
        connection = Connection(self.server, self.loop)
        transport = FakeTransport(connection.pause_writing, connection.resume_writing)
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(framed(Hello(role=role, name=str(role))))
        transport.messages()
        return connection, transport


@pytest.fixture
def loop() -> Generator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


@pytest.fixture
def line(loop: VirtualLoop) -> Line:
    return Line(loop)


def stamp_of(number: int) -> int:
    return FIRST_NS + number * 10**9


def absurd(number: int, symbol: str = "AAPL", value: float = 50.0) -> Message:
    return asset(symbol, stamp_of(number), value, seq=7)


def with_one_held(line: Line, n_bars: int = 6) -> Message:
    """Take bars, in the last of which AAPL is absurd; return that return."""
    for number in range(n_bars - 1):
        line.send(*bar(number))
    bad = absurd(n_bars - 1)
    benchmark, _, *others = bar(n_bars - 1)
    line.send(benchmark, bad, *others)
    return bad


def n_obs(factory: BetaFactory, symbol: str = "AAPL") -> int:
    latest = factory.latest(f"beta.market.{symbol}")
    return 0 if latest is None else latest.n_obs


class TestAsking:
    """An operator lists, releases and discards."""

    def test_what_is_held_is_listed_with_its_bytes(self, line: Line) -> None:
        bad = with_one_held(line)
        answer = line.ask(ListHeldReturns(request=4))
        assert isinstance(answer, HeldReturnsListed)
        assert (answer.request, answer.n_total, answer.n_given_up) == (4, 1, 0)
        (held,) = answer.returns
        assert held.payload == encode(bad)
        assert decode(held.payload) == bad
        assert (held.number, held.factor, held.name) == (1, "market", "AAPL")
        assert (held.period_return, held.reason, held.limit, held.z) == (
            50.0,
            "max_abs_return",
            5.0,
            None,
        )
        assert held.is_as_sent

    def test_a_part_of_the_list_may_be_asked_for(self, line: Line) -> None:
        with_one_held(line)
        line.send(*(absurd(5, "AAPL", 60.0 + n) for n in range(4)))

        def numbers(**keys: int) -> list[int]:
            answer = line.ask(ListHeldReturns(request=1, **keys))
            assert isinstance(answer, HeldReturnsListed)
            return [held.number for held in answer.returns]

        assert numbers() == [1, 2, 3, 4, 5]
        assert numbers(first=4) == [4, 5]
        assert numbers(limit=2) == [4, 5]
        assert numbers(limit=0) == []

    def test_one_list_holds_all_there_can_be(self) -> None:
        assert MAX_HELD == MAX_HELD_RETURNS

    def test_a_released_return_is_in_its_window(self, line: Line) -> None:
        with_one_held(line)
        assert n_obs(line.factory) == 5
        answer = line.ask(ReleaseHeldReturns(request=2, numbers=(1, 1)))
        assert answer == Answered(request=2, n_done=1)
        assert n_obs(line.factory) == 6
        assert line.system.statistics().n_held == 0

    def test_what_cannot_be_released_is_said_one_by_one(self, line: Line) -> None:
        with_one_held(line)
        for number in (6, 7, 8):
            line.send(*bar(number))
        answer = line.ask(ReleaseHeldReturns(request=2, numbers=(1, 9)))
        assert answer == Answered(
            request=2,
            n_done=0,
            problem="1 is too late: more than 1 bars (allowed_lateness) have opened "
            "since its own; 9 is not held",
        )
        assert line.system.statistics().n_held == 1

    def test_an_actor_that_restarts_cannot_take_it_yet(self, line: Line) -> None:
        with_one_held(line)
        line.system.tell("AAPL", bench(1, 0.1))  # nothing that it takes
        answer = line.ask(ReleaseHeldReturns(request=2, numbers=(1,)))
        assert isinstance(answer, Answered)
        assert answer.problem == "1 has to wait: its actor is restarting"
        line.loop.advance(1.0)
        assert line.ask(ReleaseHeldReturns(request=3, numbers=(1,))) == Answered(
            request=3, n_done=1
        )

    def test_a_discarded_return_is_gone(self, line: Line) -> None:
        with_one_held(line)
        answer = line.ask(DiscardHeldReturns(request=5, numbers=(1, 2)))
        assert answer == Answered(request=5, n_done=1, problem="2 is not held")
        answer = line.ask(ReleaseHeldReturns(request=6, numbers=(1,)))
        assert answer == Answered(request=6, n_done=0, problem="1 is not held")

    def test_a_long_list_of_problems_is_cut(self, line: Line) -> None:
        answer = line.ask(DiscardHeldReturns(request=5, numbers=tuple(range(1, 999))))
        assert isinstance(answer, Answered)
        assert len(answer.problem) == 1024
        assert answer.problem.endswith("...")


class TestJournal:
    """What an operator did to the quarantine is done again."""

    def test_a_release_is_done_again(self, line: Line) -> None:
        with_one_held(line)
        line.send(absurd(5, "MSFT"), absurd(5, "BRK.B"), absurd(5, "BRK.B", 51.0))
        line.ask(ReleaseHeldReturns(request=2, numbers=(1, 77)))
        line.ask(DiscardHeldReturns(request=2, numbers=(3,)))
        line.ask(ListHeldReturns(request=2))
        line.send(*bar(6))
        replay = line.replayed()
        assert replay.diverged_at is None
        assert replay.n_refused == 0
        assert replay.factory.snapshot() == line.factory.snapshot()
        assert n_obs(replay.factory) == 7

    def test_commands_to_symbols_are_done_again(
        self, line: Line, caplog: pytest.LogCaptureFixture
    ) -> None:
        line.send(*bar(0))
        caplog.set_level(logging.INFO)
        for command, n_done in (
            (HaltSymbol(symbol="AAPL", request=3), 1),
            (HaltSymbol(symbol="APPL", request=4), 0),
            (RemoveSymbol(symbol="MSFT", request=5), 1),
        ):
            answer = line.ask(command)
            assert isinstance(answer, Answered)
            assert (answer.request, answer.n_done) == (command.request, n_done)
        assert (
            "operator.asked request=HaltSymbol(AAPL) done=1 problem=''" in caplog.text
        )
        line.send(*bar(1))
        replay = line.replayed()
        assert replay.diverged_at is None
        assert replay.factory.snapshot() == line.factory.snapshot()
        assert replay.factory.actors["AAPL"].status is Status.HALTED
        assert replay.factory.actors["MSFT"].status is Status.REMOVED

    @pytest.mark.parametrize(
        "state", [CellState.RESTARTING, CellState.QUARANTINED, CellState.STOPPED]
    )
    def test_what_has_to_wait_for_its_actor_is_not_released_by_a_replay(
        self, line: Line, state: CellState
    ) -> None:
        with_one_held(line)
        line.send(absurd(5, "MSFT"))
        cell = line.system.cells["SymbolActor(AAPL)"]
        cell.state = state  # by what no journal knows of
        answer = line.ask(ReleaseHeldReturns(request=2, numbers=(1, 2)))
        problem = f"1 has to wait: its actor is {state}"
        assert answer == Answered(request=2, n_done=1, problem=problem)
        line.ask(ReleaseHeldReturns(request=2, numbers=(1,)))
        replay = line.replayed()
        assert replay.diverged_at is None
        assert replay.factory.snapshot() == line.factory.snapshot()

    def test_an_operator_who_left_before_it_was_durable_is_told_nothing(
        self, line: Line
    ) -> None:
        with_one_held(line)
        line.operator.data_received(framed(ReleaseHeldReturns(request=2, numbers=(1,))))
        line.hang_up()
        line.journal.became_durable(line.journal.position)
        assert n_obs(line.factory) == 6

    def test_a_checkpoint_keeps_what_is_held(self, line: Line) -> None:
        with_one_held(line)
        checkpoint = line.replayed().checkpoint()
        later = JournalReplay(RUN)
        later.restore(checkpoint)
        system = System(
            later.factory,
            ReplayClock(),
            call_later=lambda _delay, _callback: None,
            call_soon=lambda _callback: None,
            on_updates=lambda _updates: None,
        )
        system.start()
        answer = Operations(system).answer(ReleaseHeldReturns(request=1, numbers=(1,)))
        assert answer == Answered(request=1, n_done=1)
        assert n_obs(later.factory) == 6


class TestReport:
    """The log says when something begins, and when it ends."""

    def test_each_symbol_is_named_once(
        self, line: Line, caplog: pytest.LogCaptureFixture
    ) -> None:
        report = Report(line.system, line.server)
        with_one_held(line)
        line.send(absurd(5, "AAPL", 60.0))
        with caplog.at_level(logging.INFO):
            report.report()
            report.report()
        stamp = stamp_of(5)
        assert caplog.messages == [
            "observations.dropped reason=absurd count=2 total=2",
            (
                "quarantine.holds number=2 factor=market name=AAPL "
                f"ts_event={stamp} period_return=60 "
                "reason=max_abs_return limit=5 z=unknown"
            ),
        ]
        caplog.clear()
        line.ask(DiscardHeldReturns(request=1, numbers=(1, 2)))
        with caplog.at_level(logging.INFO):
            report.report()
        assert "quarantine.cleared factor=market name=AAPL" in caplog.messages

    def test_a_wrong_scale_is_no_flood(
        self, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = tuple(f"S{i:03d}" for i in range(MAX_LINES + 7))
        line = Line(loop, RunConfig(names, (Factor("SPY", "market", MODEL),)))
        line.send(bench(1, 0.1), *(asset(name, 1, 9.0) for name in names))
        Report(line.system, line.server).report()
        held = [text for text in caplog.messages if text.startswith("quarantine.holds")]
        assert len(held) == MAX_LINES + 1
        assert held[-1] == "quarantine.holds others=7"

    def test_topics_that_are_stale_are_counted_by_reason(
        self, loop: VirtualLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = MarketBetaConfig(20, 3, feed_timeout="5s")
        line = Line(loop, RunConfig(SYMBOLS, (Factor("SPY", "market", model),)))
        report = Report(line.system, line.server)
        line.system.advance_clock()
        line.send(*bar(0))
        line.clock.set(line.clock.time_ns() + 6 * 10**9)
        line.system.advance_clock()
        assert line.system.statistics().stale == {("market", "feed_silent"): 3}
        with caplog.at_level(logging.INFO):
            report.report()
            line.send(*bar(6))
            report.report()
        assert caplog.messages == [
            "topics.stale factor=market reason=feed_silent count=3",
            "topics.recovered factor=market reason=feed_silent",
        ]


@pytest.mark.parametrize("timeout_s", [3, 5])
@pytest.mark.parametrize("phase", [0.0, 0.13, 0.5, 0.99])
@pytest.mark.parametrize(
    ("dies", "reason"),
    [
        ({"SPY"}, Reason.BENCHMARK_SILENT),
        ({"AAPL"}, Reason.ASSET_SILENT),
        ({"SPY", *SYMBOLS}, Reason.FEED_SILENT),
    ],
)
def test_a_dead_side_is_noticed_within_the_timeout_and_a_heartbeat(
    loop: VirtualLoop, dies: set[str], reason: Reason, phase: float, timeout_s: int
) -> None:
    # On a virtual clock: a feed of four bars a second, a heartbeat a second.
    heartbeat_s = 1.0
    model = MarketBetaConfig(20, 3, feed_timeout=f"{timeout_s}s", stale_after=10**6)
    factory = BetaFactory(SYMBOLS, factors=[Factor("SPY", "market", model)])
    noticed: list[tuple[float, Reason]] = []

    def watch(turn: list[BetaColumns | BetaRows]) -> None:
        noticed.extend(
            (loop.time(), update.reason)
            for part in turn
            for update in part.as_rows()
            if update.symbol == "AAPL" and update.status.name == "STALE"
        )

    system = System(
        factory,
        loop,
        call_later=loop.call_later,
        call_soon=loop.call_soon,
        on_updates=watch,
    )
    server = Server(system, instance="test")
    system.start()
    task = loop.create_task(beat(server, loop, heartbeat_s))
    loop.advance(phase)
    last: dict[str, float] = {}

    def send(number: int, dead: set[str]) -> None:
        benchmark, *returns = bar(number)
        names = ("SPY", *SYMBOLS)
        for name, message in zip(names, (benchmark, *returns), strict=True):
            if name not in dead:
                last[name] = loop.time()
                behavior = factory.route(message)
                assert behavior is not None
                behavior.receive(message)
        system.end_turn()

    for number in range(40):
        send(number, set())
        loop.advance(0.25)
    assert noticed == []
    for number in range(40, 80):
        send(number, dies)
        loop.advance(0.25)
    died_at = max(last[name] for name in dies & {"SPY", "AAPL"})
    assert [why for _, why in noticed] == [reason]
    after_s = noticed[0][0] - died_at
    assert timeout_s - heartbeat_s <= after_s <= timeout_s + heartbeat_s
    task.cancel()
    loop.advance()
