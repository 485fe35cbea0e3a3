#!/usr/bin/env python3
"""Throw broken frames at a sidecar's connection, and measure what they do to it.

    scripts/fuzz_frames.py --frames 100000 --seed 1
    scripts/fuzz_frames.py --atheris [OPTIONS OF LIBFUZZER]   # needs atheris

The connection, the system and its actors are the real ones; the transport keeps what is
written. Each stream begins with a good `Hello`, or with none, and goes on with mutated
golden frames and with bombs. Anything but a documented `Rejected`, an error that
nobody foresaw, or growth ends it with exit code 1.
"""

import argparse
import asyncio
import importlib
import logging
import random
import resource
import struct
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from statistics import median
from typing import Any, Final

from beta_factory import (
    BenchmarkReturnObserved,
    BetaFactory,
    MarketBetaConfig,
    ReturnObserved,
    ReturnsObserved,
    Role,
    SymbolsDeclared,
)
from beta_factory.actors import BetaColumns, BetaRows
from beta_factory.messages import (
    Acknowledged,
    AddSymbol,
    BenchmarkReturnMissed,
    DiscardHeldReturns,
    Goodbye,
    HaltSymbol,
    Heartbeat,
    Hello,
    ListActors,
    ListDeadLetters,
    ListHeldReturns,
    Message,
    Rejected,
    RejectReason,
    ReleaseHeldReturns,
    RemoveSymbol,
    ReportStatus,
    RequeueDeadLetters,
    ResumeSymbol,
    ReviveActor,
    SessionOpened,
    Subscribe,
    Unsubscribe,
    decode_payloads,
    encode,
)
from beta_factory.runtime.clock import LiveClock
from beta_factory.runtime.framing import FrameReader, frame
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from beta_factory.runtime.system import System

SYMBOLS: Final = ("AAPL", "BAC", "IBM", "MSFT")
ROLES: Final = (Role.FEED, Role.SUBSCRIBER, Role.OPERATOR)
BAR: Final = 1_700_000_000_000_000_000
BATCH: Final = 1000
"""Streams between two looks at the memory."""

BOMB_SHARE: Final = 50
"""One stream in so many is a bomb."""

MAX_GROWTH_MB: Final = 32
"""Of the resident set, after a warm-up in which allocators and caches fill."""

WARM_UP: Final = 5 * BATCH


def golden_messages() -> list[Message]:
    """Return one good message of every type that a peer sends."""
    values = struct.pack("<4d", 0.01, -0.02, nan, 0.03)
    return [
        Hello(role=Role.FEED, name="fuzz", token="token"),  # noqa: S106
        Subscribe(subscription=1, pattern="beta.market.*"),
        Subscribe(subscription=2, pattern="beta.>", snapshot=False),
        Unsubscribe(subscription=1),
        Heartbeat(ts_init=BAR),
        Goodbye(reason="done"),
        Acknowledged(seq=7),
        BenchmarkReturnObserved(benchmark="SPY", ts_event=BAR, period_return=0.01),
        ReturnObserved(symbol="AAPL", ts_event=BAR, period_return=0.02, seq=9),
        SymbolsDeclared(table=1, symbols=SYMBOLS),
        ReturnsObserved(ts_event=BAR, symbols=SYMBOLS, period_returns=values, seq=8),
        ReturnsObserved(ts_event=BAR, symbols=1, period_returns=values),
        BenchmarkReturnMissed(benchmark="SPY", ts_event=BAR + 1),
        SessionOpened(benchmark="SPY", ts_event=BAR),
        HaltSymbol(symbol="IBM"),
        ResumeSymbol(symbol="IBM"),
        RemoveSymbol(symbol="MSFT"),
        AddSymbol(symbol="MSFT"),
        ListActors(request=1),
        ReviveActor(request=2, actor="SymbolActor(AAPL)"),
        ListDeadLetters(request=3, limit=10),
        RequeueDeadLetters(request=4, numbers=(1, 2, 3)),
        ListHeldReturns(request=5, limit=10),
        ReleaseHeldReturns(request=6, numbers=(1, 2, 3)),
        DiscardHeldReturns(request=7, numbers=(1, 2, 3)),
        ReportStatus(request=8, limit=10),
    ]


GOLDEN: Final = [encode(message) for message in golden_messages()]


# Messages that are well formed and mean harm.


def _bombs() -> Iterator[bytes]:
    def observed(value: float, stamp: int = BAR, **changed: object) -> bytes:
        return encode(
            ReturnObserved(
                symbol="AAPL",
                ts_event=stamp,
                period_return=value,
                seq=int(str(changed.get("seq", 0))),
            )
        )

    for value in (nan, inf, -inf, 1e308, -1e308, 5e-324):
        yield frame(observed(value))
    for stamp in (0, 1, 2**63 - 1, BAR + 10**18):
        yield frame(observed(0.01, stamp))
        yield frame(
            encode(
                BenchmarkReturnObserved(
                    benchmark="SPY", ts_event=stamp, period_return=0.01
                )
            )
        )
    # A sequence that goes back, and one that jumps.
    yield b"".join(frame(observed(0.1, BAR + i, seq=s)) for i, s in enumerate((9, 1)))
    yield frame(observed(0.1, seq=2**63 - 1))
    # Stamps before the epoch, and beyond an int64.
    for raw in (b"\xff", b"\xd3" + b"\x80" + bytes(7), b"\xcf" + b"\xff" * 8):
        yield frame(b"\x96\xa1R\xa4AAPL" + raw + b"\xcb" + bytes(8) + b"\x00\x00")
    # Lengths, depths and widths that are announced and not there.
    for header in (0, 2**24, 2**24 + 1, 2**31, 2**32 - 1):
        yield struct.pack(">I", header)
    for marker in (b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff"):
        yield frame(marker)
        yield frame(b"\x93\xa1D\x01" + marker)
    yield frame(b"\x97\xa1C\x01\x01\xc6\xff\xff\xff\xff")
    for nest in (b"\x91", b"\x81\x01"):
        yield frame(nest * 10_000)
        yield frame(b"\x93\xa1H\x01" + nest * 10_000)
    # Names that nobody has, and many of them; the same one twice, at the far end.
    names = tuple(f"X{i}" for i in range(5000))
    yield frame(encode(SymbolsDeclared(table=2, symbols=names)))
    yield frame(encode(SymbolsDeclared(table=2, symbols=(*names, names[-1]))))
    flood = struct.pack("<5000d", *[0.1] * 5000)
    yield frame(
        encode(ReturnsObserved(ts_event=BAR, symbols=names, period_returns=flood))
    )
    yield b"".join(
        frame(encode(ReturnObserved(symbol=name, ts_event=BAR, period_return=0.1)))
        for name in names[:1000]
    )
    # Text that is none, and patterns that ask for much.
    yield frame(b"\x96\xa1R\xa4\xff\xfe\xfd\xfc\x01\xcb" + bytes(8) + b"\x00\x00")
    yield frame(b"\x92\xda\xff\xff" + b"H" * 65_535)
    for pattern in ("*." * 200 + "*", ">" * 500, "beta" + "." * 500, "%2E" * 170):
        yield frame(encode(Subscribe(subscription=3, pattern=pattern)))
    yield b"".join(
        frame(encode(Subscribe(subscription=i, pattern="beta.*.*")))
        for i in range(2000)
    )
    yield frame(encode([Heartbeat(ts_init=1)] * 5000))


BOMBS: Final = list(_bombs())

MARKERS: Final = bytes((0x00, 0x7F, 0x80, 0x90, 0x9F, 0xA0, 0xC0, 0xC4, 0xC6, 0xCA))
TAIL: Final = bytes((0xCB, 0xCF, 0xD3, 0xD9, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xFF))


def mutated(rng: random.Random) -> bytes:
    """Return a golden frame, or several, with some injuries."""
    data = bytearray()
    for _ in range(rng.randint(1, 3)):
        payload = bytearray(rng.choice(GOLDEN))
        for _ in range(rng.randint(0, 4)):
            _injure(payload, rng)
        data += frame(bytes(payload))
    if rng.random() < 0.1:  # noqa: PLR2004 - a header, or what follows one
        _injure(data, rng)
    return bytes(data)


def _injure(data: bytearray, rng: random.Random) -> None:
    if not data:
        return
    at = rng.randrange(len(data))
    kind = rng.randrange(7)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.choice(MARKERS + TAIL)
    elif kind == 2:  # noqa: PLR2004
        del data[at : at + rng.randint(1, 9)]
    elif kind == 3:  # noqa: PLR2004
        data[at:at] = rng.randbytes(rng.randint(1, 9))
    elif kind == 4:  # noqa: PLR2004
        data[at:at] = data[at : at + rng.randint(1, 40)]
    elif kind == 5:  # noqa: PLR2004
        del data[at:]
    else:
        other = rng.choice(GOLDEN)
        data[at:] = other[rng.randrange(len(other)) :]


class _Transport:
    # What a connection needs of a transport whose peer reads everything at once.
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.written.extend(parts)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, _name: str) -> object:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def _nothing(self, *_arguments: object, **_options: object) -> None:
        pass

    set_write_buffer_limits = write_eof = _nothing


class Target:
    """A server without sockets."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        factory = BetaFactory(SYMBOLS, benchmark="SPY", config=MarketBetaConfig(20, 3))

        def publish(turn: list[BetaColumns | BetaRows]) -> None:
            self.server.publish(turn)

        self.system = System(
            factory,
            LiveClock(),
            call_later=self.loop.call_later,
            call_soon=self.loop.call_soon,
            on_updates=publish,
        )

        async def make() -> Server:
            return Server(self.system, instance="fuzz")

        self.server = self.loop.run_until_complete(make())
        self.system.start()
        self.failures: list[str] = []
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self.failures.append(  # type: ignore[method-assign]
            record.getMessage()
        )
        logging.getLogger("beta_factory").addHandler(handler)
        logging.getLogger("beta_factory").propagate = False
        self._handler = handler
        # What is loaded when it is first used is no fault of the frame that uses it.
        self.send(Role.SUBSCRIBER, [frame(GOLDEN[1])])

    def close(self) -> None:
        """Give the loop and the log back."""
        self.system.stop()
        self.loop.close()
        logging.getLogger("beta_factory").removeHandler(self._handler)
        logging.getLogger("beta_factory").propagate = True

    def send(self, role: Role | None, reads: Sequence[bytes]) -> list[RejectReason]:
        """Run one connection over some reads; return what it was rejected for.

        Raises
        ------
        AssertionError
            When it did what is documented nowhere.
        """
        transport = _Transport()
        connection = Connection(self.server, self.loop)
        connection.connection_made(transport)  # type: ignore[arg-type]
        if role is not None:
            connection.data_received(frame(encode(Hello(role=role, name="fuzz"))))
        for data in reads:
            connection.data_received(data)
        self.loop.run_until_complete(asyncio.sleep(0))
        while not transport.is_read:  # it waits for its next turn
            self.loop.run_until_complete(asyncio.sleep(0))
        connection.connection_lost(None)
        messages: list[Message] = []
        reader = FrameReader()
        decode_payloads(reader.feed(b"".join(transport.written)), messages)
        _check(not reader.n_held, "the last answer was cut short")
        rejected = [m for m in messages if isinstance(m, Rejected)]
        _check(not any("internal error" in m.detail for m in rejected), rejected)
        _check(not self.failures, self.failures)
        _check(not self.server.connections, "a connection is left")
        if role is None and not any(isinstance(m, Hello) for m in messages):
            _check(len(messages) == len(rejected), messages)
        return [m.reason for m in rejected]


def _check(holds: bool, otherwise: object) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(otherwise)


@dataclass
class Report:
    """What many broken frames did."""

    n_streams: int = 0
    n_bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    median_ns: float = 0.0
    slowest: list[tuple[float, int, int, bytes]] = field(
        default_factory=list[tuple[float, int, int, bytes]]
    )
    """The streams that cost most for what they are: how many times the median, their
    nanoseconds, their size and their first bytes."""
    growth_mb: float = 0.0
    n_dropped: int = 0


def run(n_streams: int, seed: int, clock: Callable[[], int]) -> Report:
    """Send streams of mutated frames and bombs, and say what they did."""
    rng = random.Random(seed)  # noqa: S311 - it has to be repeatable
    target = Target()
    report = Report()
    costs = Costs()
    resident = 0.0
    try:
        for number in range(n_streams):
            is_bomb = number % BOMB_SHARE == 0
            data = BOMBS[number // BOMB_SHARE % len(BOMBS)] if is_bomb else mutated(rng)
            cut = rng.randrange(len(data) + 1)
            reads = [data] if rng.random() < 0.5 else [data[:cut], data[cut:]]  # noqa: PLR2004
            role = None if number % 16 == 15 else ROLES[number % 3]  # noqa: PLR2004
            started = clock()
            reasons = target.send(role, reads)
            elapsed = clock() - started
            costs.add(elapsed, data)
            report.outcomes.update(map(str, reasons) if reasons else ["taken"])
            report.n_bytes += len(data)
            if number == min(WARM_UP, n_streams // 2):
                resident = resident_mb()
        report.n_streams = n_streams
        report.median_ns = median(costs.elapsed)
        report.slowest = costs.slowest()
        report.growth_mb = resident_mb() - resident
        report.n_dropped = sum(target.system.statistics().dropped.values())
    finally:
        target.close()
    return report


def n_frames_of(data: bytes) -> int:
    """Return how many frames a stream announces, at least 1."""
    n_frames, at = 0, 0
    while at + 4 <= len(data):
        at += 4 + struct.unpack_from(">I", data, at)[0]
        n_frames += 1
    return max(n_frames, 1)


class Costs:
    """What each stream cost; as arrays, for their own growth must not be measured."""

    def __init__(self) -> None:
        self.elapsed = array("q")
        self.n_frames = array("q")
        self.n_bytes = array("q")
        self._heads: dict[int, bytes] = {}
        self._usual = 0.0

    def add(self, elapsed: int, data: bytes) -> None:
        """Note a stream; its first bytes only where it is out of the usual."""
        if len(self.elapsed) % BATCH == 0:
            self._usual = median(self.elapsed[-BATCH:] or [elapsed])
        if elapsed > 3 * self._usual and len(self._heads) < 10 * BATCH:
            self._heads[len(self.elapsed)] = data[:40]
        self.elapsed.append(elapsed)
        self.n_frames.append(n_frames_of(data))
        self.n_bytes.append(len(data))

    def slowest(self) -> list[tuple[float, int, int, bytes]]:
        """Return the streams that cost most for their frames and bytes."""
        usual = median(self.elapsed)
        frames, size = median(self.n_frames), median(self.n_bytes)
        relative: list[tuple[float, int, int, bytes]] = []
        for number, elapsed in enumerate(self.elapsed):
            due = max(self.n_frames[number] / frames, self.n_bytes[number] / size, 1.0)
            head = self._heads.get(number, b"")
            relative.append(
                (elapsed / usual / due, elapsed, self.n_bytes[number], head)
            )
        return sorted(relative, reverse=True)[:10]


def resident_mb() -> float:
    """Return the process's resident memory, or its maximum if need be."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz_with_atheris(arguments: list[str]) -> None:
    """Let libFuzzer choose the bytes; the first says who sends the rest."""
    # An extra tool that most machines do not have.
    atheris: Any = importlib.import_module("atheris")
    atheris.instrument_all()
    target = Target()

    def one_input(data: bytes) -> None:
        if data:
            roles = (None, *ROLES)
            target.send(roles[data[0] % len(roles)], [data[1:]])

    with tempfile.TemporaryDirectory() as corpus:
        for number, payload in enumerate(GOLDEN):
            data = bytes((number,)) + frame(payload)
            Path(corpus, str(number)).write_bytes(data)
        for number, data in enumerate(BOMBS):
            Path(corpus, f"bomb-{number}").write_bytes(bytes((number % 4,)) + data)
        atheris.Setup([sys.argv[0], *arguments, corpus], one_input)
        atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    if options.atheris:
        fuzz_with_atheris(rest)
        return 0
    report = run(options.frames, options.seed, time.thread_time_ns)
    print(f"streams   {report.n_streams:,} ({report.n_bytes:,} bytes)")
    for outcome, count in report.outcomes.most_common():
        print(f"  {outcome:<16} {count:>8,}")
    print(f"dropped   {report.n_dropped:,} observations, each counted")
    print(f"growth    {report.growth_mb:.1f} MB")
    print(f"median    {report.median_ns / 1e3:.1f} us a stream")
    for times, elapsed, size, head in report.slowest:
        print(f"  {elapsed / 1e3:10.1f} us {times:6.0f}x {size:>8,} bytes {head.hex()}")
    if report.growth_mb > MAX_GROWTH_MB:
        print(f"the memory has grown by more than {MAX_GROWTH_MB} MB")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
