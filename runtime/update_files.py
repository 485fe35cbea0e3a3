"""Published updates to a file, as they come: `.parquet`, `.csv` or `.jsonl`.

Rule: a file is whole or it is not there. It grows in a hidden folder beside its place
and moves there when the writer closes; after an error the folder just goes. That
outlives the process, not the machine: nothing is synced to the disk.

Every format has the fields of `BetaUpdated`, in their order: `status` and `reason` as
lower-case names, stamps as integer nanoseconds, an undefined number as null (in CSV:
nothing). An infinite number is infinite in Parquet and ``inf`` in CSV. JSON has no such
number: there it is the string ``"inf"`` or ``"-inf"``, which ``float()`` understands.

Updates are gathered into batches (`update_batches`). CSV batches are appended to the
file. polars cannot append to a Parquet file (its index stands at the end), so there
each batch is a file of its own, and closing streams them into one: that is about a
quarter of all the time, and until it is done the disk holds everything twice.
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
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec

from ..actors import BetaColumns, BetaTurns
from ..messages import BetaUpdated, ConfigError
from .update_batches import NUMBERS, REASON_NAMES, STATUS_NAMES, UpdateBatches

if TYPE_CHECKING:
    import polars as pl

ZSTD_LEVEL: Final = 1
"""Files of betas are 5 % larger than with polars' own choice, and written in 3/4 of the
time."""

_encode: Final = msgspec.json.Encoder().encode


def json_line(update: BetaUpdated) -> bytes:
    """Return an update as one line of JSON, newline included."""
    fields = msgspec.structs.asdict(update)
    fields["status"] = STATUS_NAMES[update.status]
    fields["reason"] = REASON_NAMES[update.reason]
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


class _Csv(UpdateBatches):
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


class _Parquet(UpdateBatches):
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
