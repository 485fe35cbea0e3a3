"""What an operator asks, and what the actors then do."""

from collections.abc import Iterator

import pytest

from beta_factory.actors.behavior import Outgoing
from beta_factory.messages import (
    COMMAND_TYPES,
    ActorsListed,
    AddSymbol,
    Answered,
    Command,
    DeadLettersListed,
    HaltSymbol,
    ListActors,
    ListDeadLetters,
    Message,
    RemoveSymbol,
    RequeueDeadLetters,
    ResumeSymbol,
    ReviveActor,
    Status,
    decode,
)
from beta_factory.runtime.cell import CellState
from beta_factory.runtime.mailbox import MAX_CONTROL
from beta_factory.runtime.operations import Operations
from strategies import asset, bench
from testkit import RESTART_S, Stage, VirtualLoop, bars_of, virtual_loop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_loop() as loop:
        yield loop


@pytest.fixture
def stage(loop: VirtualLoop) -> Stage:
    stage = Stage(loop)
    stage.system.start()
    return stage


def actors(stage: Stage, state: str = "") -> dict[str, str]:
    answer = Operations(stage.system).answer(ListActors(request=7, state=state))
    assert isinstance(answer, ActorsListed)
    assert answer.request == 7
    return {actor.actor: actor.state for actor in answer.actors}


def letters(stage: Stage, first: int = 0, limit: int = 100) -> DeadLettersListed:
    request = ListDeadLetters(request=8, first=first, limit=limit)
    answer = Operations(stage.system).answer(request)
    assert isinstance(answer, DeadLettersListed)
    return answer


def requeue(stage: Stage, *numbers: int) -> Answered:
    request = RequeueDeadLetters(request=9, numbers=numbers)
    answer = Operations(stage.system).answer(request)
    assert isinstance(answer, Answered)
    return answer


def revive(stage: Stage, actor: str) -> Answered:
    answer = Operations(stage.system).answer(ReviveActor(request=1, actor=actor))
    assert isinstance(answer, Answered)
    return answer


def tell(stage: Stage, command: Command) -> Answered:
    answer = Operations(stage.system).answer(command)
    assert isinstance(answer, Answered)
    return answer


def fail(message: Message) -> Outgoing:
    raise ValueError("no")


def quarantine(stage: Stage, name: str = "BAC") -> None:
    for stamp in (91, 92, 93, 94):
        stage.poison(name, stamp)
        stage.turn(asset(name, stamp, 0.1))
        stage.loop.advance(RESTART_S)
    assert stage.cell(name).state is CellState.QUARANTINED


def test_actors_are_listed_by_name_with_what_became_of_them(stage: Stage) -> None:
    assert actors(stage) == {
        "Flaky(AAPL)": "live",
        "Flaky(BAC)": "live",
        "Flaky(IBM)": "live",
        "FlakyBroadcaster(SPY)": "live",
    }
    quarantine(stage)
    assert actors(stage, "quarantined") == {"Flaky(BAC)": "quarantined"}
    answer = Operations(stage.system).answer(ListActors(request=7))
    assert isinstance(answer, ActorsListed)
    (listed,) = [actor for actor in answer.actors if actor.actor == "Flaky(BAC)"]
    assert (listed.n_failures, listed.last_error) == (4, "ValueError: poison at 94")


def test_a_quarantined_actor_is_revived_with_a_new_budget(stage: Stage) -> None:
    quarantine(stage)
    assert revive(stage, "Flaky(BAC)") == Answered(request=1, n_done=1)
    assert stage.cell("BAC").state is CellState.LIVE
    stage.turn(asset("BAC", 91, 0.1))  # one failure of a new budget
    assert stage.cell("BAC").state is CellState.RESTARTING


def test_what_cannot_be_revived_is_said_and_left_alone(stage: Stage) -> None:
    assert revive(stage, "Nobody").problem == "there is no actor Nobody"
    assert revive(stage, "Flaky(IBM)").problem == "Flaky(IBM) is live, not quarantined"
    assert stage.flaky["IBM"].calls == ["on_start"]
    quarantine(stage)
    stage.flaky["BAC"].raises["on_restart"] = ValueError("still broken")
    answer = revive(stage, "Flaky(BAC)")
    assert answer.n_done == 0
    assert answer.problem == "Flaky(BAC) is restarting again: ValueError: still broken"


def test_dead_letters_are_listed_and_hold_their_message(stage: Stage) -> None:
    quarantine(stage)
    answer = letters(stage)
    assert (answer.request, answer.n_total) == (8, 4)
    assert [letter.number for letter in answer.letters] == [1, 2, 3, 4]
    assert decode(answer.letters[0].payload) == asset("BAC", 91, 0.1)
    assert answer.letters[0].reason == "ValueError: poison at 91"
    assert [letter.number for letter in letters(stage, limit=2).letters] == [3, 4]
    assert [letter.number for letter in letters(stage, first=4).letters] == [4]
    assert letters(stage, limit=0).letters == ()


def test_a_requeued_letter_is_taken_as_if_it_had_just_come(stage: Stage) -> None:
    for bar in bars_of(4):
        stage.turn(*bar)
    stage.poison("BAC", 5)
    stage.turn(bench(5, 0.01), asset("BAC", 5, 0.02))
    stage.loop.advance(RESTART_S)
    stage.flaky["BAC"].poison.clear()
    assert requeue(stage, 1) == Answered(request=9, n_done=1)
    assert stage.updates_of("BAC")[-1].ts_event == 5
    assert letters(stage).letters == ()


def test_what_was_not_requeued_is_said(stage: Stage) -> None:
    quarantine(stage)
    answer = requeue(stage, 1, 2, 2, 77)
    assert answer.n_done == 0
    assert answer.problem == "1 are not kept, 2 became dead letters again"
    assert [letter.number for letter in letters(stage).letters] == [3, 4, 5, 6]
    assert letters(stage).letters[-1].reason == "actor quarantined"


class TestCommands:
    """Symbols are halted, resumed, removed and added, and who asked is told."""

    def test_what_was_done_is_answered_with_its_number(self, stage: Stage) -> None:
        for bar in bars_of(2):
            stage.turn(*bar)
        steps: list[tuple[type[Command], Status]] = [
            (HaltSymbol, Status.HALTED),
            (ResumeSymbol, Status.WARMING),
            (RemoveSymbol, Status.REMOVED),
            (AddSymbol, Status.WARMING),
        ]
        for number, (command, status) in enumerate(steps):
            answer = tell(stage, command(symbol="BAC", request=number))
            assert answer == Answered(request=number, n_done=1)
            assert stage.updates_of("BAC")[-1].status is status

    @pytest.mark.parametrize("command", COMMAND_TYPES)
    def test_an_unknown_symbol_is_named_with_those_that_were_meant(
        self, stage: Stage, command: type[Command]
    ) -> None:
        assert tell(stage, command(symbol="APPL", request=3)) == Answered(
            request=3, n_done=0, problem="there is no symbol APPL; did you mean AAPL?"
        )
        assert tell(stage, command(symbol="ZZZZ")).problem == "there is no symbol ZZZZ"
        assert stage.drops == {}  # it was no observation

    @pytest.mark.parametrize(
        ("before", "command", "problem"),
        [
            ([HaltSymbol], HaltSymbol, "BAC is halted"),
            ([RemoveSymbol], HaltSymbol, "BAC is removed"),
            ([], ResumeSymbol, "BAC is neither halted nor removed"),
            ([RemoveSymbol], ResumeSymbol, "BAC is removed"),
            ([RemoveSymbol], RemoveSymbol, "BAC is removed"),
            ([], AddSymbol, "BAC is neither halted nor removed"),
            ([HaltSymbol], AddSymbol, "BAC is halted"),
        ],
    )
    def test_what_changes_nothing_is_said(
        self,
        stage: Stage,
        before: list[type[Command]],
        command: type[Command],
        problem: str,
    ) -> None:
        for earlier in before:
            assert tell(stage, earlier(symbol="BAC")).n_done == 1
        answer = tell(stage, command(symbol="BAC"))
        assert (answer.n_done, answer.problem) == (0, problem)

    def test_an_actor_that_restarts_obeys_when_it_is_back(self, stage: Stage) -> None:
        stage.poison("BAC", 1)
        stage.turn(asset("BAC", 1, 0.1))
        answer = tell(stage, HaltSymbol(symbol="BAC"))
        problem = "BAC obeys once its actor is back: it is restarting"
        assert (answer.n_done, answer.problem) == (0, problem)
        stage.loop.advance(RESTART_S)
        assert stage.flaky["BAC"].status is Status.HALTED

    def test_an_actor_that_fails_on_a_command_did_not_obey(self, stage: Stage) -> None:
        actor = stage.flaky["BAC"]
        actor.actor.receive = fail  # type: ignore[method-assign]
        answer = tell(stage, HaltSymbol(symbol="BAC"))
        assert (answer.n_done, answer.problem) == (
            0,
            "BAC did not obey: ValueError: no",
        )
        (letter,) = letters(stage).letters
        assert decode(letter.payload) == HaltSymbol(symbol="BAC")
        stage.loop.advance(RESTART_S)
        assert actor.status is None

    def test_an_actor_that_fails_once_it_has_obeyed_has_obeyed(
        self, stage: Stage
    ) -> None:
        stage.poison("BAC", 1)
        stage.turn(asset("BAC", 1, 0.1), asset("BAC", 2, 0.1))
        stage.poison("BAC", 2)
        stage.come_back("BAC")
        assert tell(stage, HaltSymbol(symbol="BAC", request=5)) == Answered(
            request=5, n_done=1
        )
        assert stage.cell("BAC").state is CellState.RESTARTING
        assert stage.flaky["BAC"].status is Status.HALTED

    def test_of_commands_that_wait_one_more_than_fits_is_refused(
        self, stage: Stage
    ) -> None:
        stage.poison("BAC", 1)
        stage.turn(asset("BAC", 1, 0.1))
        for _ in range(MAX_CONTROL):
            tell(stage, HaltSymbol(symbol="BAC"))
        answer = tell(stage, HaltSymbol(symbol="BAC"))
        assert answer.problem == "mailbox of BAC is full at 1024 messages"

    def test_a_command_behind_more_than_a_turn_is_no_refusal(
        self, loop: VirtualLoop
    ) -> None:
        stage = Stage(loop, turn_budget=1)
        stage.system.start()
        stage.poison("BAC", 1)
        stage.turn(asset("BAC", 1, 0.1), asset("BAC", 2, 0.1), asset("BAC", 3, 0.1))
        stage.come_back("BAC")
        answer = tell(stage, HaltSymbol(symbol="AAPL"))
        problem = "AAPL obeys once its actor has taken what came before"
        assert (answer.n_done, answer.problem) == (0, problem)
        loop.advance()
        assert stage.flaky["AAPL"].status is Status.HALTED

    def test_a_command_that_was_taken_waits_for_nobody_elses_mail(
        self, loop: VirtualLoop
    ) -> None:
        stage = Stage(loop, turn_budget=1)
        stage.system.start()
        for name in ("AAPL", "BAC"):
            stage.poison(name, 1)
            stage.turn(*[asset(name, stamp, 0.1) for stamp in (1, 2, 3)])
        stage.come_back("AAPL")
        stage.come_back("BAC")
        answer = tell(stage, ResumeSymbol(symbol="AAPL"))  # before AAPL's own mail
        assert stage.flaky["AAPL"].seen == [ResumeSymbol(symbol="AAPL")]
        assert stage.system.dispatcher.n_ready > 0
        assert answer.problem == "AAPL is neither halted nor removed"

    def test_a_quarantined_actor_is_to_be_revived_first(self, stage: Stage) -> None:
        quarantine(stage)
        before = stage.system.statistics()
        answer = tell(stage, HaltSymbol(symbol="BAC"))
        assert answer.problem == "actor BAC is quarantined and takes no messages"
        assert stage.system.statistics() == before
