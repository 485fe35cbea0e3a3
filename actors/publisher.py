"""The last value of every topic of one factor, and the sequence of its updates."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import PerRow, State
from ..estimators.ols import STATISTICS
from ..messages import BetaUpdated, Reason, Status, beta_topic
from .columns import BetaColumns, Rows
from .rows import BetaRows

MAX_UNSTORED_ROUNDS: Final = 8
"""How often every row may have been published since updates were last stored."""

MAX_UNSTORED: Final = 64
"""Turns since then, however few their rows."""


@dataclass(frozen=True, slots=True)
class _Cells:
    # The integer arrays' memory as scalars, much faster than numpy's.
    seq: memoryview
    n_updates: memoryview
    n_obs: memoryview
    ts_event: memoryview
    window_start: memoryview
    status: memoryview
    reason: memoryview
    revision: memoryview
    ts_init: memoryview


class BetaPublisher:
    """Numbers updates and remembers the newest of each symbol.

    Parameters
    ----------
    factor, benchmark
        Names on the updates.
    symbols
        Symbol of each row.

    Notes
    -----
    The row-version array ``seq`` is all that conflation needs: what a slow subscriber
    missed are the rows whose version is above the last one it was sent, whatever the
    number of subscribers.
    """

    def __init__(self, factor: str, benchmark: str, symbols: tuple[str, ...]) -> None:
        n_rows = len(symbols)
        self.factor = factor
        self.benchmark = benchmark
        self.symbols = symbols
        self.topics = tuple(beta_topic(factor, symbol) for symbol in symbols)
        self.last_seq = 0
        """`seq` of the newest update; 0 before the first."""
        self._unstored: list[BetaColumns | BetaRows] = []
        """Published and not stored yet, oldest first; the first is columns."""
        self._n_unstored = 0
        """Rows of all of them."""
        self._n_whole = 0
        """Turns of all rows that ``_n_updates`` does not count yet."""
        self._seq = np.zeros(n_rows, dtype=np.int64)
        self._n_updates = np.zeros(n_rows, dtype=np.int64)
        self.n_conflated = np.zeros(n_rows, dtype=np.int64)
        """Updates folded into newer ones per row, over all slow subscribers."""
        self.n_undelivered = np.zeros(n_rows, dtype=np.int64)
        """Updates per row that subscribers missed who went while they were slow."""
        self._numbers = np.full((STATISTICS, n_rows), np.nan)
        self._n_eff: NDArray[np.float64] | None = None
        self._n_obs = np.zeros(n_rows, dtype=np.int32)
        self._ts_event = np.zeros(n_rows, dtype=np.int64)
        self._window_start = np.zeros(n_rows, dtype=np.int64)
        self._status = np.zeros(n_rows, dtype=np.uint8)
        self._reason = np.zeros(n_rows, dtype=np.uint8)
        self._revision = np.zeros(n_rows, dtype=np.int32)
        self._ts_init = np.zeros(n_rows, dtype=np.int64)
        self._cells = _Cells(
            seq=self._seq.data,
            n_updates=self._n_updates.data,
            n_obs=self._n_obs.data,
            ts_event=self._ts_event.data,
            window_start=self._window_start.data,
            status=self._status.data,
            reason=self._reason.data,
            revision=self._revision.data,
            ts_init=self._ts_init.data,
        )

    def publish(self, updates: BetaColumns | BetaRows) -> None:
        """Assign sequence numbers and keep the updates as their topics' last values."""
        first = self.last_seq + 1
        n_updates = len(updates)
        self.last_seq += n_updates
        if isinstance(updates, BetaRows):
            updates.first_seq = first
            if not self._unstored:
                self._count(updates)
                self._store_rows(updates)
                return
        else:
            updates.seq = np.arange(first, self.last_seq + 1)
            if updates.is_whole:  # each row has a newer value now
                for older in self._unstored:
                    self._count(older)
                self._unstored.clear()
                self._n_unstored = 0
        self._unstored.append(updates)
        self._n_unstored += n_updates
        if (
            self._n_unstored > MAX_UNSTORED_ROUNDS * len(self.symbols)
            or len(self._unstored) > MAX_UNSTORED
        ):
            self._store()

    @property
    def seq(self) -> NDArray[np.int64]:
        """`seq` of each row's newest update; 0 = never published."""
        self._store()
        return self._seq

    @property
    def n_updates(self) -> NDArray[np.int64]:
        """Updates published per row."""
        self._store()
        return self._n_updates

    def _count(self, updates: BetaColumns | BetaRows) -> None:
        if isinstance(updates, BetaRows):
            for update in updates.updates:
                self._cells.n_updates[update.row] += 1
        elif updates.is_whole:
            self._n_whole += 1
        else:
            self._n_updates[updates.rows] += 1

    def _store(self) -> None:
        # Storing waits until somebody asks, or for some turns: the newest first, then
        # of each older one the rows that have nothing newer.
        if not self._unstored:
            return
        newer: NDArray[np.bool_] | None = None
        n_older = len(self.symbols)  # rows that have nothing newer
        for updates in reversed(self._unstored):
            self._count(updates)
            if not n_older:
                continue
            if newer is None:
                newer = np.zeros(len(self.symbols), dtype=np.bool_)
                self._store_some(updates, None)
            else:
                self._store_some(updates, newer)
            if isinstance(updates, BetaRows):
                for update in updates.updates:
                    newer[update.row] = True
            else:
                newer[updates.rows] = True
            n_older = len(newer) - int(np.count_nonzero(newer))
        self._unstored.clear()
        self._n_unstored = 0
        self._n_updates += self._n_whole
        self._n_whole = 0

    def _store_some(
        self, updates: BetaColumns | BetaRows, newer: NDArray[np.bool_] | None
    ) -> None:
        if isinstance(updates, BetaRows):
            self._store_rows(updates, newer)
        elif newer is None:
            where = slice(None) if updates.is_whole else updates.rows
            self._store_columns(updates, where)
        else:
            older = updates.select(~newer)
            self._store_columns(older, older.rows)

    def _store_columns(self, columns: BetaColumns, where: Rows | slice) -> None:
        self._seq[where] = columns.seq
        self._numbers[:, where] = columns.numbers
        if columns.n_eff is not None:
            if self._n_eff is None:
                self._n_eff = np.full(len(self.symbols), np.nan)
            self._n_eff[where] = columns.n_eff
        self._n_obs[where] = columns.n_obs
        self._ts_event[where] = columns.ts_event
        self._window_start[where] = columns.window_start
        self._status[where] = columns.status
        self._reason[where] = columns.reason
        self._revision[where] = columns.revision
        self._ts_init[where] = columns.ts_init

    def _store_rows(
        self, updates: BetaRows, newer: NDArray[np.bool_] | None = None
    ) -> None:
        # The same, cell by cell.
        cells = self._cells
        for seq, update in enumerate(updates.updates, updates.first_seq):
            row = update.row
            if newer is not None and newer[row]:
                continue
            cells.seq[row] = seq
            self._numbers[:, row] = update.numbers
            cells.n_obs[row] = update.n_obs
            cells.ts_event[row] = updates.ts_event
            cells.window_start[row] = update.window_start
            cells.status[row] = update.status
            cells.reason[row] = update.reason
            cells.revision[row] = update.revision
            cells.ts_init[row] = update.ts_init

    def last_values(self, rows: Rows) -> list[BetaColumns]:
        """Return the newest update of each row that has one, by bar, oldest first.

        Within a bar the updates stand in the order in which they were published.
        """
        self._store()
        rows = rows[self._seq[rows] > 0]
        rows = rows[np.argsort(self._seq[rows], kind="stable")]
        stamps = self._ts_event[rows]
        return [
            self._take(rows[stamps == stamp], int(stamp)) for stamp in np.unique(stamps)
        ]

    def last_value(self, row: int) -> BetaUpdated | None:
        """Return the newest update of one row, ``None`` before the first."""
        self._store()
        if not self._seq[row]:
            return None
        return self._take(np.array([row]), int(self._ts_event[row])).as_rows()[0]

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        self._store()
        n_eff = np.full(len(self.symbols), np.nan)
        return {
            "last_seq": self.last_seq,
            "has_n_eff": self._n_eff is not None,
            "n_eff": PerRow(n_eff if self._n_eff is None else self._n_eff, np.nan),
            "numbers": PerRow(self._numbers, np.nan),
            **{name: PerRow(column, 0) for name, column in self._integers().items()},
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self.last_seq = state["last_seq"]
        self._n_eff = state["n_eff"] if state["has_n_eff"] else None
        self._numbers[:] = state["numbers"]
        for name, column in self._integers().items():
            column[:] = state[name]

    def _integers(self) -> dict[str, NDArray[Any]]:
        return {
            "seq": self._seq,
            "n_updates": self._n_updates,
            "n_obs": self._n_obs,
            "ts_event": self._ts_event,
            "window_start": self._window_start,
            "status": self._status,
            "reason": self._reason,
            "revision": self._revision,
            "ts_init": self._ts_init,
        }

    def stale(self) -> dict[Reason, int]:
        """Return how many topics are stale now, by reason."""
        self._store()
        is_stale = (self._status == Status.STALE) & (self._n_updates > 0)
        counts = np.bincount(self._reason[is_stale])
        return {Reason(code): n for code, n in enumerate(counts.tolist()) if n}

    def _take(self, rows: Rows, ts_event: int) -> BetaColumns:
        return BetaColumns(
            factor=self.factor,
            benchmark=self.benchmark,
            symbols=self.symbols,
            rows=rows,
            ts_event=ts_event,
            numbers=self._numbers[:, rows],
            n_obs=self._n_obs[rows],
            window_start=self._window_start[rows],
            status=self._status[rows],
            reason=self._reason[rows],
            revision=self._revision[rows],
            ts_init=self._ts_init[rows],
            seq=self._seq[rows],
            n_eff=None if self._n_eff is None else self._n_eff[rows],
        )
