"""The symbol actors of one benchmark, stepped together.

Rule: a row changes only by its own actor's rules. A columnar frame addressed to the
cohort is worth exactly the sequence of its single messages, bit for bit: the plain
cells are taken in one array step, and whatever is exceptional about a cell goes
through `stage`, the very method that the symbol's actor calls for a single message.

Theory of operation
-------------------
The newest bar is open from its benchmark return until the next one. A return for the
open bar is *staged*: its cell is written and its row noted. `commit` adds all staged
rows to their windows in one step and turns them into one `BetaColumns`, in the order
in which they came. So how the messages were cut into turns changes neither a number
nor the order of the updates.

A return for a later bar waits in that bar's pending column until the benchmark opens
it. Pending bars are bounded; one that the benchmark skips, or that is pushed out, is
counted as unpaired.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import repeat
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import Opening, PerRow, State
from .columns import Rows
from .commits import Commits
from .config import Factor
from .openings import Openings
from .pending import PendingBar, PendingBars
from .tally import Drop, Refusal, SourceNumbers, Tally

SMALL_FRAME: Final = 64
"""Columnar frames up to this many rows are staged like single messages, so that a bar
that comes in many small frames is still committed once."""

MAX_PENDING_BARS: Final = 16
"""Bars that may wait for their benchmark at once."""


class Lockstep(Commits, ABC):
    """All rows of one factor: windows, alignment and status.

    Parameters
    ----------
    factor
        The model.
    symbols
        Symbol of each row.
    tally
        Where dropped observations are counted.
    max_pending_bars
        How many bars may wait for their benchmark at once.
    """

    def __init__(
        self,
        factor: Factor,
        symbols: tuple[str, ...],
        tally: Tally,
        *,
        max_pending_bars: int = MAX_PENDING_BARS,
    ) -> None:
        super().__init__(factor, symbols)
        model = factor.model
        self._openings = Openings(model)
        self._paired_stamp = -1  # of the newest bar while it completes pairs, else -1
        self._tally = tally
        self._lateness = model.allowed_lateness
        self._cells = self._slab.cells
        self._pending = PendingBars(len(symbols), max_pending_bars, tally)
        self._seen_whole = self._all_rows
        # A cohort with rules of its own for a return looks at each that comes alone.
        self._takes_groups = type(self).stage is Lockstep.stage
        # Who sent what stands in a bar that has no benchmark return yet, by stamp.
        self._sources: dict[int, SourceNumbers] = {}

    def open_bar(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Refusal | None:
        """Take the benchmark's return of a bar, and every pending pair with it.

        Parameters
        ----------
        ts_event
            The bar's stamp.
        benchmark_return
            Finite.
        ts_init
            Stamp of the observation, carried by the updates that it completes.

        Returns
        -------
        Drop, Absurd or None
            Why it was dropped, if it was.
        """
        if ts_event <= self.ts_event:
            return self._open_late(ts_event, benchmark_return, ts_init)
        self.commit()
        for opening in self._openings.next(ts_event, benchmark_return):
            self._advance(opening, ts_init)
        return None

    def release_bar(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Refusal | None:
        """Take a benchmark's return that was held, as `open_bar` takes any other."""
        return Lockstep.open_bar(self, ts_event, benchmark_return, ts_init)

    def stage(
        self, row: int, ts_event: int, period_return: float, ts_init: int
    ) -> Refusal | None:
        """Take one symbol's return; return why it was dropped, if it was.

        Parameters
        ----------
        row
            The symbol's row.
        ts_event, period_return, ts_init
            As in `ReturnObserved`; the return is finite.
        """
        if ts_event == self._paired_stamp:
            cell = self._cells[row]
            if cell != cell:  # noqa: PLR0124 - NaN: no return for this bar yet
                self._cells[row] = period_return
                self._staged.append(row)
                self._staged_ts_init.append(ts_init)
                return None
            return self._amend(row, self._slab.newest, period_return, ts_init)
        if ts_event <= self.ts_event:
            return self._stage_late(row, ts_event, period_return, ts_init)
        return self._wait(row, ts_event, period_return)

    def release(
        self, row: int, ts_event: int, period_return: float, ts_init: int
    ) -> Refusal | None:
        """Take a return that was held, as `stage` takes any other."""
        return Lockstep.stage(self, row, ts_event, period_return, ts_init)

    def _wait(self, row: int, ts_event: int, period_return: float) -> Drop | None:
        # For the benchmark to open the bar.
        bar = self._pending.bar(ts_event)
        if bar is None:
            return Drop.UNPAIRED
        cells = bar.cells
        cell = cells[row]
        if cell != cell or (self._lateness and cell != period_return):  # noqa: PLR0124
            cells[row] = period_return
            bar.source_cells[row] = self._tally.source
            return None
        return Drop.DUPLICATE if cell == period_return else Drop.CONFLICT

    def _wait_together(
        self, rows: Rows, ts_event: int, returns: NDArray[np.float64]
    ) -> None:
        # The same for many rows, whose cells are empty; there is room for the bar.
        bar = self._pending.bar(ts_event)
        if bar is not None:
            bar.is_whole = rows is self._seen_whole
            where = slice(None) if bar.is_whole else rows
            bar.column[where] = returns
            bar.sources[where] = self._tally.source

    def stage_column(
        self,
        rows: Rows,
        ts_event: int,
        returns: NDArray[np.float64],
        ts_init: int,
        *,
        is_complete: bool = False,
    ) -> list[tuple[int, Refusal]]:
        """Take one bar's returns of many symbols.

        Parameters
        ----------
        rows
            Shape (k,), each row once.
        returns
            Shape (k,), finite, or NaN where the symbol has no return.
        is_complete
            Whether it is known that no symbol has none.

        Returns
        -------
        list of (position, reason)
            What was dropped, by position in ``rows``.
        """
        if len(rows) <= SMALL_FRAME:
            return self._stage_each(rows, ts_event, returns, repeat(ts_init))
        is_there = None
        if not is_complete:
            is_there = ~np.isnan(returns)
            if not np.count_nonzero(is_there):
                return []
        column = self._column_for(ts_event)
        if column is None:
            return self._stage_each(rows, ts_event, returns, repeat(ts_init))
        is_whole = self._is_whole(rows)
        is_open = ts_event == self._paired_stamp
        if not (is_open and self._is_untouched):
            is_free = np.isnan(column if is_whole else column[rows])
            if is_there is not None:
                is_free |= ~is_there
            if np.count_nonzero(is_free) < len(rows):
                return self._stage_each(rows, ts_event, returns, repeat(ts_init))
        ts_inits = np.array([ts_init])
        if is_open:
            self.commit()
            if is_whole:
                self._commit_column(returns, ts_inits, is_whole=is_complete)
                return []
        if is_there is not None:
            rows, returns = rows[is_there], returns[is_there]
        if is_open:
            column[rows] = returns
            self._commit_rows(rows, ts_inits)
        else:
            self._wait_together(rows, ts_event, returns)
        return []

    @property
    def _is_untouched(self) -> bool:
        # Whether the open bar is known to have no return, staged or in the windows.
        return self._slab.is_untouched and not (self._staged or self._staged_before)

    def _is_whole(self, rows: Rows) -> bool:
        # Whether these are all rows in order, as those of one table are each time.
        if rows is self._seen_whole:
            return True
        if len(rows) == len(self.symbols) and np.array_equal(rows, self._all_rows):
            self._seen_whole = rows
            return True
        return False

    def stage_rows(
        self,
        rows: Rows,
        ts_event: int,
        returns: NDArray[np.float64],
        ts_inits: NDArray[np.int64],
    ) -> list[tuple[int, Refusal]]:
        """Take single returns of one bar that came together.

        Parameters
        ----------
        rows
            Shape (k,), in the order in which they came; a row may stand twice.
        returns
            Shape (k,), finite.
        ts_inits
            Of each return, shape (k,).

        Returns
        -------
        list of (position, reason)
            What was dropped, by position in ``rows``.
        """
        column = self._column_for(ts_event) if self._takes_groups else None
        is_whole = self._is_whole(rows)
        is_open = ts_event == self._paired_stamp
        if column is None or not (
            (is_whole and is_open and self._is_untouched) or _are_free(column, rows)
        ):
            return self._stage_each(rows, ts_event, returns, ts_inits.tolist())
        if is_open:
            if is_whole:
                column[:], rows = returns, self._all_rows
            else:
                column[rows] = returns
            self._gather_staged()
            self._staged_before.append((rows, ts_inits))
        else:
            self._wait_together(rows, ts_event, returns)
        return []

    def _column_for(self, ts_event: int) -> NDArray[np.float64] | None:
        # The open bar's cells, or those of one that waits; `None` for all others.
        if ts_event == self._paired_stamp:
            return self._slab.column
        if ts_event <= self.ts_event:
            return None
        bar = self._pending.bar(ts_event)
        return None if bar is None else bar.column

    @property
    def n_waiting(self) -> int:
        """Bars that wait for their benchmark."""
        return len(self._pending)

    def advance_clock(self, now_ns: int) -> None:
        """Tell the time: rows without a pair for too long become stale."""
        self.commit()
        self._emit_status(self._standing.fallen_silent_by(now_ns))

    def forget(self, row: int) -> None:
        """Empty one row's window, as if its symbol had never had a return."""
        self.commit()
        self._slab.forget(row)
        self._standing.forget(row)

    def state(self) -> State:
        """Return what has to be kept to go on later, as it is at the end of a turn."""
        self.commit()
        return {
            "ts_event": self.ts_event,
            "n_pairs": self.n_pairs,
            "paired_stamp": self._paired_stamp,
            "windows": self._slab.state(),
            "openings": self._openings.state(),
            "pending": self._pending.state(),
            "sources": {
                str(stamp): PerRow(numbers, 0)
                for stamp, numbers in self._sources.items()
            },
            "standing": self._standing.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self.ts_event = state["ts_event"]
        self.n_pairs = state["n_pairs"]
        self._paired_stamp = state["paired_stamp"]
        self._slab.restore(state["windows"])
        self._openings.restore(state["openings"])
        self._pending.restore(state["pending"])
        self._sources = {int(k): numbers for k, numbers in state["sources"].items()}
        self._standing.restore(state["standing"])
        self._cells = self._slab.cells

    @abstractmethod
    def _open_late(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Drop | None:
        # A benchmark return for the open bar or an older one: late, or another value.
        ...

    @abstractmethod
    def _stage_late(
        self, row: int, ts_event: int, period_return: float, ts_init: int
    ) -> Drop | None:
        # A return for a bar that the benchmark has left behind, or did not have.
        ...

    @abstractmethod
    def _amend(
        self, row: int, bar: int, period_return: float, ts_init: int
    ) -> Drop | None:
        # A return for a bar that has one already, or had passed.
        ...

    @property
    def _oldest_open(self) -> int:
        # Stamp of the oldest bar that may still be amended; all, while there are few.
        bar = self._slab.newest - self._lateness
        return self._slab.stamp(bar) if bar >= self._slab.oldest else 0

    def _advance(self, opening: Opening, ts_init: int) -> None:
        # The next bar of the grid, and the pairs that wait for it.
        slab = self._slab
        silent = self._standing.fallen_silent(slab.newest)
        if len(silent):
            self._emit_status(silent)
        if self._lateness or self._sources:
            self._count_unpaired(slab.newest - self._lateness)
        if opening.resets:
            slab.reset()
        slab.advance(opening.stamp, opening.benchmark_return)
        self._cells = slab.cells
        self.ts_event = opening.stamp
        is_missing = isnan(opening.benchmark_return)
        self._paired_stamp = -1 if is_missing else opening.stamp
        waiting = self._open_pending(opening.stamp)
        if waiting is None:
            return
        if not is_missing:
            self._commit_column(
                waiting.column, np.array([ts_init]), is_whole=waiting.is_whole
            )
        elif self._lateness:
            slab.fill(waiting.column)  # its benchmark may come late
            self._sources[opening.stamp] = waiting.sources
        else:
            self._drop_unpaired(opening.stamp, waiting.column, waiting.sources)

    def _open_pending(self, stamp: int) -> PendingBar | None:
        # The returns that wait for a bar that is there now, if any do.
        if not self._lateness:
            return self._pending.open(stamp)
        return self._pending.open(stamp, self._oldest_open)

    def _count_unpaired(self, bar: int) -> None:
        # A bar without a benchmark return that it is too late for now.
        slab = self._slab
        if self._lateness and bar >= slab.oldest and isnan(slab.benchmark_value(bar)):
            stamp = slab.stamp(bar)
            sources = self._sources_of(stamp)
            self._drop_unpaired(stamp, slab.returns_of(bar), sources)
        if self._sources:
            oldest = self._oldest_open
            for stamp in [stamp for stamp in self._sources if stamp <= oldest]:
                del self._sources[stamp]

    def _drop_unpaired(
        self, stamp: int, returns: NDArray[np.float64], sources: SourceNumbers
    ) -> None:
        reason = Drop.UNPAIRED
        if stamp in self._openings.withheld:
            reason = Drop.OVERNIGHT
        self._tally.drop_waiting(reason, returns, sources)

    def _sources_of(self, stamp: int) -> SourceNumbers:
        # What was paired when it came, and lost its benchmark since, is nobody's.
        sources = self._sources.get(stamp)
        if sources is None:
            return np.zeros(len(self.symbols), dtype=np.uint16)
        return sources

    def _stage_each(
        self,
        rows: Rows,
        ts_event: int,
        returns: NDArray[np.float64],
        ts_inits: Iterable[int],
    ) -> list[tuple[int, Refusal]]:
        stage = self.stage
        dropped: list[tuple[int, Refusal]] = []
        staged = zip(rows.tolist(), returns.tolist(), ts_inits)  # noqa: B905 - repeats
        for position, (row, period_return, ts_init) in enumerate(staged):
            if not isnan(period_return):
                reason = stage(row, ts_event, period_return, ts_init)
                if reason is not None:
                    dropped.append((position, reason))
        return dropped


def _are_free(column: NDArray[np.float64], rows: Rows) -> bool:
    # Whether each row's cell is empty, and no row stands twice.
    if np.count_nonzero(np.isnan(column[rows])) < len(rows):
        return False
    if np.count_nonzero(rows[1:] > rows[:-1]) == len(rows) - 1:
        return True
    return int(np.bincount(rows).max()) == 1
