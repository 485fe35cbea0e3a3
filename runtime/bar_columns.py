"""The columns of a bar file as numbers, or the place where they are none.

Rule: this file knows polars, files and text; what a row means is not its business. It
is imported when the first bar file is read, because polars is an optional dependency.
"""

import stat
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..messages.errors import BarFileError
from ..messages.fields import MAX_NAME_LENGTH
from .stamps import STAMP_RULE

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_VALUE_COLUMNS: Final = ("close", "period_return")

# What other programs write for "no number"; polars itself reads any case of "nan".
_MISSING_TEXTS: Final = ("", "NA", "N/A", "null", "None")

_ISO_FORMATS: Final = (
    *(
        f"%Y-%m-%d{separator}%H:%M{seconds}{zone}"
        for seconds in (":%S%.f", "")
        for zone in ("%#z", "")
        for separator in "T "
    ),
    "%Y-%m-%d",
)


class Columns(NamedTuple):
    """A bar file's three columns, row by row as in the file."""

    symbols: tuple[str, ...]
    ts_events: Ints
    symbol_ids: Ids
    values: Floats
    """NaN = missing."""
    value_name: str


def read_columns(path: str) -> Columns:
    """Read a bar file's columns, refusing the first cell that is no value.

    Raises
    ------
    BarFileError, FileNotFoundError
        See `bars.read_bars`.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise BarFileError(path, "this is a folder, or no regular file")
    file_name = Path(path).name.lower()
    if not file_name.endswith((".parquet", ".csv", ".csv.gz")):
        suffix = Path(path).suffix
        reason = f"the suffix must be .parquet, .csv or .csv.gz, was {suffix!r}"
        raise BarFileError(path, reason)
    try:
        if file_name.endswith(".parquet"):
            table = pl.scan_parquet(path, glob=False)
        else:
            # All text: a guess from the first rows would make 005930 a number, and
            # would hide from us which row holds the text that is no number.
            table = pl.scan_csv(path, glob=False, infer_schema=False)
        names = table.collect_schema().names()
        value_name = _value_column(path, names)
        frame = table.select("ts_event", "symbol", value_name).collect()
    except pl.exceptions.NoDataError as error:
        raise BarFileError(path, "the file is empty") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BarFileError(path, f"the file is unreadable: {reason}") from error
    # Blank lines at the end of a text file are rows of nothing.
    while frame.height and all(cell is None for cell in frame.row(-1)):
        frame = frame.head(-1)
    if not frame.height:
        raise BarFileError(path, "the file has no rows")
    names_of_rows = _symbols(path, frame["symbol"])
    symbols = names_of_rows.unique().sort()
    ids = names_of_rows.cast(pl.Enum(symbols)).to_physical().cast(pl.Int32)
    return Columns(
        symbols=tuple(symbols.to_list()),
        ts_events=_timestamps(path, frame["ts_event"]),
        symbol_ids=ids.to_numpy(),
        values=_values(path, frame[value_name]),
        value_name=value_name,
    )


def _value_column(path: str, names: list[str]) -> str:
    for name in ("ts_event", "symbol"):
        if name not in names:
            reason = f"the column is missing; the file has {', '.join(names)}"
            raise BarFileError(path, reason, column=name)
    present = [name for name in _VALUE_COLUMNS if name in names]
    if not present:
        reason = f"close or period_return is missing; the file has {', '.join(names)}"
        raise BarFileError(path, reason)
    if len(present) > 1:
        reason = "close and period_return are both there, which is ambiguous"
        raise BarFileError(path, reason)
    return present[0]


def _symbols(path: str, given: pl.Series) -> pl.Series:
    if not isinstance(given.dtype, (pl.String, pl.Categorical, pl.Enum)):
        reason = f"the column must be text, was {given.dtype}"
        raise BarFileError(path, reason, column="symbol")
    names = given.cast(pl.String)
    rule = f"symbol must be 1 to {MAX_NAME_LENGTH} characters without outer spaces"
    _refuse(path, names, names.is_null().to_numpy(), rule)
    for name in names.unique().to_list():
        if name != name.strip() or not 1 <= len(name) <= MAX_NAME_LENGTH:
            _refuse(path, names, (names == name).to_numpy(), rule)
    return names


def _timestamps(path: str, given: pl.Series) -> Ints:
    if given.dtype.is_integer():
        stamps = _to_int64(given)
    elif isinstance(given.dtype, (pl.Date, pl.Datetime)):
        stamps = _to_int64(given.dt.timestamp("ns"))
    elif isinstance(given.dtype, pl.String):
        is_integers = given.head(1).cast(pl.Int64, strict=False)[0] is not None
        stamps = _to_int64(given) if is_integers else _parse_iso(given)
    else:
        reason = f"the column must be integers, text or datetimes, was {given.dtype}"
        raise BarFileError(path, reason, column="ts_event")
    _refuse(path, given, stamps < 0, STAMP_RULE)
    return stamps


def _to_int64(given: pl.Series) -> Ints:
    # -1 marks what is no stamp: times before 1970 cannot be sent either.
    return given.cast(int, strict=False).fill_null(-1).to_numpy()


def _parse_iso(texts: pl.Series) -> Ints:
    # The format of the first row goes first: most files then need a single pass.
    first = texts.head(1)
    formats = sorted(
        _ISO_FORMATS,
        key=lambda form: first.str.to_datetime(form, strict=False)[0] is None,
    )
    # Beyond int64 nanoseconds the parser wraps around without a word.
    in_range = texts.str.head(4).is_between("1970", "2261").fill_null(value=False)
    stamps = np.full(len(texts), -1, dtype=np.int64)
    left = np.flatnonzero(in_range.to_numpy())
    for form in formats:
        if not len(left):
            break
        parsed = texts.gather(left).str.to_datetime(form, time_unit="ns", strict=False)
        stamps[left] = _to_int64(parsed.dt.timestamp("ns"))
        left = left[stamps[left] < 0]
    return stamps


def _values(path: str, given: pl.Series) -> Floats:
    if not (given.dtype.is_numeric() or isinstance(given.dtype, (pl.String, pl.Null))):
        reason = f"the column must be numbers, was {given.dtype}"
        raise BarFileError(path, reason, column=given.name)
    numbers = given.cast(pl.Float64, strict=False)
    if isinstance(given.dtype, pl.String):
        no_number = numbers.is_null() & given.is_not_null()
        no_number &= ~given.is_in(_MISSING_TEXTS)
        _refuse(path, given, no_number.to_numpy(), f"{given.name} must be a number")
    values = numbers.fill_null(float("nan")).to_numpy()
    _refuse(path, given, np.isinf(values), f"{given.name} must be finite")
    if given.name == "close":
        _refuse(path, given, values <= 0, "close must be positive")
    return values


def _refuse(path: str, given: pl.Series, bad: Mask, rule: str) -> None:
    if not bad.any():
        return
    row = int(bad.argmax())
    cell = given[row]
    was = "missing" if cell is None else repr(cell) if isinstance(cell, str) else cell
    raise BarFileError(path, f"{rule}, was {was}", row=row + 1, column=given.name)
