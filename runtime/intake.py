"""Takes what a source sent to its actors, each message by the shortest road.

Rule: whatever the road, the actor has taken the message or it waits its turn in the
order in which it came. Nearly every message is a return to a live actor with nothing
waiting before it: that one is taken on the spot, and those that came together in one
array step.
"""

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np

from ..actors import BetaFactory, Drop
from ..actors.row_mask import Mask, RowMask
from ..actors.symbol import SymbolActor
from ..actors.tables import SymbolTables
from ..estimators import Rows
from ..messages import (
    OBSERVATION_TYPES,
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    MailboxFullError,
    MalformedMessageError,
    Message,
    ReturnObserved,
    ReturnsObserved,
    SessionOpened,
    SymbolsDeclared,
)
from .cell import ActorCell, CellState
from .clock import Clock
from .delivery import Delivery
from .dispatcher import Dispatcher
from .groups import ReturnGroup, Taken, ungrouped
from .mailbox import OverflowPolicy
from .name_index import NameIndex

logger = logging.getLogger(__name__)

MAX_AHEAD_NS: Final = 24 * 3600 * 10**9
"""How far ahead of the clock a benchmark may open a bar. Clocks of feeds are wrong by
time zones at most; one stamp from the far future would make all that follow late."""

_GROUPS_IN_A_LIST: Final = "groups of messages come in a list"
_LIVE: Final = CellState.LIVE
_OPENING: Final = (BenchmarkReturnObserved, BenchmarkReturnMissed, SessionOpened)
_ALONE: Final = tuple({*OBSERVATION_TYPES} - {ReturnsObserved})
"""Messages that are one observation; a columnar one is worth its single messages."""


class Intake:
    """Takes messages into a factory's actors.

    Parameters
    ----------
    factory
        The actors.
    clock
        Tells a stamp from the far future.
    dispatcher
        Its queue says whether anything waits for its turn.
    delivery
        The actors' cells.
    away
        Rows of the symbols whose actors take no messages now.
    """

    def __init__(
        self,
        factory: BetaFactory,
        clock: Clock,
        dispatcher: Dispatcher,
        delivery: Delivery,
        away: RowMask,
    ) -> None:
        self._factory = factory
        self._clock = clock
        self._tally = factory.tally
        self._ready = dispatcher.ready
        self._delivery = delivery
        self._cell_of_symbol = delivery.cell_of_symbol
        self._cell_of_benchmark = delivery.cell_of_benchmark
        self._away = away
        self._blocks = delivery.overflow is OverflowPolicy.BLOCK
        self._every_row = np.ones(len(factory.symbols), dtype=np.bool_)
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
        before = self._factory.n_columnar
        self._take(message, tables)
        n_columnar = self._factory.n_columnar - before
        sources.received[source] += n_columnar or isinstance(message, _ALONE)

    def n_processed(self, cell: ActorCell) -> int:
        """Return how many messages an actor has taken, together or one by one.

        A return that came in a columnar frame is worth a message.
        """
        row = self._factory.row_of.get(cell.name)
        if row is None or cell is not self._cell_of_symbol[cell.name]:
            return cell.n_processed
        n_in_columns = self._factory.parts.column_counts.of(row)
        return cell.n_processed + int(self._n_grouped[row]) + n_in_columns

    def _take(self, message: Message, tables: SymbolTables) -> None:
        if type(message) is ReturnsObserved:
            masked = self._rows_to_mail()
            for mailed in self._factory.take_columns(message, tables, masked):
                self._delivery.deliver(self._factory.actors[mailed.symbol], mailed)
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
            self._tally.drop_for_all(Drop.FUTURE, message)
        else:
            self._delivery.send(message)

    def _opener(self, message: BenchmarkReturnObserved) -> ActorCell | None:
        # Whose bar a benchmark's return opens, if it is not to be refused.
        if self._is_far_ahead(message.ts_event):
            return None
        return self._cell_of_benchmark.get(message.benchmark)

    def _is_far_ahead(self, ts_event: int) -> bool:
        return ts_event > self._clock.time_ns() + MAX_AHEAD_NS

    def _take_group(self, group: ReturnGroup) -> bool:
        # Whether a group was taken: its actors are the ones we know, and no mailbox can
        # refuse what those cannot take now.
        if self._ready or self._has_guests:
            return False
        rows = self._names.rows(group)
        if rows is None:
            return False
        masked = self._away.some
        if rows is self._last_rows and masked is None:
            # The same names as last time, all of them known and live.
            self._factory.take_group(group, rows, None)
            self._n_grouped += self._last_counts
            return True
        taken = rows >= 0
        if masked is not None:
            is_mailed = masked[rows] & taken
            if self._blocks and np.count_nonzero(is_mailed):
                return False  # a mailbox could refuse one of them half-way
            taken ^= is_mailed
        for mailed in self._factory.take_group(group, rows, masked):
            self._delivery.deliver(self._factory.actors[mailed.symbol], mailed)
        whole = rows
        if np.count_nonzero(taken) < len(rows):
            rows = rows[taken]
        counts = np.bincount(rows, minlength=len(self._n_grouped))
        self._n_grouped += counts
        if rows is whole:
            self._last_rows, self._last_counts = rows, counts
        return True

    def _rows_to_mail(self) -> Mask | None:
        # The rows of a columnar frame that its actors do not take on the spot; all of
        # them where something waits for its turn, for that came first. Without room for
        # each the frame is refused before any of it is staged: it will be taken again.
        masked = self._every_row if self._ready else self._away.some
        if masked is None:
            return None
        for row in np.flatnonzero(masked).tolist():
            self._cell_of_symbol[self._factory.symbols[row]].mailbox.check_room()
        return masked
