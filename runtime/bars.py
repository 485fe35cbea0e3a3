"""Bar files: long tables of closes or returns, read into flat arrays.

Rule: a file is either read whole or refused with one `BarFileError` that names the
file, the row and the column. Nothing is repaired in silence.

Theory of operation
-------------------
`bar_columns` reads three columns and turns text into numbers; from there on all is
numpy over whole columns. One stable sort by symbol checks that time only goes
forward and pairs each close with the one before it; one sort by time lays the
returns out bar by bar.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..actors.openings import OVERNIGHT_GAP_NS
from ..messages.errors import BarFileError

if TYPE_CHECKING:
    from .bar_columns import Columns

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

INTRADAY_SPACING_NS: Final = 3600 * 10**9
"""A file is intraday when its stamps are typically no further apart than this.

Hourly bars still have a night that stands out; in a file of daily bars every
return spans a night, and leaving those out would leave nothing.
"""

# Below this a change holds more digits than the ratio of the closes; above, fewer.
_SMALL: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Bars:
    """Returns of many symbols in long form, bar after bar.

    The rows of bar ``i`` are ``offsets[i]:offsets[i + 1]``; all share the stamp
    ``ts_events[i]``. A symbol without a return in a bar has no row in it. The
    arrays are read-only.
    """

    symbols: tuple[str, ...]
    """Sorted and distinct; a symbol may have no row at all."""
    ts_events: Ints
    """When each bar closed, in ns since the epoch; increasing. Shape (n_bars,)."""
    offsets: Ints
    """Where each bar's rows begin, and the number of rows. Shape (n_bars + 1,)."""
    symbol_ids: Ids
    """Index into `symbols`; increasing inside a bar. Shape (n_rows,)."""
    period_returns: Floats
    """Return over the period ending at the stamp; finite. Shape (n_rows,)."""
    n_source_rows: int
    """Rows in the source, with those that carry no return."""
    source: str
    """Where the rows came from: the path, as it was given."""

    def __post_init__(self) -> None:
        for name in ("ts_events", "offsets", "symbol_ids", "period_returns"):
            getattr(self, name).setflags(write=False)

    @property
    def n_bars(self) -> int:
        """Distinct stamps."""
        return len(self.ts_events)

    @property
    def n_rows(self) -> int:
        """Returns, over all bars."""
        return len(self.period_returns)


def read_bars(
    path: str | os.PathLike[str],
    *,
    returns: Literal["simple", "log"] = "simple",
    overnight: Literal["exclude", "include"] = "exclude",
    from_ts: int | None = None,
    to_ts: int | None = None,
    symbols: Collection[str] | None = None,
) -> Bars:
    r"""Read a bar file.

    A bar file is parquet (``.parquet``) or comma-separated text (``.csv``,
    ``.csv.gz``) with the columns

    ``ts_event``
        When the bar closed: integer nanoseconds since the epoch, ISO 8601 text
        with dashes and colons, or a date or datetime column. Without a zone it
        is UTC.
    ``symbol``
        Text.
    ``close`` or ``period_return``
        Exactly one of them; empty or NaN is a missing row. A ``close`` becomes the
        return since the symbol's previous close in the file, however many bars lie
        between; a ``period_return`` is taken as it is.

    Other columns are ignored. Rows may be sorted by time or by symbol: only inside
    one symbol time must go forward.

    Parameters
    ----------
    path
        The file.
    returns
        How a return follows from two closes: ``c1 / c0 - 1`` or ``log(c1 / c0)``.
    overnight
        ``"exclude"`` leaves out the return between two closes that are more than
        `OVERNIGHT_GAP_NS` apart, if the file is intraday (`INTRADAY_SPACING_NS`).
        Files of daily bars and of ``period_return`` are never affected.
    from_ts, to_ts
        Keep the bars from this stamp up to and including that, in ns. The first
        bar kept still has its return since the bar before it.
    symbols
        Keep these; those that the file does not have are ignored.

    Returns
    -------
    Bars
        Sorted by stamp, then by symbol. Empty when nothing is selected.

    Raises
    ------
    BarFileError
        The file is empty, unreadable or has another suffix; a column is missing, or
        ``close`` and ``period_return`` are both there; polars is not installed; or a
        row has a bad timestamp, symbol or value, goes back in its symbol's time or
        repeats its symbol's timestamp.
    FileNotFoundError
        When there is no such file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> text = "ts_event,symbol,close\n1,SPY,100\n2,SPY,101\n2,BRK.B,500\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "bars.csv")
    ...     _ = file.write_text(text)
    ...     bars = read_bars(file)
    >>> bars.symbols, bars.ts_events.tolist(), bars.period_returns.tolist()
    (('BRK.B', 'SPY'), [2], [0.01])
    """
    source = os.fspath(path)
    columns = _read_columns(source)
    ts, ids = columns.ts_events, columns.symbol_ids
    by_symbol = np.argsort(ids, kind="stable")
    _check_order(source, columns, by_symbol)
    by_time = np.lexsort((ids, ts))
    values = columns.values
    if columns.value_name == "close":
        gap_limit = None
        if overnight == "exclude" and _is_intraday(ts[by_time]):
            gap_limit = OVERNIGHT_GAP_NS
        values = _returns_between_closes(
            source, columns, by_symbol, log=returns == "log", gap_limit=gap_limit
        )
    keep: Mask = ~np.isnan(values)
    if from_ts is not None:
        keep &= ts >= from_ts
    if to_ts is not None:
        keep &= ts <= to_ts
    kept_names = columns.symbols
    if symbols is not None:
        wanted = frozenset(symbols)
        is_wanted = np.array([name in wanted for name in kept_names], dtype=np.bool_)
        keep &= is_wanted[ids]
        kept_names = tuple(name for name in kept_names if name in wanted)
        # A dropped symbol's new index is never looked up.
        ids = (np.cumsum(is_wanted, dtype=np.int32) - np.int32(1))[ids]
    rows = by_time[keep[by_time]]
    starts = _starts(ts[rows])
    return Bars(
        symbols=kept_names,
        ts_events=ts[rows[starts]],
        offsets=np.append(starts, len(rows)),
        symbol_ids=ids[rows],
        period_returns=values[rows],
        n_source_rows=len(ts),
        source=source,
    )


def _read_columns(path: str) -> "Columns":
    try:
        from .bar_columns import read_columns  # noqa: PLC0415 - polars is optional
    except ImportError as error:
        reason = "reading bar files needs polars: pip install 'hft-beta-factory[files]'"
        raise BarFileError(path, reason) from error
    return read_columns(path)


def _check_order(path: str, columns: "Columns", by_symbol: Ints) -> None:
    ts = columns.ts_events[by_symbol]
    ids = columns.symbol_ids[by_symbol]
    bad = np.flatnonzero((ids[1:] == ids[:-1]) & (ts[1:] <= ts[:-1]))
    if not len(bad):
        return
    at = bad[by_symbol[bad + 1].argmin()]
    symbol = columns.symbols[ids[at]]
    before = by_symbol[at] + 1
    if ts[at] == ts[at + 1]:
        reason = f"{symbol} has the stamp {ts[at]} already, in row {before}"
    else:
        was = f"was {ts[at + 1]} after {ts[at]} in row {before}"
        reason = f"{symbol}'s stamps must increase, {was}"
    row = int(by_symbol[at + 1]) + 1
    raise BarFileError(path, reason, row=row, column="ts_event")


def _is_intraday(sorted_ts: Ints) -> bool:
    stamps = sorted_ts[_starts(sorted_ts)]
    return len(stamps) > 1 and bool(np.median(np.diff(stamps)) <= INTRADAY_SPACING_NS)


def _returns_between_closes(
    path: str, columns: "Columns", by_symbol: Ints, *, log: bool, gap_limit: int | None
) -> Floats:
    # A missing close is skipped before pairing, so that it does not break the chain.
    rows = by_symbol[~np.isnan(columns.values[by_symbol])]
    closes, ids = columns.values[rows], columns.symbol_ids[rows]
    with np.errstate(over="ignore", divide="ignore"):
        # c1 - c0 is exact for neighbouring prices, c1 / c0 - 1 never quite.
        changes = (closes[1:] - closes[:-1]) / closes[:-1]
        if log:
            far = np.log(closes[1:] / closes[:-1])
            changes = np.where(np.abs(changes) < _SMALL, np.log1p(changes), far)
    changes[ids[1:] != ids[:-1]] = np.nan
    if gap_limit is not None:
        changes[np.diff(columns.ts_events[rows]) > gap_limit] = np.nan
    returns = np.full(len(columns.values), np.nan)
    returns[rows[1:]] = changes
    # Infinite only when the ratio of two finite closes is.
    for row in np.flatnonzero(np.isinf(returns)):
        reason = f"close must be near the one before it, was {columns.values[row]}"
        raise BarFileError(path, reason, row=int(row) + 1, column="close")
    return returns


def _starts(sorted_ts: Ints) -> Ints:
    is_start = np.append(len(sorted_ts) > 0, sorted_ts[1:] != sorted_ts[:-1])
    return np.flatnonzero(is_start)
