"""Measure what an update costs, and print it as a table with the machine line.

Every number is for window 390 and full statistics, and names its frame format. Rounds
of all sizes are interleaved, the minimum over rounds is the cost, the spread says how
far to trust it: these are shared machines.
"""

import argparse
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import uvloop
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from beta_factory import (
    BenchmarkReturnObserved,
    BetaFactory,
    MarketBetaConfig,
    ReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
    connect,
)
from beta_factory.actors import BetaColumns, BetaRows
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import Encoding, Message, decode_payloads, encode
from beta_factory.runtime.clock import LiveClock
from beta_factory.runtime.framing import FrameReader, frame
from beta_factory.runtime.memory import keep_freed_memory
from beta_factory.runtime.subscriber import EncodedUpdates
from beta_factory.runtime.system import System

WINDOW = 390
MIN_OBSERVATIONS = 60
READ_BYTES = 65_536
"""What one read of a busy Unix socket brings."""


class Pipeline:
    """Bytes in, bytes out: what one connection's turn does, without the socket."""

    def __init__(self, n_symbols: int, encoding: Encoding) -> None:
        self.symbols = tuple(f"S{i:05d}" for i in range(n_symbols))
        self.factory = BetaFactory(
            self.symbols,
            benchmark="SPY",
            config=MarketBetaConfig(WINDOW, MIN_OBSERVATIONS),
        )
        self.n_bytes = 0
        self._encoding = encoding
        self._everything = np.ones(n_symbols, dtype=np.bool_)
        self._reader = FrameReader()
        self._tables = SymbolTables(self.factory.row_of)
        self._system = System(
            self.factory,
            LiveClock(),
            call_later=lambda _delay, _callback: None,
            call_soon=lambda _callback: None,
            on_updates=self._publish,
        )
        self._system.start()
        self.turn(frame(encode(SymbolsDeclared(table=1, symbols=self.symbols))))

    def turn(self, data: bytes) -> None:
        """One read: decode, route, pair, compute, encode."""
        messages: list[Message] = []
        decode_payloads(self._reader.feed(data), messages)
        taken = self._system.take_all(messages, self._tables)
        for message in messages[taken:]:  # a declared table
            self._system.take(message, self._tables)
        self._system.end_turn()

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            encoded = EncodedUpdates(updates, 0)
            self.n_bytes += len(encoded.encoded(self._encoding, self._everything))


class Market:
    """Bars of a random market, as frames."""

    def __init__(self, symbols: tuple[str, ...], missing: float = 0.0) -> None:
        self._symbols = symbols
        self._missing = missing
        self._rng = np.random.default_rng(1)
        self._ts_event = 0

    def benchmark(self) -> BenchmarkReturnObserved:
        """Open the next bar."""
        self._ts_event += 1
        return BenchmarkReturnObserved(
            benchmark="SPY",
            ts_event=self._ts_event,
            period_return=float(self._rng.normal() * 1e-3),
        )

    def returns(self) -> NDArray[np.float64]:
        """Return one bar of the assets."""
        values = self._rng.normal(size=len(self._symbols)) * 1e-3
        if self._missing:
            values[self._rng.random(len(values)) < self._missing] = np.nan
        return values

    def columns(self) -> bytes:
        """Return the assets' returns of the newest bar as one columnar frame."""
        message = ReturnsObserved(
            ts_event=self._ts_event, symbols=1, period_returns=self.returns().tobytes()
        )
        return frame(encode(message))

    def singles(self) -> list[bytes]:
        """Return the assets' returns of the newest bar, one frame each."""
        return [
            frame(
                encode(
                    ReturnObserved(
                        symbol=symbol, ts_event=self._ts_event, period_return=value
                    )
                )
            )
            for symbol, value in zip(
                self._symbols, self.returns().tolist(), strict=True
            )
        ]


def warm(pipeline: Pipeline, market: Market) -> None:
    """Fill the windows."""
    for _ in range(WINDOW + 10):
        pipeline.turn(frame(encode(market.benchmark())))
        pipeline.turn(market.columns())


def timed(pipeline: Pipeline, reads: list[bytes]) -> float:
    """Return the nanoseconds that a pipeline takes for some reads."""
    started = time.perf_counter_ns()
    for read in reads:
        pipeline.turn(read)
    return float(time.perf_counter_ns() - started)


def single_round(pipeline: Pipeline, market: Market, n_bars: int) -> float:
    """Return ns per update of single-message frames, benchmark first."""
    spent = 0.0
    for _ in range(n_bars):
        stream = frame(encode(market.benchmark())) + b"".join(market.singles())
        reads = [stream[i : i + READ_BYTES] for i in range(0, len(stream), READ_BYTES)]
        spent += timed(pipeline, reads)
    return spent / (n_bars * len(pipeline.symbols))


def columns_round(pipeline: Pipeline, market: Market, n_bars: int) -> list[float]:
    """Return ns per bar of columnar frames in and out, benchmark first."""
    bars: list[float] = []
    for _ in range(n_bars):
        data = frame(encode(market.benchmark())) + market.columns()
        bars.append(timed(pipeline, [data]))
    return bars


def fan_out_round(pipeline: Pipeline, market: Market, n_bars: int) -> list[float]:
    """Return ns from the benchmark's frame to all betas encoded, assets first."""
    bars: list[float] = []
    for _ in range(n_bars):
        opening = frame(encode(market.benchmark()))
        pipeline.turn(market.columns())
        bars.append(timed(pipeline, [opening]))
    return bars


def idle_round(pipeline: Pipeline, market: Market, n_ticks: int) -> list[float]:
    """Return ns from one asset's frame to its beta encoded, on a quiet system."""
    ticks: list[float] = []
    for _ in range(n_ticks):
        pipeline.turn(frame(encode(market.benchmark())))
        tick = market.singles()[0]
        ticks.append(timed(pipeline, [tick]))
    return ticks


def bytes_per_symbol(n_symbols: int) -> float:
    """Return what a symbol adds to the memory of a warm system."""
    gc.collect()
    tracemalloc.start()
    pipeline = Pipeline(n_symbols, Encoding.COLUMNS)
    warm(pipeline, Market(pipeline.symbols))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / n_symbols


async def socket_round_trips(n_symbols: int, n_ticks: int) -> list[float]:
    """Return ns from a tick's write to its beta's arrival, through a real sidecar."""
    with tempfile.TemporaryDirectory(prefix="beta-factory-") as folder:
        address = f"unix://{folder}/bench.sock"
        symbols = [f"S{i:05d}" for i in range(n_symbols)]
        config = Path(folder) / "bench.toml"
        config.write_text(
            f"symbols = {symbols}\n[server]\naddress = '{address}'\n"
            f"[factors.market]\nbenchmark = 'SPY'\nlookback_length = {WINDOW}\n"
            f"min_observations = {MIN_OBSERVATIONS}\n"
        )
        command = [sys.executable, "-m", "beta_factory", "run", "--config", str(config)]
        sidecar = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            async with connect(address, name="bench") as client:
                market = Market(tuple(symbols))
                updates = client.subscribe(f"beta.market.{symbols[0]}")
                await updates.wait_joined()
                trips: list[float] = []
                for _ in range(n_ticks):
                    opening = market.benchmark()
                    await client.publish(opening)
                    await client.flush()
                    tick = ReturnObserved(
                        symbol=symbols[0], ts_event=opening.ts_event, period_return=0.01
                    )
                    started = time.perf_counter_ns()
                    await client.publish(tick)
                    await anext(updates)
                    trips.append(float(time.perf_counter_ns() - started))
                return trips
        finally:
            sidecar.terminate()
            sidecar.wait()


def machine_line() -> str:
    """Return what this ran on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )


def percentile(values: list[float], q: float) -> float:
    """Return a percentile of measured values."""
    return float(np.percentile(values, q))


def measure(sizes: list[int], rounds: int) -> Table:
    """Return the table of all sizes."""
    pipelines = {
        (n, encoding): Pipeline(n, encoding) for n in sizes for encoding in Encoding
    }
    markets = {key: Market(p.symbols) for key, p in pipelines.items()}
    for key, pipeline in pipelines.items():
        warm(pipeline, markets[key])
    single: dict[tuple[int, Encoding], list[float]] = {key: [] for key in pipelines}
    columns: dict[int, list[float]] = {n: [] for n in sizes}
    fan_out: dict[int, list[float]] = {n: [] for n in sizes}
    idle: dict[int, list[float]] = {n: [] for n in sizes}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for (n, encoding), pipeline in pipelines.items():
            market = markets[n, encoding]
            n_bars = max(2, 4000 // n)
            single[n, encoding].append(single_round(pipeline, market, n_bars))
        for n in sizes:
            key = (n, Encoding.COLUMNS)
            columns[n] += columns_round(pipelines[key], markets[key], 30)
            fan_out[n] += fan_out_round(pipelines[key], markets[key], 30)
            key = (n, Encoding.ROWS)
            if n <= 1000:  # noqa: PLR2004 - making the frames of a bar dominates
                idle[n] += idle_round(pipelines[key], markets[key], 20)
    table = Table(
        title=f"window {WINDOW}, full statistics, minimum over {rounds} rounds"
    )
    for name in (
        "symbols",
        "single in, rows out\nns/update",
        "single in, columns out\nns/update",
        "columns both ways\nns/update (p50)",
        "bar -> all betas\nus p50 / p99",
        "idle tick -> beta\nus p50",
        "KiB/symbol",
    ):
        table.add_column(name, justify="right")
    for n in sizes:
        table.add_row(
            f"{n:,}",
            f"{min(single[n, Encoding.ROWS]):,.0f}",
            f"{min(single[n, Encoding.COLUMNS]):,.0f}",
            f"{min(columns[n]) / n:,.1f} ({percentile(columns[n], 50) / n:,.1f})",
            f"{percentile(fan_out[n], 50) / 1e3:,.0f} / "
            f"{percentile(fan_out[n], 99) / 1e3:,.0f}",
            f"{percentile(idle[n], 50) / 1e3:,.1f}" if idle[n] else "",
            f"{bytes_per_symbol(n) / 1024:,.1f}",
        )
    return table


def main() -> None:
    """Print the table."""
    keep_freed_memory()  # as the sidecar does
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000, 5000])
    parser.add_argument("--ticks", type=int, default=2000, help="over the socket")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=120)  # a table is no use wrapped
    console.print(machine_line())
    console.print(measure(arguments.sizes, arguments.rounds))
    trips = uvloop.run(socket_round_trips(100, arguments.ticks))
    one_way = [trip / 2 for trip in trips]
    console.print(
        "Unix socket, tick -> beta at the client, half the round trip "
        "(100 symbols, single frames, rows): "
        f"p50 {percentile(one_way, 50) / 1e3:.1f} us, "
        f"p99 {percentile(one_way, 99) / 1e3:.1f} us, "
        f"spread {statistics.stdev(one_way) / 1e3:.1f} us"
    )


if __name__ == "__main__":
    main()
