"""The commands that look into a store, to the nanosecond."""

from pathlib import Path

import pytest
from commands import command
from stores import FIRST_NS, LiveRun, uninterrupted

from beta_factory.runtime.stamps import stamp_text

LATE_NS = 999
"""By so little after the second the clock shows each turn."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.sqlite"
    LiveRun(path).take(range(10), late_ns=LATE_NS).end()
    return path


def turn_ns(number: int) -> int:
    return FIRST_NS + number * 10**9 + LATE_NS


@pytest.mark.parametrize(("early_ns", "newest"), [(0, 6), (1, 5)])
def test_an_instant_is_before_or_after_a_turn_by_a_nanosecond(
    store: Path, early_ns: int, newest: int
) -> None:
    wanted = uninterrupted(range(newest + 1)).latest("beta.market.AAPL")
    assert wanted is not None
    for zone in ("", "Z"):
        instant = stamp_text(turn_ns(6) - early_ns) + zone
        done = command("asof", "AAPL", instant, "--store", store)
        assert done.returncode == 0, done.stderr
        published_ns = turn_ns(newest)
        assert f"published {stamp_text(published_ns)} ({published_ns})" in done.stdout
        assert f'"seq":{wanted.seq},' in done.stdout


def test_a_recording_ends_with_the_turn_that_is_named(
    store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "part.sqlite"
    done = command("record", store, out, "--until", stamp_text(turn_ns(6)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "turns     1 to 8\n"  # the run's beginning, and seven bars


@pytest.mark.parametrize("text", ["noon", "1960-01-01", "2025-W23-1", "2025-6-2"])
@pytest.mark.parametrize("name", ["TIME", "--since", "--until"])
def test_what_is_no_instant_is_refused_by_name(
    tmp_path: Path, name: str, text: str
) -> None:
    store = tmp_path / "store.sqlite"  # it is not looked at
    if name == "TIME":
        done = command("asof", "AAPL", text, "--store", store)
    else:
        done = command("record", store, tmp_path / "part.sqlite", name, text)
    assert done.returncode == 2
    said = " ".join(done.stderr.replace("│", " ").split())
    assert f"Invalid value for {name}: stamp must be integer ns or ISO 8601" in said
    assert f"was '{text}'" in said
