"""Measure the bridge: prices a second from qmtl to a sidecar and back, and whose time.

Everything is real: qmtl's nodes and pipeline, a sidecar process, a Unix socket. What is
*ours* is the CPU time above that of the same shape made of qmtl's own nodes, which
compute nothing and send nothing: of the strategy's thread, and with the sink's thread.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # as docs/qmtl.md advises

from beta_factory.qmtl import (
    BetaFeed,
    BetaInput,
    BetaSink,
    Tick,
    UniverseBetas,
    UniversePrices,
    asset_return_node,
    benchmark_return_node,
    beta_sink_node,
    isolated_qmtl,
    run_live,
)
from beta_factory.runtime.qmtl_bridge.sdk import (
    Node,
    Pipeline,
    ProcessingNode,
    Strategy,
    StreamInput,
)

SIZES = (10, 100, 1000)
PRICES_PER_NODE_PATH = 3_000
BARS_OF_BATCH_PATH = 300
BARS_OF_ROUND_TRIP = 200
MINUTE = 60
BENCHMARK = "SPY"
ROUNDS = 3
"""The best of so many counts: these are shared machines."""

LARGE = 1000
"""From here on there is one round: it takes a minute to make so many nodes."""

SIDECAR = """\
symbols = [{symbols}]
[server]
address = "unix://{folder}/beta.sock"
[factors.market]
benchmark = "SPY"
lookback_length = 390
min_observations = 60
"""


class Rate(NamedTuple):
    """What a path carried."""

    prices_per_s: float
    baseline_per_s: float
    our_share: float
    """Part of the strategy's thread's time."""
    our_share_of_all: float
    """Part of the process's time, the sink's thread included."""


class Cost(NamedTuple):
    """Seconds that something took."""

    wall: float
    thread: float
    process: float


def best(costs: list[Cost]) -> Cost:
    """Return the least of each, over rounds."""
    return Cost(*(min(column) for column in zip(*costs, strict=True)))


def rate(n_prices: int, ours: list[Cost], theirs: list[Cost]) -> Rate:
    """Compare two ways of carrying so many prices."""
    a, b = best(ours), best(theirs)
    return Rate(
        n_prices / a.wall,
        n_prices / b.wall,
        1.0 - b.thread / a.thread,
        1.0 - b.process / a.process,
    )


def universe(n_symbols: int) -> tuple[str, ...]:
    """Return so many names."""
    return tuple(f"S{i:04d}" for i in range(n_symbols))


@contextmanager
def sidecar(symbols: tuple[str, ...]) -> Generator[str]:
    """Run a sidecar process; yield its address once it listens."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "beta-factory.toml")
        listed = ", ".join(f'"{symbol}"' for symbol in symbols)
        config.write_text(SIDECAR.format(symbols=listed, folder=folder))
        command = [sys.executable, "-m", "beta_factory", "run", "--config", str(config)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                for line in process.stderr or ():
                    if "listening at" in line:
                        break
                yield f"unix://{folder}/beta.sock"
            finally:
                process.terminate()


def closes(n_bars: int, n_symbols: int) -> NDArray[np.float64]:
    """Return prices, shape (n_bars, n_symbols + 1), the benchmark first."""
    rng = np.random.default_rng(1)
    steps = 1.0 + rng.normal(size=(n_bars, n_symbols + 1)) * 1e-3
    return np.multiply.accumulate(steps, axis=0, dtype=np.float64)


class NoOp:
    """An ``event_service`` that does nothing."""

    def record(self, *event: object) -> None:
        """Do nothing."""


def price_input(symbol: str, **options: Any) -> StreamInput:  # noqa: ANN401
    """Return a minute input."""
    return StreamInput(interval=MINUTE, period=2, config={"symbol": symbol}, **options)


def our_nodes(symbol: str, sink: BetaSink) -> list[Node]:
    """Price, return and sink of one symbol."""
    price = price_input(symbol)
    make = benchmark_return_node if symbol == BENCHMARK else asset_return_node
    returns = make(price, symbol=symbol)
    return [price, returns, beta_sink_node(returns, sink)]


def their_nodes(symbol: str) -> list[Node]:
    """Return the same shape of qmtl's own nodes."""
    price = price_input(symbol)

    def echo(view: Any) -> Any:  # noqa: ANN401 - a view
        return view[price][MINUTE][-1][1]

    node = ProcessingNode(
        input=price,
        compute_fn=echo,
        name=f"echo_{symbol}",
        interval=MINUTE,
        period=1,
        config={"symbol": symbol},
    )
    tap = ProcessingNode(
        input=node,
        name=f"tap_{symbol}",
        interval=MINUTE,
        period=1,
        config={"tap": symbol},
        event_service=NoOp(),
    )
    return [price, node, tap]


def timed(
    nodes: list[Node],
    bars: list[list[tuple[Node, Any]]],
    sink: BetaSink | None = None,
) -> Cost:
    """Feed bars; return what that took, the process's time until all is delivered."""
    # qmtl sums over all nodes that it has ever seen, those of earlier rounds included
    import_module("qmtl.runtime.sdk.metrics").reset_metrics()
    pipeline = Pipeline(nodes)
    started = time.perf_counter(), time.thread_time(), time.process_time()
    for bar, payloads in enumerate(bars):
        for node, payload in payloads:
            pipeline.feed(node, MINUTE * (bar + 1), payload)
    wall = time.perf_counter() - started[0]
    thread = time.thread_time() - started[1]
    if sink is not None and not sink.drain(60.0):
        sys.exit("bench_qmtl: the sidecar did not take everything in")
    return Cost(wall, thread, time.process_time() - started[2])


def per_node(n_symbols: int, address: str) -> Rate:
    """Feed one node per price."""
    symbols = (BENCHMARK, *universe(n_symbols))
    n_bars = max(3, PRICES_PER_NODE_PATH // len(symbols))
    prices = closes(n_bars, n_symbols)

    def run(make: Callable[[str], list[Node]], sink: BetaSink | None = None) -> Cost:
        groups = [make(symbol) for symbol in symbols]
        bars = [
            [
                (group[0], {"close": float(price)})
                for group, price in zip(groups, row, strict=True)
            ]
            for row in prices
        ]
        return timed([node for group in groups for node in group], bars, sink)

    ours: list[Cost] = []
    theirs: list[Cost] = []
    for _ in range(1 if n_symbols >= LARGE else ROUNDS):
        with BetaSink(address) as sink:
            ours.append(run(partial(our_nodes, sink=sink), sink))
        theirs.append(run(their_nodes))
    return rate(prices.size, ours, theirs)


def batch(n_symbols: int, address: str) -> Rate:
    """Feed one input with all prices of a bar."""
    symbols = universe(n_symbols)
    prices = closes(BARS_OF_BATCH_PATH, n_symbols)
    rows = [
        dict(zip((BENCHMARK, *symbols), row.tolist(), strict=True)) for row in prices
    ]
    ours: list[Cost] = []
    theirs: list[Cost] = []
    for _ in range(ROUNDS):
        with BetaSink(address) as sink:
            node: StreamInput = UniversePrices(
                symbols, benchmark=BENCHMARK, sink=sink, interval=MINUTE, period=2
            )
            ours.append(timed([node], [[(node, row)] for row in rows], sink))
        bare = price_input("all", event_service=NoOp())
        theirs.append(timed([bare], [[(bare, row)] for row in rows]))
    return rate(prices.size, ours, theirs)


class Idle(Strategy):
    """A strategy of given nodes."""

    def setup(self) -> None:
        """Do nothing: the nodes are added from outside."""


async def there_and_back(
    n_symbols: int, address: str, *, is_batch: bool
) -> tuple[float, float]:
    """Return (prices a second to the last beta in a view, betas a second)."""
    symbols = universe(n_symbols)
    n_bars = (
        BARS_OF_BATCH_PATH
        if is_batch
        else max(3, PRICES_PER_NODE_PATH // (n_symbols + 1))
    )
    prices = closes(n_bars, n_symbols)
    strategy = Idle()
    with BetaSink(address) as sink:
        inputs: list[BetaInput | UniverseBetas]
        groups: list[list[Node]] = []
        everything: StreamInput | None = None
        if is_batch:
            everything = UniversePrices(
                symbols, benchmark=BENCHMARK, sink=sink, interval=MINUTE, period=2
            )
            inputs = [UniverseBetas(symbols, interval=MINUTE, period=2)]
            strategy.add_nodes([everything, *inputs])
        else:
            groups = [our_nodes(symbol, sink) for symbol in (BENCHMARK, *symbols)]
            inputs = [BetaInput(s, interval=MINUTE, period=2) for s in symbols]
            strategy.add_nodes([*groups, inputs])
        back = BetaFeed(inputs, address)

        async def feed() -> AsyncIterator[Tick]:
            await back.wait_joined()
            for bar, row in enumerate(prices):
                ts = MINUTE * (bar + 1)
                if everything is not None:
                    names = (BENCHMARK, *symbols)
                    payload = dict(zip(names, row.tolist(), strict=True))
                    yield Tick(everything, ts, payload)
                    continue
                for group, price in zip(groups, row.tolist(), strict=True):
                    node = group[0]
                    assert isinstance(node, StreamInput)  # noqa: S101 - as made above
                    yield Tick(node, ts, {"close": price})

        started = time.perf_counter()
        summary = await run_live(
            strategy,
            [feed(), back],
            "bench",
            sinks=[sink],
            warm_up=False,
            drain_timeout_s=60.0,
        )
        elapsed = time.perf_counter() - started
    return prices.size / elapsed, summary.n_updates / elapsed


async def round_trips(n_symbols: int, address: str) -> NDArray[np.float64]:
    """Return ms from a bar of prices in qmtl to its last beta, bar by bar."""
    symbols = universe(n_symbols)
    prices = closes(BARS_OF_ROUND_TRIP, n_symbols)
    trips: list[float] = []
    with BetaSink(address) as sink:
        node = UniversePrices(
            symbols, benchmark=BENCHMARK, sink=sink, interval=MINUTE, period=2
        )
        back = BetaFeed([UniverseBetas(symbols, interval=MINUTE, period=2)], address)
        pipeline = Pipeline([node])
        arrived: asyncio.Queue[int] = asyncio.Queue(n_symbols)

        async def follow() -> None:
            async for tick in back:
                await arrived.put(len(tick.payload))

        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow())
            await back.wait_joined()
            for bar, row in enumerate(prices):
                payload = dict(zip((BENCHMARK, *symbols), row.tolist(), strict=True))
                started = time.perf_counter()
                pipeline.feed(node, MINUTE * (bar + 1), payload)
                n_betas = 0 if bar else n_symbols  # a first price has no return
                while n_betas < n_symbols:  # a bar may come in parts
                    n_betas += await arrived.get()
                trips.append(time.perf_counter() - started)
            following.cancel()
    return np.array(trips[1:]) * 1e3


def measure(sizes: tuple[int, ...]) -> Table:
    """Measure every size."""
    table = Table(title=f"qmtl to sidecar and back, best of {ROUNDS}")
    for name in (
        "symbols",
        "path",
        "to the sink\nprices/s",
        "qmtl's own nodes\nprices/s",
        "ours, of CPU\nthread / all",
        "and back\nprices/s",
        "round trip of a bar\nms p50 / p99",
    ):
        table.add_column(name, justify="right")
    for n_symbols in sizes:
        for is_batch in (False, True):
            rate_of = batch if is_batch else per_node
            with sidecar(universe(n_symbols)) as address:
                carried = rate_of(n_symbols, address)
            with sidecar(universe(n_symbols)) as address:
                returned, _ = asyncio.run(
                    there_and_back(n_symbols, address, is_batch=is_batch)
                )
            trip = ""
            if is_batch:
                with sidecar(universe(n_symbols)) as address:
                    trips = asyncio.run(round_trips(n_symbols, address))
                p50, p99 = np.percentile(trips, [50, 99])
                trip = f"{p50:.2f} / {p99:.2f}"
            table.add_row(
                f"{n_symbols:,}",
                "batch" if is_batch else "node per symbol",
                f"{carried.prices_per_s:,.0f}",
                f"{carried.baseline_per_s:,.0f}",
                f"{carried.our_share:.0%} / {carried.our_share_of_all:.0%}",
                f"{returned:,.0f}",
                trip,
            )
    return table


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options = parser.parse_args(arguments)
    with isolated_qmtl():
        table = measure(tuple(options.sizes))
    Console(highlight=False, width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
