"""Published updates to a file, as they come: `.parquet`, `.csv` or `.jsonl`.

Rule: a file is whole or it is not there. It grows in a hidden folder beside its place
and moves there when the writer closes; after an error the folder just goes. That
outlives the process, not the machine: nothing is synced to the disk.

Every format has the fields of `BetaUpdated`, in their order: `status` and `reason` as
lower-case names, stamps as integer nanoseconds, an undefined number as null (in CSV:
nothing). An infinite number is infinite in Parquet and ``inf`` in CSV. JSON has no such
number: there it is the string ``"inf"`` or ``"-inf"``, which ``float()`` understands.

Theory of operation
-------------------
A call mostly brings a few updates, so it must cost next to nothing. What comes is kept
as it is; about a thousand updates at a time are gathered into columns, with a few numpy
calls for each column; full columns are a batch, and written. So memory holds one batch,
however long the writer lives. CSV batches are appended to the file. polars cannot
append to a Parquet file (its index stands at the end), so there each batch is a file of
its own, and closing streams them into one: that is about a quarter of all the time, and
until it is done the disk holds everything twice.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from math import isinf
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..actors import BetaColumns, BetaTurns
from ..messages import BetaUpdated, ConfigError, Reason, Status

if TYPE_CHECKING:
    import polars as pl

GATHER_ROWS: Final = 1024
"""Updates gathered at once. As many fit into the processor's cache, which makes letting
go of them three times as fast as of all of a batch."""

BATCH_ROWS: Final = 100_000
"""Updates written at once: 14 MB."""

ZSTD_LEVEL: Final = 1
"""Files of betas are 5 % larger than with polars' own choice, and written in 3/4 of the
time."""

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

_STATUS: Final = tuple(status.name.lower() for status in Status)
_REASON: Final = tuple(reason.name.lower() for reason in Reason)
_encode: Final = msgspec.json.Encoder().encode


def json_line(update: BetaUpdated) -> bytes:
    """Return an update as one line of JSON, newline included."""
    fields = msgspec.structs.asdict(update)
    fields["status"] = _STATUS[update.status]
    fields["reason"] = _REASON[update.reason]
    for name in NUMBERS:
        value = fields[name]
        if value is not None and isinf(value):
            fields[name] = str(value)
    return _encode(fields) + b"\n"


class UpdateWriter:
    """Writes updates to a file while it is entered.

    Parameters
    ----------
    path
        Where the file will be; the suffix says in which format. A file that is there
        is replaced when the writer closes.

    Raises
    ------
    ConfigError
        When the suffix is none of the three, polars is needed and not installed, or
        ``path`` is a folder.
    FileNotFoundError
        When the folder of ``path`` does not exist.
    ValueError
        From its methods, when it is not entered.

    Examples
    --------
    >>> with UpdateWriter("betas.parquet") as writer:  # doctest: +SKIP
    ...     for message in messages:
    ...         writer.write_rows(factory.receive(message))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.n_updates = 0
        """Updates written so far."""
        self._sink_type = _sink_type(self.path)
        self._sink: _Sink | None = None
        self._stack = ExitStack()
        if self.path.is_dir():
            raise ConfigError([(str(path), "is a folder")])
        if not self.path.parent.is_dir():
            number = errno.ENOENT
            raise FileNotFoundError(number, os.strerror(number), str(self.path.parent))

    def write_columns(self, columns: BetaColumns) -> None:
        """Write some updates, which must not be changed any more."""
        self._entered().write_columns(columns)
        self.n_updates += len(columns.rows)

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None:
        """Write some updates."""
        self._entered().write_rows(rows)
        self.n_updates += len(rows)

    def write_turns(self, turns: BetaTurns) -> None:
        """Write the updates of many bars."""
        self._entered().write_turns(turns)
        self.n_updates += len(turns)

    def _entered(self) -> "_Sink":
        if self._sink is None:
            raise ValueError("an UpdateWriter writes inside its with statement")
        return self._sink

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(
                TemporaryDirectory(prefix=f".{self.path.name}.", dir=self.path.parent)
            )
            self._sink = self._sink_type(Path(folder), stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sink, self._sink = self._entered(), None
        with self._stack:
            if exc_type is None:
                sink.finish().replace(self.path)


class _Sink(Protocol):
    # Grows a file in a folder; what has to be closed after an error, the stack closes.
    def __init__(self, folder: Path, stack: ExitStack) -> None: ...

    def write_columns(self, columns: BetaColumns) -> None: ...

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None: ...

    def write_turns(self, turns: BetaTurns) -> None: ...

    def finish(self) -> Path:
        # Writes what is left, closes the file and returns its path.
        ...


class _JsonLines:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._path = folder / "whole.jsonl"
        self._file = stack.enter_context(self._path.open("wb"))

    def write_columns(self, columns: BetaColumns) -> None:
        self.write_rows(columns.as_rows())

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None:
        self._file.writelines(map(json_line, rows))

    def write_turns(self, turns: BetaTurns) -> None:
        self.write_rows(turns.as_rows())

    def finish(self) -> Path:
        self._file.close()
        return self._path


class _Batches:
    # Gathers what comes into columns, and writes those out whenever they are full.
    def __init__(self) -> None:
        self._n_waiting = 0
        self._turns: list[BetaColumns] = []
        self._turn_starts: list[int] = []
        self._rows: list[BetaUpdated] = []
        self._row_places: list[int] = []
        self._allocate(BATCH_ROWS)

    def write_columns(self, columns: BetaColumns) -> None:
        if len(columns.rows):
            self._turns.append(columns)
            self._turn_starts.append(self._n_waiting)
            self._wait_for(len(columns.rows))

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None:
        self._rows.extend(rows)
        self._row_places.extend(range(self._n_waiting, self._n_waiting + len(rows)))
        self._wait_for(len(rows))

    def write_turns(self, turns: BetaTurns) -> None:
        # They are columns already, and go to their places behind all that came before.
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
        table["status"] = texts(_STATUS, "status")
        table["reason"] = texts(_REASON, "reason")
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


class _Csv(_Batches):
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__()
        self._path = folder / "whole.csv"
        self._file = stack.enter_context(self._path.open("wb"))

    def _write(self, batch: "pl.DataFrame") -> None:
        batch.write_csv(self._file, include_header=self._file.tell() == 0)

    def finish(self) -> Path:
        self._gather()
        self._write(self._take())
        self._file.close()
        return self._path


class _Parquet(_Batches):
    def __init__(self, folder: Path, stack: ExitStack) -> None:  # noqa: ARG002 - as a sink
        super().__init__()
        self._folder = folder
        self._parts: list[Path] = []

    def _write(self, batch: "pl.DataFrame") -> None:
        part = self._folder / f"{len(self._parts)}.parquet"
        batch.write_parquet(part, compression="lz4", statistics=False)
        self._parts.append(part)

    def finish(self) -> Path:
        import polars as pl  # noqa: PLC0415 - optional

        self._gather()
        whole = self._folder / "whole.parquet"
        if not self._parts:
            self._take().write_parquet(whole, compression_level=ZSTD_LEVEL)
            return whole
        self._write(self._take())
        # Neither brackets nor equals signs in the folder's name mean anything.
        parts = pl.scan_parquet(self._parts, glob=False, hive_partitioning=False)
        parts.sink_parquet(whole, compression_level=ZSTD_LEVEL)
        return whole


_SINKS: Final[dict[str, type[_Sink]]] = {
    ".parquet": _Parquet,
    ".csv": _Csv,
    ".jsonl": _JsonLines,
}


def _sink_type(path: Path) -> type[_Sink]:
    sink = _SINKS.get(path.suffix.lower())
    if sink is None:
        reason = f"must end in .parquet, .csv or .jsonl, was {path.suffix!r}"
        raise ConfigError([(str(path), reason)])
    if sink is not _JsonLines:
        try:
            import_module("polars")
        except ImportError as error:
            kind = "parquet" if sink is _Parquet else "CSV"
            reason = (
                f"writing {kind} needs polars: pip install 'hft-beta-factory[files]'"
            )
            raise ConfigError([(str(path), reason)]) from error
    return sink
