"""Turn trade bars of QuantConnect's Lean into a bar file.

Lean stamps a bar with its start: a date, and milliseconds since midnight in New
York. A bar file says when the bar closed, in UTC. Prices become US dollars.

The source is parquet with the columns ``symbol``, ``date`` (``yyyymmdd``), ``ms``
and ``close`` (in 1/10000 dollar). All its bars have one length: a second or a minute.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

try:
    import polars as pl
except ImportError:
    sys.exit("prepare_lean needs polars: pip install 'hft-beta-factory[files]'")

SOURCE_COLUMNS: Final = pl.Schema(
    {"symbol": pl.String, "date": pl.String, "ms": pl.Int64, "close": pl.Float64}
)

PRICE_UNITS_PER_DOLLAR: Final = 10_000

EXCHANGE_ZONE: Final = ZoneInfo("America/New_York")

HOUR_MS: Final = 3_600_000

OPEN_MS: Final = 9 * HOUR_MS + HOUR_MS // 2
CLOSE_MS: Final = 16 * HOUR_MS

BAR_LENGTHS_MS: Final = (60_000, 1_000)
"""Longest first: bars that all start on a full minute are minutes."""


class SourceError(ValueError):
    """The source is not what the first lines of this file describe."""


def convert(source: Path, *, regular_hours: bool) -> pl.DataFrame:
    """Read Lean trade bars as the rows of a bar file.

    Parameters
    ----------
    source
        A parquet file as the first lines of this file describe.
    regular_hours
        Keep only the bars that start from 09:30 until before 16:00 in New York.

    Returns
    -------
    polars.DataFrame
        ``ts_event`` (int64, ns since the epoch), ``symbol``, ``close`` (dollars),
        sorted by stamp, then by symbol.

    Raises
    ------
    SourceError
        The file is missing or not parquet, a column is missing, a date cannot be
        read, the bars have another length, or no bar is left.
    """
    if not source.is_file():
        raise SourceError(f"{source}: there is no such file")
    try:
        columns = pl.read_parquet(source, columns=SOURCE_COLUMNS.names(), glob=False)
        bars = columns.cast(SOURCE_COLUMNS)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(f"{source}: {reason}") from error
    bar_ms = next((ms for ms in BAR_LENGTHS_MS if (bars["ms"] % ms == 0).all()), None)
    if bar_ms is None:
        raise SourceError(f"{source}: bars must start on a full second or minute")
    if regular_hours:
        bars = bars.filter(pl.col("ms").is_between(OPEN_MS, CLOSE_MS - 1))
    if bars.is_empty():
        raise SourceError(f"{source}: no bar is left")
    days = bars["date"].unique().drop_nulls()
    try:
        midnights = pl.Series([midnight_ms(day) for day in days], dtype=pl.Int64)
    except ValueError as error:
        raise SourceError(f"{source}: {error}") from error
    # polars multiplies by 1 / 10000, which turns 168.82 into 168.82000000000002.
    closes = bars["close"].to_numpy() / PRICE_UNITS_PER_DOLLAR
    closed_ms = bars["date"].replace_strict(days, midnights) + bars["ms"] + bar_ms
    return bars.select(
        ts_event=closed_ms * 1_000_000,
        symbol="symbol",
        close=pl.Series(closes, dtype=pl.Float64),
    ).sort("ts_event", "symbol")


def midnight_ms(day: str) -> int:
    """Return what Lean counts a day's milliseconds from, in ms since the epoch.

    The clocks change on Sundays at two in the morning, when nothing trades. The
    offset of noon is therefore the offset of every bar of the day, and on those
    Sundays alone the result is not when the day began.

    Parameters
    ----------
    day
        The date in New York, as ``yyyymmdd``.

    Raises
    ------
    ValueError
        The text is no such date.
    """
    try:
        noon = datetime.strptime(f"{day}T12", "%Y%m%dT%H").replace(tzinfo=EXCHANGE_ZONE)
    except ValueError as error:
        raise ValueError(f"a date must be yyyymmdd, was {day!r}") from error
    return int(noon.timestamp()) * 1_000 - 12 * HOUR_MS


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one file, say what is in it, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="prepare_lean", description="Turn Lean trade bars into a bar file."
    )
    parser.add_argument("source", metavar="SOURCE.parquet", type=Path)
    parser.add_argument("out", metavar="OUT.parquet", type=Path)
    hours = parser.add_mutually_exclusive_group()
    hours.add_argument(
        "--regular-hours",
        action="store_true",
        default=True,
        help="keep 09:30 to 16:00 in New York (default)",
    )
    hours.add_argument(
        "--all-hours",
        dest="regular_hours",
        action="store_false",
        help="keep what trades before and after as well",
    )
    options = parser.parse_args(arguments)
    if options.out.suffix != ".parquet":
        parser.error(f"OUT must end in .parquet, was {options.out}")
    try:
        bars = convert(options.source, regular_hours=options.regular_hours)
        bars.write_parquet(options.out)
    except (SourceError, pl.exceptions.PolarsError, OSError) as error:
        print(f"prepare_lean: {error}", file=sys.stderr)
        return 1
    symbols = bars["symbol"].unique().sort()
    print(f"{options.out}: {len(bars)} rows of {', '.join(symbols)}")
    for name, ts in (("first", bars["ts_event"][0]), ("last", bars["ts_event"][-1])):
        print(f"{name} {ts} = {datetime.fromtimestamp(ts // 10**9, UTC):%FT%TZ}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
