"""What an operator asks, and what the actors then do."""

from collections.abc import Iterator

import pytest

from beta_factory.messages import (
    ActorsListed,
    Answered,
    DeadLettersListed,
    ListActors,
    ListDeadLetters,
    RequeueDeadLetters,
    ReviveActor,
    decode,
)
from beta_factory.runtime.cell import CellState
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
