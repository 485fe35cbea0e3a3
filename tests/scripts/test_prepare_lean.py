"""Lean trade bars become a bar file: stamps, hours, prices, and clear refusals."""

import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from beta_factory.runtime.bars import read_bars

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "prepare_lean.py"
SAMPLES = ROOT.parent / "shared" / "data"
NEW_YORK = ZoneInfo("America/New_York")

main: Callable[[Sequence[str]], int] = runpy.run_path(str(SCRIPT))["main"]

Rows = Sequence[tuple[str, object, int, int]]

HOUR_MS = 3_600_000
OPEN_MS = 9 * HOUR_MS + HOUR_MS // 2
CLOSE_MS = 16 * HOUR_MS


def write_lean(folder: Path, rows: Rows) -> Path:
    path = folder / "lean.parquet"
    pl.DataFrame(
        rows, schema=["symbol", "date", "ms", "close"], orient="row"
    ).write_parquet(path)
    return path


def convert(folder: Path, rows: Rows, *options: str) -> list[tuple[str, str, float]]:
    out = folder / "out.parquet"
    assert main([str(write_lean(folder, rows)), str(out), *options]) == 0
    bars = pl.read_parquet(out)
    assert bars.schema == {
        "ts_event": pl.Int64,
        "symbol": pl.String,
        "close": pl.Float64,
    }
    stamps = pl.from_epoch(bars["ts_event"], "ns").dt.strftime("%F %T")
    return list(zip(stamps, bars["symbol"], bars["close"], strict=True))


@pytest.mark.parametrize(
    ("day", "closed"),
    [
        ("20140307", "2014-03-07 14:30:01"),
        ("20140310", "2014-03-10 13:30:01"),
        ("20131101", "2013-11-01 13:30:01"),
        ("20131104", "2013-11-04 14:30:01"),
    ],
)
def test_stamp_is_the_close_in_utc_on_either_side_of_a_clock_change(
    tmp_path: Path, day: str, closed: str
) -> None:
    rows = [("SPY", day, OPEN_MS, 1_674_300), ("SPY", day, OPEN_MS + 1_000, 1)]
    assert convert(tmp_path, rows)[0] == (closed, "SPY", 167.43)


def test_bars_on_full_minutes_are_minutes(tmp_path: Path) -> None:
    rows = [("SPY", "20131007", OPEN_MS, 10_000)]
    assert convert(tmp_path, rows) == [("2013-10-07 13:31:00", "SPY", 1.0)]


def test_regular_hours_are_bars_that_start_in_them(tmp_path: Path) -> None:
    starts = (OPEN_MS - 1_000, OPEN_MS, CLOSE_MS - 1_000, CLOSE_MS)
    rows = [("SPY", "20131007", ms, 10_000) for ms in starts]
    regular = ["2013-10-07 13:30:01", "2013-10-07 20:00:00"]
    every = ["2013-10-07 13:30:00", *regular, "2013-10-07 20:00:01"]
    assert [row[0] for row in convert(tmp_path, rows)] == regular
    assert [row[0] for row in convert(tmp_path, rows, "--regular-hours")] == regular
    assert [row[0] for row in convert(tmp_path, rows, "--all-hours")] == every


def test_bar_length_is_that_of_the_whole_source(tmp_path: Path) -> None:
    # Only a bar outside regular hours shows that these are seconds.
    rows = [("SPY", "20131007", ms, 10_000) for ms in (OPEN_MS - 1_000, OPEN_MS)]
    assert [row[0] for row in convert(tmp_path, rows)] == ["2013-10-07 13:30:01"]


def test_rows_are_sorted_by_stamp_then_symbol(tmp_path: Path) -> None:
    rows = [
        (name, day, OPEN_MS, 10_000)
        for name in ("SPY", "AIG")
        for day in ("20131008", "20131007")
    ]
    found = [(stamp[:10], name) for stamp, name, _ in convert(tmp_path, rows)]
    assert found == sorted(found)
    assert len(found) == 4


def test_program_says_what_it_wrote(tmp_path: Path) -> None:
    source = write_lean(tmp_path, [("SPY", 20131007, OPEN_MS, 10_000)])
    out = tmp_path / "out.parquet"
    done = subprocess.run(
        [sys.executable, SCRIPT, source, out],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"{out}: 1 rows of SPY",
        "first 1381152660000000000 = 2013-10-07T13:31:00Z",
        "last 1381152660000000000 = 2013-10-07T13:31:00Z",
    ]
    assert not done.stderr


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (None, "there is no such file"),
        ([], "no bar is left"),
        ([("SPY", "20131007", CLOSE_MS, 1)], "no bar is left"),
        ([("SPY", "20131007", 500, 1)], "bars must start on a full second or minute"),
        (
            [("SPY", "2013-10-07", OPEN_MS, 1)],
            "a date must be yyyymmdd, was '2013-10-07'",
        ),
        ([("SPY", "20131307", OPEN_MS, 1)], "a date must be yyyymmdd, was '20131307'"),
    ],
    ids=["absent", "empty", "after-hours", "half-second", "dashes", "month-13"],
)
def test_bad_source_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Rows | None, reason: str
) -> None:
    source = tmp_path / "lean.parquet"
    if rows is not None:
        write_lean(tmp_path, rows)
    out = tmp_path / "out.parquet"
    assert main([str(source), str(out)]) == 1
    said = capsys.readouterr()
    assert said.err == f"prepare_lean: {source}: {reason}\n"
    assert not said.out
    assert not out.exists()


def test_foreign_parquet_and_text_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "lean.parquet"
    pl.DataFrame({"symbol": ["SPY"]}).write_parquet(source)
    assert main([str(source), str(tmp_path / "out.parquet")]) == 1
    source.write_text("symbol,date,ms,close\n")
    assert main([str(source), str(tmp_path / "out.parquet")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"prepare_lean: {source}: ") for line in lines)


def test_out_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_lean(tmp_path, [("SPY", "20131007", OPEN_MS, 1)])
    assert main([str(source), str(tmp_path / "absent" / "out.parquet")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_out_without_the_suffix_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "lean.parquet"), "out.csv"])
    assert caught.value.code == 2
    assert "OUT must end in .parquet, was out.csv" in capsys.readouterr().err


def sample(length: str) -> Path:
    path = SAMPLES / f"lean_{length}_trades_spy_aig_bac_ibm_201310.parquet"
    if not path.exists():
        pytest.skip(f"the sample {path.name} is not here")
    return path


@pytest.mark.parametrize(
    ("length", "options"),
    [("second", ()), ("minute", ()), ("minute", ("--all-hours",))],
)
def test_sample_keeps_every_close_at_its_time(
    tmp_path: Path, length: str, options: Sequence[str]
) -> None:
    source, out = sample(length), tmp_path / "out.parquet"
    assert main([str(source), str(out), *options]) == 0
    raw = pl.read_parquet(source).with_columns(pl.col("symbol", "date").cast(pl.String))
    if not options:
        raw = raw.filter(pl.col("ms") >= OPEN_MS, pl.col("ms") < CLOSE_MS)
    bars = pl.read_parquet(out)
    assert sorted(bars["symbol"].value_counts().rows()) == sorted(
        raw["symbol"].value_counts().rows()
    )
    closes = {(ts, name): close for ts, name, close in bars.rows()}
    step = timedelta(seconds=1 if length == "second" else 60)
    for name, day, ms, close in raw.select("symbol", "date", "ms", "close").rows()[
        ::97
    ]:
        start = datetime.combine(
            date.fromisoformat(day), time.min, tzinfo=NEW_YORK
        ) + timedelta(milliseconds=ms)
        closed_ts = int((start + step).timestamp()) * 10**9
        assert closes[closed_ts, name] == close / 10_000


@pytest.mark.parametrize(
    ("length", "n_bars", "n_rows", "n_pairs"),
    [
        ("second", 109_986, 212_401, {"AIG": 23_961, "BAC": 51_802, "IBM": 21_611}),
        ("minute", 2_334, 9_333, {"AIG": 2_333, "BAC": 2_334, "IBM": 2_332}),
    ],
)
def test_sample_as_bars(
    tmp_path: Path, length: str, n_bars: int, n_rows: int, n_pairs: dict[str, int]
) -> None:
    out = tmp_path / "out.parquet"
    assert main([str(sample(length)), str(out)]) == 0
    bars = read_bars(out)
    assert (bars.symbols, bars.n_bars, bars.n_rows) == (
        ("AIG", "BAC", "IBM", "SPY"),
        n_bars,
        n_rows,
    )
    grid = np.zeros((n_bars, 4), dtype=np.bool_)
    rows = np.repeat(np.arange(n_bars), np.diff(bars.offsets))
    grid[rows, bars.symbol_ids] = True
    for index, name in enumerate(("AIG", "BAC", "IBM")):
        assert np.count_nonzero(grid[:, index] & grid[:, 3]) == n_pairs[name]
    # Nights are left out, and what remains is no larger than a second may be.
    assert np.abs(bars.period_returns).max() < 0.01
