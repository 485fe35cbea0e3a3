"""The board between real processes: never half a turn, never a dead writer's values."""

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from commands import command

from beta_factory import Board, Role, StaleBoardError, connect
from beta_factory.messages import BenchmarkReturnObserved, ReturnObserved
from beta_factory.runtime.address import Address
from beta_factory.runtime.clock import LiveClock
from beta_factory.runtime.config import SidecarConfig
from beta_factory.runtime.config_reader import parse_config
from beta_factory.runtime.sidecar import serve
from testkit import PATIENCE_S, eventually

pytestmark = pytest.mark.integration

WRITER = Path(__file__).parents[1] / "support" / "board_writer_process.py"
N_SYMBOLS = 64
N_READS = 4_000

CONFIG = """\
symbols = ["AAPL", "MSFT"]
[server]
address = "unix://{folder}/sidecar.sock"
[board]
path = "{folder}/board"
heartbeat_interval_s = 0.02
heartbeat_bound_s = {bound_s}
[factors.market]
benchmark = "SPY"
lookback_length = 10
min_observations = 3
"""


@contextmanager
def running(*program: str | Path) -> Generator["subprocess.Popen[str]"]:
    """Run a program that is killed with the block."""
    process = subprocess.Popen(
        [sys.executable, *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_no_reader_sees_half_a_turn(tmp_path: Path) -> None:
    path = tmp_path / "board"
    with running(WRITER, path, str(N_SYMBOLS), str(PATIENCE_S)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        seen: set[float] = set()
        with Board(path) as board:
            for i in range(N_READS):
                symbol = f"S{i % N_SYMBOLS:04d}"
                update = board.read(symbol)
                assert update is not None
                said = update.ts_event
                # A turn of many rows says its first seq everywhere but in seq.
                assert said <= update.seq < said + N_SYMBOLS
                assert (
                    *(update.beta, update.alpha, update.std_error, update.t_stat),
                    *(update.r_squared, update.residual_std),
                    *(update.n_obs, update.window_start, update.ts_init),
                    *(update.status, update.reason, update.revision),
                ) == (*[said] * 9, said % 8, said % 10, said)
                seen.add(board[symbol])
                if i % 4 == 0:
                    check_columns(board)
        assert len(seen) > N_READS / 20  # the writer did not stand still meanwhile


def check_columns(board: Board) -> None:
    columns = board.columns()
    said = columns.ts_event
    for name in ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std"):
        np.testing.assert_array_equal(getattr(columns, name), said)
    for name in ("n_obs", "revision", "window_start", "ts_init"):
        np.testing.assert_array_equal(getattr(columns, name), said)
    np.testing.assert_array_equal(columns.status, said % 8)
    np.testing.assert_array_equal(columns.reason, said % 10)
    assert len(set(columns.seq.tolist())) == N_SYMBOLS


def test_a_killed_writer_is_seen_within_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "board"
    with running(WRITER, path, str(N_SYMBOLS), "0.2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        with Board(path) as board:
            process.kill()
            process.wait()
            died = time.monotonic()
            with pytest.raises(StaleBoardError) as caught:
                read_until(died + PATIENCE_S, board)
            # Until the bound it reads, or spins on a turn that was cut in half.
            assert caught.value.age_s >= board.heartbeat_bound_s
            assert not board.is_alive


def read_until(deadline: float, board: Board) -> None:
    while time.monotonic() < deadline:
        board["S0000"]


def settings(folder: Path, bound_s: float = PATIENCE_S) -> SidecarConfig:
    return parse_config(CONFIG.format(folder=folder, bound_s=bound_s))


@pytest.mark.anyio
async def test_a_sidecar_keeps_its_board_while_it_runs(tmp_path: Path) -> None:
    stop, listening = anyio.Event(), anyio.Event()

    def on_listening(_: Address) -> None:
        listening.set()

    async with anyio.create_task_group() as tasks:
        config = settings(tmp_path)
        tasks.start_soon(lambda: serve(config, stop, on_listening=on_listening))
        await listening.wait()
        with Board(tmp_path / "board") as board:
            assert board.factors == ("market",)
            assert board.read("AAPL") is None
            address = config.server.address
            async with (
                connect(address) as client,
                connect(address, name="feed", role=Role.FEED) as feed,
            ):
                updates = client.subscribe("beta.market.AAPL")
                await updates.wait_joined()
                for ts_event, market in enumerate([0.01, -0.02, 0.015, 0.005], 1):
                    opening = BenchmarkReturnObserved(
                        benchmark="SPY", ts_event=ts_event, period_return=market
                    )
                    await feed.publish(opening)
                    await feed.publish(
                        ReturnObserved(
                            symbol="AAPL", ts_event=ts_event, period_return=2 * market
                        )
                    )
                    # Whoever was sent an update finds it on the board.
                    update = await anext(updates)
                    assert board.read("AAPL") == update
                assert board["AAPL"] == pytest.approx(2.0)
                assert np.isnan(board["MSFT"])
            before = board.heartbeat_age_s
            await eventually(lambda: board.heartbeat_age_s < before)
            stop.set()
            await eventually(lambda: not board.is_alive)
            with pytest.raises(StaleBoardError, match="closed by its writer"):
                board["AAPL"]
    assert not (tmp_path / "board").exists()


def test_the_command_prints_every_row_and_says_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "board"
    with running(WRITER, path, str(N_SYMBOLS), str(PATIENCE_S)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        shown = command("board", path)
        assert shown.returncode == 0, shown.stderr
        lines = shown.stdout.splitlines()
        assert lines[0].startswith("instance hammer, factors market, heartbeat 0.")
        assert lines[1].split()[:3] == ["ts_event", "symbol", "beta"]
        assert [line.split()[1] for line in lines[2:]] == [
            f"S{i:04d}" for i in range(N_SYMBOLS)
        ]

    def monotonic(_: LiveClock) -> float:
        return time.monotonic() + 2 * PATIENCE_S

    monkeypatch.setattr(LiveClock, "monotonic", monotonic)
    dead = command("board", path)
    assert (dead.returncode, dead.stdout) == (1, "")
    assert "dead writer" in dead.stderr
    missing = command("board", tmp_path / "none")
    assert missing.returncode == 2
    assert "no such file" in missing.stderr
