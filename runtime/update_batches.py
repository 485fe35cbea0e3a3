"""Published updates gathered into columns, batch by batch.

Rule: what comes is columns, rows or turns of a sweep; what leaves are tables of one
form, in the order in which it came.

Theory of operation
-------------------
A call mostly brings a few updates, so it must cost next to nothing. What comes is kept
as it is; about a thousand updates at a time are gathered into columns, with a few numpy
calls for each column; full columns are a batch, and written. So memory holds one batch,
however long the writer lives.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..actors import BetaColumns, BetaTurns
from ..messages import BetaUpdated, Reason, Status

if TYPE_CHECKING:
    import polars as pl

GATHER_ROWS: Final = 1024
"""Updates gathered at once. As many fit into the processor's cache, which makes letting
go of them three times as fast as of all of a batch."""

BATCH_ROWS: Final = 100_000
"""Updates written at once: 14 MB."""

FIELDS: Final = BetaUpdated.__struct_fields__
NAMES: Final = ("factor", "symbol", "benchmark")
NUMBERS: Final = (
    "beta",
    "alpha",
    "std_error",
    "t_stat",
    "r_squared",
    "residual_std",
    "n_eff",
)
"""In the order of ``BetaColumns.numbers``, ``n_eff`` last. All that is neither name nor
number is an integer."""

STATUS_NAMES: Final = tuple(status.name.lower() for status in Status)
REASON_NAMES: Final = tuple(reason.name.lower() for reason in Reason)


class UpdateBatches:
    """Gathers what comes into columns, and writes those out whenever they are full."""

    def __init__(self) -> None:
        self._n_waiting = 0
        self._turns: list[BetaColumns] = []
        self._turn_starts: list[int] = []
        self._rows: list[BetaUpdated] = []
        self._row_places: list[int] = []
        self._allocate(BATCH_ROWS)

    def write_columns(self, columns: BetaColumns) -> None:
        """Take one turn's updates of a factor.

        Raises
        ------
        ValueError
            When they were never published, so that they have no `seq`.
        """
        if len(columns.rows):
            if columns.seqs is None and not columns.first_seq:
                msg = f"updates of {columns.factor} that were never published"
                raise ValueError(msg)
            self._turns.append(columns)
            self._turn_starts.append(self._n_waiting)
            self._wait_for(len(columns.rows))

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None:
        """Take some updates."""
        self._rows.extend(rows)
        self._row_places.extend(range(self._n_waiting, self._n_waiting + len(rows)))
        self._wait_for(len(rows))

    def write_turns(self, turns: BetaTurns) -> None:
        """Take many turns at once: columns already, behind all that came before."""
        self._gather()
        first = 0
        while first < len(turns):
            if self._n_gathered == self._capacity:
                self._write(self._take())
            start = self._n_gathered
            n_rows = min(self._capacity - start, len(turns) - first)
            self._n_gathered += n_rows
            self._place_turns(turns, slice(first, first + n_rows), start)
            first += n_rows

    def _place_turns(self, turns: BetaTurns, part: slice, start: int) -> None:
        places = slice(start, self._n_gathered)
        self._numbers[:-1, places] = turns.numbers[:, part]
        self._numbers[-1, places] = np.nan
        columns: dict[str, int | NDArray[Any]] = {
            "factor": self._codes([turns.factor])[0],
            "symbol": turns.rows[part] + self._offset(turns.symbols),
            "benchmark": self._codes([turns.benchmark])[0],
            "ts_event": turns.ts_event[part],
            "n_obs": turns.n_obs[part],
            "window_start": turns.window_start[part],
            "status": turns.status[part],
            "reason": turns.reason[part],
            "revision": 0,
            "seq": turns.seq[part],
            "ts_init": turns.ts_event[part],
            "conflated": 0,
        }
        for name, values in columns.items():
            self._integers[name][places] = values

    def _wait_for(self, n_rows: int) -> None:
        self._n_waiting += n_rows
        if self._n_waiting >= GATHER_ROWS:
            self._gather()

    def _allocate(self, capacity: int) -> None:
        self._capacity = capacity
        self._numbers = np.empty((len(NUMBERS), capacity))
        self._integers = {
            name: np.empty(capacity, dtype=np.int64)
            for name in FIELDS
            if name not in NUMBERS
        }
        self._forget()

    def _forget(self) -> None:
        self._n_gathered = 0
        self._names: list[str] = []
        self._code_of: dict[str, int] = {}
        self._offset_of: dict[tuple[str, ...], int] = {}
        self._offset_of_id: dict[int, int] = {}

    def _gather(self) -> None:
        if self._n_gathered + self._n_waiting > self._capacity:
            self._write(self._take())
            if self._n_waiting > self._capacity:
                self._allocate(self._n_waiting)
        start = self._n_gathered
        self._n_gathered += self._n_waiting
        if self._rows:
            self._gather_rows(start + np.array(self._row_places))
        if self._turns:
            self._gather_turns(start)
        self._n_waiting = 0
        self._turns, self._turn_starts = [], []
        self._rows, self._row_places = [], []

    def _gather_rows(self, places: NDArray[np.int64]) -> None:
        columns = zip(*map(msgspec.structs.astuple, self._rows), strict=True)
        for name, values in zip(FIELDS, columns, strict=True):
            if name in NUMBERS:  # numpy makes NaN of None
                self._numbers[NUMBERS.index(name), places] = values
            else:
                integers = self._codes(values) if name in NAMES else values
                self._integers[name][places] = np.fromiter(integers, np.int64)

    def _gather_turns(self, start: int) -> None:
        turns = self._turns
        sizes = np.array([len(turn.rows) for turn in turns])  # shape: (n_turns,)
        ends = np.cumsum(sizes)
        # Where each turn's rows go, less where they stand among those of all turns.
        shifts = np.array(self._turn_starts) + start - (ends - sizes)
        places = np.repeat(shifts, sizes) + np.arange(int(ends[-1]))
        self._numbers[:-1, places] = np.concatenate([t.numbers for t in turns], axis=1)
        n_eff = [
            np.full(size, np.nan) if turn.n_eff is None else turn.n_eff
            for turn, size in zip(turns, sizes.tolist(), strict=True)
        ]
        self._numbers[-1, places] = np.concatenate(n_eff)
        of_turn = {
            "factor": self._codes([turn.factor for turn in turns]),
            "symbol": [self._offset(turn.symbols) for turn in turns],
            "benchmark": self._codes([turn.benchmark for turn in turns]),
            "ts_event": [turn.ts_event for turn in turns],
        }
        for name, values in of_turn.items():
            self._integers[name][places] = np.repeat(values, sizes)
        self._integers["symbol"][places] += np.concatenate([t.rows for t in turns])
        conflated = [turn.conflated for turn in turns]
        of_update: dict[str, Sequence[NDArray[np.integer]]] = {
            "n_obs": [turn.n_obs for turn in turns],
            "window_start": [turn.window_start for turn in turns],
            "status": [turn.status for turn in turns],
            "reason": [turn.reason for turn in turns],
            "revision": [turn.revision for turn in turns],
            "seq": [turn.seq for turn in turns],
            "ts_init": [turn.ts_init for turn in turns],
            "conflated": [_NONE if each is None else each for each in conflated],
        }
        for name, columns in of_update.items():
            self._integers[name][places] = _spread(columns, sizes)

    def _codes(self, names: Sequence[str]) -> list[int]:
        # Where in all names each of these stands.
        code_of = self._code_of
        for name in dict.fromkeys(names):
            if name not in code_of:
                code_of[name] = len(self._names)
                self._names.append(name)
        return [code_of[name] for name in names]

    def _offset(self, symbols: tuple[str, ...]) -> int:
        # Where in all names these begin. The turns of a factor share one tuple: to hash
        # it each time costs too much. A known tuple is alive, so its id is its own.
        offset = self._offset_of_id.get(id(symbols))
        if offset is None:
            offset = self._offset_of.get(symbols)
        if offset is None:
            offset = len(self._names)
            self._offset_of[symbols] = self._offset_of_id[id(symbols)] = offset
            self._names.extend(symbols)
        return offset

    def _take(self) -> "pl.DataFrame":
        import polars as pl  # noqa: PLC0415 - optional

        def texts(values: Sequence[str], name: str) -> pl.Series:
            codes = pl.Series(self._integers[name][: self._n_gathered])
            return pl.Series(values, dtype=pl.String).gather(codes)

        # The table may look into the columns themselves: it is written before they are.
        table = {
            name: pl.Series(values[: self._n_gathered])
            for name, values in self._integers.items()
        }
        for name, numbers in zip(NUMBERS, self._numbers, strict=True):
            table[name] = pl.Series(numbers[: self._n_gathered]).fill_nan(None)
        for name in NAMES:
            table[name] = texts(self._names, name)
        table["status"] = texts(STATUS_NAMES, "status")
        table["reason"] = texts(REASON_NAMES, "reason")
        self._forget()
        return pl.DataFrame({name: table[name] for name in FIELDS})

    def _write(self, batch: "pl.DataFrame") -> None:
        raise NotImplementedError


_NONE: Final = np.zeros(1, dtype=np.int32)
"""In place of a turn's `conflated`: 0 for every update."""


def _spread(
    columns: Sequence[NDArray[np.integer]], sizes: NDArray[np.int64]
) -> NDArray[np.integer]:
    # A turn's column has one value per update, or one for all.
    values = np.concatenate(columns)
    if len(values) == sizes.sum():
        return values
    lengths = np.array([len(column) for column in columns])
    return np.repeat(values, np.repeat(np.where(lengths == sizes, 1, sizes), lengths))
