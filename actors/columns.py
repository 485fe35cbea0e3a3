"""A turn's betas as columns, and the two messages that can be made of them.

Rule: the sidecar computes and keeps columns; rows (`BetaUpdated`) exist only for those
who ask for rows, and are made here.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from math import isnan
from struct import error as StructError  # noqa: N812 - it is a class
from struct import unpack
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import ValidationError
from numpy.typing import NDArray

from ..estimators import NO_ROWS, Rows
from ..estimators.ols import STATISTICS
from ..messages import (
    BetasUpdated,
    BetaUpdated,
    MalformedMessageError,
)
from ..messages.betas import BETA_TAG, updates_of

FEW_ROWS = 16
"""Up to so many rows, what arrays of them cost to make is more than they save."""

TIMESTAMP_BYTES: Final = 8


def _number(value: float) -> float | None:
    return None if isnan(value) else float(value)


class BetaColumns(msgspec.Struct, eq=False):
    """Updates of some symbols of one factor at one bar, ``k`` rows of them.

    Every column is contiguous.
    """

    factor: str
    benchmark: str
    symbols: tuple[str, ...]
    """All symbols of the factor; ``rows`` points into them."""
    rows: Rows
    """Shape (k,)."""
    ts_event: int
    numbers: NDArray[np.float64]
    """beta, alpha, std_error, t_stat, r_squared, residual_std; shape (6, k)."""
    n_obs: NDArray[np.int32]
    window_start: NDArray[np.int64]
    """Shape (k,), or (1,) where one value holds for every row."""
    status: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    revision: NDArray[np.int32]
    ts_init: NDArray[np.int64]
    """Shape (k,), or (1,) where one value holds for every row."""
    first_seq: int = 0
    """`seq` of the first row, the others follow; 0 until published."""
    seqs: NDArray[np.int64] | None = None
    """`seq` of each row where they do not follow the first."""
    conflated: NDArray[np.int32] | None = None
    """Updates folded into each row for one slow subscriber; ``None`` = none."""
    n_eff: NDArray[np.float64] | None = None
    """Effective numbers of pairs, NaN = undefined; ``None`` = ``n_obs``."""
    absent: Rows | None = None
    """The rows that ``rows`` lack, which are in order then; ``NO_ROWS`` itself = they
    are all, ``None`` = not known."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def seq(self) -> NDArray[np.int64]:
        """`seq` of each row, shape (k,)."""
        if self.seqs is not None:
            return self.seqs
        return np.arange(self.first_seq, self.first_seq + len(self.rows))

    @property
    def last_seq(self) -> int:
        """`seq` of the last row."""
        if self.seqs is not None:
            return int(self.seqs[-1])
        return self.first_seq + len(self.rows) - 1

    def select(self, wanted: NDArray[np.bool_]) -> "BetaColumns":
        """Return the rows whose symbol is wanted; mask of shape (n_symbols,)."""
        keep = wanted[self.rows]
        if keep.all():
            return self
        return BetaColumns(
            factor=self.factor,
            benchmark=self.benchmark,
            symbols=self.symbols,
            rows=self.rows[keep],
            ts_event=self.ts_event,
            numbers=self.numbers[:, keep],
            n_obs=self.n_obs[keep],
            window_start=_shared(self.window_start, keep),
            status=self.status[keep],
            reason=self.reason[keep],
            revision=self.revision[keep],
            ts_init=_shared(self.ts_init, keep),
            seqs=self.seq[keep],
            conflated=None if self.conflated is None else self.conflated[keep],
            n_eff=None if self.n_eff is None else self.n_eff[keep],
        )

    def as_rows(self) -> list[BetaUpdated]:
        """Return one message per row, in order."""
        return updates_of(list(self.as_arrays()))

    def as_arrays(self) -> Iterator[tuple[object, ...]]:
        """Return what the messages of `as_rows` are on the wire, in order.

        A tuple of a message's fields behind its tag encodes to the same bytes as the
        message, and is made in a third of the time.
        """
        k = len(self.rows)
        floats: list[list[float]] = self.numbers.tolist()
        numbers: Sequence[Sequence[float | None]] = floats
        if np.isnan(self.numbers).any():
            numbers = [[_number(value) for value in column] for column in floats]
        symbols = self.symbols
        rows: list[int] = self.rows.tolist()
        n_eff = None if self.n_eff is None else self.n_eff.tolist()
        return zip(
            repeat(BETA_TAG, k),
            repeat(self.factor, k),
            [symbols[row] for row in rows],
            repeat(self.benchmark, k),
            repeat(self.ts_event, k),
            *numbers,
            self.n_obs.tolist(),
            _spread(self.window_start, k),
            self.status.tolist(),
            self.reason.tolist(),
            self.revision.tolist(),
            self.seq.tolist(),
            _spread(self.ts_init, k),
            repeat(0, k) if self.conflated is None else self.conflated.tolist(),
            repeat(None, k) if n_eff is None else [_number(value) for value in n_eff],
            strict=True,
        )

    def as_columns(self, table: int | None = None) -> BetasUpdated:
        """Return one message for all rows.

        Parameters
        ----------
        table
            Number of a declared table that lists ``self.symbols``; by default the
            message names the symbols of its rows.
        """
        k = len(self.rows)
        seqs = self.seqs
        if seqs is not None and (k == 0 or int(seqs[-1]) - int(seqs[0]) == k - 1):
            seqs = None
        names: tuple[str, ...] = self.symbols
        rows = self.rows
        whole = self.absent is NO_ROWS or (
            k == len(names) and bool((rows[1:] > rows[:-1]).all())
        )
        if not k:
            # no positions mean all of the table: none of it needs a list of its own
            table, names, whole = None, (), True
        numbers: Any = self.numbers.reshape(-1).data  # a copy if it has to be
        beta, alpha, std_error, t_stat, r_squared, residual_std = [
            numbers[i * k : (i + 1) * k] for i in range(STATISTICS)
        ]
        # The encoder takes any buffer where a message says bytes, without a copy.
        columns: list[Any] = [
            self.n_obs.data,
            self.window_start.data,
            self.status.data,
            self.reason.data,
            self.revision.data,
            self.ts_init.data,
        ]
        n_obs, window_start, status, reason, revision, ts_init = columns
        symbols: int | tuple[str, ...]
        if table is not None:
            symbols = table
        elif whole:
            symbols = names
        else:
            positions: list[int] = rows.tolist()
            symbols, whole = tuple([names[row] for row in positions]), True
        return BetasUpdated(
            factor=self.factor,
            benchmark=self.benchmark,
            ts_event=self.ts_event,
            symbols=symbols,
            rows=b"" if whole else _memory(rows.astype(np.int32)),
            beta=beta,
            alpha=alpha,
            std_error=std_error,
            t_stat=t_stat,
            r_squared=r_squared,
            residual_std=residual_std,
            n_obs=n_obs,
            window_start=window_start,
            status=status,
            reason=reason,
            revision=revision,
            seq=self.last_seq if k else 0,
            seqs=b"" if seqs is None else _memory(seqs),
            ts_init=ts_init,
            conflated=b"" if self.conflated is None else _memory(self.conflated),
            n_eff=b"" if self.n_eff is None else _memory(self.n_eff),
        )


def _memory(column: NDArray[np.generic]) -> bytes:
    memory: Any = column.data
    as_bytes: bytes = memory
    return as_bytes


def rows_of(message: BetasUpdated, symbols: tuple[str, ...]) -> list[BetaUpdated]:
    """Return the updates that a columnar message holds, in order.

    Parameters
    ----------
    message
        As received.
    symbols
        What its ``symbols`` stand for: themselves, or the declared table.

    Raises
    ------
    MalformedMessageError
        When the columns are not all of one length, a row is outside the table, or a
        column holds what no row could say.
    """
    n_rows = len(message.rows) // 4 or len(symbols)
    try:
        if n_rows <= FEW_ROWS:
            return _few_rows_of(message, symbols, n_rows)
        return _columns_of(message, symbols).as_rows()
    except (ValueError, IndexError, ValidationError, StructError) as error:
        raise MalformedMessageError(f"columns of {n_rows} rows: {error}") from error


def _few_rows_of(
    message: BetasUpdated, symbols: tuple[str, ...], k: int
) -> list[BetaUpdated]:
    # What `_columns_of` and `as_rows` do, without arrays.
    ints, longs = f"<{k}i", f"<{k}q"
    rows = unpack(ints, message.rows) if message.rows else range(k)
    seqs: Sequence[int] = range(message.seq - k + 1, message.seq + 1)
    if message.seqs:
        seqs = unpack(longs, message.seqs)
    if k and (min(rows) < 0 or min(seqs) < 1):
        msg = "positions start at 0, sequence numbers at 1"
        raise ValueError(msg)

    def numbers_of(column: bytes) -> list[float | None]:
        return [_number(value) for value in unpack(f"<{k}d", column)]

    def stamps_of(column: bytes) -> Sequence[int]:
        if len(column) == TIMESTAMP_BYTES:
            column *= k
        return unpack(longs, column)

    arrays = zip(
        repeat(BETA_TAG, k),
        repeat(message.factor, k),
        [symbols[row] for row in rows],
        repeat(message.benchmark, k),
        repeat(message.ts_event, k),
        numbers_of(message.beta),
        numbers_of(message.alpha),
        numbers_of(message.std_error),
        numbers_of(message.t_stat),
        numbers_of(message.r_squared),
        numbers_of(message.residual_std),
        unpack(ints, message.n_obs),
        stamps_of(message.window_start),
        unpack(f"{k}B", message.status),
        unpack(f"{k}B", message.reason),
        unpack(ints, message.revision),
        seqs,
        stamps_of(message.ts_init),
        unpack(ints, message.conflated) if message.conflated else repeat(0, k),
        numbers_of(message.n_eff) if message.n_eff else repeat(None, k),
        strict=True,
    )
    return updates_of(list(arrays))


def _columns_of(message: BetasUpdated, symbols: tuple[str, ...]) -> BetaColumns:
    rows = _column(message.rows, "<i4").astype(np.intp)
    if not len(rows):
        rows = np.arange(len(symbols))
    k = len(rows)
    seq = _column(message.seqs, "<i8")
    if not len(seq):
        seq = np.arange(k) + (message.seq - k + 1)
    if k and int(seq.min()) < 1:
        msg = "sequence numbers start at 1"
        raise ValueError(msg)
    conflated = _column(message.conflated, "<i4")
    numbers = [
        message.beta,
        message.alpha,
        message.std_error,
        message.t_stat,
        message.r_squared,
        message.residual_std,
    ]
    return BetaColumns(
        factor=message.factor,
        benchmark=message.benchmark,
        symbols=symbols,
        rows=rows,
        ts_event=message.ts_event,
        numbers=np.stack([np.frombuffer(column, "<f8") for column in numbers]),
        n_obs=_column(message.n_obs, "<i4"),
        window_start=_column(message.window_start, "<i8"),
        status=_column(message.status, "u1"),
        reason=_column(message.reason, "u1"),
        revision=_column(message.revision, "<i4"),
        ts_init=_column(message.ts_init, "<i8"),
        seqs=seq,
        conflated=conflated if len(conflated) else None,
        n_eff=np.frombuffer(message.n_eff, "<f8") if message.n_eff else None,
    )


def _column(content: bytes, dtype: str) -> NDArray[Any]:
    # Counts, stamps, positions and codes: none of them is ever negative.
    column = np.frombuffer(content, dtype)
    if len(column) and int(column.min()) < 0:
        msg = f"{int(column.min())} is negative"
        raise ValueError(msg)
    return column


def _shared(values: NDArray[np.int64], keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    return values if len(values) != len(keep) else values[keep]


def _spread(values: NDArray[np.int64], k: int) -> list[int]:
    as_list: list[int] = values.tolist()
    return as_list if len(as_list) == k else as_list * k
