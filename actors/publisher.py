"""The last value of every topic of one factor, and the sequence of its updates."""

from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import NO_ROWS, PerRow, Rows, State, cells_of
from ..estimators.ols import STATISTICS
from ..messages import BetaUpdated, Reason, Status, beta_topic
from .columns import BetaColumns
from .rows import BetaRows

MAX_UNSTORED_ROUNDS: Final = 8
"""How often every row may have been published since updates were last stored."""

MAX_UNSTORED: Final = 64
"""Turns since then, however few their rows."""

MAX_WAITING: Final = 64
"""Turns of a few rows that wait to be stored; each more stores the oldest of them."""


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
        self.row_of = {symbol: row for row, symbol in enumerate(symbols)}
        self.last_seq = 0
        """`seq` of the newest update; 0 before the first."""
        self._unstored: list[BetaColumns] = []
        """Published and not stored yet, oldest first."""
        self._waiting: deque[BetaRows] = deque()
        """Published and not stored yet, oldest first."""
        self._is_ahead = False
        """Whether rows were stored that may be newer than some of ``_unstored``."""
        self._n_unstored = 0
        """Rows of all of them."""
        self._n_whole = 0
        """Turns of all rows that ``_n_updates`` does not count yet."""
        self._seq = np.zeros(n_rows, dtype=np.int64)
        self._n_updates = np.zeros(n_rows, dtype=np.int64)
        self._marks = np.zeros(n_rows, dtype=np.bool_)
        """All False."""
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
        # The same as scalars, much faster than numpy's.
        self._number_cells = [cells_of(column) for column in self._numbers]
        self._cells = (
            self._seq.data,
            self._n_updates.data,
            self._n_obs.data,
            self._ts_event.data,
            self._window_start.data,
            self._status.data,
            self._reason.data,
            self._revision.data,
            self._ts_init.data,
        )

    def publish(self, updates: BetaColumns | BetaRows) -> None:
        """Assign sequence numbers and keep the updates as their topics' last values."""
        first = self.last_seq + 1
        if isinstance(updates, BetaRows):
            self.last_seq += len(updates.updates)
            updates.first_seq = first
            self._waiting.append(updates)
            if len(self._waiting) > MAX_WAITING:
                self._store_rows(self._waiting.popleft())
            return
        n_updates = len(updates.rows)
        self.last_seq += n_updates
        updates.first_seq = first
        unstored = self._unstored
        if updates.absent is NO_ROWS and (unstored or self._waiting):
            # Each row has a newer value now.
            if self._waiting:
                self.catch_up()
            for older in unstored:
                self._count(older)
            unstored.clear()
            self._n_unstored = 0
            self._is_ahead = False
        unstored.append(updates)
        self._n_unstored += n_updates
        n_most = MAX_UNSTORED_ROUNDS * len(self.symbols)
        while self._n_unstored > n_most and self._drop_old():
            pass
        if self._n_unstored > n_most or len(self._unstored) > MAX_UNSTORED:
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

    def _count(self, updates: BetaColumns) -> None:
        absent = updates.absent
        if absent is None:
            self._n_updates[updates.rows] += 1
        else:
            self._n_whole += 1
            if len(absent):
                self._n_updates[absent] -= 1

    def catch_up(self) -> None:
        """Store what few rows wait for it: whoever has nothing else to do may."""
        while self._waiting:
            self._store_rows(self._waiting.popleft())

    def _drop_old(self) -> bool:
        # Forget the turns whose every row has a newer value, where it is known which
        # rows the newer ones lack; of the oldest, store the rows that have none. Return
        # whether any was forgotten.
        unstored, marks = self._unstored, self._marks
        without: Rows | None = None  # rows that nothing newer has
        n_kept = 0
        for updates in reversed(unstored[1:]):
            absent = updates.absent
            if absent is None:
                return False
            n_kept += 1
            if without is None:
                without = absent
            else:
                marks[absent] = True
                without = without[marks[without]]
                marks[absent] = False
            if not len(without):
                break
        if without is None:
            return False
        if len(without):
            self.catch_up()  # what waits may be older
            if self._is_ahead:
                return False
            marks[without] = True
            left = unstored[0].select(marks)
            marks[without] = False
            self._store_columns(left, left.rows)
        for old in unstored[:-n_kept]:
            self._count(old)
            self._n_unstored -= len(old)
        del unstored[:-n_kept]
        return True

    def _store(self) -> None:
        # Storing columns waits until somebody asks, or for some turns: the newest
        # first, then of each older one the rows that have nothing newer.
        self.catch_up()
        if not self._unstored:
            return
        has_newer = self._is_ahead
        for updates in reversed(self._unstored):
            self._count(updates)
            if not has_newer:
                where = slice(None) if updates.absent is NO_ROWS else updates.rows
                self._store_columns(updates, where)
                has_newer = True
            elif len(updates) and updates.last_seq > int(self._seq.min()):
                is_newest = np.zeros(len(self.symbols), dtype=np.bool_)
                is_newest[updates.rows] = updates.seq > self._seq[updates.rows]
                newest = updates.select(is_newest)
                self._store_columns(newest, newest.rows)
        self._unstored.clear()
        self._n_unstored = 0
        self._is_ahead = False
        self._n_updates += self._n_whole
        self._n_whole = 0

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

    def _store_rows(self, updates: BetaRows) -> None:
        # The same, cell by cell.
        (
            seqs,
            n_updates,
            n_obs,
            ts_events,
            window_starts,
            statuses,
            reasons,
            revisions,
            ts_inits,
        ) = self._cells
        betas, alphas, std_errors, t_stats, r_squareds, residual_stds = (
            self._number_cells
        )
        self._is_ahead = bool(self._unstored)
        seq = updates.first_seq
        for update in updates.updates:
            row = update.row
            seqs[row] = seq
            n_updates[row] += 1
            n_obs[row] = update.n_obs
            ts_events[row] = updates.ts_event
            window_starts[row] = update.window_start
            statuses[row] = update.status
            reasons[row] = update.reason
            revisions[row] = update.revision
            ts_inits[row] = update.ts_init
            (
                betas[row],
                alphas[row],
                std_errors[row],
                t_stats[row],
                r_squareds[row],
                residual_stds[row],
            ) = update.numbers
            seq += 1

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

    def degraded(self) -> Rows:
        """Return the rows of which it was said last that they are degraded."""
        self._store()
        is_degraded = (self._status == Status.DEGRADED) & (self._seq > 0)
        return np.flatnonzero(is_degraded)

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
            seqs=self._seq[rows],
            n_eff=None if self._n_eff is None else self._n_eff[rows],
        )
