#!/usr/bin/env python3
"""Load a real sidecar as no desk would, and measure what the others notice.

    scripts/soak.py readers --healthy 100 --seconds 20
    scripts/soak.py flood --seconds 60

``readers``: healthy subscribers and a steady feed, first alone, then beside one that
does not read, one that reads a byte a second and one that dies without closing, each
under both overflow policies. Prints the healthy ones' latencies with and without, and
what became of the sick.

``flood``: measures the rate that the sidecar sustains, then sends ten times as much
for a while, beside a subscriber and an operator. Prints memory, the operator's answer
times, what was conflated and dropped, whether order was kept, and the recovery.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import uvloop
from msgspec.structs import replace

from beta_factory import (
    BenchmarkReturnObserved,
    BetaUpdated,
    ReturnObserved,
    Role,
    connect,
)
from beta_factory.messages import (
    Acknowledged,
    DeadLettersListed,
    Encoding,
    Hello,
    ListDeadLetters,
    Message,
    Overflow,
    Rejected,
    Subscribe,
    SymbolsDeclared,
    decode_payloads,
    encode,
)
from beta_factory.runtime.framing import FrameReader, frame
from beta_factory.runtime.outgoing import Publishable

N_SYMBOLS: Final = 200
SYMBOLS: Final = tuple(f"S{i:04d}" for i in range(N_SYMBOLS))
LISTENS_WITHIN_S: Final = 15.0
READ_BYTES: Final = 256 * 1024
N_FEEDS: Final = 4
PATTERN: Final = f"beta.market.{SYMBOLS[0]}"


@asynccontextmanager
async def sidecar(**server: object) -> AsyncGenerator[tuple[str, int, Path]]:
    """Run a sidecar process; yield its address, its process id and its log."""
    with tempfile.TemporaryDirectory(prefix="beta-factory-") as folder:
        address = f"{folder}/soak.sock"
        config = Path(folder, "soak.toml")
        keys = "".join(f"{key} = {value}\n" for key, value in server.items())
        config.write_text(
            f"symbols = {list(SYMBOLS)}\n[server]\naddress = '{address}'\n{keys}"
            "[factors.market]\nbenchmark = 'SPY'\nlookback_length = 60\n"
            "min_observations = 3\n"
        )
        log = Path(folder, "log")
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "beta_factory", "run", "--config", str(config)],
                stdout=stream,
                stderr=stream,
            )
        try:
            for _ in range(int(LISTENS_WITHIN_S / 0.05)):
                if Path(address).exists():
                    break
                await asyncio.sleep(0.05)
            yield address, process.pid, log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def bar(ts_event: int) -> list[Publishable]:
    """Return one bar, whose stamp is the time at which it was made."""
    value = (ts_event // 1000 % 1999 - 999) * 1e-6
    messages: list[Publishable] = [
        BenchmarkReturnObserved(
            benchmark="SPY", ts_event=ts_event, period_return=value, ts_init=ts_event
        )
    ]
    messages += [
        ReturnObserved(
            symbol=symbol,
            ts_event=ts_event,
            period_return=value * (1 + i / N_SYMBOLS),
            ts_init=ts_event,
        )
        for i, symbol in enumerate(SYMBOLS)
    ]
    return messages


class Raw:
    """A peer that reads when it is told to."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def subscribe(
        cls,
        address: str,
        name: str,
        overflow: Overflow,
        *,
        pattern: str = "beta.>",
        limit: int = 64,
    ) -> "Raw":
        """Connect, greet and subscribe, and read nothing."""
        peer = cls(*await asyncio.open_unix_connection(address, limit=limit))
        request = Subscribe(
            subscription=1, pattern=pattern, encoding=Encoding.ROWS, overflow=overflow
        )
        hello = Hello(role=Role.SUBSCRIBER, name=name)
        peer.writer.write(frame(encode(hello)) + frame(encode(request)))
        await peer.writer.drain()
        return peer

    async def rest(self) -> list[Message]:
        """Read everything that is still there, as fast as it comes."""
        reader = FrameReader()
        messages: list[Message] = []
        try:
            async with asyncio.timeout(10):
                while data := await self.reader.read(READ_BYTES):
                    decode_payloads(reader.feed(data), messages)
        except (TimeoutError, ConnectionResetError):
            pass
        return messages


# Slow readers


async def _healthy(address: str, latencies: list[float], stop: asyncio.Event) -> None:
    # One symbol each: what is measured is not to be the readers' own work.
    peer = await Raw.subscribe(
        address, "healthy", Overflow.CONFLATE, pattern=PATTERN, limit=2**20
    )
    reader = FrameReader()
    while not stop.is_set():
        data = await peer.reader.read(READ_BYTES)
        if not data:
            break
        now = time.time_ns()
        messages: list[Message] = []
        decode_payloads(reader.feed(data), messages)
        latencies += [
            (now - m.ts_event) / 1e6 for m in messages if type(m) is BetaUpdated
        ]
    peer.writer.close()


async def _drip(peer: Raw, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await peer.reader.read(1)
        await asyncio.sleep(1)


async def _measure(
    address: str, n_healthy: int, seconds: float, interval_s: float
) -> list[float]:
    stop = asyncio.Event()
    latencies: list[float] = []
    readers = [
        asyncio.create_task(_healthy(address, latencies, stop))
        for _ in range(n_healthy)
    ]
    await asyncio.sleep(0.5)
    async with connect(address, name="feed", role=Role.FEED) as feed:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await feed.publish(bar(time.time_ns()))
            await asyncio.sleep(interval_s)
        await feed.flush()
    stop.set()
    await asyncio.sleep(0.2)
    for task in readers:
        task.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return latencies


def _show(name: str, values: Sequence[float]) -> float:
    cuts = quantiles(values, n=1000)
    p50, p99, p999 = median(values), cuts[989], cuts[998]
    print(
        f"{name:<10} {len(values):>9,} updates  p50 {p50:7.2f}  p99 {p99:7.2f}  "
        f"p99.9 {p999:7.2f} ms"
    )
    return p99


async def readers(
    n_healthy: int, seconds: float, interval_s: float, rounds: int
) -> int:
    """Run the measurement, alone and beside the sick, in turns."""
    async with sidecar(outbox_high_water_bytes=65_536) as (address, pid, log):
        alone: list[float] = []
        beside: list[float] = []
        await _measure(address, n_healthy, min(seconds, 3), interval_s)  # warm up
        for number in range(rounds):
            alone += await _measure(address, n_healthy, seconds, interval_s)
            stop = asyncio.Event()
            deaf = [
                await Raw.subscribe(address, f"deaf-{policy}", policy)
                for policy in Overflow
            ]
            drips = [
                await Raw.subscribe(address, f"drip-{policy}", policy)
                for policy in Overflow
            ]
            tasks = [asyncio.create_task(_drip(peer, stop)) for peer in drips]
            dead = subprocess.Popen(
                [sys.executable, __file__, "die", address], stdout=subprocess.DEVNULL
            )
            await asyncio.sleep(1)
            dead.kill()
            dead.wait()
            beside += await _measure(address, n_healthy, seconds, interval_s)
            stop.set()
            for task in tasks:
                task.cancel()
            if number == rounds - 1:
                for policy, peer in zip(Overflow, deaf, strict=True):
                    print(f"deaf, {policy}: {_fate(await peer.rest())}")
            for peer in (*deaf, *drips):
                peer.writer.close()
        before, after = _show("alone", alone), _show("beside", beside)
        print(f"p99 changed by {100 * (after / before - 1):+.1f} %")
        print(f"memory     {resident_mb(pid):.1f} MB")
        events = Counter(
            word
            for line in log.read_text().splitlines()
            for word in line.split()
            if word.startswith("subscriber.")
        )
        print(f"log        {dict(events)}")
    return 0


def _fate(messages: list[Message]) -> str:
    updates = [m for m in messages if type(m) is BetaUpdated]
    told = [m for m in messages if type(m) is Rejected]
    conflated = sum(update.conflated for update in updates)
    return (
        f"{len(updates):,} updates, {conflated:,} conflated into them, "
        f"rejected {[m.reason.value for m in told]}"
    )


async def die(address: str) -> int:
    """Subscribe, and wait to be killed."""
    await Raw.subscribe(address, "dying", Overflow.CONFLATE)
    await asyncio.sleep(3600)
    return 0


# A flood


@dataclass
class Flood:
    """What was sent, and how it was answered."""

    n_sent: int = 0
    n_acknowledged: int = 0
    memory_mb: list[float] = field(default_factory=list[float])
    disorder: int = 0
    n_updates: int = 0
    n_conflated: int = 0
    last_seq_of: dict[str, tuple[int, int]] = field(
        default_factory=dict[str, tuple[int, int]]
    )


async def _push(
    address: str, name: str, rate: float, seconds: float, flood: Flood
) -> None:
    # Frames of one message, offered at a rate whether or not they are taken.
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(frame(encode(Hello(role=Role.FEED, name=name))))
    frames = FrameReader()

    async def acknowledgements() -> None:
        while data := await reader.read(READ_BYTES):
            messages: list[Message] = []
            decode_payloads(frames.feed(data), messages)
            for message in messages:
                if isinstance(message, Acknowledged):
                    flood.n_acknowledged = message.seq

    listening = asyncio.create_task(acknowledgements())
    started, seq = time.monotonic(), 0
    prices = [m for m in bar(0) if not isinstance(m, SymbolsDeclared)]
    while (elapsed := time.monotonic() - started) < seconds:
        if rate * elapsed > seq:
            parts: list[bytes] = []
            now = time.time_ns()
            for message in prices:
                seq += 1
                parts.append(frame(encode(replace(message, ts_event=now, seq=seq))))
            writer.write(b"".join(parts))
            await writer.drain()
        else:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    flood.n_sent = seq
    waited = time.monotonic()
    while flood.n_acknowledged < seq and time.monotonic() - waited < 10:  # noqa: ASYNC110, PLR2004
        await asyncio.sleep(0.005)
    print(f"recovery   {1e3 * (time.monotonic() - waited):.0f} ms after the last write")
    listening.cancel()
    writer.close()


async def _follow(address: str, flood: Flood, stop: asyncio.Event) -> None:
    async with connect(address, name="follower") as client:
        async for update in client.subscribe("beta.market.*", buffer_capacity=100_000):
            flood.n_updates += 1
            flood.n_conflated += update.conflated
            last = flood.last_seq_of.get(update.symbol, (0, 0))
            if (update.ts_event, update.seq) <= last:
                flood.disorder += 1
            flood.last_seq_of[update.symbol] = update.ts_event, update.seq
            if stop.is_set():
                break


async def ping(address: str, seconds: float) -> int:
    """Ask one thing after the other on one connection; print how long each took."""
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(frame(encode(Hello(role=Role.OPERATOR, name="pinger"))))
    frames, request, ends = FrameReader(), 0, time.monotonic() + seconds
    messages: list[Message] = []
    while time.monotonic() < ends:
        request += 1
        started = time.perf_counter()
        writer.write(frame(encode(ListDeadLetters(request=request, limit=1))))
        while not any(isinstance(m, DeadLettersListed) for m in messages):
            decode_payloads(frames.feed(await reader.read(READ_BYTES)), messages)
        print(1e3 * (time.perf_counter() - started), flush=True)
        messages.clear()
        await asyncio.sleep(0.1)
    writer.close()
    return 0


async def _watch_memory(pid: int, flood: Flood) -> None:
    while True:
        flood.memory_mb.append(resident_mb(pid))
        await asyncio.sleep(0.25)


def _start(what: str, address: str, **options: float) -> "subprocess.Popen[str]":
    # In a process of its own, so that its work is not in what another one measures.
    arguments = [f"--{key}={value}" for key, value in options.items()]
    return subprocess.Popen(
        [sys.executable, __file__, what, address, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


async def flood(seconds: float) -> int:
    """Find the sustainable rate, offer ten times as much, and look."""
    async with sidecar(outbox_high_water_bytes=262_144) as (address, pid, log):
        probe = Flood()
        await _push(address, "probe", 1e9, 5, probe)
        rate = probe.n_acknowledged / 5
        print(f"sustained  {rate:,.0f} messages/s in frames of one")
        stop, result = asyncio.Event(), Flood()
        tasks = [
            asyncio.create_task(_follow(address, result, stop)),
            asyncio.create_task(_watch_memory(pid, result)),
        ]
        pinger = _start("ping", address, seconds=seconds)
        pushes = [
            _start("push", address, seconds=seconds, rate=rate * 10 / N_FEEDS)
            for _ in range(N_FEEDS)
        ]
        pushed = [await asyncio.to_thread(push.communicate) for push in pushes]
        print("".join(out for out, _ in pushed), end="")
        answers, _ = await asyncio.to_thread(pinger.communicate)
        stop.set()
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pings = sorted(map(float, answers.split()))
        print(
            f"control    {len(pings)} answers, p50 {median(pings):.1f} ms, "
            f"p99 {quantiles(pings, n=100)[98]:.1f} ms, longest {pings[-1]:.1f} ms"
        )
        print(
            f"memory     {result.memory_mb[0]:.1f} MB before, "
            f"{max(result.memory_mb):.1f} MB at most"
        )
        print(
            f"follower   {result.n_updates:,} updates, {result.n_conflated:,} "
            f"conflated into them, {result.disorder} out of order"
        )
        lines = log.read_text().splitlines()
        dropped = [line for line in lines if "observations.dropped" in line]
        print(f"log        {len(lines)} lines; the last drop: {dropped[-1:] or 'none'}")
    return 0


async def push(address: str, rate: float, seconds: float) -> int:
    """Offer one source's share of a flood."""
    result = Flood()
    await _push(address, "flood", rate, seconds, result)
    print(f"pushed     {result.n_sent:,} of {rate * seconds:,.0f} offered")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Slow readers and floods.")
    parser.add_argument("what", choices=["readers", "flood", "die", "ping", "push"])
    parser.add_argument("address", nargs="?", default="")
    parser.add_argument("--healthy", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--interval", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e5)
    options = parser.parse_args(arguments)
    if options.what == "readers":
        work = readers(
            options.healthy, options.seconds, options.interval, options.rounds
        )
    elif options.what == "flood":
        work = flood(options.seconds)
    elif options.what == "ping":
        work = ping(options.address, options.seconds)
    elif options.what == "push":
        work = push(options.address, options.rate, options.seconds)
    else:
        work = die(options.address)
    return uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main())
