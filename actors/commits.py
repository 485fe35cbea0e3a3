"""From staged rows to updates: the one computation of a turn.

Rule: rows are computed in the order in which they were staged, and the same bits come
out however many there are. A few rows cost less as scalars, many as a gather, most as a
whole pass (see `estimators.slab`), so the choice is only about time.
"""

import numpy as np
from numpy.typing import NDArray

from ..estimators import NO_ROWS, WHOLE_PASS_SHARE, AmendableGrid, Rows
from ..messages import Reason, Status
from .columns import BetaColumns
from .config import Factor
from .rows import BetaRow, BetaRows
from .split import Split, split
from .standing import Standing
from .watch import Codes
from .windows import windows_of


class Commits:
    """The windows of one factor, what is staged in them, and what was computed.

    Parameters
    ----------
    factor
        The model.
    symbols
        Symbol of each row.
    """

    def __init__(self, factor: Factor, symbols: tuple[str, ...]) -> None:
        n_rows = len(symbols)
        self.factor = factor
        self._name, self._benchmark = factor.name, factor.benchmark
        self.symbols = symbols
        self.ts_event = -1
        """Stamp of the newest bar; -1 before the first."""
        self.updates: list[BetaColumns | BetaRows] = []
        """What was computed, oldest first; who takes it out leaves an empty list."""
        self.n_pairs: int = 0
        """Pairs completed so far."""
        self._slab = windows_of(factor.model, n_rows)
        self._takes_one = self._slab.scalar_rows > 0
        self._standing = Standing(n_rows, factor.model)
        self._of_all: tuple[Status | None, Reason] = (None, Reason.NONE)
        """What rows are said to be that have no status of their own."""
        self._staged: list[int] = []
        self._staged_ts_init: list[int] = []
        self._staged_before: list[tuple[Rows, NDArray[np.int64]]] = []
        """Rows that were staged together, and what was staged before them."""
        self._n: NDArray[np.float64] | None = None
        self._n_obs = np.zeros(0, dtype=np.int32)
        """``_n``, the newest estimate's, as it is published."""
        self._all_rows: Rows = np.arange(n_rows)
        self._all_rows.setflags(write=False)  # it is part of updates
        self._whole: Split = self._all_rows, NO_ROWS

    @property
    def n_bars(self) -> int:
        """Bars opened so far."""
        return self._slab.newest + 1

    def commit(self) -> None:
        """Add the staged rows to their windows and compute their updates."""
        staged = self._staged
        if len(staged) == 1 and self._takes_one and not self._staged_before:
            self._append_rows(
                [self._commit_one(staged.pop(), self._staged_ts_init.pop())]
            )
        elif staged or self._staged_before:
            self._commit_staged()

    def prepare(self) -> None:
        """Do ahead what the next return will need: nothing else is to be done."""
        self._slab.prepare()

    def _commit_staged(self) -> None:
        staged, ts_inits_of = self._staged, self._staged_ts_init
        if self._staged_before:
            self._gather_staged()
            parts, self._staged_before = self._staged_before, []
            rows, ts_inits = parts[0]
            if len(parts) > 1:
                rows = np.concatenate([part[0] for part in parts])
                ts_inits = np.concatenate([part[1] for part in parts])
            self._commit_rows(rows, ts_inits)
            return
        self._staged, self._staged_ts_init = [], []
        if len(staged) <= self._slab.scalar_rows:
            self._append_rows(list(map(self._commit_one, staged, ts_inits_of)))
        else:
            self._commit_rows(np.array(staged), np.array(ts_inits_of))

    def _gather_staged(self) -> None:
        # What was staged one by one, so that what is staged together comes after it.
        if self._staged:
            part = np.array(self._staged), np.array(self._staged_ts_init)
            self._staged_before.append(part)
            self._staged, self._staged_ts_init = [], []

    def override(self, rows: int | Rows, status: Status | None, reason: Reason) -> None:
        """Publish rows under a status of their own until this is called with ``None``.

        Parameters
        ----------
        rows
            A row, or several.
        status
            `DEGRADED`, `HALTED` or `REMOVED`; ``None`` returns to what the window says,
            or to what all rows share.
        reason
            Why.
        """
        self.commit()
        if status is None:
            status, reason = self._of_all
        self._standing.override(rows, status, reason)
        if self.n_bars:
            self._emit_status(np.atleast_1d(rows), announces=True)

    def go_on_as(self, rows: Rows, status: Status, reason: Reason) -> None:
        """Go on with rows that were published under a status of their own.

        Parameters
        ----------
        rows, status, reason
            See `override`, but that nothing is published.
        """
        self._standing.override(rows, status, reason)

    def announce(self, rows: Rows) -> None:
        """Publish rows as they stand, without a new pair."""
        self._emit_status(rows, announces=True)

    def override_all(self, rows: Rows, status: Status | None, reason: Reason) -> None:
        """Override all rows but those that have a status of their own.

        Parameters
        ----------
        rows
            Those without one, shape (k,).
        status, reason
            See `override`.
        """
        self._of_all = status, reason
        if len(rows):
            self.override(rows, status, reason)

    @property
    def windows(self) -> AmendableGrid:
        """The windows, to look at."""
        return self._slab

    def _commit_column(
        self,
        returns: NDArray[np.float64],
        ts_inits: NDArray[np.int64],
        parts: Split | None = None,
    ) -> None:
        # A column in row order, NaN = missing, none of whose cells is filled yet.
        slab = self._slab
        rows, absent = parts or split(returns, self._all_rows)
        if len(rows) * WHOLE_PASS_SHARE < len(returns):
            if len(rows):
                slab.column[rows] = returns[rows]
                self._commit_rows(rows, ts_inits)
            return
        slab.fill(returns, absent)
        if rows is self._all_rows:
            self._emit_all(ts_inits)
        else:
            self._emit(rows, ts_inits, absent)

    def _commit_rows(self, rows: Rows, ts_inits: NDArray[np.int64]) -> None:
        # Rows in the order of their updates; their cells are filled.
        slab = self._slab
        if len(rows) < len(self.symbols):
            slab.add(rows)
        else:
            slab.fill(slab.column, NO_ROWS)
            if np.array_equal(rows, self._all_rows):
                self._emit_all(ts_inits)
                return
        self._emit(rows, ts_inits)

    def _append_rows(self, updates: list[BetaRow]) -> None:
        self.n_pairs += len(updates)
        self.updates.append(
            BetaRows(self._name, self._benchmark, self.symbols, self.ts_event, updates)
        )

    def _commit_one(self, row: int, ts_init: int) -> BetaRow:
        slab = self._slab
        n, numbers = slab.take_one(row)
        status, reason = self._standing.paired_worth(row, n, numbers[0], slab.newest)
        start = slab.window_start_of(row)
        return BetaRow(row, int(n), numbers, status, reason, 0, ts_init, start)

    def _emit_all(self, ts_inits: NDArray[np.int64]) -> None:
        # A fresh pair of every row, in order.
        slab, rows = self._slab, self._all_rows
        self.n_pairs += len(rows)
        n, numbers = slab.estimate()
        plain = self._standing.all_paired(
            slab.newest, numbers[0], are_alike=slab.are_alike
        )
        if plain is not None:
            self._put(rows, n, numbers, ts_inits, plain, absent=NO_ROWS)
            return
        self._standing.paired(None, slab.newest)
        self._append(rows, n, numbers, ts_inits, NO_ROWS, is_fresh=True)

    def _emit(
        self, rows: Rows, ts_inits: NDArray[np.int64], absent: Rows | None = None
    ) -> None:
        # A fresh pair of some rows; the others are absent, where they are known.
        slab = self._slab
        self.n_pairs += len(rows)
        n, numbers = slab.estimate(rows)
        self._standing.paired(rows, slab.newest, absent)
        self._append(rows, n, numbers, ts_inits, absent, is_fresh=True)

    def _emit_status(
        self, rows: Rows, ts_init: int | None = None, *, announces: bool = False
    ) -> None:
        # An update without a pair of the open bar: the window as it stands. A row that
        # is halted or removed is heard only when that is announced.
        if len(rows):
            n, numbers = self._slab.estimate(rows)
            stamp = self.ts_event if ts_init is None else ts_init
            self._append(rows, n, numbers, np.array([stamp]), announces=announces)

    def _append(
        self,
        rows: Rows,
        n: NDArray[np.float64],
        numbers: NDArray[np.float64],
        ts_inits: NDArray[np.int64],
        absent: Rows | None = None,
        *,
        announces: bool = False,
        is_fresh: bool = False,
    ) -> None:
        standing, slab = self._standing, self._slab
        if standing.has_quiet and not announces:
            heard = ~standing.is_quiet[rows]
            rows, n, numbers = rows[heard], n[heard], numbers[:, heard]
            ts_inits = ts_inits if len(ts_inits) == 1 else ts_inits[heard]
            absent = None
            if not len(rows):
                return
        status, reason = standing.worth(
            rows, n, numbers[0], slab.newest, is_fresh=is_fresh
        )
        revision = standing.revisions(None if rows is self._all_rows else rows)
        worth = status, reason, revision
        self._put(rows, n, numbers, ts_inits, worth, absent=absent)

    def _put(
        self,
        rows: Rows,
        n: NDArray[np.float64],
        numbers: NDArray[np.float64],
        ts_inits: NDArray[np.int64],
        worth: tuple[Codes, Codes, NDArray[np.int32]],
        *,
        absent: Rows | None,
    ) -> None:
        if n is not self._n:
            self._n, self._n_obs = n, n.astype(np.int32)
            self._n_obs.setflags(write=False)
        slab = self._slab
        status, reason, revision = worth
        self.updates.append(
            BetaColumns(
                factor=self.factor.name,
                benchmark=self.factor.benchmark,
                symbols=self.symbols,
                rows=rows,
                ts_event=self.ts_event,
                numbers=numbers,
                n_obs=self._n_obs,
                window_start=slab.window_starts(rows),
                status=status,
                reason=reason,
                revision=revision,
                ts_init=ts_inits,
                n_eff=slab.effective(rows) if slab.is_weighted else None,
                absent=absent,
            )
        )
