"""The running factory: every actor in its cell, messages in, updates out.

Rule: one turn takes messages in the order in which they came, then commits once.
Nothing here awaits, and nothing here knows a socket: the server and the replayer drive
the same object.
"""

import logging
from collections.abc import Callable
from math import inf

from ..actors import Behavior, BetaColumns, BetaFactory, BetaRows
from ..messages import Message
from .actor_standing import ActorStanding
from .cell import CALLS_BEHAVIOR, ActorCell, CellState
from .clock import Clock
from .deadline import interrupting
from .delivery import Delivery
from .dispatcher import Dispatcher
from .intake import Intake
from .listeners import Listeners
from .mailbox import OverflowPolicy
from .supervisor import RestartPolicy, Supervisor, Timer
from .system_statistics import SystemStatistics

logger = logging.getLogger(__name__)


class System:
    """A `BetaFactory` whose actors live in cells.

    Parameters
    ----------
    factory
        The actors.
    clock
        For restart windows, and to tell a stamp from the far future.
    call_later
        For restart backoffs.
    call_soon
        Runs the next turn when a turn's budget was spent.
    on_updates
        Called at the end of a turn with what it computed, if anything.
    on_clock
        Called when a turn looks at the clock for symbols that are stale by it.
    on_turn
        Called at the end of every turn, with what it computed.
    mailbox_capacity, overflow
        Of every actor's mailbox.
    restart_policy
        Of every actor.
    turn_budget
        Most queued messages per turn.
    """

    def __init__(
        self,
        factory: BetaFactory,
        clock: Clock,
        *,
        call_later: Timer,
        call_soon: Callable[[Callable[[], None]], object],
        on_updates: Callable[[list[BetaColumns | BetaRows]], None],
        on_clock: Callable[[], None] | None = None,
        on_turn: Callable[[list[BetaColumns | BetaRows]], None] | None = None,
        mailbox_capacity: int = 1024,
        overflow: OverflowPolicy = OverflowPolicy.DROP_OLDEST,
        restart_policy: RestartPolicy | None = None,
        turn_budget: int = 20_000,
    ) -> None:
        self.factory = factory
        self._clock = clock
        self.dispatcher = Dispatcher(turn_budget, factory.tally)
        self._ready = self.dispatcher.ready
        self.supervisor = Supervisor(
            restart_policy or RestartPolicy(),
            clock,
            call_later,
            on_state=self._on_state,
        )
        self._delivery = Delivery(
            factory,
            self.dispatcher,
            self.supervisor,
            mailbox_capacity=mailbox_capacity,
            overflow=overflow,
        )
        self.cells = self._delivery.cells
        """Every actor's cell, by the actor's kind and name."""
        self._standing = ActorStanding(factory, self._delivery)
        self._intake = Intake(
            factory, clock, self.dispatcher, self._delivery, self._standing.away
        )
        # Every message comes through one of these: not by way of another call.
        self.take_lone = self._intake.take_lone
        self.take_all = self._intake.take_all
        self.take = self._intake.take
        self.n_processed = self._intake.n_processed
        self.listeners = Listeners()
        """Subscribers of this process, called after ``on_updates``."""
        self._call_soon = call_soon
        self._on_updates = on_updates
        self._on_clock = on_clock
        self._on_turn = on_turn
        self._turn_is_due = False
        self._timed = [c for c in factory.cohorts if c.factor.model.goes_by_clock]
        self._waiting_for_room: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start every actor; the next turn handles what was taken before."""
        for cell in self.cells.values():
            cell.start()
            if cell.state is CellState.LIVE:
                self.dispatcher.resume(cell)

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish what is queued, commit it, and stop every actor.

        Parameters
        ----------
        timeout_s
            For all of it. What is queued then goes to the dead letters, and actors end
            without their ``on_stop``. An actor that does not return is interrupted, in
            the main thread; see `runtime.deadline`.
        """
        try:
            if timeout_s is None:
                self._finish(inf)
            else:
                with interrupting(timeout_s, CALLS_BEHAVIOR):
                    self._finish(self._clock.monotonic() + timeout_s)
        finally:
            # Whatever went wrong, nobody goes on, and nothing is lost uncounted.
            self._delivery.stop_all()
            self._standing.away.mark_all()

    def _finish(self, deadline: float) -> None:
        now = self._clock.monotonic
        while self.dispatcher.run(1):
            if now() >= deadline:
                logger.error(
                    "system.overdue queued=%d: they go to the dead letters",
                    self.dispatcher.n_ready,
                )
                break
        self._commit()
        for n_stopped, cell in enumerate(self.cells.values()):
            if now() >= deadline:
                logger.error(
                    "system.overdue actors=%d: ended without on_stop",
                    len(self.cells) - n_stopped,
                )
                break
            self._delivery.stop(cell)

    def cell_of(self, behavior: Behavior) -> ActorCell:
        """Return the cell of one of the actors."""
        return self._delivery.cell_of(behavior)

    def tell(self, symbol: str, message: Message) -> None:
        """Tell a symbol's actor a message, whatever `take` would have said to it.

        Parameters
        ----------
        symbol
            One of the universe.
        message
            One that the actor does not take is its failure.

        Raises
        ------
        MailboxFullError
            When its mailbox is full and blocks.
        """
        self._delivery.deliver(self.factory.actors[symbol], message)

    def end_turn(self) -> None:
        """Handle what is queued, commit, and hand on what was computed."""
        if self._ready and self.dispatcher.run():
            self._end_turn_soon()
        self._commit()
        if self._waiting_for_room:
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for callback in waiting:
                callback()

    def _commit(self) -> None:
        updates = self.factory.commit()
        if updates:
            self._on_updates(updates)
            if self.listeners.callbacks:
                self.listeners.tell(updates)
        if self._on_turn is not None:
            self._on_turn(updates)

    def advance_clock(self) -> None:
        """Look at the clock: symbols that are stale by it say so."""
        if self._timed:
            if self._on_clock is not None:
                self._on_clock()
            for cohort in self._timed:
                cohort.advance_clock(self._clock.time_ns())
            self.end_turn()

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back after the next turn, when a full mailbox may have room again."""
        self._waiting_for_room.append(callback)

    @property
    def n_waiting(self) -> int:
        """Messages in mailboxes."""
        # A live actor has mail only while it stands in the ready queue.
        cells = {*self._ready, *self._standing.away_cells()}
        return sum(len(cell.mailbox) for cell in cells)

    def statistics(self) -> SystemStatistics:
        """Return what passed through so far."""
        factory = self.factory
        return SystemStatistics(
            n_bars=sum(cohort.n_bars for cohort in factory.cohorts),
            n_pairs=sum(cohort.n_pairs for cohort in factory.cohorts),
            n_updates=sum(publisher.last_seq for publisher in factory.publishers),
            n_restarts=self.supervisor.n_restarts,
            n_dead_letters=self.supervisor.n_dead_letters,
            n_failures=self.supervisor.n_failures,
            n_quarantined=sum(
                cell.state is CellState.QUARANTINED for cell in self.cells.values()
            ),
            n_listener_failures=self.listeners.n_failures,
            dropped={str(k): n for k, n in sorted(factory.tally.dropped.items())},
            n_held=len(factory.tally.held),
            stale={
                (publisher.factor, reason.name.lower()): n
                for publisher in factory.publishers
                for reason, n in publisher.stale().items()
            },
        )

    def _end_turn_soon(self) -> None:
        # Once, however many turns left something: the loop has others to serve.
        if not self._turn_is_due:
            self._turn_is_due = True
            self._call_soon(self._end_due_turn)

    def _end_due_turn(self) -> None:
        self._turn_is_due = False
        self.end_turn()

    def _on_state(self, cell: ActorCell) -> None:
        # What subscribers see of it, and its way back.
        self._standing.show(cell)
        if cell.state is CellState.LIVE:
            self.dispatcher.resume(cell)
        self._end_turn_soon()
