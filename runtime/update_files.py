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
What comes is kept as it is, which costs next to nothing, until it is worth gathering
into a table; tables are kept until they make a batch. So memory holds one batch,
however long the writer lives. Batches of CSV are appended to the file. polars cannot
append to a Parquet file (its index stands at the end), so there each batch is a file of
its own, and closing streams them into one: that is about a third of all the time, and
until it is done the disk holds everything twice.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import isinf
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..actors import BetaColumns
from ..messages import BetaUpdated, ConfigError, Reason, Status

if TYPE_CHECKING:
    import polars as pl

GATHER_CALLS: Final = 4096
"""Calls kept as they came; more of them would take more memory and save no time."""

BATCH_ROWS: Final = 100_000
"""Updates written at once, some 15 MB."""

NUMBERS: Final = ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std")
"""In the order of ``BetaColumns.numbers``."""

TEXTS: Final = ("factor", "symbol", "benchmark", "status", "reason")
"""All other fields are integers."""

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

    Examples
    --------
    >>> with UpdateWriter("betas.parquet") as writer:  # doctest: +SKIP
    ...     for columns in factory.commit():
    ...         writer.write_columns(columns)
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
        """Write some updates, which must not be changed any more.

        Raises
        ------
        ValueError
            When the writer is not entered.
        """
        self._entered().write_columns(columns)
        self.n_updates += len(columns.rows)

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None:
        """Write some updates.

        Raises
        ------
        ValueError
            When the writer is not entered.
        """
        self._entered().write_rows(rows)
        self.n_updates += len(rows)

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

    def finish(self) -> Path:
        self._file.close()
        return self._path


class _Batches:
    # Gathers updates into tables, and tables into batches.
    def __init__(self) -> None:
        self._columns: list[BetaColumns] = []
        self._rows: list[BetaUpdated] = []
        self._tables: list[pl.DataFrame] = []
        self._n_kept = 0

    def write_columns(self, columns: BetaColumns) -> None:
        if self._rows:
            self._gather()
        if len(columns.rows):
            self._columns.append(columns)
            self._keep(len(columns.rows))

    def write_rows(self, rows: Sequence[BetaUpdated]) -> None:
        if self._columns:
            self._gather()
        self._rows.extend(rows)
        self._keep(len(rows))

    def _keep(self, n_rows: int) -> None:
        self._n_kept += n_rows
        if self._n_kept >= BATCH_ROWS:
            self._write(self._take())
        elif len(self._columns) >= GATHER_CALLS:
            self._gather()

    def _gather(self) -> None:
        if self._columns:
            self._tables.append(_table_of_columns(self._columns))
            self._columns = []
        if self._rows:
            self._tables.append(_table_of_rows(self._rows))
            self._rows = []

    def _take(self) -> "pl.DataFrame":
        import polars as pl  # noqa: PLC0415 - optional

        self._gather()
        batch = pl.concat(self._tables or [_table_of_rows([])])
        self._tables = []
        self._n_kept = 0
        return batch

    def _write(self, batch: "pl.DataFrame") -> None:
        raise NotImplementedError


class _Csv(_Batches):
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__()
        self._path = folder / "whole.csv"
        self._file = stack.enter_context(self._path.open("wb"))

    def _write(self, batch: "pl.DataFrame") -> None:
        batch.write_csv(self._file, include_header=self._file.tell() == 0)

    def finish(self) -> Path:
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
        batch.write_parquet(part, compression="lz4")
        self._parts.append(part)

    def finish(self) -> Path:
        import polars as pl  # noqa: PLC0415 - optional

        whole = self._folder / "whole.parquet"
        if not self._parts:
            self._take().write_parquet(whole)
            return whole
        self._write(self._take())
        # Neither brackets nor equals signs in the folder's name mean anything.
        parts = pl.scan_parquet(self._parts, glob=False, hive_partitioning=False)
        parts.sink_parquet(whole)
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
            import polars  # noqa: F401, ICN001, PLC0415 - optional
        except ImportError as error:
            kind = "parquet" if sink is _Parquet else "CSV"
            reason = (
                f"writing {kind} needs polars: pip install 'hft-beta-factory[files]'"
            )
            raise ConfigError([(str(path), reason)]) from error
    return sink


def _table_of_rows(rows: Sequence[BetaUpdated]) -> "pl.DataFrame":
    import polars as pl  # noqa: PLC0415 - optional

    types: dict[str, type[pl.DataType]] = {
        name: pl.Float64
        if name in NUMBERS
        else pl.String
        if name in TEXTS
        else pl.Int64
        for name in BetaUpdated.__struct_fields__
    }
    columns = {name: [getattr(row, name) for row in rows] for name in types}
    columns["status"] = [_STATUS[row.status] for row in rows]
    columns["reason"] = [_REASON[row.reason] for row in rows]
    return pl.DataFrame(columns, schema=types).with_columns(
        pl.col(NUMBERS).fill_nan(None)
    )


def _table_of_columns(turns: list[BetaColumns]) -> "pl.DataFrame":
    # No turn is empty. Most have a few rows: what is done per turn has to be little.
    import polars as pl  # noqa: PLC0415 - optional

    sizes = np.array([len(turn.rows) for turn in turns])  # shape: (n_turns,)
    n_updates = int(sizes.sum())

    def integers(columns: list[NDArray[np.integer]]) -> NDArray[np.int64]:
        # Each has one value per update, or one for all updates of its turn.
        values = np.concatenate(columns, dtype=np.int64)
        if len(values) == n_updates:
            return values
        lengths = np.array([len(column) for column in columns])
        return np.repeat(
            values, np.repeat(np.where(lengths == sizes, 1, sizes), lengths)
        )

    def texts(values: Sequence[str], codes: NDArray[np.int64]) -> pl.Series:
        return pl.Series(values, dtype=pl.String).gather(codes)

    def repeated(values: list[str]) -> pl.Series:
        code_of = {value: code for code, value in enumerate(dict.fromkeys(values))}
        codes = np.array([code_of[value] for value in values])
        return texts(list(code_of), np.repeat(codes, sizes))

    symbols, offsets = _universe(turns)
    rows = integers([turn.rows for turn in turns]) + np.repeat(offsets, sizes)
    numbers = np.concatenate([turn.numbers for turn in turns], axis=1)
    return pl.DataFrame(
        {
            "factor": repeated([turn.factor for turn in turns]),
            "symbol": texts(symbols, rows),
            "benchmark": repeated([turn.benchmark for turn in turns]),
            "ts_event": np.repeat([turn.ts_event for turn in turns], sizes),
            **{
                name: pl.Series(values).fill_nan(None)
                for name, values in zip(NUMBERS, numbers, strict=True)
            },
            "n_obs": integers([turn.n_obs for turn in turns]),
            "window_start": integers([turn.window_start for turn in turns]),
            "status": texts(_STATUS, integers([turn.status for turn in turns])),
            "reason": texts(_REASON, integers([turn.reason for turn in turns])),
            "revision": integers([turn.revision for turn in turns]),
            "seq": integers([turn.seq for turn in turns]),
            "ts_init": integers([turn.ts_init for turn in turns]),
            "conflated": integers(
                [_NONE if turn.conflated is None else turn.conflated for turn in turns]
            ),
        }
    )


_NONE: Final = np.zeros(1, dtype=np.int32)
"""In place of a turn's `conflated`: 0 for every update."""


def _universe(turns: list[BetaColumns]) -> tuple[list[str], NDArray[np.int64]]:
    # The symbols of all turns, and where in them each turn's own begin. The turns of a
    # factor share one tuple; equal tuples, as from a wire, count as one too.
    ids = [id(turn.symbols) for turn in turns]
    symbols: list[str] = []
    offset_of: dict[tuple[str, ...], int] = {}
    offset_of_id: dict[int, int] = {}
    for key, turn in dict(zip(ids, turns, strict=True)).items():
        if turn.symbols not in offset_of:
            offset_of[turn.symbols] = len(symbols)
            symbols.extend(turn.symbols)
        offset_of_id[key] = offset_of[turn.symbols]
    return symbols, np.array([offset_of_id[key] for key in ids])
