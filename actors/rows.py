"""A few updates as plain scalars: what `BetaColumns` is for many.

Rule: the same updates, field by field. Below a dozen rows an array costs more to make
than the numbers in it, so a quiet feed's updates never become arrays unless somebody
asks for columns.
"""

from math import isnan
from struct import pack

import msgspec
import numpy as np

from ..estimators import Statistics
from ..messages import BetasUpdated, BetaUpdated
from ..messages.betas import BETA_TAG, updates_of
from .columns import BetaColumns


class BetaRow(msgspec.Struct, gc=False):
    """One update, before it has a name and a place in the sequence."""

    row: int
    n_obs: int
    numbers: Statistics
    status: int
    reason: int
    revision: int
    ts_init: int
    window_start: int


class BetaRows(msgspec.Struct):
    """Updates of a few symbols of one factor at one bar."""

    factor: str
    benchmark: str
    symbols: tuple[str, ...]
    """All symbols of the factor; each row points into them."""
    ts_event: int
    updates: list[BetaRow]
    first_seq: int = 0
    """`seq` of the first update, the others follow; 0 until published."""
    _messages: list[BetaUpdated] | None = None

    def __len__(self) -> int:
        return len(self.updates)

    def as_rows(self) -> list[BetaUpdated]:
        """Return one message per update, in order; made once, when published."""
        if self._messages is not None:
            return self._messages
        messages = updates_of(self.as_arrays())
        if self.first_seq:
            self._messages = messages
        return messages

    def as_arrays(self) -> list[tuple[object, ...]]:
        """Return what the messages of `as_rows` are on the wire, in order.

        See `BetaColumns.as_arrays`.
        """
        return [
            self.array_of(update, seq)
            for seq, update in enumerate(self.updates, self.first_seq)
        ]

    def array_of(self, update: BetaRow, seq: int) -> tuple[object, ...]:
        """Return what the message of one of the updates is on the wire."""
        numbers: tuple[float | None, ...] = update.numbers
        # One NaN makes the sum one; infinities of both signs do too, and no harm.
        total = sum(update.numbers)
        if total != total:  # noqa: PLR0124 - NaN
            numbers = tuple([None if isnan(x) else x for x in update.numbers])
        return (
            BETA_TAG,
            self.factor,
            self.symbols[update.row],
            self.benchmark,
            self.ts_event,
            *numbers,
            update.n_obs,
            update.window_start,
            update.status,
            update.reason,
            update.revision,
            seq,
            update.ts_init,
            0,
            None,
        )

    def as_columns(self, table: int) -> BetasUpdated:
        """Return one message for all of them, as `BetaColumns.as_columns` does.

        Parameters
        ----------
        table
            Number of a declared table that lists ``self.symbols``.
        """
        updates = self.updates
        k = len(updates)
        doubles, longs, ints, octets = f"<{k}d", f"<{k}q", f"<{k}i", f"{k}B"
        rows = [update.row for update in updates]
        is_whole = k == len(self.symbols) and rows == list(range(k))
        beta, alpha, std_error, t_stat, r_squared, residual_std = zip(
            *[update.numbers for update in updates], strict=True
        )
        return BetasUpdated(
            factor=self.factor,
            benchmark=self.benchmark,
            ts_event=self.ts_event,
            symbols=table,
            rows=b"" if is_whole else pack(ints, *rows),
            beta=pack(doubles, *beta),
            alpha=pack(doubles, *alpha),
            std_error=pack(doubles, *std_error),
            t_stat=pack(doubles, *t_stat),
            r_squared=pack(doubles, *r_squared),
            residual_std=pack(doubles, *residual_std),
            n_obs=pack(ints, *[update.n_obs for update in updates]),
            window_start=pack(longs, *[update.window_start for update in updates]),
            status=pack(octets, *[update.status for update in updates]),
            reason=pack(octets, *[update.reason for update in updates]),
            revision=pack(ints, *[update.revision for update in updates]),
            seq=self.first_seq + k - 1,
            seqs=b"",
            ts_init=pack(longs, *[update.ts_init for update in updates]),
        )

    def to_columns(self) -> BetaColumns:
        """Return the same updates as columns."""
        updates = self.updates
        return BetaColumns(
            factor=self.factor,
            benchmark=self.benchmark,
            symbols=self.symbols,
            rows=np.array([update.row for update in updates], dtype=np.intp),
            ts_event=self.ts_event,
            numbers=np.array([update.numbers for update in updates]).T,
            n_obs=np.array([update.n_obs for update in updates], dtype=np.int32),
            window_start=np.array([update.window_start for update in updates]),
            status=np.array([update.status for update in updates], dtype=np.uint8),
            reason=np.array([update.reason for update in updates], dtype=np.uint8),
            revision=np.array([update.revision for update in updates], dtype=np.int32),
            ts_init=np.array([update.ts_init for update in updates]),
            first_seq=self.first_seq,
        )
