"""A sidecar process under load: how it is started, fed and looked at from outside.

Rule: whoever measures does nothing else. Feeds, readers and operators are processes of
their own, which say what they saw as one line of JSON when they end.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from beta_factory.messages import (
    BenchmarkReturnObserved,
    Encoding,
    Hello,
    Message,
    Overflow,
    ReturnObserved,
    Role,
    Subscribe,
    decode_payloads,
    encode,
)
from beta_factory.runtime.framing import FrameReader, frame

LISTENS_WITHIN_S: Final = 30.0
READ_BYTES: Final = 256 * 1024
FIRST_NS: Final = 1_760_000_000 * 10**9
BAR_NS: Final = 10**6
FIRST_SEQ: Final = 2**33
"""Sequence numbers from here on all take nine bytes, so that they can be patched."""

Sample = tuple[float, float]
"""A time and what was measured then."""

CONFIG: Final = """\
symbols = {symbols}
[server]
address = "{folder}/sidecar.sock"
outbox_high_water_bytes = {high_water}
[factors.market]
benchmark = "SPY"
lookback_length = {lookback}
min_observations = 3
{more}
"""


class Sidecar:
    """A sidecar process.

    Parameters
    ----------
    folder
        Where its socket and its log are.
    process
        The process itself.
    """

    def __init__(self, folder: str, process: "subprocess.Popen[bytes]") -> None:
        self.address = f"{folder}/sidecar.sock"
        self.log = Path(folder, "log")
        self.pid = process.pid

    @property
    def resident_mb(self) -> float:
        """Resident memory, of the sidecar and not of its helpers."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def n_files(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def cpu_s(self) -> float:
        """Processor time used so far, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def sidecar(
    symbols: Sequence[str],
    *,
    high_water: int = 262_144,
    lookback: int = 60,
    more: str = "",
) -> AsyncGenerator[Sidecar]:
    """Run a sidecar process.

    Parameters
    ----------
    symbols
        Its universe.
    high_water, lookback
        See ``[server]`` and ``[factors]``.
    more
        Further sections, in which ``{folder}`` is where they may put files.
    """
    with TemporaryDirectory(prefix="beta-factory-") as folder:
        config = CONFIG.format(
            symbols=json.dumps(list(symbols)),
            folder=folder,
            high_water=high_water,
            lookback=lookback,
            more=more.format(folder=folder),
        )
        process = _start(folder, config)
        running = Sidecar(folder, process)
        try:
            async with asyncio.timeout(LISTENS_WITHIN_S):
                while not Path(running.address).exists():  # noqa: ASYNC110, ASYNC240
                    await asyncio.sleep(0.05)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait)


def _start(folder: str, config: str) -> "subprocess.Popen[bytes]":
    path = Path(folder, "sidecar.toml")
    path.write_text(config)
    with Path(folder, "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "beta_factory", "run", "--config", str(path)],
            stdout=log,
            stderr=log,
        )


class Line:
    """The bars of one market as frames of one message each, made by patching bytes.

    Every feed that carries this market sends the same bars: the benchmark's return,
    then one of each symbol. So the first feed to send a bar fills it, and what the
    others send of it is a duplicate or late.

    Parameters
    ----------
    symbols
        In the order of sending.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.n_messages = len(symbols) + 1
        """Per bar."""
        parts = [frame(encode(_patchable(None)))]
        parts += [frame(encode(_patchable(symbol))) for symbol in symbols]
        stream = b"".join(parts)
        self._bytes = np.frombuffer(bytearray(stream), dtype=np.uint8)
        self._stamps = _places(stream, _STAMP, self.n_messages)
        self._seqs = _places(stream, _SEQ, self.n_messages)
        self._returns = _places(stream, _RETURN, self.n_messages)
        self._numbers = np.arange(self.n_messages)

    def bar(self, number: int, first_seq: int) -> bytes:
        """Return one bar's frames; its messages are numbered from ``first_seq``."""
        returns = ((number * 7919 + self._numbers * 104_729) % 1999 - 999) * 1e-6
        stamp = np.full(self.n_messages, FIRST_NS + number * BAR_NS)
        self._bytes[self._stamps] = _big_endian(stamp)
        self._bytes[self._seqs] = _big_endian(first_seq + self._numbers)
        self._bytes[self._returns] = _big_endian(returns)
        return self._bytes.tobytes()


def _patchable(symbol: str | None) -> Message:
    stamp, seq, period_return = 2**60 + 2**20, FIRST_SEQ + 2**21, 0.123
    if symbol is None:
        return BenchmarkReturnObserved(
            benchmark="SPY", ts_event=stamp, period_return=period_return, seq=seq
        )
    return ReturnObserved(
        symbol=symbol, ts_event=stamp, period_return=period_return, seq=seq
    )


_STAMP: Final = encode(2**60 + 2**20)
_SEQ: Final = encode(FIRST_SEQ + 2**21)
_RETURN: Final = encode(0.123)


def _places(stream: bytes, value: bytes, n_expected: int) -> NDArray[np.intp]:
    # Where the eight bytes of each such value stand, after their type; shape (n, 8).
    found: list[int] = []
    at = stream.find(value)
    while at >= 0:
        found.append(at + 1)
        at = stream.find(value, at + 1)
    if len(found) != n_expected:
        raise AssertionError(f"{len(found)} places for {n_expected} values")
    return np.array(found)[:, None] + np.arange(8)


def _big_endian(values: NDArray[Any]) -> NDArray[np.uint8]:
    order = values.dtype.newbyteorder(">")
    return values.astype(order).view(np.uint8).reshape(len(values), 8)


class RunQueue:
    """How long a thread was ready and no processor was free, as Linux counts it.

    Elsewhere it counts nothing, so that all of a delay is held against who is measured.

    Parameters
    ----------
    pid
        Of the process whose main thread it is; the caller's by default.
    """

    def __init__(self, pid: int | None = None) -> None:
        pid = pid or os.getpid()
        self._path = Path(f"/proc/{pid}/task/{pid}/schedstat")

    @property
    def waited_s(self) -> float:
        """Seconds so far."""
        try:
            return int(self._path.read_bytes().split()[1]) / 1e9
        except OSError:
            return 0.0


class Raw:
    """A peer that reads when it is told to."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()

    @classmethod
    async def dial(
        cls, address: str, name: str, role: Role, *, limit: int = 2**20
    ) -> "Raw":
        """Connect and greet; a peer that reads nothing buffers twice the limit."""
        peer = cls(*await asyncio.open_unix_connection(address, limit=limit))
        peer.writer.write(frame(encode(Hello(role=role, name=name))))
        return peer

    @classmethod
    async def subscribe(
        cls,
        address: str,
        name: str,
        overflow: Overflow = Overflow.CONFLATE,
        *,
        pattern: str = "beta.>",
        limit: int = 2**20,
    ) -> "Raw":
        """Connect, greet and subscribe, and read nothing."""
        peer = await cls.dial(address, name, Role.SUBSCRIBER, limit=limit)
        request = Subscribe(
            subscription=1, pattern=pattern, encoding=Encoding.ROWS, overflow=overflow
        )
        peer.writer.write(frame(encode(request)))
        await peer.writer.drain()
        return peer

    def small(self, n_bytes: int) -> "Raw":
        """Let the kernel hold so much for it, and no more."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, n_bytes)
        return self

    async def receive(self, n_bytes: int = READ_BYTES) -> list[Message] | None:
        """Read once; ``None`` at the end of the stream."""
        try:
            data = await self.reader.read(n_bytes)
        except ConnectionResetError:
            return None
        if not data:
            return None
        messages: list[Message] = []
        decode_payloads(self._frames.feed(data), messages)
        return messages

    async def rest(self, timeout_s: float = 10.0) -> list[Message]:
        """Read everything that is still there, as fast as it comes."""
        messages: list[Message] = []
        try:
            async with asyncio.timeout(timeout_s):
                while (some := await self.receive()) is not None:
                    messages += some
        except TimeoutError:
            pass
        return messages


class Worker:
    """A process of a script, in one of its roles.

    Parameters
    ----------
    script
        The script's path.
    role
        Its first argument.
    options
        Its further ones, as ``--name=value``.
    niceness
        Load is nicer than what it loads: on a desk it comes from other machines.
    """

    def __init__(
        self, script: str, role: str, *, niceness: int = 0, **options: object
    ) -> None:
        arguments = [f"--{key.replace('_', '-')}={v}" for key, v in options.items()]
        self._process = subprocess.Popen(
            [sys.executable, script, role, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if niceness:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def line(self) -> Any:  # noqa: ANN401 - what the role prints
        """Return the next line that it prints, read as JSON."""
        stream = self._process.stdout
        if stream is None:
            raise AssertionError("a worker's output is read")
        line = await asyncio.to_thread(stream.readline)
        if not line:
            raise RuntimeError(f"a worker ended early: {self._process.args!r}")
        return json.loads(line)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    async def end(self) -> None:
        """Wait for it, or end it when it does not end by itself."""
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def say(value: object) -> None:
    """Print one line for whoever started this worker."""
    # An interpreter told not to buffer forgets what one write leaves of a long line.
    rest = memoryview(json.dumps(value).encode() + b"\n")
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, which is one of the values."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the median slope between pairs of samples (Theil and Sen).

    Half of the samples may be disturbed without moving it, which is why a trend is
    looked for with it and not with least squares.
    """
    slopes = [
        (later - earlier) / (t1 - t0)
        for (t0, earlier), (t1, later) in _pairs(list(zip(times, values, strict=True)))
        if t1 > t0
    ]
    return median(slopes) if slopes else 0.0


def _pairs(items: list[Sample]) -> Iterator[tuple[Sample, Sample]]:
    for i, first in enumerate(items):
        for second in items[i + 1 :]:
            yield first, second
