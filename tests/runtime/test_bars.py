"""Bar files: what is read, what is refused, and where the refusal points."""

import csv
import gzip
import math
import statistics
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.openings import OVERNIGHT_GAP_NS
from beta_factory.messages.errors import BarFileError
from beta_factory.runtime.bars import Bars, read_bars

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
T0 = 1_381_152_601 * SECOND  # 2013-10-07T13:30:01Z

Row = tuple[int, str, float | None]


def write(folder: Path, text: str, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def write_rows(path: Path, rows: Sequence[Row], *, value: str = "close") -> Path:
    if path.suffix == ".parquet":
        schema = {"ts_event": pl.Int64, "symbol": pl.String, value: pl.Float64}
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path)
        return path
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ts_event", "symbol", value])
        writer.writerows(rows)
    return path


def long_form(bars: Bars) -> list[tuple[int, str, float]]:
    stamps = np.repeat(bars.ts_events, np.diff(bars.offsets)).tolist()
    ids: list[int] = bars.symbol_ids.tolist()
    names = [bars.symbols[index] for index in ids]
    return list(zip(stamps, names, bars.period_returns.tolist(), strict=True))


def test_closes_become_returns_bar_by_bar(tmp_path: Path) -> None:
    rows: list[Row] = [
        (T0, "SPY", 100.0),
        (T0, "BRK.B", 400.0),
        (T0 + SECOND, "SPY", 101.0),
        (T0 + 2 * SECOND, "SPY", 100.0),
        (T0 + 2 * SECOND, "BRK.B", 500.0),
    ]
    path = write_rows(tmp_path / "bars.parquet", rows)
    bars = read_bars(path)
    assert bars.symbols == ("BRK.B", "SPY")
    assert bars.ts_events.tolist() == [T0 + SECOND, T0 + 2 * SECOND]
    assert bars.offsets.tolist() == [0, 1, 3]
    assert bars.symbol_ids.tolist() == [1, 0, 1]
    assert bars.period_returns.tolist() == [0.01, 0.25, -1 / 101]
    assert (bars.n_bars, bars.n_rows, bars.n_source_rows) == (2, 3, 5)
    assert bars.source == str(path)


def test_arrays_have_the_promised_types_and_are_read_only(tmp_path: Path) -> None:
    bars = read_bars(write(tmp_path, "ts_event,symbol,close\n1,A,1\n2,A,2\n"))
    assert bars.ts_events.dtype == bars.offsets.dtype == np.int64
    assert bars.symbol_ids.dtype == np.int32
    assert bars.period_returns.dtype == np.float64
    for array in (bars.ts_events, bars.offsets, bars.symbol_ids, bars.period_returns):
        assert not array.flags.writeable


def test_log_returns_keep_their_digits_far_from_one_and_near(tmp_path: Path) -> None:
    closes = (1e6, 1e-6, 1.0, 1.0 + 1e-12)
    path = write_rows(
        tmp_path / "bars.csv", [(n, "A", c) for n, c in enumerate(closes)]
    )
    returns = read_bars(path, returns="log").period_returns
    expected = [-12 * math.log(10), 6 * math.log(10), math.log1p(closes[3] - 1)]
    np.testing.assert_allclose(returns, expected, rtol=1e-15)


def test_missing_close_does_not_break_the_chain(tmp_path: Path) -> None:
    cells = ("100", "", "nan", "NaN", "NA", "null", "150")
    lines = [f"{ts},A,{cell}" for ts, cell in enumerate(cells)]
    bars = read_bars(write(tmp_path, "\n".join(["ts_event,symbol,close", *lines])))
    assert long_form(bars) == [(6, "A", 0.5)]
    assert bars.n_source_rows == 7


def test_period_returns_are_taken_as_they_are(tmp_path: Path) -> None:
    rows: list[Row] = [
        (T0, "A", 0.5),
        (T0 + SECOND, "A", None),
        (T0 + 2 * SECOND, "A", math.nan),
        (T0 + 3 * SECOND, "A", -1.5),
        (T0 + DAY, "A", 0.0),
    ]
    path = write_rows(tmp_path / "bars.parquet", rows, value="period_return")
    expected = [(T0, "A", 0.5), (T0 + 3 * SECOND, "A", -1.5), (T0 + DAY, "A", 0.0)]
    assert long_form(read_bars(path)) == expected
    assert long_form(read_bars(path, returns="log")) == expected


def test_symbols_that_look_like_numbers_or_nothing_stay_text(tmp_path: Path) -> None:
    names = ("005930", "1E5", "NA", "NaN", "null", "TRUE")
    lines = [f"{ts},{name},{ts}" for ts in (1, 2) for name in names]
    bars = read_bars(write(tmp_path, "\n".join(["ts_event,symbol,close", *lines])))
    assert bars.symbols == tuple(sorted(names))
    assert bars.n_rows == len(names)


def test_csv_dialects(tmp_path: Path) -> None:
    text = '﻿volume,symbol,ts_event,close\r\n9,A,1,1\r\n9,"A",2,2\r\n\r\n\r\n'
    plain = write(tmp_path, text)
    zipped = tmp_path / "BARS.CSV.GZ"
    zipped.write_bytes(gzip.compress(text.encode()))
    for path in (plain, zipped):
        bars = read_bars(str(path))
        assert long_form(bars) == [(2, "A", 1.0)]
        assert bars.n_source_rows == 2


def test_path_with_glob_characters_is_one_file(tmp_path: Path) -> None:
    write(tmp_path, "ts_event,symbol,close\n1,A,1\n2,A,2\n", "a1.csv")
    path = write(tmp_path, "ts_event,symbol,close\n1,B,1\n2,B,2\n", "a[1]*.csv")
    assert read_bars(path).symbols == ("B",)


@pytest.mark.parametrize(
    "text",
    [
        "1381152601000000000",
        "2013-10-07T13:30:01Z",
        "2013-10-07T13:30:01",
        "2013-10-07 13:30:01",
        "2013-10-07 13:30:01.000000000+00:00",
        "2013-10-07T09:30:01-04:00",
        "2013-10-07T09:30:01-0400",
        "2013-10-07 15:30:01.0+02",
    ],
)
def test_stamps_in_text(tmp_path: Path, text: str) -> None:
    table = f"ts_event,symbol,period_return\n{text},A,0\n"
    assert read_bars(write(tmp_path, table)).ts_events.tolist() == [T0]


def test_stamps_of_several_lengths_in_one_column(tmp_path: Path) -> None:
    stamps = (
        "2013-10-07",
        "2013-10-07T13:30",
        "2013-10-07 13:31Z",
        "2013-10-07T13:31:00.000000001Z",
        "2013-10-07 15:32:00+02:00",
    )
    lines = [f"{text},A,0" for text in stamps]
    path = write(tmp_path, "\n".join(["ts_event,symbol,period_return", *lines]))
    midnight = T0 - T0 % DAY
    minute = 60 * SECOND
    half_past = midnight + 13 * HOUR + 30 * minute
    assert read_bars(path).ts_events.tolist() == [
        midnight,
        half_past,
        half_past + minute,
        half_past + minute + 1,
        half_past + 2 * minute,
    ]


@pytest.mark.parametrize(
    "stamp",
    [
        pl.Series([datetime(2013, 10, 7, 13, 30, 1)]),  # noqa: DTZ001 (naive is UTC)
        pl.Series([datetime(2013, 10, 7, 13, 30, 1, tzinfo=UTC)]).cast(
            pl.Datetime("ms", "UTC")
        ),
        pl.Series([datetime(2013, 10, 7, 13, 30, 1, tzinfo=UTC)]).dt.convert_time_zone(
            "America/New_York"
        ),
        pl.Series(["2013-10-07T13:30:01"]),
        pl.Series([T0], dtype=pl.UInt64),
    ],
    ids=["naive", "milliseconds", "zone", "text", "unsigned"],
)
def test_stamps_in_parquet(tmp_path: Path, stamp: pl.Series) -> None:
    path = tmp_path / "bars.parquet"
    columns = {"ts_event": stamp, "symbol": ["A"], "period_return": [0.0]}
    pl.DataFrame(columns).write_parquet(path)
    assert read_bars(path).ts_events.tolist() == [T0]


def test_dates_categories_and_decimals_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    columns = {
        "ts_event": [date(2013, 10, 7), date(2013, 10, 8)],
        "symbol": pl.Series(["A", "A"], dtype=pl.Categorical),
        "close": pl.Series(["1.00", "1.25"]).cast(pl.Decimal(10, 2)),
    }
    pl.DataFrame(columns).write_parquet(path)
    assert long_form(read_bars(path)) == [(T0 - T0 % DAY + DAY, "A", 0.25)]


def test_column_without_any_close_leaves_no_bars(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    columns = {"ts_event": [1, 2], "symbol": ["A", "A"], "close": [None, None]}
    pl.DataFrame(columns).write_parquet(path)
    bars = read_bars(path)
    assert (bars.symbols, bars.n_bars, bars.n_source_rows) == (("A",), 0, 2)
    assert bars.offsets.tolist() == [0]


def night_file(folder: Path, stamps: Sequence[int], *, value: str = "close") -> Path:
    rows: list[Row] = [(ts, "A", 2.0**n) for n, ts in enumerate(stamps)]
    return write_rows(folder / "bars.parquet", rows, value=value)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ((SECOND, SECOND, DAY, SECOND), (0, 1, 3)),
        ((SECOND, SECOND, OVERNIGHT_GAP_NS, SECOND), (0, 1, 2, 3)),
        ((SECOND, SECOND, OVERNIGHT_GAP_NS + 1, SECOND), (0, 1, 3)),
        ((HOUR, HOUR, 18 * HOUR, HOUR), (0, 1, 3)),
        ((DAY, DAY, 3 * DAY, DAY), (0, 1, 2, 3)),
        ((DAY,), (0,)),
        ((SECOND, DAY), (0, 1)),
    ],
    ids=["night", "limit", "over", "hourly", "daily", "one", "mostly-daily"],
)
def test_overnight_returns(
    tmp_path: Path, steps: Sequence[int], kept: Sequence[int]
) -> None:
    stamps = np.cumsum([T0, *steps]).tolist()
    path = night_file(tmp_path, stamps)
    assert read_bars(path).ts_events.tolist() == [stamps[n + 1] for n in kept]
    assert read_bars(path, overnight="include").ts_events.tolist() == stamps[1:]


def test_overnight_is_between_the_two_closes_used(tmp_path: Path) -> None:
    rows: list[Row] = [
        (T0, "A", 1.0),
        (T0 + SECOND, "A", 2.0),
        (T0 + 3 * HOUR, "A", None),
        (T0 + 5 * HOUR, "A", 3.0),
        *((T0 + n * SECOND, "B", 1.0) for n in range(9)),
    ]
    path = write_rows(tmp_path / "bars.csv", rows)
    kept = [ts for ts, name, _ in long_form(read_bars(path)) if name == "A"]
    assert kept == [T0 + SECOND]


def test_overnight_leaves_given_returns_alone(tmp_path: Path) -> None:
    stamps = [T0, T0 + SECOND, T0 + DAY]
    path = night_file(tmp_path, stamps, value="period_return")
    assert read_bars(path).ts_events.tolist() == stamps


def test_selection_keeps_the_return_at_its_first_stamp(tmp_path: Path) -> None:
    rows: list[Row] = [
        (ts, name, 2.0**ts) for ts in (1, 2, 3, 4) for name in ("A", "B", "C")
    ]
    path = write_rows(tmp_path / "bars.csv", rows)
    bars = read_bars(path, from_ts=2, to_ts=3, symbols={"C", "A", "absent"})
    assert bars.symbols == ("A", "C")
    assert long_form(bars) == [(2, "A", 1), (2, "C", 1), (3, "A", 1), (3, "C", 1)]
    assert bars.n_source_rows == 12
    assert read_bars(path, from_ts=5).n_bars == 0
    assert read_bars(path, symbols=()).symbols == ()


STAMP_RULE = "stamp must be integer ns or ISO 8601, in the years 1970 to 2261"
SYMBOL_RULE = "symbol must be 1 to 64 characters without outer spaces"


@pytest.mark.parametrize(
    ("lines", "row", "column", "reason"),
    [
        ("1,A,1 2,A,0", 2, "close", "close must be positive, was '0'"),
        ("1,A,-1.5", 1, "close", "close must be positive, was '-1.5'"),
        ("1,A,inf", 1, "close", "close must be finite, was 'inf'"),
        ("1,A,1 2,A,-inf", 2, "close", "close must be finite, was '-inf'"),
        ("1,A,1 2,A,1e999", 2, "close", "close must be finite, was '1e999'"),
        ("1,A,abc", 1, "close", "close must be a number, was 'abc'"),
        (
            "1,A,1e-300 2,A,1e300",
            2,
            "close",
            "close must be near the one before it, was 1e+300",
        ),
        ("1,A,1 2,,1", 2, "symbol", f"{SYMBOL_RULE}, was missing"),
        ('1,A,1 2,"",1', 2, "symbol", f"{SYMBOL_RULE}, was ''"),
        ("1,A,1 2,\tA,1", 2, "symbol", f"{SYMBOL_RULE}, was '\\tA'"),
        (f"1,{'A' * 65},1", 1, "symbol", f"{SYMBOL_RULE}, was '{'A' * 65}'"),
        ("1,A,1 soon,A,1", 2, "ts_event", f"{STAMP_RULE}, was 'soon'"),
        ("1,A,1 ,A,1", 2, "ts_event", f"{STAMP_RULE}, was missing"),
        ("1.5,A,1", 1, "ts_event", f"{STAMP_RULE}, was '1.5'"),
        ("-1,A,1", 1, "ts_event", f"{STAMP_RULE}, was '-1'"),
        ("1,A,1 2013-10-07,A,1", 2, "ts_event", f"{STAMP_RULE}, was '2013-10-07'"),
        ("2013-10-07,A,1 5,A,1", 2, "ts_event", f"{STAMP_RULE}, was '5'"),
        ("2013-02-29,A,1", 1, "ts_event", f"{STAMP_RULE}, was '2013-02-29'"),
        ("1969-12-31,A,1", 1, "ts_event", f"{STAMP_RULE}, was '1969-12-31'"),
        ("2262-01-01,A,1", 1, "ts_event", f"{STAMP_RULE}, was '2262-01-01'"),
        (
            "1,A,1 5,A,1 5,B,1 4,A,1",
            4,
            "ts_event",
            "A's stamps must increase, was 4 after 5 in row 2",
        ),
        (
            "1,A,1 2,A, 2,B,1 2,A,1",
            4,
            "ts_event",
            "A has the stamp 2 already, in row 2",
        ),
        # The first offending row of the file, not of the first symbol.
        (
            "3,B,1 3,A,1 2,B,1 2,A,1",
            3,
            "ts_event",
            "B's stamps must increase, was 2 after 3 in row 1",
        ),
    ],
)
def test_bad_row_is_named(
    tmp_path: Path, lines: str, row: int, column: str, reason: str
) -> None:
    path = write(tmp_path, "ts_event,symbol,close\n" + lines.replace(" ", "\n") + "\n")
    with pytest.raises(BarFileError) as caught:
        read_bars(path)
    error = caught.value
    assert error.path == str(path)
    assert (error.row, error.column, error.reason) == (row, column, reason)


def test_bad_return_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "symbol,period_return,ts_event\nA,0,1\nA,-inf,2\n")
    with pytest.raises(BarFileError, match="finite") as caught:
        read_bars(path)
    assert (caught.value.row, caught.value.column) == (2, "period_return")


def test_blank_line_between_rows_is_a_row_without_a_symbol(tmp_path: Path) -> None:
    path = write(tmp_path, "ts_event,symbol,close\n1,A,1\n\n2,A,1\n")
    with pytest.raises(BarFileError) as caught:
        read_bars(path)
    assert (caught.value.row, caught.value.column) == (2, "symbol")


@pytest.mark.parametrize(
    ("name", "content", "column", "reason"),
    [
        ("b.txt", "", None, "the suffix must be .parquet, .csv or .csv.gz, was '.txt'"),
        ("b", "", None, "the suffix must be .parquet, .csv or .csv.gz, was ''"),
        ("b.csv", "", None, "the file is empty"),
        ("b.csv", "ts_event,symbol,close\n", None, "the file has no rows"),
        (
            "b.csv",
            "time,symbol,close\n1,A,1\n",
            "ts_event",
            "the column is missing; the file has time, symbol, close",
        ),
        (
            "b.csv",
            "ts_event,ticker,close\n1,A,1\n",
            "symbol",
            "the column is missing; the file has ts_event, ticker, close",
        ),
        (
            "b.csv",
            "ts_event,symbol,price\n1,A,1\n",
            None,
            "close or period_return is missing; the file has ts_event, symbol, price",
        ),
        (
            "b.csv",
            "ts_event,symbol,close,period_return\n1,A,1,1\n",
            None,
            "close and period_return are both there, which is ambiguous",
        ),
    ],
)
def test_bad_file_is_named(
    tmp_path: Path, name: str, content: str, column: str | None, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BarFileError) as caught:
        read_bars(path)
    error = caught.value
    assert error.path == str(path)
    assert (error.row, error.column, error.reason) == (None, column, reason)
    assert "\n" not in str(error)


def test_a_file_that_is_not_there_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_bars(tmp_path / "b.csv")
    assert caught.value.filename == str(tmp_path / "b.csv")
    folder = tmp_path / "b.parquet"
    folder.mkdir()
    with pytest.raises(BarFileError, match="this is a folder"):
        read_bars(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.parquet", b""),
        ("b.parquet", b"PAR1 and then nothing"),
        ("b.csv", b"ts_event,symbol,close\n1,A,1,1\n"),
        ("b.csv", b"ts_event,symbol,close\n1,\xff,1\n"),
    ],
    ids=["empty-parquet", "no-parquet", "too-many-cells", "not-utf-8"],
)
def test_unreadable_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BarFileError, match="the file is unreadable") as caught:
        read_bars(path)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("column", "cells", "was"),
    [
        ("ts_event", [1.5], "Float64"),
        ("ts_event", [time(9, 30)], "Time"),
        ("ts_event", [timedelta(1)], "Duration"),
        ("symbol", [5930], "Int64"),
        ("close", [True], "Boolean"),
        ("close", [date(2013, 10, 7)], "Date"),
    ],
)
def test_bad_column_type_is_named(
    tmp_path: Path, column: str, cells: list[Any], was: str
) -> None:
    path = tmp_path / "bars.parquet"
    columns: dict[str, list[Any]] = {"ts_event": [1], "symbol": ["A"], "close": [1.0]}
    pl.DataFrame(columns | {column: cells}).write_parquet(path)
    with pytest.raises(BarFileError, match=f"was {was}") as caught:
        read_bars(path)
    assert (caught.value.row, caught.value.column) == (None, column)


@pytest.mark.parametrize(
    ("stamp", "was"),
    [
        (pl.Series([2**63], dtype=pl.UInt64), "9223372036854775808"),
        (pl.Series([None], dtype=pl.Int64), "missing"),
        (pl.Series([datetime(9999, 1, 1, tzinfo=UTC)]), "9999-01-01 00:00:00+00:00"),
        (
            pl.Series([datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=2)))]),
            "1969-12-31 22:00:00+00:00",
        ),
    ],
    ids=["unsigned", "missing", "late", "early"],
)
def test_bad_stamp_in_parquet_is_named(
    tmp_path: Path, stamp: pl.Series, was: str
) -> None:
    path = tmp_path / "bars.parquet"
    columns = {"ts_event": stamp, "symbol": ["A"], "close": [1.0]}
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(BarFileError) as caught:
        read_bars(path)
    assert caught.value.reason == f"{STAMP_RULE}, was {was}"
    assert (caught.value.row, caught.value.column) == (1, "ts_event")


def test_absent_polars_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "ts_event,symbol,close\n1,A,1\n")
    monkeypatch.delitem(sys.modules, "beta_factory.runtime.bar_columns", raising=False)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(BarFileError) as caught:
        read_bars(path)
    assert caught.value.reason == (
        "reading bar files needs polars: pip install 'hft-beta-factory[files]'"
    )


def reference(  # the same thing, row by row and in many digits
    rows: Sequence[Row],
    *,
    log: bool,
    exclude_nights: bool,
    from_ts: int,
    to_ts: int,
    symbols: Collection[str],
) -> list[tuple[int, str, float]]:
    stamps = sorted({ts for ts, _, _ in rows})
    spacings = [b - a for a, b in pairwise(stamps)]
    is_intraday = bool(spacings) and statistics.median(spacings) <= HOUR
    before: dict[str, tuple[int, float]] = {}
    result: list[tuple[int, str, float]] = []
    for ts, name, close in sorted(rows, key=lambda row: row[:2]):
        if close is None:
            continue
        if name in before:
            ts_before, close_before = before[name]
            ratio = Decimal(close) / Decimal(close_before)
            is_night = is_intraday and ts - ts_before > 4 * HOUR
            if (
                not (exclude_nights and is_night)
                and from_ts <= ts <= to_ts
                and name in symbols
            ):
                change = float(ratio.ln() if log else ratio - 1)
                result.append((ts, name, change))
        before[name] = (ts, close)
    return result


NAMES = ("SPY", "BRK.B", "BTC/USDT", "005930", "na\"me, with ' both")

closes = st.none() | st.floats(0.01, 1e6, exclude_min=True)


@st.composite
def long_tables(draw: st.DrawFn) -> list[Row]:
    steps = draw(
        st.lists(st.sampled_from([1, SECOND, HOUR, 5 * HOUR, DAY]), max_size=12)
    )
    stamps = np.cumsum([T0, *steps]).tolist()
    cells = draw(
        st.dictionaries(
            st.tuples(st.sampled_from(stamps), st.sampled_from(NAMES)),
            closes,
            min_size=1,
            max_size=40,
        )
    )
    rows = [(ts, name, close) for (ts, name), close in cells.items()]
    order = draw(st.sampled_from(["time", "symbol", "symbols interleaved"]))
    if order == "symbol":
        return sorted(rows, key=lambda row: (row[1], row[0]))
    rows.sort(key=lambda row: row[:2])
    if order == "time":
        return rows
    # Any order that keeps each symbol's own: deal the symbols' rows out at random.
    names = draw(st.permutations([name for _, name, _ in rows]))
    waiting = {name: iter([row for row in rows if row[1] == name]) for name in names}
    return [next(waiting[name]) for name in names]


@given(
    rows=long_tables(),
    suffix=st.sampled_from([".csv", ".parquet"]),
    returns=st.sampled_from(["simple", "log"]),
    overnight=st.sampled_from(["exclude", "include"]),
    from_ts=st.none() | st.integers(T0, T0 + 3 * DAY),
    to_ts=st.none() | st.integers(T0, T0 + 3 * DAY),
    symbols=st.none() | st.sets(st.sampled_from(NAMES)),
)
def test_files_equal_the_row_by_row_reference(
    *,
    rows: list[Row],
    suffix: str,
    returns: Literal["simple", "log"],
    overnight: Literal["exclude", "include"],
    from_ts: int | None,
    to_ts: int | None,
    symbols: set[str] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kept = NAMES if symbols is None else symbols
    path = tmp_path_factory.getbasetemp() / f"reference{suffix}"
    write_rows(path, rows)
    bars = read_bars(
        path,
        returns=returns,
        overnight=overnight,
        from_ts=from_ts,
        to_ts=to_ts,
        symbols=symbols,
    )
    with localcontext(prec=60):
        expected = reference(
            rows,
            log=returns == "log",
            exclude_nights=overnight == "exclude",
            from_ts=0 if from_ts is None else from_ts,
            to_ts=2**63 if to_ts is None else to_ts,
            symbols=kept,
        )
    in_file = {name for _, name, _ in rows}
    assert bars.symbols == tuple(sorted(in_file.intersection(kept)))
    found = long_form(bars)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose(
        [row[2] for row in found], [row[2] for row in expected], rtol=2e-15
    )
    assert bars.n_source_rows == len(rows)
    assert np.all(np.diff(bars.ts_events) > 0)
    assert np.all(np.diff(bars.offsets) > 0)
