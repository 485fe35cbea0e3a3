"""What an operator did to the actors is done again by whoever replays the journal."""

from collections.abc import Generator
from pathlib import Path

import pytest
from stores import FIRST_NS, LiveRun, recovered

from beta_factory import BetaFactory
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import (
    Answered,
    HaltSymbol,
    Hello,
    Message,
    Request,
    RequeueDeadLetters,
    ReviveActor,
    Role,
)
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.journal_replay import RunConfig
from beta_factory.runtime.look_back import replay_store
from beta_factory.runtime.operations import DEAD_LETTERS
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from strategies import asset, bench
from testkit import FakeTransport, Flaky, VirtualLoop, framed, virtual_loop

N_FORGIVEN = 5
"""Failures within a minute; the next one quarantines."""


def stamp_of(number: int) -> int:
    return FIRST_NS + number * 10**9


class Desk:
    """A live run, and an operator who is connected to it."""

    def __init__(self, path: Path, loop: VirtualLoop) -> None:
        self.live = LiveRun(path)
        server = Server(self.live.system, instance="test", journal=self.live.journal)
        self._operator = Connection(server, loop)
        self._answers = FakeTransport()
        self._operator.connection_made(self._answers)  # type: ignore[arg-type]
        self._operator.data_received(framed(Hello(role=Role.OPERATOR)))
        self._answers.messages()

    def ask(self, request: Request) -> Message:
        """Ask for something that has to be durable before it is answered."""
        self._operator.data_received(framed(request))
        assert not self._answers.messages()
        journal = self.live.journal
        journal.became_durable(journal.position)
        (answer,) = self._answers.messages()
        return answer

    def requeue(self, *numbers: int) -> Message:
        return self.ask(RequeueDeadLetters(request=2, numbers=numbers))

    def send(self, *messages: Message) -> None:
        """Take messages of the feed, in a turn of their own."""
        self.live.system.take_all(messages, self.live.tables)
        self.live.journal.took(self.live.peer, messages)
        self.live.system.end_turn()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def loop() -> Generator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


def test_what_was_revived_and_requeued_is_so_after_a_kill(
    path: Path, loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = 10
    poison = range(first, first + N_FORGIVEN + 1)

    def build(config: RunConfig) -> BetaFactory:
        factory = BetaFactory(config.symbols, factors=config.factors)
        flaky = Flaky(factory.actors["AAPL"])
        flaky.poison = {stamp_of(n): ValueError("poison") for n in poison}
        factory.actors["AAPL"] = flaky  # type: ignore[assignment]
        return factory

    monkeypatch.setattr(RunConfig, "build", build)
    desk = Desk(path, loop)
    live = desk.live.take(range(poison.stop + 2))
    supervisor = live.system.supervisor
    assert live.system.statistics().n_quarantined == 1
    lost = [letter.number for letter in supervisor.dead_letters][-2:]
    assert desk.ask(ReviveActor(request=1, actor="Flaky(AAPL)")) == Answered(
        request=1, n_done=1
    )
    assert desk.requeue(*lost) == Answered(request=2, n_done=2)
    live.take(range(poison.stop + 2, poison.stop + 10)).end()
    found = recovered(path)
    assert not found.damage
    assert found.replay.factory.snapshot() == live.factory.snapshot()
    assert found.replay.factory.tally.sources.received == (
        live.factory.tally.sources.received
    )
    assert replay_store(str(path)).digest == live.digest.hexdigest()


def test_a_requeued_return_is_taken_again_where_no_actor_failed(
    path: Path, loop: VirtualLoop
) -> None:
    desk = Desk(path, loop)
    live = desk.live.take(range(10))
    cell = live.system.cells["SymbolActor(AAPL)"]
    cell.state = CellState.QUARANTINED  # by what no journal knows of
    first = asset("AAPL", stamp_of(10), 0.5)
    desk.send(bench(stamp_of(10), 0.25), first)
    assert desk.ask(ReviveActor(request=1, actor="SymbolActor(AAPL)")) == Answered(
        request=1, n_done=1
    )
    desk.send(asset("AAPL", stamp_of(10), -0.5))  # it would be the last word
    assert desk.requeue(1, 9) == Answered(request=2, n_done=1, problem="1 are not kept")
    live.take(range(11, 14)).end()
    wanted = live.factory.latest("beta.late.AAPL")
    replayed = recovered(path).replay.factory.latest("beta.late.AAPL")
    assert wanted is not None
    assert replayed is not None
    assert (replayed.n_obs, replayed.beta) == (wanted.n_obs, wanted.beta)
    assert replayed.std_error == wanted.std_error


def test_a_requeued_command_is_taken_again_in_the_turn_of_the_returns(
    path: Path, loop: VirtualLoop
) -> None:
    desk = Desk(path, loop)
    live = desk.live.take(range(10))
    desk.send(bench(stamp_of(10), 0.25))
    bury = live.system.supervisor.bury
    bury("AAPL", asset("AAPL", stamp_of(10), 0.5), "a test")
    bury("AAPL", HaltSymbol(symbol="AAPL"), "a test")
    bury("MSFT", asset("MSFT", stamp_of(10), 0.5), "a test")
    assert desk.requeue(1, 2, 3) == Answered(request=2, n_done=3)
    live.take(range(11, 14)).end()
    found = recovered(path)
    assert found.replay.diverged_at is None
    assert found.replay.factory.snapshot() == live.factory.snapshot()
    assert replay_store(str(path)).digest == live.digest.hexdigest()


def test_what_was_not_revived_is_answered_and_changes_nothing(
    path: Path, loop: VirtualLoop
) -> None:
    desk = Desk(path, loop)
    live = desk.live.take(range(10))
    answer = desk.ask(ReviveActor(request=1, actor="SymbolActor(AAPL)"))
    assert answer == Answered(
        request=1, n_done=0, problem="SymbolActor(AAPL) is live, not quarantined"
    )
    live.take(range(10, 12)).end()
    found = recovered(path)
    assert not found.damage
    assert found.replay.factory.snapshot() == live.factory.snapshot()


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (CellState.QUARANTINED, "actor AAPL is quarantined and takes no messages"),
        (CellState.RESTARTING, "mailbox of AAPL is full at 0 messages"),
    ],
)
def test_a_command_that_was_refused_is_not_done_by_a_recovery(
    path: Path,
    loop: VirtualLoop,
    monkeypatch: pytest.MonkeyPatch,
    state: CellState,
    problem: str,
) -> None:
    desk = Desk(path, loop)
    live = desk.live.take(range(10))
    cell = live.system.cells["SymbolActor(AAPL)"]
    cell.state = state  # by what no snapshot knows of
    monkeypatch.setattr("beta_factory.runtime.mailbox.MAX_CONTROL", 0)
    assert desk.ask(HaltSymbol(symbol="AAPL", request=1)) == Answered(
        request=1, n_done=0, problem=problem
    )
    cell.state = CellState.LIVE
    live.take(range(10, 12)).end()
    found = recovered(path)
    assert not found.damage
    assert found.replay.factory.snapshot() == live.factory.snapshot()
    assert replay_store(str(path)).digest == live.digest.hexdigest()


def test_a_requeued_command_to_a_symbol_that_is_gone_ends_no_recovery(
    path: Path, loop: VirtualLoop
) -> None:
    live = Desk(path, loop).live.take(range(10))
    peer = live.journal.greeted(DEAD_LETTERS, "")
    live.journal.took(peer, [HaltSymbol(symbol="XYZ"), HaltSymbol(symbol="AAPL")])
    live.journal.left(peer)
    tables = SymbolTables(live.factory.row_of, DEAD_LETTERS)
    live.system.take(HaltSymbol(symbol="AAPL"), tables)
    live.take(range(10, 14)).end()
    found = recovered(path)
    assert not found.damage
    assert found.replay.n_refused == 1
    assert found.replay.factory.snapshot() == live.factory.snapshot()
