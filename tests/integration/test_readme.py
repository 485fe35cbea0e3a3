"""The README's blocks run as they stand."""

import asyncio
import re
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import cast

import anyio
import pytest

from beta_factory import (
    BenchmarkReturnObserved,
    Factor,
    MarketBetaConfig,
    ReturnObserved,
    Role,
    connect,
)
from beta_factory.runtime.config import ServerConfig, SidecarConfig
from beta_factory.runtime.sidecar import serve

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", [b for b in BLOCKS if "async " not in b])
def test_a_block_runs_and_prints_what_its_comment_says(
    block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(block, str(README), "exec"), {})
    printed = capsys.readouterr().out.split()
    expected = re.findall(r"print\(.*\)  # (.*)", block)[0].split()
    assert printed == expected


def test_the_strategy_of_the_readme_sees_its_betas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [b for b in BLOCKS if "async for" in b]
    assert len(block.strip().splitlines()) == 5
    socket = f"unix://{tmp_path}/s.sock"
    assert "unix:///tmp/beta-factory.sock" in block
    body = block.replace("unix:///tmp/beta-factory.sock", socket)
    source = "async def strategy():\n" + textwrap.indent(body, "    ")
    namespace: dict[str, object] = {}
    exec(compile(source, str(README), "exec"), namespace)
    config = SidecarConfig(
        symbols=("AAPL",),
        server=ServerConfig(address=socket),
        factors=(Factor("SPY", model=MarketBetaConfig(10, 3)),),
    )

    async def feed(stop: anyio.Event) -> None:
        async with connect(socket, role=Role.FEED) as client:
            for ts, (market, asset) in enumerate([(1, 2), (-1, -2), (2, 4)]):
                await client.publish(
                    [
                        BenchmarkReturnObserved(
                            benchmark="SPY", ts_event=ts, period_return=market / 100
                        ),
                        ReturnObserved(
                            symbol="AAPL", ts_event=ts, period_return=asset / 100
                        ),
                    ]
                )
            await client.flush()
        stop.set()

    async def main() -> None:
        stop = anyio.Event()
        listening = anyio.Event()
        strategy = cast(
            "Callable[[], Coroutine[None, None, None]]", namespace["strategy"]
        )
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(
                serve(config, stop, on_listening=lambda _: listening.set())
            )
            await listening.wait()
            watching = tasks.create_task(strategy())
            await feed(stop)
            await watching

    asyncio.run(main())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[0] == "AAPL"
    assert float(lines[-1].split()[1]) == pytest.approx(2.0)
    assert lines[-1].endswith("OK")
