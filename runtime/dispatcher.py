"""Hands messages to actors, in the order in which they came.

Rule: no actor has a task. A message to a live actor with an empty queue before it is
taken on the spot; otherwise it waits in its actor's mailbox and the actor stands in
the ready queue once per message. So messages are handled in arrival order across all
actors, which makes the order of updates independent of how the input was cut into
turns, and a turn handles at most its budget, which bounds the time for which the loop
is held.
"""

from collections import deque

from ..actors.tally import Tally
from ..messages import Message
from .cell import ActorCell, CellState


class Dispatcher:
    """The ready queue of all actors.

    Parameters
    ----------
    turn_budget
        Most queued messages handled by one call of `run`.
    tally
        Knows who sent what is being taken, and is told of what is taken later.
    """

    def __init__(self, turn_budget: int, tally: Tally | None = None) -> None:
        self.turn_budget = turn_budget
        self._tally = tally or Tally()
        self.ready: deque[ActorCell] = deque()
        """Actors with waiting messages, once per message, oldest first."""

    @property
    def n_ready(self) -> int:
        """Messages that wait for a turn, not counting those of actors that restart."""
        return len(self.ready)

    def tell(self, cell: ActorCell, message: Message) -> Message | None:
        """Deliver a message; return the one that was given up for it, if any.

        Raises
        ------
        ActorDeadError
            When the actor takes no messages any more.
        MailboxFullError
            When its mailbox is full and blocks.
        """
        if cell.state is CellState.LIVE and not self.ready:
            cell.invoke(message)
            return None
        return self.post(cell, message)

    def post(self, cell: ActorCell, message: Message) -> Message | None:
        """Queue a message that an actor sent; return the one that was given up for it.

        Never on the spot: an actor that answers itself, or two that answer each other,
        take one message a step and leave the rest of the turn to others.

        Raises
        ------
        ActorDeadError, MailboxFullError
            As `tell` raises them.
        """
        given_up = cell.put(message, self._tally.source)
        if given_up is None and cell.state is CellState.LIVE:
            self.ready.append(cell)
        return given_up

    def resume(self, cell: ActorCell) -> None:
        """Queue what waited while the actor could not take it."""
        self.ready.extend([cell] * len(cell.mailbox))

    def run(self, budget: int | None = None) -> bool:
        """Handle queued messages up to the budget; return whether some are left."""
        ready = self.ready
        for _ in range(min(budget or self.turn_budget, len(ready))):
            cell = ready.popleft()
            # It may have failed since it was queued; `resume` queues it again.
            if cell.state is CellState.LIVE:
                message = cell.mailbox.get()
                if message is not None:
                    self._tally.source = cell.mailbox.source
                    cell.invoke(message)
        return bool(ready)
