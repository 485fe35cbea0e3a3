"""Returns of a cohort on their way into their bar's cells.

Rule: a columnar frame addressed to the cohort is worth exactly the sequence of its
single messages, bit for bit: the plain cells are taken in one array step, and whatever
is exceptional about a cell goes through `stage`, the very method that the symbol's
actor calls for a single message.

A return for the open bar is *staged*: its cell is written and its row noted, for the
next commit. One for a later bar waits in that bar's pending column until the benchmark
opens it; one for an earlier bar is for the past (`cohort`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import repeat
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import Rows
from .commits import Commits
from .config import Factor
from .pending import PendingBars
from .split import split
from .tally import Drop, Refusal, Tally

SMALL_FRAME: Final = 64
"""Columnar frames up to this many rows are staged like single messages, so that a bar
that comes in many small frames is still committed once."""

MAX_PENDING_BARS: Final = 16
"""Bars that may wait for their benchmark at once."""


class Staging(Commits, ABC):
    """What a cohort does with a return, whoever brings it.

    Parameters
    ----------
    factor, symbols, tally, max_pending_bars
        As for `Lockstep`.
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
        self._paired_stamp = -1  # of the newest bar while it completes pairs, else -1
        self._tally = tally
        self._lateness = factor.model.allowed_lateness
        self._cells = self._slab.cells
        self._pending = PendingBars(len(symbols), max_pending_bars, tally)
        self._seen_whole = self._all_rows
        # A cohort with rules of its own for a return looks at each that comes alone.
        self._takes_groups = type(self).stage is Staging.stage

    @property
    def n_waiting(self) -> int:
        """Bars that wait for their benchmark."""
        return len(self._pending)

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
        return Staging.stage(self, row, ts_event, period_return, ts_init)

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
        is_whole = self._is_whole(rows)
        is_open = ts_event == self._paired_stamp
        if is_whole and is_open and self._is_untouched:
            # The first frame of a bar, which all others are like.
            parts = self._whole if is_complete else None
            self._commit_column(returns, np.array([ts_init]), parts)
            return []
        if is_whole and ts_event > self.ts_event:
            parts = self._whole if is_complete else split(returns, self._all_rows)
            bar = self._pending.bar(ts_event) if len(parts[0]) else None
            if bar is not None and bar.is_new:
                bar.fill(returns, parts, self._tally.source)
                return []
        is_there = None
        if not is_complete:
            is_there = ~np.isnan(returns)
            if not np.count_nonzero(is_there):
                return []
        column = self._column_for(ts_event)
        if column is None:
            return self._stage_each(rows, ts_event, returns, repeat(ts_init))
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
                self._commit_column(
                    returns, ts_inits, self._whole if is_complete else None
                )
                return []
        if is_there is not None:
            rows, returns = rows[is_there], returns[is_there]
        if is_open:
            column[rows] = returns
            self._commit_rows(rows, ts_inits)
        else:
            self._wait_together(rows, ts_event, returns)
        return []

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
            bar.is_new, bar.split = False, None
            return None
        return Drop.DUPLICATE if cell == period_return else Drop.CONFLICT

    def _wait_together(
        self, rows: Rows, ts_event: int, returns: NDArray[np.float64]
    ) -> None:
        # The same for many rows, whose cells are empty; there is room for the bar.
        bar = self._pending.bar(ts_event)
        if bar is None:
            return
        if bar.is_new and rows is self._seen_whole:
            bar.fill(returns, self._whole, self._tally.source)
            return
        bar.column[rows] = returns
        bar.sources[rows] = self._tally.source
        bar.is_new, bar.split = False, None

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

    def _column_for(self, ts_event: int) -> NDArray[np.float64] | None:
        # The open bar's cells, or those of one that waits; `None` for all others.
        if ts_event == self._paired_stamp:
            return self._slab.column
        if ts_event <= self.ts_event:
            return None
        bar = self._pending.bar(ts_event)
        return None if bar is None else bar.column

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


def _are_free(column: NDArray[np.float64], rows: Rows) -> bool:
    # Whether each row's cell is empty, and no row stands twice.
    if np.count_nonzero(np.isnan(column[rows])) < len(rows):
        return False
    if np.count_nonzero(rows[1:] > rows[:-1]) == len(rows) - 1:
        return True
    return int(np.bincount(rows).max()) == 1
