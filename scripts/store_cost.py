"""Measure what each `store.policy` costs: throughput, acknowledgements, pauses.

    scripts/store_cost.py --symbols 5000

For each policy a real sidecar process is fed over its socket. The table has

* returns/s: columnar bars as fast as they are acknowledged;
* single/s: the same with single returns;
* ack p50, p99: from one published return to its acknowledgement, one at a time;
* beta p50, p99, max: from one published return to its update at a subscriber, while
  snapshots are taken every second: the pauses of the loop are in it.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import numpy as np

from beta_factory import BenchmarkReturnObserved, ReturnObserved, Role, connect
from beta_factory.messages import ReturnsObserved, SymbolsDeclared
from beta_factory.runtime.client import BetaClient
from beta_factory.runtime.outgoing import Publishable

FIRST_NS: Final = 1_760_000_000 * 10**9

CONFIG: Final = """\
symbols = {symbols}
[server]
address = "unix://{folder}/sidecar.sock"
[store]
path = "{folder}/store.sqlite"
policy = "{policy}"
snapshot_interval_s = {interval_s}
[factors.market]
benchmark = "SPY"
lookback_length = 390
min_observations = 60
[log]
level = "ERROR"
"""


@asynccontextmanager
async def sidecar(
    policy: str, symbols: list[str], interval_s: float
) -> AsyncGenerator[str]:
    """Run a sidecar on a new store; give its address."""
    with tempfile.TemporaryDirectory(prefix="store-cost-", dir=Path.cwd()) as name:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(
            CONFIG.format(
                symbols=json.dumps(symbols),
                folder=folder,
                policy=policy,
                interval_s=interval_s,
            )
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "beta_factory", "run", "--config", str(config)),
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            yield f"unix://{folder}/sidecar.sock"
        finally:
            process.terminate()
            await process.wait()


class Feed:
    """Makes bars, one after the other."""

    def __init__(self, client: BetaClient, symbols: list[str]) -> None:
        self.client = client
        self.symbols = symbols
        self.n_bars = 0
        self._rng = np.random.default_rng(1)

    def opening(self) -> BenchmarkReturnObserved:
        """Open the next bar."""
        self.n_bars += 1
        ts = FIRST_NS + self.n_bars * 10**9
        value = float(self._rng.normal())
        return BenchmarkReturnObserved(
            benchmark="SPY", ts_event=ts, period_return=value
        )

    def columns(self) -> list[Publishable]:
        """Return a bar in columns."""
        opening = self.opening()
        values = self._rng.normal(size=len(self.symbols)).astype("<f8").tobytes()
        ts = opening.ts_event
        return [
            opening,
            ReturnsObserved(ts_event=ts, symbols=1, period_returns=values),
        ]

    def singles(self) -> list[Publishable]:
        """Return a bar as single returns."""
        opening = self.opening()
        values = self._rng.normal(size=len(self.symbols)).tolist()
        return [
            opening,
            *(
                ReturnObserved(symbol=s, ts_event=opening.ts_event, period_return=v)
                for s, v in zip(self.symbols, values, strict=True)
            ),
        ]

    async def rate(self, bars: list[list[Publishable]]) -> float:
        """Publish bars; return the returns per second until all are acknowledged."""
        started = time.perf_counter()
        for messages in bars:
            await self.client.publish(messages)
        await self.client.flush()
        return len(bars) * len(self.symbols) / (time.perf_counter() - started)

    async def acknowledgements(self, count: int) -> list[float]:
        """Return how long single returns wait for theirs, in seconds."""
        waits: list[float] = []
        opening = self.opening()
        await self.client.publish(opening)
        for number in range(count):
            if number and not number % len(self.symbols):
                opening = self.opening()
                await self.client.publish(opening)
                await self.client.flush()
            symbol = self.symbols[number % len(self.symbols)]
            started = time.perf_counter()
            await self.client.publish(
                ReturnObserved(
                    symbol=symbol, ts_event=opening.ts_event, period_return=0.01
                )
            )
            await self.client.flush()
            waits.append(time.perf_counter() - started)
        return waits

    async def betas(self, address: str, seconds: float) -> list[float]:
        """Return how long single returns wait for their betas, in seconds."""
        waits: list[float] = []
        async with connect(address, name="subscriber") as client:
            updates = client.subscribe("beta.>", snapshot=False)
            await client.watch("beta.market.none")
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                opening = self.opening()
                await self.client.publish(opening)
                for symbol in self.symbols[:200]:
                    message = ReturnObserved(
                        symbol=symbol, ts_event=opening.ts_event, period_return=0.01
                    )
                    started = time.perf_counter()
                    await self.client.publish(message)
                    await anext(updates)
                    waits.append(time.perf_counter() - started)
                    await asyncio.sleep(0.001)
        return waits


async def measure(policy: str, symbols: list[str]) -> str:
    """Return a policy's row."""
    async with (
        sidecar(policy, symbols, 3600.0) as address,
        connect(address, name="feed", role=Role.FEED, connect_timeout_s=30) as client,
    ):
        feed = Feed(client, symbols)
        await client.publish(SymbolsDeclared(table=1, symbols=tuple(symbols)))
        columns = await feed.rate([feed.columns() for _ in range(200)])
        singles = await feed.rate([feed.singles() for _ in range(20)])
        waits = np.array(await feed.acknowledgements(2000)) * 1e6
    async with (
        sidecar(policy, symbols, 1.0) as address,
        connect(address, name="feed", role=Role.FEED, connect_timeout_s=30) as client,
    ):
        feed = Feed(client, symbols)
        await client.publish(SymbolsDeclared(table=1, symbols=tuple(symbols)))
        await feed.rate([feed.columns() for _ in range(400)])  # windows are full
        betas = np.array(await feed.betas(address, 8.0)) * 1e6
    ack, beta = np.percentile(waits, [50, 99]), np.percentile(betas, [50, 99, 100])
    return (
        f"| `{policy}` | {columns:,.0f} | {singles:,.0f} | {ack[0]:,.0f} "
        f"| {ack[1]:,.0f} | {beta[0]:,.0f} | {beta[1]:,.0f} | {beta[2]:,.0f} |"
    )


async def run(n_symbols: int) -> None:
    """Print the table."""
    symbols = [f"S{i:04d}" for i in range(n_symbols)]
    heads = "returns/s", "single/s", "ack p50", "p99 us", "beta p50", "p99", "max us"
    print("| policy |", " | ".join(heads), "|")
    print("|---" * (1 + len(heads)) + "|")
    for policy in ("none", "os", "fsync"):
        print(await measure(policy, symbols), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--symbols", type=int, default=5000)
    asyncio.run(run(parser.parse_args().symbols))
