#!/usr/bin/env python3
"""Measure what healthy subscribers notice of sick ones, and check what these are told.

    scripts/slow_readers.py                   a hundred healthy ones; exit 1 above 10 %
    scripts/slow_readers.py --healthy 20 --rounds 1 --seconds 1 --untimed

A real sidecar with a steady feed, and a hundred subscribers in a process of their own,
first alone, then beside sick ones: of each overflow policy one that does not read at
all and one that reads a byte a second, and one whose process is killed. The two take
turns, in an order that changes with each round, so that what the machine does besides
falls on both. What is compared is the 99th percentile of the time from a return's stamp
to its update, without what the feed, the sidecar or the readers waited for a processor
(as the kernel counts it: that is the load of the machine, and nothing that a sick
subscriber does to a healthy one). Printed is the median of the rounds' ratios, with the
interval in which nine of ten samples of the same rounds have theirs, and the same by
the clock alone.

It exits with 1 when the whole interval is above 1.10, when a healthy subscriber misses
an update or gets one conflated, or when a sick one is not conflated or cut by its
policy, and told; and with 2 when the interval has 1.10 in it, for then it was not
measured well enough to say.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

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
)
from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Hello,
    Message,
    Overflow,
    Rejected,
    ReportStatus,
    ReturnObserved,
    Role,
    StatusReported,
    Subscribe,
    Subscribed,
    decode_payloads,
    encode,
)
from beta_factory.runtime.framing import FrameReader, frame

SYMBOLS: Final = tuple(f"S{i:04d}" for i in range(50))
PATTERN: Final = f"beta.market.{SYMBOLS[0]}"
"""One symbol each: what is measured is not to be the readers' own work."""

SMALL_BUFFER: Final = 4096
HIGH_WATER: Final = 64 * 1024
MIN_BARS: Final = 200
"""In a round: more than a megabyte, which no buffer on the way holds."""

WORST_RATIO: Final = 1.10
KINDS: Final = ("alone", "beside")


class Latencies:
    """How late updates were, in ms, by the clock and without waits for a processor.

    Parameters
    ----------
    pids
        Whose waits are taken out: everybody's on the way from the stamp to the update.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self.elapsed: list[float] = []
        self.kept: list[float] = []
        self._queues = [RunQueue(pid) for pid in pids]
        self._ts_event = 0
        self._waited_ms = self._total_ms = 0.0

    def add(self, ts_event: int, now_ns: int) -> None:
        """Note one update."""
        if ts_event > self._ts_event:
            # Between bars nobody has anything to do, and so nothing to wait for.
            total_ms = 1e3 * sum(queue.waited_s for queue in self._queues)
            self._waited_ms, self._total_ms = total_ms - self._total_ms, total_ms
            self._ts_event = ts_event
        late_ms = (now_ns - ts_event) / 1e6
        self.elapsed.append(late_ms)
        self.kept.append(max(late_ms - self._waited_ms, 0.0))

    def clear(self) -> None:
        """Begin another round."""
        self.elapsed.clear()
        self.kept.clear()


class Healthy(asyncio.Protocol):
    """A subscriber that reads at once, and writes down how late each update is.

    Parameters
    ----------
    latencies
        Where to.
    """

    def __init__(self, latencies: Latencies) -> None:
        self.n_updates = self.n_conflated = 0
        self.is_subscribed = False
        self._latencies = latencies
        self._frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet and subscribe to what is new."""
        hello = Hello(role=Role.SUBSCRIBER, name="healthy")
        request = Subscribe(subscription=1, pattern=PATTERN, snapshot=False)
        write = getattr(transport, "write")  # noqa: B009 - uvloop's has no type
        write(frame(encode(hello)) + frame(encode(request)))

    def data_received(self, data: bytes) -> None:
        """Take the time of each update."""
        now = time.time_ns()
        messages: list[Message] = []
        decode_payloads(self._frames.feed(data), messages)
        for message in messages:
            if type(message) is BetaUpdated:
                self.n_updates += 1
                self.n_conflated += message.conflated
                self._latencies.add(message.ts_event, now)
            elif type(message) is Subscribed:
                self.is_subscribed = True


async def read(address: str, n_healthy: int, pid: int) -> int:
    """Be so many healthy subscribers; say what each round was like when it ends."""
    loop = asyncio.get_running_loop()
    latencies = Latencies([pid, os.getpid(), os.getppid()])
    healthy = [Healthy(latencies) for _ in range(n_healthy)]
    for each in healthy:
        await loop.create_unix_connection(partial(_same, each), address)
    while not all(each.is_subscribed for each in healthy):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    say("ready")
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        n_expected = int(line)
        deadline = loop.time() + 30
        while min(each.n_updates for each in healthy) < n_expected:
            await asyncio.sleep(0.01)
            if loop.time() > deadline:
                break
        say(
            {
                "n_updates": sorted({each.n_updates for each in healthy}),
                "n_conflated": sum(each.n_conflated for each in healthy),
                "n": len(latencies.elapsed),
                "p50": median(latencies.elapsed),
                "elapsed": quantile(latencies.elapsed, 0.99),
                "kept": quantile(latencies.kept, 0.99),
            }
        )
        latencies.clear()
    return 0


def _same(protocol: Healthy) -> Healthy:
    return protocol


async def die(address: str) -> int:
    """Subscribe, and wait to be killed."""
    peer = await Raw.subscribe(address, "dying", limit=SMALL_BUFFER)
    say("ready")
    await asyncio.sleep(3600)
    peer.writer.close()
    return 0


def bar() -> bytes:
    """Return one bar, whose stamp is the time at which it was made."""
    now = time.time_ns()
    value = (now // 1000 % 1999 - 999) * 1e-6
    messages: list[Message] = [
        BenchmarkReturnObserved(benchmark="SPY", ts_event=now, period_return=value)
    ]
    messages += [
        ReturnObserved(symbol=symbol, ts_event=now, period_return=value * (1 + i / 50))
        for i, symbol in enumerate(SYMBOLS)
    ]
    return b"".join([frame(encode(message)) for message in messages])


@dataclass
class Sick:
    """The sick subscribers of one round."""

    silent: dict[Overflow, Raw] = field(default_factory=dict[Overflow, Raw])
    dripping: dict[Overflow, Raw] = field(default_factory=dict[Overflow, Raw])
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])


@asynccontextmanager
async def sick_ones(address: str) -> AsyncGenerator[Sick]:
    """Have the sick subscribers there, one of which is killed at once."""
    sick = Sick()
    for policy in Overflow:
        for name, peers in (("silent", sick.silent), ("dripping", sick.dripping)):
            peer = await Raw.subscribe(
                address, f"{name}-{policy}", policy, limit=SMALL_BUFFER
            )
            peers[policy] = peer.small(SMALL_BUFFER)
    sick.tasks = [asyncio.create_task(_drip(peer)) for peer in sick.dripping.values()]
    dying = Worker(__file__, "die", address=address)
    await dying.line()
    os.kill(dying.pid, signal.SIGKILL)
    try:
        yield sick
    finally:
        for task in sick.tasks:
            task.cancel()
        for peer in (*sick.silent.values(), *sick.dripping.values()):
            peer.writer.close()
        await dying.end()


async def _drip(peer: Raw) -> None:
    while await peer.reader.read(1):  # noqa: ASYNC110 - that is its sickness
        await asyncio.sleep(1)


class Program:
    """The measurement, from the first round to the verdict.

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
        self._n_bars = self._n_cut = 0
        self.failures: list[str] = []
        self.is_undecided = False

    async def run(self) -> None:
        """Run the rounds, print them, and judge."""
        options, address = self._options, self._running.address
        feed = await Raw.dial(address, "feed", Role.FEED)
        reading = asyncio.create_task(_discard(feed))
        readers = Worker(
            __file__,
            "read",
            address=address,
            healthy=options.healthy,
            pid=self._running.pid,
        )
        await readers.line()
        await self._round(feed, readers, min(options.seconds, 2.0))  # warm up
        rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for number in range(options.rounds):
            for kind in KINDS if number % 2 else reversed(KINDS):
                if kind == "alone":
                    rounds[kind].append(await self._round(feed, readers))
                    continue
                async with sick_ones(address) as sick:
                    rounds[kind].append(await self._round(feed, readers))
                    await self._check_sick(sick)
        readers.tell("")
        await readers.end()
        reading.cancel()
        feed.writer.close()
        self._judge(rounds)

    async def _round(
        self, feed: Raw, readers: Worker, seconds: float | None = None
    ) -> dict[str, Any]:
        ends = time.monotonic() + (seconds or self._options.seconds)
        least = self._n_bars + MIN_BARS
        while time.monotonic() < ends or self._n_bars < least:
            feed.writer.write(bar())
            await feed.writer.drain()
            self._n_bars += 1
            await asyncio.sleep(self._options.interval)
        readers.tell(str(self._n_bars))
        said: dict[str, Any] = await readers.line()
        if said["n_updates"] != [self._n_bars] or said["n_conflated"]:
            self.failures.append(f"healthy ones got {said} of {self._n_bars} bars")
        return said

    async def _check_sick(self, sick: Sick) -> None:
        status = await self._status()
        slow = {each.subscriber for each in status.subscribers if each.is_slow}
        for name in ("silent", "dripping"):
            self._expect(f"{name}-{Overflow.CONFLATE}" in slow, f"{name} is not slow")
        self._n_cut += 2
        n_cut = status.rejected.get("slow", 0)
        self._expect(n_cut == self._n_cut, f"{n_cut} were cut, not {self._n_cut}")
        told = await sick.silent[Overflow.DISCONNECT].rest()
        rejected = [m.reason.value for m in told if isinstance(m, Rejected)]
        self._expect(rejected == ["slow"], f"the one that is cut was told {rejected}")
        folded = await _catch_up(sick.silent[Overflow.CONFLATE], status)
        self._expect(folded > 0, "the one that is conflated was not told of it")
        print(f"sick      conflated and told of {folded:,}; cut and told {rejected}")

    async def _status(self) -> StatusReported:
        peer = await Raw.dial(self._running.address, "operator", Role.OPERATOR)
        peer.writer.write(frame(encode(ReportStatus(request=1))))
        while (messages := await peer.receive()) is not None:
            for message in messages:
                if isinstance(message, StatusReported):
                    peer.writer.close()
                    return message
        raise ConnectionResetError("the sidecar has gone")

    def _expect(self, holds: object, failure: str) -> None:
        if not holds:
            self.failures.append(failure)

    def _judge(self, rounds: dict[str, list[dict[str, Any]]]) -> None:
        for kind in KINDS:
            p99s = [each["elapsed"] for each in rounds[kind]]
            kept = [each["kept"] for each in rounds[kind]]
            print(
                f"{kind:<9} {sum(each['n'] for each in rounds[kind]):>9,} updates  p50 "
                f"{median(each['p50'] for each in rounds[kind]):.2f} ms  p99 "
                f"{median(p99s):.2f} ms ({min(p99s):.2f} to {max(p99s):.2f}), without "
                f"waits for a processor {median(kept):.2f} ms"
            )
        for what in ("elapsed", "kept"):
            ratios = [
                beside[what] / alone[what]
                for alone, beside in zip(rounds["alone"], rounds["beside"], strict=True)
            ]
            low, high = interval(ratios)
            print(
                f"ratio     of the p99s, {what}: {median(ratios):.3f} ({low:.3f} to "
                f"{high:.3f}; single rounds {min(ratios):.3f} to {max(ratios):.3f})"
            )
        print(f"memory    {self._running.resident_mb:.1f} MB")
        if self._options.untimed:
            return
        self.is_undecided = high > WORST_RATIO
        if low > WORST_RATIO:
            self.failures.append(f"the p99 is {low:.3f} times what it was, or more")


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return where the median of such ratios is in nine samples of ten (bootstrap)."""
    rng = random.Random(1)  # noqa: S311 - no secret
    medians = [median(rng.choices(ratios, k=len(ratios))) for _ in range(2000)]
    return quantile(medians, 0.05), quantile(medians, 0.95)


async def _discard(peer: Raw) -> None:
    while await peer.receive() is not None:
        pass


async def _catch_up(peer: Raw, status: StatusReported) -> int:
    # Read until the newest update; return how many were folded into those read.
    folded = 0
    async with asyncio.timeout(30):
        while (messages := await peer.receive()) is not None:
            updates = [m for m in messages if type(m) is BetaUpdated]
            folded += sum(update.conflated for update in updates)
            if any(update.seq >= status.n_updates for update in updates):
                break
    return folded


async def measure(options: argparse.Namespace) -> int:
    """Run the program against a sidecar of its own."""
    async with sidecar(SYMBOLS, high_water=HIGH_WATER) as running:
        program = Program(options, running)
        await program.run()
    for failure in program.failures:
        print(f"failed: {failure}", file=sys.stderr)
    if program.failures:
        return 1
    return 2 if program.is_undecided else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program, or one of its workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    roles = ["measure", "read", "die"]
    parser.add_argument("role", nargs="?", default="measure", choices=roles)
    parser.add_argument("--healthy", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--interval", type=float, default=0.01, help="between bars")
    parser.add_argument("--untimed", action="store_true", help="judge no times")
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    parser.add_argument("--pid", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.role == "read":
        return uvloop.run(read(options.address, options.healthy, options.pid))
    if options.role == "die":
        return uvloop.run(die(options.address))
    return uvloop.run(measure(options))


if __name__ == "__main__":
    sys.exit(main())
