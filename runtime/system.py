"""The running factory: every actor in its cell, messages in, updates out.

Rule: one turn takes messages in the order in which they came, then commits once.
Nothing here awaits, and nothing here knows a socket: the server and the replayer drive
the same object.
"""

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, NamedTuple

import numpy as np

from ..actors import Behavior, BetaColumns, BetaFactory, BetaRows, Drop
from ..actors.cohort import Cohort
from ..actors.columns import Rows
from ..actors.row_mask import Mask, RowMask
from ..actors.symbol import SymbolActor
from ..actors.tables import SymbolTables
from ..messages import (
    OBSERVATION_TYPES,
    ActorDeadError,
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    MailboxFullError,
    MalformedMessageError,
    Message,
    Reason,
    ReturnObserved,
    ReturnsObserved,
    SessionOpened,
    Status,
    SymbolsDeclared,
)
from .cell import ActorCell, CellState
from .clock import Clock
from .deadline import interrupting
from .dispatcher import Dispatcher
from .groups import ReturnGroup, Taken, ungrouped
from .listeners import Listeners
from .mailbox import Mailbox, OverflowPolicy
from .name_index import NameIndex
from .supervisor import RestartPolicy, Supervisor, Timer

logger = logging.getLogger(__name__)

_REASON_OF_STATE = {
    CellState.RESTARTING: Reason.ACTOR_RESTARTED,
    CellState.QUARANTINED: Reason.ACTOR_QUARANTINED,
}


MAX_AHEAD_NS = 24 * 3600 * 10**9
"""How far ahead of the clock a benchmark may open a bar. Clocks of feeds are wrong by
time zones at most; one stamp from the far future would make all that follow late."""

RUNS_BEHAVIOR: Final = frozenset(
    function.__code__ for function in (ActorCell.invoke, ActorCell.stop)
)
"""In what these call, an actor's code may be interrupted."""

_GROUPS_IN_A_LIST: Final = "groups of messages come in a list"
_LIVE: Final = CellState.LIVE
_OPENING = (BenchmarkReturnObserved, BenchmarkReturnMissed, SessionOpened)
_ALONE: Final = tuple({*OBSERVATION_TYPES} - {ReturnsObserved})
"""Messages that are one observation; a columnar one is worth its single messages."""


class SystemStatistics(NamedTuple):
    """What passed through a system so far."""

    n_bars: int
    #: benchmark bars opened, over all factors
    n_pairs: int
    #: pairs completed, over all factors
    n_updates: int
    #: updates published
    n_restarts: int
    #: actors restarted
    n_dead_letters: int
    #: messages that no actor took
    n_failures: int
    #: errors that left an actor
    n_quarantined: int
    #: actors that are quarantined now
    n_listener_failures: int
    #: errors that left a callback of this process
    dropped: dict[str, int]
    #: observations not used, by reason
    n_held: int = 0
    #: returns in quarantine now
    stale: dict[tuple[str, str], int] = {}  # noqa: RUF012 - never written to
    #: topics that are stale now, by factor and reason


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
        self._tally = factory.tally
        self.dispatcher = Dispatcher(turn_budget, self._tally)
        self._ready = self.dispatcher.ready
        self.supervisor = Supervisor(
            restart_policy or RestartPolicy(),
            clock,
            call_later,
            on_state=self._on_state,
        )
        self.cells: dict[str, ActorCell] = {}
        """Every actor's cell, by the actor's kind and name."""
        self.listeners = Listeners()
        """Subscribers of this process, called after ``on_updates``."""
        self._call_soon = call_soon
        self._on_updates = on_updates
        self._on_clock = on_clock
        self._on_turn = on_turn
        self._silent_benchmarks: set[str] = set()
        self._masked = RowMask(len(factory.symbols))
        self._every_row = np.ones(len(factory.symbols), dtype=np.bool_)
        self._turn_is_due = False
        self._timed = [c for c in factory.cohorts if c.factor.model.goes_by_clock]
        self._waiting_for_room: list[Callable[[], None]] = []
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
        self._names = NameIndex(factory.symbols)
        self._n_grouped = np.zeros(len(factory.symbols), dtype=np.int64)
        """Messages of each symbol's actor that were taken in a group."""
        self._last_rows: Rows | None = None
        """Rows of a group that was taken whole, as the index knows them,"""
        self._last_counts = self._n_grouped
        """and how many of its messages were each row's."""
        self._has_guests = any(
            type(actor) is not SymbolActor for actor in factory.actors.values()
        )
        """Whether somebody else stands in for an actor: he is told each message."""
        self._cell_of_symbol = {
            symbol: self._cell_of[id(actor)] for symbol, actor in factory.actors.items()
        }
        self._cell_of_benchmark = {
            name: self._cell_of[id(each)] for name, each in factory.broadcasters.items()
        }

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
        if timeout_s is None:
            self._stop(inf)
        else:
            with interrupting(timeout_s, RUNS_BEHAVIOR):
                self._stop(self._clock.monotonic() + timeout_s)

    def _stop(self, deadline: float) -> None:
        now = self._clock.monotonic
        while self.dispatcher.run(1):
            if now() >= deadline:
                logger.error(
                    "system.overdue queued=%d: they go to the dead letters",
                    self.dispatcher.n_ready,
                )
                break
        self._commit()
        n_silent = 0
        for cell in self.cells.values():
            is_late = now() >= deadline
            n_silent += is_late and cell.state is not CellState.STOPPED
            waiting = cell.mailbox.waiting()
            for message in cell.stop(quietly=is_late):
                self.supervisor.bury(cell.name, message, "actor stopped")
            self._drop_mail(waiting)
        if n_silent:
            logger.error("system.overdue actors=%d: ended without on_stop", n_silent)
        self._masked.mark_all()

    def take_lone(self, message: Taken, tables: SymbolTables) -> bool:
        """Take a return that came alone, an asset's or a benchmark's, if it can be.

        It can if its actor takes it on the spot. Any other message, and one that has to
        wait, is for `take_all`.

        Parameters
        ----------
        message
            What one source sent.
        tables
            The tables of that source.

        Returns
        -------
        bool
            Whether it was taken.
        """
        if type(message) is ReturnObserved:
            cell = self._cell_of_symbol.get(message.symbol)
        elif type(message) is BenchmarkReturnObserved:
            cell = self._opener(message)
        else:
            return False
        if cell is None or cell.state is not _LIVE or self._ready:
            return False
        tally = self._tally
        sources = tally.sources
        source = tally.source = sources.number(tables.source)
        cell.invoke(message)
        sources.received[source] += 1
        return True

    def take_all(
        self,
        messages: Sequence[Taken],
        tables: SymbolTables,
        first: int = 0,
    ) -> int:
        """Take observations until the first message that is none.

        Parameters
        ----------
        messages
            What one source sent, oldest first. Groups that cannot be taken as they are
            give way in it to their messages: it is a list where there are any.
        tables
            The tables of that source.
        first
            Where to begin in ``messages``.

        Returns
        -------
        int
            Position of the first message that was not taken: one that is no
            observation, one whose actor's mailbox is full and blocks (`when_room` says
            when to try again), or one that is malformed (as trying again tells); the
            number of messages when all were taken.

        Raises
        ------
        MalformedMessageError
            When the first of the messages is columnar and contradicts itself.
        TypeError
            When a group has to give way and ``messages`` is no list.
        """
        # Most messages are single returns to a live actor with nothing waiting before
        # them. They go the short way, which is `take` and `_deliver` written out.
        tally = self._tally
        source = tally.source = tally.sources.number(tables.source)
        n_counted, taken = 0, len(messages)
        cell_of = self._cell_of_symbol.get
        ready = self._ready
        live = _LIVE
        for position in range(first, len(messages)):
            message = messages[position]
            if type(message) is ReturnObserved:
                cell = cell_of(message.symbol)
                # No live actor has mail while nobody stands in the ready queue.
                if cell is not None and cell.state is live and not ready:
                    cell.invoke(message)
                    continue
            elif type(message) is BenchmarkReturnObserved:
                cell = self._opener(message)
                if cell is not None and cell.state is live and not ready:
                    cell.invoke(message)
                    continue
            elif type(message) is ReturnGroup:
                if self._take_group(message):
                    n_counted -= len(message) - 1
                    continue
                if not isinstance(messages, list):
                    raise TypeError(_GROUPS_IN_A_LIST)
                tally.sources.received[source] += position - first - n_counted
                messages[position:] = ungrouped(messages[position:])
                return self.take_all(messages, tables, position)
            elif not isinstance(message, OBSERVATION_TYPES):
                taken = position
                break
            try:
                self.take(message, tables)
            except MailboxFullError:
                taken = position
                break
            except MalformedMessageError:
                if position == first:
                    raise
                taken = position
                break
            n_counted += 1
        tally.sources.received[source] += taken - first - n_counted
        return taken

    def _opener(self, message: BenchmarkReturnObserved) -> ActorCell | None:
        # Whose bar a benchmark's return opens, if it is not to be refused.
        if self._is_far_ahead(message.ts_event):
            return None
        return self._cell_of_benchmark.get(message.benchmark)

    def _is_far_ahead(self, ts_event: int) -> bool:
        return ts_event > self._clock.time_ns() + MAX_AHEAD_NS

    def _take_group(self, group: ReturnGroup) -> bool:
        # Whether a group was taken: its actors are the ones we know, and those that
        # cannot take their message now have room for it.
        if self.dispatcher.ready or self._has_guests:
            return False
        rows = self._names.rows(group)
        if rows is None:
            return False
        masked = self._masked.some
        if rows is self._last_rows and masked is None:
            # The same names as last time, all of them known and live.
            self.factory.take_group(group, rows, None)
            self._n_grouped += self._last_counts
            return True
        taken = rows >= 0
        if masked is not None:
            is_mailed = masked[rows] & taken
            if not self._has_room(rows[is_mailed]):
                return False
            taken ^= is_mailed
        for held in self.factory.take_group(group, rows, masked):
            self._deliver(self.factory.actors[held.symbol], held)
        whole = rows
        if np.count_nonzero(taken) < len(rows):
            rows = rows[taken]
        counts = np.bincount(rows, minlength=len(self._n_grouped))
        self._n_grouped += counts
        if rows is whole:
            self._last_rows, self._last_counts = rows, counts
        return True

    def _has_room(self, rows: Rows) -> bool:
        # Whether one more message goes into the mailbox of each.
        for row in rows.tolist():
            mailbox = self._cell_of_symbol[self.factory.symbols[row]].mailbox
            if mailbox.policy is OverflowPolicy.BLOCK:
                return False
        return True

    def take(self, message: Message, tables: SymbolTables) -> None:
        """Take one message into its actor; the end of the turn computes.

        Parameters
        ----------
        message
            Returns, or a table that later frames of the same source refer to.
        tables
            The tables of its source.

        Raises
        ------
        MalformedMessageError
            When the message is none that a factory takes, or contradicts itself.
        MailboxFullError
            When its actor's mailbox is full and blocks; `when_room` says when to try
            again.
        """
        sources = self._tally.sources
        source = self._tally.source = sources.number(tables.source)
        before = self.factory.n_columnar
        self._take(message, tables)
        n_columnar = self.factory.n_columnar - before
        sources.received[source] += n_columnar or isinstance(message, _ALONE)

    def _take(self, message: Message, tables: SymbolTables) -> None:
        if type(message) is ReturnsObserved:
            mailed = self._rows_to_mail()
            for held in self.factory.take_columns(message, tables, mailed):
                self._deliver(self.factory.actors[held.symbol], held)
        elif type(message) is SymbolsDeclared:
            table = tables.declare(message)
            if table.unknown and not tables.has_named_unknown:
                tables.has_named_unknown = True  # once per source, however many follow
                logger.warning(
                    "table.unknown_symbols table=%d count=%d first=%r",
                    message.table,
                    len(table.unknown),
                    table.symbols[table.unknown[0]],
                )
        elif isinstance(message, _OPENING) and self._is_far_ahead(message.ts_event):
            self._tally.drop(Drop.FUTURE, message)
        else:
            behavior = self.factory.route(message)
            if behavior is not None:
                self._deliver(behavior, message)

    def state_of(self, behavior: Behavior) -> CellState:
        """Return where one of the actors is in its life."""
        return self._cell_of[id(behavior)].state

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
        self._deliver(self.factory.actors[symbol], message)

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

    def n_processed(self, cell: ActorCell) -> int:
        """Return how many messages an actor has taken, in groups or one by one."""
        row = self.factory.row_of.get(cell.name)
        if row is None or cell is not self._cell_of_symbol[cell.name]:
            return cell.n_processed
        return cell.n_processed + int(self._n_grouped[row])

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

    def _rows_to_mail(self) -> Mask | None:
        # The rows of a columnar frame that its actors do not take on the spot; all of
        # them where something waits for its turn, for that came first. Without room for
        # each the frame is refused before any of it is staged: it will be taken again.
        mailed = self._every_row if self._ready else self._masked.some
        if mailed is None:
            return None
        for row in np.flatnonzero(mailed).tolist():
            self._cell_of_symbol[self.factory.symbols[row]].mailbox.check_room()
        return mailed

    def _deliver(
        self,
        behavior: Behavior,
        message: Message,
        tell: Callable[[ActorCell, Message], Message | None] | None = None,
    ) -> None:
        cell = self._cell_of[id(behavior)]
        try:
            given_up = (tell or self.dispatcher.tell)(cell, message)
        except ActorDeadError as error:
            self._give_up(cell, message, Drop.UNDELIVERABLE, f"actor {error.state}")
            return
        if given_up is not None:
            with self._tally.told_by(cell.mailbox.source):
                self._give_up(cell, given_up, Drop.OVERFLOW, "mailbox full")

    def _give_up(
        self, cell: ActorCell, message: Message, drop: Drop, reason: str
    ) -> None:
        self._tally.drop(drop, message)
        self.supervisor.bury(cell.name, message, reason)

    def _on_failure(
        self, cell: ActorCell, message: Message | None, error: BaseException
    ) -> None:
        waiting = cell.mailbox.waiting()
        self.supervisor.failed(cell, message, error)
        if message is not None:
            self._tally.drop(Drop.UNDELIVERABLE, message)
        if not cell.mailbox:  # it is quarantined, and its mail went with it
            self._drop_mail(waiting)

    def _drop_mail(self, waiting: list[tuple[Message, int]]) -> None:
        for message, source in waiting:
            with self._tally.told_by(source):
                self._tally.drop(Drop.UNDELIVERABLE, message)

    def _on_outgoing(self, message: Message) -> None:
        behavior = self.factory.route(message)
        if behavior is not None:
            try:
                self._deliver(behavior, message, self.dispatcher.post)
            except MailboxFullError:
                # The sender cannot wait, and it is not its failure.
                cell = self._cell_of[id(behavior)]
                self._give_up(cell, message, Drop.OVERFLOW, "mailbox full")

    def _on_state(self, cell: ActorCell) -> None:
        # What subscribers see of an actor that cannot take messages, and its way back.
        row = self.factory.row_of.get(cell.name)
        if row is not None and cell.behavior is self.factory.actors[cell.name]:
            self._masked.mark(row, is_marked=cell.state is not CellState.LIVE)
            for cohort in self.factory.cohorts:
                cohort.override(row, *self._standing_of(cohort, row))
        elif cell.behavior is self.factory.broadcasters.get(cell.name):
            self._show_broadcaster(cell)
        if cell.state is CellState.LIVE:
            self.dispatcher.resume(cell)
        self._end_turn_soon()

    def _standing_of(self, cohort: Cohort, row: int) -> tuple[Status | None, Reason]:
        # The row's own trouble comes before that of its benchmark.
        symbol = self.factory.symbols[row]
        actor = self.factory.actors[symbol]
        state = self._cell_of_symbol[symbol].state
        if state in _REASON_OF_STATE:
            return Status.DEGRADED, _REASON_OF_STATE[state]
        if actor.status is not None:
            return actor.status, actor.reason
        if cohort.factor.benchmark in self._silent_benchmarks:
            return Status.DEGRADED, Reason.ACTOR_QUARANTINED
        return None, Reason.NONE

    def _show_broadcaster(self, cell: ActorCell) -> None:
        # While it restarts, bars wait in its mailbox and nothing is lost. Quarantined,
        # it opens none, so that no row would ever become stale: its rows say so.
        benchmark = cell.name
        if cell.state is CellState.QUARANTINED:
            self._silent_benchmarks.add(benchmark)
            status, reason = Status.DEGRADED, Reason.ACTOR_QUARANTINED
        elif cell.state is CellState.LIVE and benchmark in self._silent_benchmarks:
            self._silent_benchmarks.remove(benchmark)
            status, reason = None, Reason.NONE
        else:
            return
        rows = [
            row
            for row, symbol in enumerate(self.factory.symbols)
            if self._cell_of_symbol[symbol].state is CellState.LIVE
            and self.factory.actors[symbol].status is None
        ]
        for cohort in self.factory.cohorts:
            if cohort.factor.benchmark == benchmark:
                cohort.override_all(np.array(rows, dtype=np.intp), status, reason)
