"""Every actor's cell, and what becomes of a message on its way to it.

Rule: a message is taken by its actor, waits in its mailbox, or is given up; and what is
given up is a dead letter, counted by reason for the source that sent it.
"""

from collections import Counter
from collections.abc import Callable

from ..actors import Behavior, BetaFactory, Drop
from ..messages import ActorDeadError, MailboxFullError, Message
from .cell import ActorCell
from .dispatcher import Dispatcher
from .mailbox import Mailbox, OverflowPolicy
from .supervisor import Supervisor


class Delivery:
    """The cells of a factory's actors.

    Parameters
    ----------
    factory
        The actors.
    dispatcher
        Hands them their messages.
    supervisor
        Told of failures, and of what is given up.
    mailbox_capacity, overflow
        Of every actor's mailbox.
    """

    def __init__(
        self,
        factory: BetaFactory,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
        *,
        mailbox_capacity: int,
        overflow: OverflowPolicy,
    ) -> None:
        self._factory = factory
        self._tally = factory.tally
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self.overflow = overflow
        """What every mailbox does when it is full."""
        self.cells: dict[str, ActorCell] = {}
        """Every actor's cell, by the actor's kind and name."""
        self._cell_of: dict[int, ActorCell] = {}
        behaviors: list[Behavior] = [
            *factory.broadcasters.values(),
            *factory.actors.values(),
        ]
        for behavior in behaviors:
            cell = ActorCell(
                behavior,
                Mailbox(behavior.name, mailbox_capacity, overflow),
                on_failure=self._on_failure,
                on_outgoing=self._on_outgoing,
            )
            self._cell_of[id(behavior)] = cell
            self.cells[f"{type(behavior).__name__}({behavior.name})"] = cell
        self.cell_of_symbol = {
            symbol: self._cell_of[id(actor)] for symbol, actor in factory.actors.items()
        }
        self.cell_of_benchmark = {
            name: self._cell_of[id(each)] for name, each in factory.broadcasters.items()
        }

    def cell_of(self, behavior: Behavior) -> ActorCell:
        """Return the cell of one of the actors."""
        return self._cell_of[id(behavior)]

    def send(self, message: Message) -> None:
        """Deliver a message to whom it is addressed.

        Raises
        ------
        MalformedMessageError
            When no actor takes this type of message.
        UnknownSymbolError
            When a command names no symbol of the universe.
        MailboxFullError
            When the actor's mailbox is full and blocks.
        """
        behavior = self._factory.route(message)
        if behavior is not None:
            self.deliver(behavior, message)

    def deliver(
        self,
        behavior: Behavior,
        message: Message,
        tell: Callable[[ActorCell, Message], Message | None] | None = None,
    ) -> None:
        """Tell an actor a message, or give it up.

        Parameters
        ----------
        behavior
            One of the actors.
        message
            What it is told.
        tell
            How: `Dispatcher.tell` by default.

        Raises
        ------
        MailboxFullError
            When its mailbox is full and blocks.
        """
        cell = self._cell_of[id(behavior)]
        try:
            given_up = (tell or self._dispatcher.tell)(cell, message)
        except ActorDeadError as error:
            self._give_up(cell, message, Drop.UNDELIVERABLE, f"actor {error.state}")
            return
        if given_up is not None:
            with self._tally.told_by(cell.mailbox.source):
                self._give_up(cell, given_up, Drop.OVERFLOW, "mailbox full")

    def stop(self, cell: ActorCell) -> None:
        """Stop an actor; what still waits for it is given up."""
        self._stop(cell, quietly=False, n_newer=0)

    def stop_all(self) -> None:
        """Stop every actor, without its ``on_stop`` if that has not run yet.

        However much mail there is, this takes no time to speak of: it is counted, and
        only so much of it buried as is kept.
        """
        n_newer = sum(len(cell.mailbox) for cell in self.cells.values())
        for cell in self.cells.values():
            n_newer -= len(cell.mailbox)
            self._stop(cell, quietly=True, n_newer=n_newer)

    def _stop(self, cell: ActorCell, *, quietly: bool, n_newer: int) -> None:
        waiting = cell.mailbox.waiting()
        mail = cell.stop(quietly=quietly)
        self._supervisor.bury_all(cell.name, mail, "actor stopped", n_newer=n_newer)
        self._drop_mail(waiting)

    def _give_up(
        self, cell: ActorCell, message: Message, drop: Drop, reason: str
    ) -> None:
        self._tally.drop_for_all(drop, message)
        self._supervisor.bury(cell.name, message, reason)

    def _on_failure(
        self, cell: ActorCell, message: Message | None, error: BaseException
    ) -> None:
        waiting = cell.mailbox.waiting()
        self._supervisor.failed(cell, message, error)
        if message is not None:
            self._tally.drop_for_all(Drop.UNDELIVERABLE, message)
        if not cell.mailbox:  # it is quarantined, and its mail went with it
            self._drop_mail(waiting)

    def _drop_mail(self, waiting: list[tuple[Message, int]]) -> None:
        # One actor's: all that are of one type are about the same symbol or benchmark.
        mail = [(type(message), source) for message, source in waiting]
        one_of = {type(message): message for message, _ in waiting}
        for (message_type, source), count in Counter(mail).items():
            with self._tally.told_by(source):
                self._tally.drop_for_all(
                    Drop.UNDELIVERABLE, one_of[message_type], count
                )

    def _on_outgoing(self, message: Message) -> None:
        behavior = self._factory.route(message)
        if behavior is not None:
            try:
                self.deliver(behavior, message, self._dispatcher.post)
            except MailboxFullError:
                # The sender cannot wait, and it is not its failure.
                cell = self._cell_of[id(behavior)]
                self._give_up(cell, message, Drop.OVERFLOW, "mailbox full")
