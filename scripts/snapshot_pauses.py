#!/usr/bin/env python3
"""Measure how long a sidecar's loop stands still, with and without snapshots.

    scripts/snapshot_pauses.py                5,000 symbols, windows of 390 bars
    scripts/snapshot_pauses.py --symbols 500 --rounds 1 --seconds 2 --untimed

A real sidecar runs in this process, with a store, and a feed in another one sends it
columnar bars. A meter asks the loop to call it every millisecond; how much later than
that it is called is a pause. Rounds of three kinds take turns: without snapshots,
without them but beside a process that is as busy as one that takes them and knows
nothing of the sidecar, and with a snapshot every half second. Each pause is measured
three times:

* elapsed: by the clock, with whatever else this machine does meanwhile;
* kept: without the time for which the loop's thread was ready and no processor free, as
  the kernel counts it. What is left is the loop's own work, its waits for the
  interpreter's lock, for a disk or a page of memory, and what a hypervisor takes away;
* worked: the processor time of the loop's thread alone.

The first two mean something only beside the rounds without snapshots. It exits with 1
where the loop did more than 5 ms of work in one piece while snapshots were taken, and
more than it ever did without, or where none were taken.
"""

import argparse
import asyncio
import select
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import (
    BAR_NS,
    FIRST_NS,
    Raw,
    RunQueue,
    Worker,
    quantile,
    say,
)
from beta_factory import Factor, MarketBetaConfig
from beta_factory.messages import (
    Acknowledged,
    BenchmarkReturnObserved,
    ReturnsObserved,
    Role,
    SymbolsDeclared,
    encode,
)
from beta_factory.runtime.config import ServerConfig, SidecarConfig, StoreConfig
from beta_factory.runtime.durability import Durability
from beta_factory.runtime.framing import frame
from beta_factory.runtime.memory import keep_freed_memory, settle_objects
from beta_factory.runtime.sidecar import serve
from beta_factory.runtime.snapshotter import NICENESS

TICK_S: Final = 0.001
BOUND_MS: Final = 5.0
SNAPSHOT_EVERY_S: Final = 0.5
NEVER_S: Final = 3600.0
BARS_PER_S: Final = 20.0
LOOKBACK: Final = 390


@dataclass
class Pauses:
    """What the meter saw in the rounds of one kind, in milliseconds."""

    elapsed: list[float] = field(default_factory=list[float])
    kept: list[float] = field(default_factory=list[float])
    worked: list[float] = field(default_factory=list[float])
    n_snapshots: int = 0


class Meter:
    """Is called every tick, and writes down how much later than that it was.

    Parameters
    ----------
    pauses
        Where to.
    """

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._loop = asyncio.get_running_loop()
        self._is_running = True
        self._queue = RunQueue()
        self._schedule()

    def stop(self) -> None:
        """Measure no more."""
        self._is_running = False

    def _schedule(self) -> None:
        self._due = time.perf_counter() + TICK_S
        self._worked = time.thread_time()
        self._waited = self._queue.waited_s
        self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        if self._is_running:
            worked_s = time.thread_time() - self._worked
            late_s = time.perf_counter() - self._due
            waited_s = self._queue.waited_s - self._waited
            self._pauses.elapsed.append(1e3 * late_s)
            self._pauses.kept.append(1e3 * max(late_s - waited_s, 0.0))
            self._pauses.worked.append(1e3 * worked_s)
            self._schedule()


async def feed(address: str, n_symbols: int, n_bars: int, seconds: float) -> int:
    """Fill the windows as fast as they are acknowledged, then send bars steadily."""
    symbols = tuple(f"S{i:05d}" for i in range(n_symbols))
    peer = await Raw.dial(address, "feed", Role.FEED)
    peer.writer.write(frame(encode(SymbolsDeclared(table=1, symbols=symbols))))
    rng = np.random.default_rng(1)
    number = n_acknowledged = 0
    full, changed = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        nonlocal n_acknowledged
        while (messages := await peer.receive()) is not None:
            for message in messages:
                if isinstance(message, Acknowledged):
                    n_acknowledged = message.seq
                    changed.set()

    async def send() -> None:
        nonlocal number
        number += 1
        stamp = FIRST_NS + number * BAR_NS
        x = float(rng.normal()) * 1e-3
        returns = 1.2 * x + rng.normal(size=n_symbols) * 1e-3
        bench = BenchmarkReturnObserved(
            benchmark="SPY", ts_event=stamp, period_return=x, seq=2 * number - 1
        )
        columns = ReturnsObserved(
            ts_event=stamp, symbols=1, period_returns=returns.tobytes(), seq=2 * number
        )
        peer.writer.write(frame(encode(bench)) + frame(encode(columns)))
        await peer.writer.drain()

    listening = asyncio.create_task(listen())
    while number < n_bars:
        await send()
    while n_acknowledged < 2 * number:
        changed.clear()
        await changed.wait()
    full.set()
    say("full")
    started, n_sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        if elapsed * BARS_PER_S > n_sent:
            await send()
            n_sent += 1
        await asyncio.sleep(0.002)
    say(n_sent)
    listening.cancel()
    peer.writer.close()
    return 0


def work() -> int:
    """Be as busy as a process that takes snapshots, until told otherwise."""
    array = np.zeros(LOOKBACK * 5000)
    while not select.select([sys.stdin], [], [], 0)[0]:
        array += 1.0
    return 0


async def measure(
    options: argparse.Namespace, interval_s: float, pauses: Pauses
) -> None:
    """Run one round: a sidecar, its windows full, and a steady feed."""
    with TemporaryDirectory(prefix="beta-factory-") as folder:
        config = SidecarConfig(
            symbols=tuple(f"S{i:05d}" for i in range(options.symbols)),
            server=ServerConfig(address=f"{folder}/sidecar.sock"),
            store=StoreConfig(
                path=f"{folder}/store.sqlite",
                policy=Durability.OS,
                snapshot_interval_s=interval_s,
            ),
            factors=(Factor("SPY", model=MarketBetaConfig(LOOKBACK, 60)),),
        )
        stop, listening = anyio.Event(), anyio.Event()
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())

            async def run() -> None:
                summary = await serve(
                    config, stop, on_listening=lambda _: listening.set()
                )
                if summary.store is not None:
                    pauses.n_snapshots += summary.store.snapshot > 0

            tasks.start_soon(run)
            await listening.wait()
            settle_objects()
            worker = Worker(
                __file__,
                "feed",
                address=config.server.address,
                symbols=options.symbols,
                bars=LOOKBACK + 10,
                seconds=options.seconds,
            )
            await worker.line()
            meter = Meter(pauses)
            await worker.line()
            meter.stop()
            await worker.end()
            stop.set()


def show(name: str, pauses: Pauses) -> None:
    """Print what the meter saw."""
    for kind, values in (
        ("elapsed", pauses.elapsed),
        ("kept", pauses.kept),
        ("worked", pauses.worked),
    ):
        over = sum(value > BOUND_MS for value in values)
        print(
            f"{name:<10} {kind:<8} {len(values):>7,} ticks  p50 "
            f"{quantile(values, 0.5):6.3f}  p99 {quantile(values, 0.99):6.2f}  p99.9 "
            f"{quantile(values, 0.999):6.2f}  longest {max(values):6.2f} ms  "
            f"over {BOUND_MS:g} ms: {over} ({1e3 * over / len(values):.2f} per 1,000)"
        )


async def pauses(options: argparse.Namespace) -> int:
    """Run the rounds, print them, and judge."""
    bare, busy, beside = Pauses(), Pauses(), Pauses()
    for _ in range(options.rounds):
        await measure(options, NEVER_S, bare)
        worker = Worker(__file__, "work", niceness=NICENESS)
        await measure(options, NEVER_S, busy)
        worker.tell("enough")
        await worker.end()
        await measure(options, SNAPSHOT_EVERY_S, beside)
    show("bare", bare)
    show("busy", busy)
    show("snapshots", beside)
    failures: list[str] = []
    if not beside.n_snapshots:
        failures.append("no snapshot was taken")
    longest = max(beside.worked)
    without = max(BOUND_MS, *bare.worked, *busy.worked)
    if longest > without and not options.untimed:
        failures.append(f"the loop worked {longest:.1f} ms in one piece")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program, or its feed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "role", nargs="?", default="measure", choices=["measure", "feed", "work"]
    )
    parser.add_argument("--symbols", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--untimed", action="store_true", help="judge no times")
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    parser.add_argument("--bars", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role == "feed":
        return uvloop.run(
            feed(options.address, options.symbols, options.bars, options.seconds)
        )
    if options.role == "work":
        return work()
    keep_freed_memory()
    return uvloop.run(pauses(options))


if __name__ == "__main__":
    sys.exit(main())
