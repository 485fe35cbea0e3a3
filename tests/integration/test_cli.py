"""The command line as its user runs it: real processes, real sockets, real files.

A command that only has to end, whatever it says, is run in this process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import command

from beta_factory import connect
from beta_factory.runtime import feed

pytestmark = pytest.mark.integration

SYMBOLS = ("AAPL", "BRK.B", "BTC/USDT")
WAIT_S = 30

CONFIG = """\
symbols = ["AAPL", "BRK.B", "BTC/USDT"]
[server]
address = "unix://{socket}"
[factors.market]
benchmark = "SPY"
lookback_length = 60
min_observations = 10
"""


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "beta_factory", *arguments]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        program(*arguments), capture_output=True, text=True, timeout=WAIT_S, check=False
    )


@pytest.fixture
def bar_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    lines = ["ts_event,symbol,period_return"]
    for bar in range(300):
        ts_event = 1_381_239_000_000_000_000 + bar * 1_000_000_000
        market = rng.normal() * 1e-3
        if bar % 50 != 49:  # a bar that the benchmark skips, now and then
            lines.append(f"{ts_event},SPY,{market!r}")
        for i, symbol in enumerate(SYMBOLS):
            if rng.random() < 0.8:
                value = float((i + 0.5) * market + rng.normal() * 1e-3)
                lines.append(f"{ts_event},{symbol},{value!r}")
    path = tmp_path / "bars.csv"
    path.write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "beta-factory.toml"
    path.write_text(CONFIG.format(socket=tmp_path / "sidecar.sock"))
    return path


@contextmanager
def started(*arguments: str) -> Generator["subprocess.Popen[str]"]:
    """Run a command that is killed with the block, if it has not ended by then."""
    process = subprocess.Popen(
        program(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for_line(process: "subprocess.Popen[str]", text: str) -> str:
    """Read standard error up to the line that holds ``text``."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never printed; exit {process.wait()}")


def replay(bar_file: Path, out: Path) -> str:
    result = command(
        *("replay", bar_file, "--benchmark", "SPY", "--out", out),
        *("--lookback-length", "60", "--min-observations", "10"),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def value_of(summary: str, name: str) -> str:
    return next(
        line.removeprefix(name).strip()
        for line in summary.splitlines()
        if line.startswith(name)
    )


@pytest.mark.parametrize("frame_format", ["columns", "single"])
def test_separate_processes_give_the_bytes_of_a_replay(
    tmp_path: Path, bar_file: Path, config: Path, frame_format: str
) -> None:
    out = tmp_path / "betas.jsonl"
    summary = replay(bar_file, out)
    address = f"unix://{tmp_path / 'sidecar.sock'}"
    subscribe = ("subscribe", "beta.market.*", "--json", "--address", address)
    with (
        started("run", "--config", str(config)) as sidecar,
        started(*subscribe) as of_rows,
        started(*subscribe, "--columns") as of_columns,
    ):
        wait_for_line(sidecar, "listening at")
        for subscriber in (of_rows, of_columns):
            wait_for_line(subscriber, "joined")
        published = run(
            *("publish", str(bar_file), "--address", address, "--speed", "0"),
            *("--format", frame_format),
        )
        assert published.returncode == 0, published.stderr
        sidecar.send_signal(signal.SIGTERM)
        for subscriber in (of_rows, of_columns):
            lines, notes = subscriber.communicate(timeout=WAIT_S)
            assert subscriber.returncode == 0
            assert lines.encode() == out.read_bytes()
            assert value_of(summary, "digest") in notes
        sidecar_summary, _ = sidecar.communicate(timeout=WAIT_S)
    assert sidecar.returncode == 0
    assert value_of(sidecar_summary, "updates") == value_of(summary, "updates")
    assert value_of(sidecar_summary, "dropped") == value_of(summary, "dropped")
    assert value_of(sidecar_summary, "conflated") == "0 updates"


def test_a_replay_run_twice_has_one_digest(tmp_path: Path, bar_file: Path) -> None:
    digests = {
        value_of(replay(bar_file, tmp_path / name), "digest")
        for name in ("a.parquet", "b.csv")
    }
    assert len(digests) == 1


def test_hash_seed_does_not_reach_the_output(tmp_path: Path, bar_file: Path) -> None:
    digests: set[str] = set()
    for seed in ("0", "1"):
        result = subprocess.run(
            program("replay", str(bar_file), "--lookback-length", "60"),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        digests.add(value_of(result.stdout, "digest"))
    assert len(digests) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_ends_with_a_summary(
    config: Path, number: signal.Signals
) -> None:
    with started("run", "--config", str(config)) as sidecar:
        wait_for_line(sidecar, "listening at")
        sidecar.send_signal(number)
        summary, _ = sidecar.communicate(timeout=WAIT_S)
    assert sidecar.returncode == 0
    assert value_of(summary, "updates") == "0"


def test_a_second_sidecar_says_that_the_address_is_taken(
    tmp_path: Path, config: Path
) -> None:
    with started("run", "--config", str(config)) as sidecar:
        wait_for_line(sidecar, "listening at")
        second = run("run", "--config", str(config))
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert "a live sidecar already listens" in second.stderr
        assert str(tmp_path / "sidecar.sock") in second.stderr
        assert sidecar.poll() is None


def test_the_socket_of_a_killed_sidecar_is_taken_over(
    tmp_path: Path, config: Path
) -> None:
    with started("run", "--config", str(config)) as sidecar:
        wait_for_line(sidecar, "listening at")
        sidecar.kill()
        sidecar.wait(WAIT_S)
    assert (tmp_path / "sidecar.sock").exists()
    with started("run", "--config", str(config)) as sidecar:
        wait_for_line(sidecar, "listening at")
        sidecar.send_signal(signal.SIGTERM)
        sidecar.communicate(timeout=WAIT_S)
    assert sidecar.returncode == 0
    assert not (tmp_path / "sidecar.sock").exists()


def test_validate_says_ok_or_names_each_wrong_key(tmp_path: Path, config: Path) -> None:
    good = command("validate", "--config", config)
    assert (good.returncode, good.stdout) == (0, "OK\n")
    bad_file = tmp_path / "bad.toml"
    bad_file.write_text(
        'symbols = ["AAPL"]\n[factors.market]\nbenchmark = "SPY"\nlookback = 3\n'
        "min_observations = 1\n"
    )
    bad = command("validate", "--config", bad_file)
    assert bad.returncode == 1
    assert "factors.market.lookback" in bad.stderr
    assert "factors.market.min_observations" in bad.stderr
    missing = command("validate", "--config", tmp_path / "absent.toml")
    assert missing.returncode == 2
    assert "absent.toml" in missing.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ts_event,close\n1,2\n", ["'symbol'"]),
        ("ts_event,symbol,close\n1,SPY,2\n2,SPY,-1\n", ["row 2", "'close'"]),
        ("ts_event,symbol,close\n2,SPY,2\n1,SPY,3\n", ["row 2", "'ts_event'"]),
        ("ts_event,symbol,close\n1,SPY,2\n1,SPY,3\n", ["row 2", "'ts_event'"]),
        ("ts_event,symbol,close\n1,QQQ,2\n2,QQQ,3\n", ["'SPY'"]),
    ],
    ids=["missing column", "price <= 0", "unsorted", "duplicate", "no benchmark"],
)
def test_a_bad_bar_file_is_one_line_that_names_the_place(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    result = command("replay", path, "--benchmark", "SPY")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in [str(path), *expected])


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--config", "{}.toml"),
        ("validate", "--config", "{}.toml"),
        ("replay", "{}.csv"),
        ("replay", "{}.parquet"),
        ("replay", "{}.toml"),
        ("replay", "{}"),
        ("publish", "{}.csv"),
        ("board", "{}"),
        ("store", "{}"),
        ("record", "{}", "out"),
        ("asof", "AAPL", "1", "--store", "{}"),
        ("status", "--token-file", "{}"),
        ("symbols", "halt", "AAPL", "--address", "tcp://[::1]:1", "--tls-ca", "{}"),
    ],
    ids=" ".join,
)
def test_a_missing_file_and_a_folder_are_one_line_each(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name, is_folder in (("absent", False), ("folder", True)):
        asked = [argument.format(tmp_path / name) for argument in arguments]
        (path,) = [argument for argument in asked if str(tmp_path) in argument]
        if is_folder:
            Path(path).mkdir()
        result = command(*asked)
        assert result.returncode == (1 if is_folder else 2), result
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert path in result.stderr


def test_output_that_nobody_reads_ends_a_command_in_silence(tmp_path: Path) -> None:
    address = str(tmp_path / "nobody.sock")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            program("subscribe", "beta.market.*", "--address", address),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=WAIT_S,
            check=False,
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_feed_without_a_sidecar_says_so(
    tmp_path: Path, bar_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody comes, however long it waits: no need to wait as long as for somebody.
    monkeypatch.setattr(feed, "connect", partial(connect, connect_timeout_s=0.05))
    address = f"unix://{tmp_path / 'nobody.sock'}"
    result = command("publish", bar_file, "--address", address)
    assert result.returncode == 3
    assert address in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_pattern_outside_the_grammar_is_rejected_with_a_hint(config: Path) -> None:
    address = f"unix://{config.parent / 'sidecar.sock'}"
    with started("run", "--config", str(config)) as sidecar:
        wait_for_line(sidecar, "listening at")
        result = run("subscribe", "beta.market.BRK.B", "--address", address)
    assert result.returncode == 1
    assert "beta.market.BRK%2EB" in result.stderr
    assert "Traceback" not in result.stderr
