"""Points in time in and out, to the last digit, and one rule with the bar files."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import BarFileError
from beta_factory.runtime.bars import read_bars
from beta_factory.runtime.stamps import parse_stamp, stamp_text
from strategies import examples

LAST = 9_214_646_399_999_999_999  # the last of 2261


@pytest.mark.parametrize(
    ("ts_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000"),
        (1, "1970-01-01T00:00:00.000000001"),
        (1_381_239_001_999_999_999, "2013-10-08T13:30:01.999999999"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807"),
    ],
)
def test_a_stamp_is_exact_to_the_last_digit(ts_ns: int, text: str) -> None:
    assert stamp_text(ts_ns) == text


@given(st.integers(0, LAST))
@examples(133)
def test_what_is_written_reads_back(ts_ns: int) -> None:
    assert parse_stamp(stamp_text(ts_ns)) == ts_ns
    assert parse_stamp(stamp_text(ts_ns) + "Z") == ts_ns
    assert parse_stamp(str(ts_ns)) == ts_ns
    assert parse_stamp(ts_ns) == ts_ns


TEXTS = {
    "2025-06-02": 1_748_822_400_000_000_000,
    "2025-06-02T13:30": 1_748_871_000_000_000_000,
    "2025-06-02 13:30:00": 1_748_871_000_000_000_000,
    "2025-06-02T13:30:00.5Z": 1_748_871_000_500_000_000,
    "2025-06-02T09:30:00-04:00": 1_748_871_000_000_000_000,
    "2025-06-02T09:30:00.000000001-0400": 1_748_871_000_000_000_001,
    "1748871000000000000": 1_748_871_000_000_000_000,
}
NO_STAMPS = ["", "noon", "2025-06-31", "1969-12-31", "2262-01-01", "-1"]


@pytest.mark.parametrize(("text", "ts_ns"), TEXTS.items())
def test_a_text_means_the_same_here_and_in_a_bar_file(
    tmp_path: Path, text: str, ts_ns: int
) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"ts_event,symbol,period_return\n{text},SPY,0.1\n")
    assert parse_stamp(text) == ts_ns
    assert read_bars(path).ts_events.tolist() == [ts_ns]


@pytest.mark.parametrize("text", NO_STAMPS)
def test_what_is_no_stamp_is_none_here_and_in_a_bar_file(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"ts_event,symbol,period_return\n{text},SPY,0.1\n")
    with pytest.raises(ValueError, match="was '"):
        parse_stamp(text)
    with pytest.raises(BarFileError, match="stamp must be"):
        read_bars(path)


def test_what_toml_reads_as_a_time_is_one() -> None:
    expected = 1_748_871_000_000_001_000
    for zone in (None, UTC):
        moment = datetime(2025, 6, 2, 13, 30, 0, 1, tzinfo=zone)
        assert parse_stamp(moment) == expected
    new_york = timezone(timedelta(hours=-4))
    assert parse_stamp(datetime(2025, 6, 2, 9, 30, 0, 1, tzinfo=new_york)) == expected
    assert parse_stamp(date(2025, 6, 2)) == 1_748_822_400_000_000_000
