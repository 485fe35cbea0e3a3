"""What a terminal shows: undefined is a dash, and names are only names."""

from io import StringIO

import pytest
from rich.console import Console

from beta_factory.messages import BetaUpdated, Reason, Status
from beta_factory.runtime.presentation import (
    LINE_HEADER,
    beta_table,
    line,
    number,
    replay_lines,
    sidecar_lines,
    system_lines,
)
from beta_factory.runtime.replay import ReplaySummary
from beta_factory.runtime.sidecar import SidecarSummary
from beta_factory.runtime.system_statistics import SystemStatistics

SYSTEM = SystemStatistics(
    n_bars=1_000,
    n_pairs=12_345,
    n_updates=12_400,
    n_restarts=2,
    n_dead_letters=3,
    n_failures=7,
    n_quarantined=1,
    n_listener_failures=4,
    dropped={"late": 1_234, "unpaired": 5},
    n_held=1_001,
    stale={("market", "asset_silent"): 2, ("market", "no_recent_pair"): 3},
)
SYSTEM_LINES = [
    "bars      1,000",
    "pairs     12,345",
    "updates   12,400",
    "dropped   late 1,234, unpaired 5",
    "held      1,001 in quarantine",
    "stale     asset_silent 2 (market), no_recent_pair 3 (market)",
    "restarts  2 after 7 failures, 1 quarantined",
    "dead      3 letters",
]


def update(
    symbol: str = "BAC", *, beta: float | None = 1.25, status: Status = Status.OK
) -> BetaUpdated:
    return BetaUpdated(
        factor="market",
        symbol=symbol,
        benchmark="SPY",
        ts_event=1_381_239_001_002_003_004,
        beta=beta,
        alpha=None if beta is None else 0.0,
        std_error=None if beta is None else 0.031,
        t_stat=None if beta is None else float("inf"),
        r_squared=None if beta is None else 0.5,
        residual_std=None if beta is None else 0.001,
        n_obs=42,
        window_start=0,
        status=status,
        reason=Reason.NONE,
        revision=0,
        seq=1,
        ts_init=0,
    )


def drawn(updates: list[BetaUpdated]) -> str:
    console = Console(file=StringIO(), width=120)
    console.print(beta_table(updates, "2 updates"))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.00"), (-1.005, "-1.00"), (float("inf"), "inf")],
)
def test_a_number_that_is_not_defined_is_a_dash_and_never_a_zero(
    value: float | None, text: str
) -> None:
    assert number(value, ".2f") == text


def test_a_line_stands_under_its_header() -> None:
    shown = line(update())
    assert shown == (
        "2013-10-08T13:30:01.002003004 BAC             1.2500    0.0310      inf"
        "    0.5000     42 ok"
    )
    assert LINE_HEADER.index("status") == shown.index("ok")
    for name, text in (("beta", "1.2500"), ("n_obs", "42"), ("r_squared", "0.5000")):
        assert LINE_HEADER.index(name) + len(name) == shown.index(text) + len(text)


def test_a_line_of_an_undefined_beta_has_dashes() -> None:
    assert line(update(beta=None, status=Status.WARMING)).split()[1:] == [
        "BAC",
        "-",
        "-",
        "-",
        "-",
        "42",
        "warming",
    ]


def test_a_table_has_one_row_per_update() -> None:
    table = drawn([update(), update("ZM", beta=None, status=Status.ZERO_VARIANCE)])
    assert "2 updates" in table
    rows = [[cell.strip() for cell in row.split("│")] for row in table.splitlines()]
    assert [row[1:9] for row in rows if len(row) > 2] == [
        ["BAC", "1.2500", "0.0310", "inf", "0.5000", "42", "ok", "13:30:01.002"],
        ["ZM", "-", "-", "-", "-", "42", "zero_variance", "13:30:01.002"],
    ]


@pytest.mark.parametrize("status", Status)
def test_every_status_can_be_shown(status: Status) -> None:
    assert status.name.lower() in drawn([update(status=status)])


@pytest.mark.parametrize("symbol", ["[red]BAC", "BTC[/]", "[link=x]A[/link]", "A[B]"])
def test_a_symbol_is_shown_as_it_is_written(symbol: str) -> None:
    assert symbol in drawn([update(symbol)])


def test_a_system_is_described_one_fact_a_line() -> None:
    assert system_lines(SYSTEM) == SYSTEM_LINES


def test_no_drops_are_called_none() -> None:
    assert "dropped   none" in system_lines(SYSTEM._replace(dropped={}))


@pytest.mark.parametrize(
    ("elapsed_s", "rate"), [(2.0, "6,200 updates/s in 2.00 s"), (0.0, "0 updates/s in")]
)
def test_a_replay_is_described_with_its_rate_and_its_digest(
    elapsed_s: float, rate: str
) -> None:
    lines = replay_lines(ReplaySummary(99, SYSTEM, elapsed_s, "abc"))
    assert lines[:8] == SYSTEM_LINES
    assert lines[8].startswith(f"rate      {rate}")
    assert lines[9] == "digest    sha256:abc"


def test_a_sidecar_is_described_with_its_peers() -> None:
    summary = SidecarSummary(
        system=SYSTEM,
        n_connections=1_003,
        n_rejected=2,
        n_frames=4_000,
        n_conflated=17,
        uptime_s=12.34,
    )
    assert sidecar_lines(summary) == [
        *SYSTEM_LINES,
        "peers     1,003 (2 rejected)",
        "frames    4,000 received",
        "conflated 17 updates",
        "uptime    12.3 s",
    ]
