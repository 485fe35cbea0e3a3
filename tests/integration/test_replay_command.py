"""`beta-factory replay` as its user runs it: at any speed, in part, scripted.

On a terminal it is a process of its own; all else is run in this one.
"""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from commands import Ended, command

from beta_factory.runtime.stamps import parse_stamp

pytestmark = pytest.mark.integration

WAIT_S: Final = 60
OPEN: Final = "2025-06-02T13:30:00"
MARKET: Final = """
title = "a market"
[source]
n_bars = 40
betas = { AAPL = 1.2, MSFT = 0.8 }
bar_interval = "1s"
[factors.market]
benchmark = "SPY"
lookback_length = 20
min_observations = 5
[[events]]
kind = "halt"
symbol = "AAPL"
at = 30
[[expectations]]
kind = "status"
symbol = "AAPL"
status = "halted"
at = 30
[[expectations]]
kind = "n_obs"
symbol = "MSFT"
at = 10
near = 10
"""


def replay(*arguments: str | Path) -> Ended:
    return command("replay", *arguments)


def value_of(summary: str, name: str) -> str:
    (found,) = [line for line in summary.splitlines() if line.startswith(name)]
    return found.removeprefix(name).strip()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.toml"
    path.write_text(MARKET)
    return path


@pytest.fixture
def bar_file(tmp_path: Path) -> Path:
    path = tmp_path / "bars.csv"
    opened = parse_stamp(OPEN)
    rows = [
        f"{opened + bar * 10**9},{symbol},{0.001 * (bar % 7 + size)}"
        for bar in range(20)
        for size, symbol in enumerate(("SPY", "AAPL"))
    ]
    path.write_text("\n".join(["ts_event,symbol,period_return", *rows]) + "\n")
    return path


def test_a_script_that_holds_exits_with_0(script: Path) -> None:
    result = replay(script)
    assert (result.returncode, result.stderr) == (0, "")
    assert value_of(result.stdout, "title") == "a market"
    assert value_of(result.stdout, "checked") == "2 expectations, 0 failed"


def test_one_that_does_not_shows_expected_against_seen(script: Path) -> None:
    script.write_text(MARKET.replace("near = 10", "near = 11"))
    result = replay(script)
    assert result.returncode == 1
    assert value_of(result.stdout, "checked") == "2 expectations, 1 failed"
    assert result.stdout.splitlines()[-3:] == [
        "failed    expectations[1]",
        "          expected  MSFT's n_obs at bar 10 near 11.0 up to 0",
        "          seen      10 (ok, n_obs 10)",
    ]


def test_a_bad_script_names_its_keys(script: Path) -> None:
    script.write_text(MARKET.replace('"AAPL"\nat = 30', '"APL"\nat = 41'))
    result = replay(script)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"{script}: events[0].at: must be a bar from 1 to 40, was 41",
    ]
    script.write_text(MARKET.replace('"AAPL"\nat = 30', '"APL"\nat = 30', 1))
    assert "events[0].symbol: there is no 'APL' here" in replay(script).stderr
    missing = replay(script.with_name("none.toml"))
    assert missing.returncode == 2
    assert "none.toml: no such file" in missing.stderr


def test_a_script_says_its_own_model(script: Path) -> None:
    result = replay(script, "--benchmark", "SPY")
    assert result.returncode == 2
    assert "a script says it itself" in " ".join(result.stderr.split())


@pytest.mark.parametrize("name", ["script", "bar_file"])
def test_the_speed_changes_no_byte(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    file: Path = request.getfixturevalue(name)
    digests: set[str] = set()
    outputs: set[bytes] = set()
    for speed in ("max", "1000"):
        out = tmp_path / f"{name}-{speed}.jsonl"
        result = replay(file, "--speed", speed, "--out", out)
        assert result.returncode == 0, result.stderr
        digests.add(value_of(result.stdout, "digest"))
        outputs.add(out.read_bytes())
    assert len(digests) == len(outputs) == 1
    assert digests == {stepped(file)[1]}


def stepped(file: Path) -> tuple[str, str]:
    """Replay with Enter after Enter on a terminal; return its output and digest."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "beta_factory", "replay", str(file), "--speed", "step"],
        stdin=follower,
        stdout=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    ) as process:
        try:
            os.close(follower)
            assert process.stdout is not None
            assert "ts_event" in process.stdout.readline()
            os.write(leader, b"\n")
            first = process.stdout.readline()
            assert "warming" in first
            os.write(leader, b"\n\x04")  # one more bar, and then the rest at once
            output, _ = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    os.close(leader)
    assert process.returncode == 0
    return first + output, value_of(output, "digest")


def test_a_step_shows_what_each_bar_published(script: Path) -> None:
    output, _ = stepped(script)
    assert sum("AAPL" in line for line in output.splitlines()) == 30
    assert sum("halted" in line for line in output.splitlines()) == 2  # and a drop


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "inf", "nan"])
def test_a_speed_is_a_multiple_max_or_step(script: Path, speed: str) -> None:
    result = replay(script, f"--speed={speed}")
    assert result.returncode == 2
    assert "max or step" in " ".join(result.stderr.split())


def test_steps_need_a_terminal(script: Path) -> None:
    result = replay(script, "--speed", "step")
    assert result.returncode == 2
    assert "step needs a terminal" in " ".join(result.stderr.split())


@pytest.mark.parametrize("as_ns", [False, True])
def test_a_part_of_a_bar_file(bar_file: Path, *, as_ns: bool) -> None:
    first, last = f"{OPEN}.5", f"{OPEN[:-2]}10Z"
    if as_ns:
        first, last = (str(parse_stamp(text)) for text in (first, last))
    result = replay(bar_file, "--from", first, "--to", last)
    assert value_of(result.stdout, "bars") == "10"
    whole = replay(bar_file)
    assert value_of(whole.stdout, "bars") == "20"


def test_a_part_of_a_script(script: Path) -> None:
    result = replay(script, "--to", f"{OPEN[:-2]}12")
    assert result.returncode == 0
    assert value_of(result.stdout, "bars") == "12"
    assert value_of(result.stdout, "checked") == "1 expectation, 0 failed, 1 skipped"


def test_a_time_that_is_none(script: Path) -> None:
    result = replay(script, "--from", "noon")
    assert result.returncode == 2
    assert "'noon'" in result.stderr
