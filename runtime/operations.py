"""What an operator may ask of a running system.

Rule: an answer is made in one step, between two turns, so that it is true of one
moment. What cannot be done is said, and changes nothing; only a command waits for an
actor that restarts, and that is said too.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import structs

from ..actors import Behavior
from ..actors.quarantine import HeldReturn
from ..actors.release import release
from ..actors.symbol import SymbolActor
from ..actors.tables import SymbolTables
from ..messages import (
    COMMAND_TYPES,
    ActorDeadError,
    ActorListed,
    ActorsListed,
    Answer,
    Answered,
    Command,
    DeadLetterListed,
    DeadLettersListed,
    DiscardHeldReturns,
    HeldReturnListed,
    HeldReturnsListed,
    ListActors,
    ListDeadLetters,
    ListHeldReturns,
    MailboxFullError,
    Message,
    NotReleasedError,
    ReleaseHeldReturns,
    RequeueDeadLetters,
    ReviveActor,
    Status,
    UnknownSymbolError,
    encode,
)
from ..messages.fields import MAX_TEXT_LENGTH
from ..messages.operations import Operation
from .cell import CellState
from .journal import Journal
from .supervisor import DeadLetter
from .system import System

JOURNALED: Final = (
    ReviveActor,
    ReleaseHeldReturns,
    DiscardHeldReturns,
    *COMMAND_TYPES,
)
"""Requests that change what follows, and so belong into the journal. A requeue is in it
as the messages that were taken again: a replay has other dead letters, or none."""

DEAD_LETTERS: Final = "(dead letters)"
"""The source of what is requeued."""

_UNCHANGED: Final = {
    None: "is neither halted nor removed",
    Status.HALTED: "is halted",
    Status.REMOVED: "is removed",
}
"""Why a command changed nothing, by what its symbol was before."""


WriteDown = Callable[[Operation], None]
"""Takes a request that is done, or waits to be, before the turn ends that it is of."""


def _nowhere(_: Operation) -> None:
    pass


class Operations:
    """Answers an operator's requests.

    Parameters
    ----------
    system
        The actors.
    journal
        Where requeued messages are written down, if anywhere.
    """

    def __init__(self, system: System, journal: Journal | None = None) -> None:
        self._system = system
        self._journal = journal
        self._tables = SymbolTables(system.factory.row_of, DEAD_LETTERS)

    def answer(self, request: Operation, write_down: WriteDown = _nowhere) -> Answer:
        """Do what is asked, and say what came of it.

        Parameters
        ----------
        request
            What an operator asks.
        write_down
            Called with a request of `JOURNALED` that is not refused. One that is may
            not be written down: a replay has actors in other states, and would do it.
        """
        if isinstance(request, ListActors):
            return self._list_actors(request)
        if isinstance(request, ReviveActor):
            return self._revive(request, write_down)
        if isinstance(request, ListDeadLetters):
            return self._list_dead_letters(request)
        if isinstance(request, RequeueDeadLetters):
            return self._requeue(request)
        if isinstance(request, ListHeldReturns):
            return self._list_held(request)
        if isinstance(request, ReleaseHeldReturns):
            return self._release(request, write_down)
        if isinstance(request, DiscardHeldReturns):
            return self._discard(request, write_down)
        return self._command(request, write_down)

    def _list_actors(self, request: ListActors) -> ActorsListed:
        actors = [
            ActorListed(
                actor=actor,
                state=cell.state,
                n_waiting=len(cell.mailbox),
                n_processed=self._system.n_processed(cell),
                n_failures=cell.n_failures,
                last_error=cell.last_error[:MAX_TEXT_LENGTH],
            )
            for actor, cell in sorted(self._system.cells.items())
            if request.state in ("", cell.state)
        ]
        return ActorsListed(request=request.request, actors=tuple(actors))

    def _revive(self, request: ReviveActor, write_down: WriteDown) -> Answered:
        cell = self._system.cells.get(request.actor)
        if cell is None:
            return _problem(request, f"there is no actor {request.actor}")
        state: CellState = cell.state
        if state is not CellState.QUARANTINED:
            detail = f"{request.actor} is {state}, not quarantined"
            return _problem(request, detail)
        write_down(request)
        self._system.supervisor.revive(cell)
        self._system.end_turn()
        # Its own messages may have been waiting to fail it again.
        state = self._system.cells[request.actor].state
        if state is not CellState.LIVE:
            detail = f"{request.actor} is {state} again: {cell.last_error}"
            return _problem(request, detail)
        return Answered(request=request.request, n_done=1)

    def _list_dead_letters(self, request: ListDeadLetters) -> DeadLettersListed:
        supervisor = self._system.supervisor
        letters = [
            letter
            for letter in supervisor.dead_letters
            if letter.number >= request.first
        ]
        letters = letters[max(len(letters) - request.limit, 0) :]
        return DeadLettersListed(
            request=request.request,
            n_total=supervisor.n_dead_letters,
            letters=tuple([_listed(letter) for letter in letters]),
        )

    def _requeue(self, request: RequeueDeadLetters) -> Answered:
        supervisor = self._system.supervisor
        kept = {letter.number: letter for letter in supervisor.dead_letters}
        wanted = dict.fromkeys(request.numbers)
        found = [kept.pop(number) for number in wanted if number in kept]
        supervisor.dead_letters = deque(
            kept.values(), maxlen=supervisor.dead_letters.maxlen
        )
        n_dead = supervisor.n_dead_letters
        taken: list[Message] = []
        for letter in found:
            try:
                self._system.take(letter.message, self._tables)
            except MailboxFullError:
                supervisor.bury(letter.actor, letter.message, "mailbox full")
            else:
                taken.append(letter.message)
        self._write_down(taken)
        self._system.end_turn()
        n_again = supervisor.n_dead_letters - n_dead
        problems: list[str] = []
        if missing := len(wanted) - len(found):
            problems.append(f"{missing} are not kept")
        if n_again:
            problems.append(f"{n_again} became dead letters again")
        return Answered(
            request=request.request,
            n_done=max(len(found) - n_again, 0),
            problem=", ".join(problems),
        )

    def _write_down(self, requeued: list[Message]) -> None:
        # As of a peer that comes and goes with them: so a replay counts them as we do.
        if self._journal is not None and requeued:
            peer = self._journal.greeted(DEAD_LETTERS, "")
            self._journal.took(peer, requeued)
            self._journal.left(peer)

    def _list_held(self, request: ListHeldReturns) -> HeldReturnsListed:
        held = self._system.factory.tally.held
        found = [one for one in held if one.number >= request.first]
        found = found[max(len(found) - request.limit, 0) :]
        return HeldReturnsListed(
            request=request.request,
            n_total=held.n_total,
            n_given_up=held.n_given_up,
            returns=tuple([_held(one) for one in found]),
        )

    def _release(self, request: ReleaseHeldReturns, write_down: WriteDown) -> Answered:
        problems: list[str] = []
        numbers: list[int] = []
        for number in dict.fromkeys(request.numbers):
            if state := self._away(number):
                problems.append(f"{number} has to wait: its actor is {state}")
            else:
                numbers.append(number)
        if numbers:
            write_down(structs.replace(request, numbers=tuple(numbers)))
        n_done = 0
        for number in numbers:
            try:
                release(self._system.factory.parts, number)
            except NotReleasedError as error:
                problems.append(f"{error.number} {error.reason}")
            else:
                n_done += 1
        self._system.end_turn()
        return _answered(request, n_done, problems)

    def _away(self, number: int) -> CellState | None:
        # What an actor cannot take now, it could not take as a message either.
        factory = self._system.factory
        held = factory.tally.held.get(number)
        if held is None:
            return None
        actors: Mapping[str, Behavior] = factory.actors
        if held.is_benchmark:
            actors = factory.broadcasters
        actor = actors.get(held.name)
        if actor is None:
            return None
        state = self._system.cell_of(actor).state
        return None if state is CellState.LIVE else state

    def _discard(self, request: DiscardHeldReturns, write_down: WriteDown) -> Answered:
        write_down(request)
        quarantine = self._system.factory.tally.held
        numbers = dict.fromkeys(request.numbers)
        gone = [number for number in numbers if not quarantine.discard(number)]
        self._system.end_turn()
        problems = [f"{number} is not held" for number in gone]
        return _answered(request, len(numbers) - len(gone), problems)

    def _command(self, command: Command, write_down: WriteDown) -> Answered:
        system = self._system
        try:
            actor = self._addressee(command)
            before = actor.status
            system.tell(actor.name, command)
        except (ActorDeadError, MailboxFullError, UnknownSymbolError) as error:
            return _problem(command, str(error))
        write_down(command)
        system.end_turn()
        cell = system.cell_of(actor)
        if any(message is command for message, _ in cell.mailbox.waiting()):
            detail = "obeys once its actor has taken what came before"
            if cell.state is not CellState.LIVE:
                detail = f"obeys once its actor is back: it is {cell.state}"
        elif actor.status is not before:  # whatever became of it since
            return Answered(request=command.request, n_done=1)
        elif cell.state is not CellState.LIVE:
            detail = f"did not obey: {cell.last_error}"
        else:
            detail = _UNCHANGED[before]
        return _problem(command, f"{actor.name} {detail}")

    def _addressee(self, command: Command) -> SymbolActor:
        # A dead letter would be no answer: what is quarantined has to be revived first.
        actor = self._system.factory.actor_of(command.symbol)
        state = self._system.cell_of(actor).state
        if state is CellState.QUARANTINED:
            raise ActorDeadError(actor.name, state)
        return actor


def _held(held: HeldReturn) -> HeldReturnListed:
    finding = held.finding
    return HeldReturnListed(
        number=held.number,
        factor=finding.factor,
        name=held.name,
        ts_event=held.message.ts_event,
        period_return=held.message.period_return,
        reason=finding.key,
        limit=finding.limit,
        z=finding.z,
        is_as_sent=held.is_as_sent,
        payload=held.payload,
    )


def _answered(request: Operation, n_done: int, problems: Iterable[str]) -> Answered:
    problem = "; ".join(problems)
    if len(problem) > MAX_TEXT_LENGTH:
        problem = f"{problem[: MAX_TEXT_LENGTH - 3]}..."
    return Answered(request=request.request, n_done=n_done, problem=problem)


def _listed(letter: DeadLetter) -> DeadLetterListed:
    return DeadLetterListed(
        number=letter.number,
        actor=letter.actor,
        reason=letter.reason[:MAX_TEXT_LENGTH],
        buried_ns=letter.buried_ns,
        payload=encode(letter.message),
    )


def _problem(request: Operation, detail: str) -> Answered:
    return Answered(request=request.request, n_done=0, problem=detail[:MAX_TEXT_LENGTH])
