#!/usr/bin/env python3
"""Run a sidecar for a long time, and look for what grows.

    scripts/soak.py                       ten minutes; exit 1 names what is not flat
    scripts/soak.py --seconds 14400       four hours
    scripts/soak.py --seconds 5 --untimed     without what depends on the clock

A real sidecar with a store and a snapshot every ten seconds. A feed sends bars, as
columns and as single returns in turns, with a late and a repeated return in each. A
subscriber in a process of its own takes the time of every update. Others come and go,
some without a word: subscribers, operators, and strangers who speak no word of the
protocol.

Every few seconds, while none of the passers-by is there, it notes the sidecar's memory,
its open files, the median and the 99th percentile of the updates' latencies since the
last time, and the processor time per bar. The first fifth of the samples warms up. Of
the rest, the trend is the median slope between pairs (Theil and Sen) times the
duration, or what the median of the last third is above that of the first, whichever is
more: the one sees a slow drift, the other a step.

* memory grows by at most 5 % of its median;
* open files are as many at the end as at the beginning, give or take two (a file that
  SQLite opens for a moment), without a trend of one;
* the median latency grows by at most 25 % of its median, and the processor time per
  bar, which no other process on this machine disturbs as much, by at most 10 %.

Samples in which the sidecar waited for a processor for more than a tenth of the time
(as the kernel counts it) say how busy the machine is, and nothing about latencies: they
are left out of that trend. It exits with 2 when less than half of the samples remain.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import (
    Raw,
    RunQueue,
    Sidecar,
    Worker,
    quantile,
    say,
    sidecar,
    slope,
)
from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Message,
    Overflow,
    ReportStatus,
    ReturnObserved,
    ReturnsObserved,
    Role,
    StatusReported,
    SymbolsDeclared,
    encode,
)
from beta_factory.runtime.framing import frame

SYMBOLS: Final = tuple(f"S{i:04d}" for i in range(500))
STORE: Final = """\
[store]
path = "{folder}/store.sqlite"
policy = "os"
snapshot_interval_s = 10.0
retention_bytes = 67108864
"""
BAR_EVERY_S: Final = 0.05
PASSERS_EVERY_S: Final = 0.2
WARM_UP_SHARE: Final = 0.2

MEMORY_SHARE: Final = 0.05
LATENCY_SHARE: Final = 0.25
WORK_SHARE: Final = 0.10
N_FILES: Final = 2

STARVED_SHARE: Final = 0.1
FEWEST_SAMPLES: Final = 0.5


@dataclass
class Samples:
    """What was noted, one value per sample."""

    at_s: list[float] = field(default_factory=list[float])
    memory_mb: list[float] = field(default_factory=list[float])
    n_files: list[float] = field(default_factory=list[float])
    p50_ms: list[float] = field(default_factory=list[float])
    p99_ms: list[float] = field(default_factory=list[float])
    work_ms: list[float] = field(default_factory=list[float])
    """Processor time per bar."""
    waited: list[float] = field(default_factory=list[float])
    """Share of the time for which the sidecar was ready and no processor was free."""


async def read(address: str) -> int:
    """Take the time of every update; say how it was whenever asked."""
    peer = await Raw.subscribe(address, "steady", pattern=f"beta.market.{SYMBOLS[0]}")
    latencies: list[float] = []

    async def listen() -> None:
        while (messages := await peer.receive()) is not None:
            now = time.time_ns()
            latencies.extend(
                (now - message.ts_init) / 1e6
                for message in messages
                if type(message) is BetaUpdated
            )

    listening = asyncio.create_task(listen())
    say("ready")
    while (await asyncio.to_thread(sys.stdin.readline)).strip():
        values = latencies or [0.0]
        say({"p50": median(values), "p99": quantile(values, 0.99), "n": len(latencies)})
        latencies.clear()
    listening.cancel()
    peer.writer.close()
    return 0


class Soak:
    """One run.

    Parameters
    ----------
    options
        Of the command line.
    running
        The sidecar.
    """

    def __init__(self, options: argparse.Namespace, running: Sidecar) -> None:
        self._options = options
        self._running = running
        self._rng = random.Random(1)  # noqa: S311 - no secret
        self._n_bars = self._n_passers = 0
        self._may_pass = asyncio.Event()
        self._passers: set[asyncio.Task[None]] = set()
        self.samples = Samples()

    async def run(self) -> None:
        """Feed, let others pass, and take samples, until the time is over."""
        reader = Worker(__file__, "read", address=self._running.address)
        await reader.line()
        self._may_pass.set()
        async with asyncio.TaskGroup() as tasks:
            load = [
                tasks.create_task(self._feed()),
                tasks.create_task(self._let_pass()),
            ]
            await self._sample(reader)
            for task in load:
                task.cancel()
        reader.tell("")
        await reader.end()

    async def status(self) -> StatusReported:
        """Ask the sidecar how it is."""
        peer = await Raw.dial(self._running.address, "operator", Role.OPERATOR)
        peer.writer.write(frame(encode(ReportStatus(request=1))))
        while (messages := await peer.receive()) is not None:
            for message in messages:
                if isinstance(message, StatusReported):
                    peer.writer.close()
                    return message
        raise ConnectionResetError("the sidecar has gone")

    async def _sample(self, reader: Worker) -> None:
        options, running, samples = self._options, self._running, self.samples
        started = time.monotonic()
        queue = RunQueue(running.pid)
        n_bars, cpu_s = self._n_bars, running.cpu_s
        waited_s, before = queue.waited_s, started
        every_s = min(max(options.seconds / 120, 0.5), 30.0)
        while (elapsed := time.monotonic() - started) < options.seconds:
            await asyncio.sleep(every_s)
            self._may_pass.clear()
            await asyncio.gather(*self._passers, return_exceptions=True)
            await asyncio.sleep(0.1)  # the sidecar notices that they have gone
            reader.tell("how was it")
            said: dict[str, Any] = await reader.line()
            n_new = max(self._n_bars - n_bars, 1)
            samples.at_s.append(elapsed)
            samples.memory_mb.append(running.resident_mb)
            samples.n_files.append(running.n_files)
            samples.p50_ms.append(said["p50"])
            samples.p99_ms.append(said["p99"])
            samples.work_ms.append(1e3 * (running.cpu_s - cpu_s) / n_new)
            now = time.monotonic()
            samples.waited.append((queue.waited_s - waited_s) / (now - before))
            n_bars, cpu_s = self._n_bars, running.cpu_s
            waited_s, before = queue.waited_s, now
            self._may_pass.set()
            if len(samples.at_s) % 10 == 0:
                self._show()

    def _show(self) -> None:
        samples = self.samples
        print(
            f"{samples.at_s[-1]:7.0f} s  {samples.memory_mb[-1]:7.1f} MB  "
            f"{samples.n_files[-1]:4.0f} files  p50 {samples.p50_ms[-1]:6.2f} ms  p99 "
            f"{samples.p99_ms[-1]:7.2f} ms  waited {samples.waited[-1]:4.0%}  "
            f"work {samples.work_ms[-1]:5.2f} ms a bar  "
            f"{self._n_bars:,} bars  {self._n_passers:,} passers-by",
            flush=True,
        )

    async def _feed(self) -> None:
        peer = await Raw.dial(self._running.address, "feed", Role.FEED)
        peer.writer.write(frame(encode(SymbolsDeclared(table=1, symbols=SYMBOLS))))
        reading = asyncio.create_task(_discard(peer))
        due = time.monotonic()
        try:
            while True:
                self._n_bars += 1
                peer.writer.write(b"".join(map(_framed, self._bar())))
                await peer.writer.drain()
                due = max(due + BAR_EVERY_S, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        finally:
            reading.cancel()
            peer.writer.close()

    def _bar(self) -> list[Message]:
        now = time.time_ns()
        values = [self._rng.gauss(0.0, 1e-3) for _ in SYMBOLS]
        bench = BenchmarkReturnObserved(
            benchmark="SPY", ts_event=now, period_return=values[0], ts_init=now
        )
        if self._n_bars % 2:
            returns: list[Message] = [
                ReturnsObserved(
                    ts_event=now,
                    symbols=1,
                    period_returns=array_bytes(values),
                    ts_init=now,
                )
            ]
        else:
            returns = [_single(s, now, v) for s, v in zip(SYMBOLS, values, strict=True)]
        repeated = _single(SYMBOLS[1], now, values[1])
        late = _single(SYMBOLS[2], now - 10**9, values[2])
        return [bench, *returns, repeated, late]

    async def _let_pass(self) -> None:
        while True:
            await self._may_pass.wait()
            task = asyncio.create_task(self._pass())
            self._passers.add(task)
            task.add_done_callback(self._passers.discard)
            self._n_passers += 1
            await asyncio.sleep(PASSERS_EVERY_S)

    async def _pass(self) -> None:
        address, rng = self._running.address, self._rng
        kind = rng.choice(["reader", "slow", "operator", "stranger"])
        if kind == "operator":
            await self.status()
        elif kind == "stranger":
            _, writer = await asyncio.open_unix_connection(address)
            writer.write(rng.randbytes(100))
            await asyncio.sleep(0.05)
            writer.transport.abort()
        else:
            policy = rng.choice(list(Overflow))
            peer = await Raw.subscribe(address, kind, policy, limit=4096)
            await asyncio.sleep(rng.random())
            if kind == "reader":
                await peer.receive()
                peer.writer.close()
            else:
                peer.writer.transport.abort()


def array_bytes(values: Sequence[float]) -> bytes:
    """Return a columnar frame's returns."""
    return np.array(values, dtype="<f8").tobytes()


def _single(symbol: str, ts_event: int, value: float) -> Message:
    return ReturnObserved(
        symbol=symbol, ts_event=ts_event, period_return=value, ts_init=ts_event
    )


def _framed(message: Message) -> bytes:
    return frame(encode(message))


async def _discard(peer: Raw) -> None:
    while await peer.receive() is not None:
        pass


def judge(samples: Samples, *, untimed: bool) -> tuple[list[str], bool]:
    """Print the trends; return what is not flat, and whether latencies were judged."""
    first = int(len(samples.at_s) * WARM_UP_SHARE)
    failures: list[str] = []
    calm = [share <= STARVED_SHARE for share in samples.waited[first:]]
    is_judged = sum(calm) >= FEWEST_SAMPLES * len(calm)
    print(f"calm               {sum(calm)} of {len(calm)} samples")
    for name, values, share, is_timed in (
        ("memory, MB", samples.memory_mb, MEMORY_SHARE, False),
        ("open files", samples.n_files, 0.0, False),
        ("p50, ms", samples.p50_ms, LATENCY_SHARE, True),
        ("work per bar, ms", samples.work_ms, WORK_SHARE, True),
    ):
        at_s, kept = samples.at_s[first:], values[first:]
        if values is samples.p50_ms:
            if not is_judged:
                continue
            at_s = [value for value, is_calm in zip(at_s, calm, strict=True) if is_calm]
            kept = [value for value, is_calm in zip(kept, calm, strict=True) if is_calm]
        third = max(len(kept) // 3, 1)
        growth = max(
            slope(at_s, kept) * (at_s[-1] - at_s[0]),
            median(kept[-third:]) - median(kept[:third]),
        )
        if name == "open files":
            bound = 1.0
            holds = growth < bound and abs(kept[-1] - kept[0]) <= N_FILES
        else:
            bound = share * median(kept)
            holds = growth <= bound
        print(
            f"{name:<18} median {median(kept):8.2f}  {min(kept):8.2f} to "
            f"{max(kept):8.2f}  trend {growth:+.3f} of at most {bound:+.3f}"
        )
        if not holds and not (is_timed and untimed):
            failures.append(f"{name}: grew by {growth:.3f}, {kept[0]} to {kept[-1]}")
    return failures, is_judged or untimed


async def soak(options: argparse.Namespace) -> int:
    """Run a sidecar for as long as asked, and judge."""
    async with sidecar(SYMBOLS, lookback=390, more=STORE) as running:
        work = Soak(options, running)
        await work.run()
        status = await work.status()
        counts = {each.source: each for each in status.sources}
        print(f"feed      {counts['feed'].n_received:,} received, {status.dropped}")
    failures, is_judged = judge(work.samples, untimed=options.untimed)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if failures:
        return 1
    return 0 if is_judged else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program, or its reader."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("role", nargs="?", default="soak", choices=["soak", "read"])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--untimed", action="store_true", help="judge no times")
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role == "read":
        return uvloop.run(read(options.address))
    return uvloop.run(soak(options))


if __name__ == "__main__":
    sys.exit(main())
