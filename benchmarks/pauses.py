"""How long a sidecar's loop stands still, with snapshots and without.

Rule: a real sidecar runs in this process, with a store, and a feed in another one sends
it columnar bars. A meter asks the loop to call it every millisecond; how much later
than that it is called is a pause. Rounds of three kinds take turns: without snapshots,
without them but beside a process that is as busy as one that takes them and knows
nothing of the sidecar, and with a snapshot every half second. Each pause is measured
three times:

* elapsed: by the clock, with whatever else this machine does meanwhile;
* kept: without the time for which the loop's thread was ready and no processor free, as
  the kernel counts it. What is left is the loop's own work, its waits for the
  interpreter's lock, for a disk or a page of memory, and what a hypervisor takes away;
* worked: the processor time of the loop's thread alone.

The first two mean something only beside the rounds without snapshots.
"""

import argparse
import asyncio
import select
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import BAR_NS, FIRST_NS, Raw, RunQueue, Worker, say
from benchmarks.market import MIN_OBSERVATIONS, WINDOW, names
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

BOUND_MS: Final = 5.0
"""So long may the loop stand still, and no longer."""
TICK_S: Final = 0.001
SNAPSHOT_EVERY_S: Final = 0.5
NEVER_S: Final = 3600.0
BARS_PER_S: Final = 20.0


class Kind(StrEnum):
    """What goes on beside the loop in a round."""

    BARE = "bare"
    BUSY = "busy"
    SNAPSHOTS = "snapshots"


@dataclass
class Pauses:
    """What the meter saw in the rounds of one kind, in milliseconds."""

    elapsed: list[float] = field(default_factory=list[float])
    kept: list[float] = field(default_factory=list[float])
    worked: list[float] = field(default_factory=list[float])
    n_rounds: int = 0
    n_rounds_with_snapshots: int = 0
    """Those in which at least one was taken and kept."""

    @property
    def by_clock(self) -> dict[str, list[float]]:
        """The pauses under the name of what they were measured with."""
        return {"elapsed": self.elapsed, "kept": self.kept, "worked": self.worked}


@dataclass(frozen=True)
class Load:
    """What a sidecar is given to do in each round."""

    n_symbols: int = 5000
    seconds: float = 10.0
    """For how long bars come once the windows are full."""


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
            late_s = max(time.perf_counter() - self._due, 0.0)
            waited_s = self._queue.waited_s - self._waited
            self._pauses.elapsed.append(1e3 * late_s)
            self._pauses.kept.append(1e3 * max(late_s - waited_s, 0.0))
            self._pauses.worked.append(1e3 * worked_s)
            self._schedule()


async def rounds(
    n_rounds: int, load: Load, kinds: Sequence[Kind] = tuple(Kind)
) -> dict[Kind, Pauses]:
    """Run rounds of some kinds in turn, each with a sidecar of its own."""
    seen = {kind: Pauses() for kind in kinds}
    for _ in range(n_rounds):
        for kind, pauses in seen.items():
            if kind is not Kind.BUSY:
                interval_s = SNAPSHOT_EVERY_S if kind is Kind.SNAPSHOTS else NEVER_S
                await _run(load, interval_s, pauses)
                continue
            worker = Worker(__file__, "work", niceness=NICENESS)
            await _run(load, NEVER_S, pauses)
            worker.tell("enough")
            await worker.end()
    return seen


async def _run(load: Load, interval_s: float, pauses: Pauses) -> None:
    # One round: a sidecar, its windows full, and a steady feed.
    with TemporaryDirectory(prefix="beta-factory-") as folder:
        config = SidecarConfig(
            symbols=names(load.n_symbols),
            server=ServerConfig(address=f"{folder}/sidecar.sock"),
            store=StoreConfig(
                path=f"{folder}/store.sqlite",
                policy=Durability.OS,
                snapshot_interval_s=interval_s,
            ),
            factors=(Factor("SPY", model=MarketBetaConfig(WINDOW, MIN_OBSERVATIONS)),),
        )
        stop, listening = anyio.Event(), anyio.Event()
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())

            async def run() -> None:
                summary = await serve(
                    config, stop, on_listening=lambda _: listening.set()
                )
                pauses.n_rounds += 1
                if summary.store is not None:
                    pauses.n_rounds_with_snapshots += summary.store.snapshot > 0

            tasks.start_soon(run)
            await listening.wait()
            settle_objects()
            worker = Worker(
                __file__,
                "feed",
                address=config.server.address,
                symbols=load.n_symbols,
                seconds=load.seconds,
            )
            await worker.line()
            meter = Meter(pauses)
            await worker.line()
            meter.stop()
            await worker.end()
            stop.set()


async def feed(address: str, load: Load) -> None:
    """Fill the windows as fast as they are acknowledged, then send bars steadily."""
    peer = await Raw.dial(address, "feed", Role.FEED)
    symbols = names(load.n_symbols)
    peer.writer.write(frame(encode(SymbolsDeclared(table=1, symbols=symbols))))
    rng = np.random.default_rng(1)
    number = n_acknowledged = 0
    changed = asyncio.Event()

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
        returns = 1.2 * x + rng.normal(size=load.n_symbols) * 1e-3
        bench = BenchmarkReturnObserved(
            benchmark="SPY", ts_event=stamp, period_return=x, seq=2 * number - 1
        )
        columns = ReturnsObserved(
            ts_event=stamp, symbols=1, period_returns=returns.tobytes(), seq=2 * number
        )
        peer.writer.write(frame(encode(bench)) + frame(encode(columns)))
        await peer.writer.drain()

    listening = asyncio.create_task(listen())
    while number < WINDOW + 10:
        await send()
    while n_acknowledged < 2 * number:
        changed.clear()
        await changed.wait()
    say("full")
    started, n_sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < load.seconds:
        if elapsed * BARS_PER_S > n_sent:
            await send()
            n_sent += 1
        await asyncio.sleep(0.002)
    say(n_sent)
    listening.cancel()
    peer.writer.close()


def work() -> None:
    """Be as busy as a process that takes snapshots, until told otherwise."""
    array = np.zeros(WINDOW * 5000)
    while not select.select([sys.stdin], [], [], 0)[0]:
        array += 1.0


def main() -> None:
    """Be the feed, or busy; or run rounds with and without snapshots, and say them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["feed", "work", "measure"])
    parser.add_argument("--symbols", type=int, default=Load.n_symbols)
    parser.add_argument("--seconds", type=float, default=Load.seconds)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--address", default="")
    options = parser.parse_args()
    load = Load(options.symbols, options.seconds)
    if options.role == "feed":
        uvloop.run(feed(options.address, load))
    elif options.role == "work":
        work()
    else:
        keep_freed_memory()  # as the sidecar does
        seen = uvloop.run(rounds(options.rounds, load, (Kind.BARE, Kind.SNAPSHOTS)))
        say({kind: asdict(pauses) for kind, pauses in seen.items()})


if __name__ == "__main__":
    main()
