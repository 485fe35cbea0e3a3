"""What the tests of the runtime share: virtual time, a stage for actors, raw peers.

Rule: a fake does only what its user can observe of the real thing, and each has a test
of its own in `runtime/test_testkit.py`.
"""

import asyncio
import random
import selectors
import struct
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from msgspec.structs import replace

from beta_factory.actors import (
    Behavior,
    BetaColumns,
    BetaFactory,
    BetaRows,
    Factor,
    MarketBetaConfig,
)
from beta_factory.actors.behavior import Outgoing
from beta_factory.actors.symbol import SymbolActor
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import (
    BetasUpdated,
    BetaUpdated,
    Encoding,
    Hello,
    Message,
    Overflow,
    Reason,
    Role,
    Status,
    Subscribe,
    Subscribed,
    decode_payload,
    encode,
)
from beta_factory.runtime import framing
from beta_factory.runtime.cell import ActorCell, CellState
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from beta_factory.runtime.supervisor import RestartPolicy
from beta_factory.runtime.system import System
from strategies import asset, bench, frame

M = TypeVar("M", bound=Message)

PATIENCE_S = 10.0
"""How long a test over real sockets waits for what must come; it fails after that."""


# Virtual time


class DeadlockError(Exception):
    """Everything waits, and nothing is scheduled that could wake it."""


class _VirtualSelector(selectors.SelectSelector):
    # Waiting takes no time: the clock moves instead. Nothing is ever ready.
    now = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour of waiting is over at once.

    It has no sockets and no threads. It is also a `Clock`.
    """

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def monotonic(self) -> float:
        return self.time()

    def time_ns(self) -> int:
        return round(self.time() * 1e9)

    def advance(self, seconds: float = 0.0) -> None:
        """Run what is due within the next ``seconds``."""
        self.run_until_complete(asyncio.sleep(seconds))

    def settle(self) -> None:
        """Run until nothing is scheduled any more."""
        while self.n_scheduled:
            due: list[float] = [handle.when() for handle in self._scheduled]  # type: ignore[attr-defined]
            self.advance(max([self.time(), *due]) - self.time())

    @property
    def n_scheduled(self) -> int:
        """Callbacks and timers that wait, without the cancelled ones."""
        waiting: list[asyncio.Handle] = [*self._ready, *self._scheduled]  # type: ignore[attr-defined]
        return sum(not handle.cancelled() for handle in waiting)


@contextmanager
def virtual_loop() -> Generator[VirtualLoop]:
    """Open a virtual loop, and close it afterwards."""
    loop = VirtualLoop()
    try:
        yield loop
    finally:
        loop.close()


# Actors


class Probe:
    """A behavior that writes down what it is told, and fails when it is told to."""

    def __init__(self, name: str = "probe") -> None:
        self.name = name
        self.seen: list[Message] = []
        self.calls: list[str] = []
        """Names of all that was called, in order."""
        self.raises: dict[str, BaseException] = {}
        """What a hook raises, each time, by the name of the hook."""
        self.poison: dict[int, BaseException] = {}
        """What `receive` raises, by the ``ts_event`` of the message."""
        self.answers: dict[int, Sequence[Message]] = {}
        """What `receive` returns, by the ``ts_event`` of the message."""

    def receive(self, message: Message) -> Outgoing:
        self.calls.append("receive")
        stamp = getattr(message, "ts_event", -1)
        if stamp in self.poison:
            raise self.poison[stamp]
        self.seen.append(message)
        return self.answers.get(stamp, ())

    def on_start(self) -> None:
        self._called("on_start")

    def on_stop(self) -> None:
        self._called("on_stop")

    def on_restart(self, error: BaseException) -> None:
        self._called("on_restart")

    @property
    def stamps(self) -> list[int]:
        """``ts_event`` of every message taken."""
        return [getattr(message, "ts_event", -1) for message in self.seen]

    def _called(self, hook: str) -> None:
        self.calls.append(hook)
        if hook in self.raises:
            raise self.raises[hook]


class Flaky(Probe):
    """A probe in front of a real actor: what it lets through, the actor takes."""

    def __init__(self, actor: Behavior) -> None:
        super().__init__(actor.name)
        self.actor = actor

    def receive(self, message: Message) -> Outgoing:
        following = super().receive(message)
        return [*following, *self.actor.receive(message)]

    def on_restart(self, error: BaseException) -> None:
        super().on_restart(error)
        self.actor.on_restart(error)

    @property
    def status(self) -> Status | None:
        """What an operator made of the symbol."""
        return self.actor.status if isinstance(self.actor, SymbolActor) else None

    @property
    def reason(self) -> Reason:
        """Why."""
        return self.actor.reason if isinstance(self.actor, SymbolActor) else Reason.NONE


class FlakyBroadcaster(Flaky):
    """A benchmark may have the name of a symbol, but not its type too."""


FORGIVING = RestartPolicy(
    restart_limit=3,
    restart_window_s=60.0,
    restart_backoff_s=1.0,
    restart_backoff_max_s=1.0,
)
"""An actor comes back within `RESTART_S`, three times a minute."""

RESTART_S = 1.0

SMALL = MarketBetaConfig(lookback_length=8, min_observations=3, stale_after=8)
SYMBOLS = ("AAPL", "BAC", "IBM")


class Stage:
    """A system in virtual time, whose actors can be made to fail.

    Parameters
    ----------
    symbols
        The universe; the benchmark is SPY.
    options
        Of `System`.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        symbols: Sequence[str] = SYMBOLS,
        *,
        factors: Sequence[Factor] | None = None,
        **options: Any,
    ) -> None:
        self.loop = loop
        self.factory = BetaFactory(
            symbols, factors=factors or [Factor("SPY", model=SMALL)]
        )
        self.flaky = {name: Flaky(a) for name, a in self.factory.actors.items()}
        self.broadcaster = FlakyBroadcaster(self.factory.broadcasters["SPY"])
        # Behaviors are found by what they do, not by their type.
        self.factory.actors.update(self.flaky)  # type: ignore[arg-type]
        self.factory.broadcasters["SPY"] = self.broadcaster  # type: ignore[assignment]
        self.turns: list[list[BetaColumns | BetaRows]] = []
        self.listeners: list[Callable[[list[BetaColumns | BetaRows]], None]] = [
            self.turns.append
        ]
        """Called with what each turn computed."""
        self.tables = SymbolTables(self.factory.row_of)
        options.setdefault("restart_policy", FORGIVING)
        self.system = System(
            self.factory,
            loop,
            call_later=loop.call_later,
            call_soon=loop.call_soon,
            on_updates=self._publish,
            **options,
        )

    def cell(self, name: str) -> ActorCell:
        """Return the cell of a symbol's actor."""
        return self._cell_of(self.flaky[name])

    @property
    def broadcaster_cell(self) -> ActorCell:
        """The cell of the benchmark's actor."""
        return self._cell_of(self.broadcaster)

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        for listener in self.listeners:
            listener(turn)

    def _cell_of(self, behavior: Flaky) -> ActorCell:
        cells = self.system.cells.values()
        return next(cell for cell in cells if cell.behavior is behavior)

    def take(self, *messages: Message) -> None:
        """Take messages without ending the turn."""
        for message in messages:
            self.system.take(message, self.tables)

    def turn(self, *messages: Message) -> None:
        """Take messages in one turn."""
        self.take(*messages)
        self.system.end_turn()

    def come_back(self, name: str) -> None:
        """Restart an actor that waits for its restart, now."""
        cell = self.cell(name)
        cell.state = CellState.QUARANTINED  # from where an operator gets it back
        self.system.supervisor.revive(cell)

    def poison(self, name: str, *stamps: int) -> None:
        """Let an actor raise at its returns of these bars."""
        for stamp in stamps:
            self.flaky[name].poison[stamp] = ValueError(f"poison at {stamp}")

    @property
    def updates(self) -> list[BetaUpdated]:
        """Everything published so far, in order."""
        return [row for turn in self.turns for some in turn for row in some.as_rows()]

    @property
    def drops(self) -> dict[str, int]:
        """What was dropped so far, by reason."""
        return self.system.statistics().dropped

    def updates_of(self, *symbols: str) -> list[BetaUpdated]:
        """Everything published of some symbols, without the factor's numbering."""
        return [replace(u, seq=0) for u in self.updates if u.symbol in symbols]

    @property
    def letters(self) -> list[tuple[str, int, str]]:
        """Dead letters as (actor, stamp, reason)."""
        return [
            (letter.actor, getattr(letter.message, "ts_event", -1), letter.reason)
            for letter in self.system.supervisor.dead_letters
        ]


def bars_of(
    n_bars: int, symbols: Sequence[str] = SYMBOLS, *, first: int = 1
) -> list[list[Message]]:
    """Return some bars as single messages, the benchmark first in each."""
    return [
        [
            bench(ts, _value(ts, -1), ts_init=ts),
            *(asset(s, ts, _value(ts, i), ts_init=ts) for i, s in enumerate(symbols)),
        ]
        for ts in range(first, first + n_bars)
    ]


def column_bars_of(
    n_bars: int, symbols: Sequence[str] = SYMBOLS, *, first: int = 1
) -> list[list[Message]]:
    """Return the same bars as columnar messages."""
    n = len(symbols)
    return [
        [
            bench(ts, _value(ts, -1), ts_init=ts),
            frame(ts, symbols, [_value(ts, i) for i in range(n)], ts_init=ts),
        ]
        for ts in range(first, first + n_bars)
    ]


def _value(ts: int, i: int) -> float:
    # Any numbers will do, so long as they neither repeat nor line up.
    return random.Random(1000 * ts + i).uniform(-0.02, 0.02)


# Subscribers


@dataclass
class FakeTransport:
    """A transport whose peer reads when the test says so."""

    on_pause: Callable[[], None] = lambda: None
    on_resume: Callable[[], None] = lambda: None
    high: int = 64 * 1024
    writes: list[bytes] = field(default_factory=list[bytes])
    """Every write so far."""
    is_reading: bool = True
    is_read: bool = True
    """Whether we read what the peer sends."""
    is_closed: bool = False
    is_aborted: bool = False
    has_ended: bool = False
    """Whether the peer was told that nothing more will come."""
    _pending: int = 0
    _is_paused: bool = False
    _taken: int = 0

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        if high is not None:
            self.high = high

    def get_write_buffer_size(self) -> int:
        return self._pending

    def write(self, data: bytes) -> None:
        if self.has_ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.writes.append(data)
        if not self.is_reading:
            self._pending += len(data)
            if self._pending > self.high and not self._is_paused:
                self._is_paused = True
                self.on_pause()

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def get_extra_info(self, name: str) -> object:
        return None

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def read(self) -> None:
        """Let the peer read all that waits, and go on reading."""
        self.is_reading = True
        self._pending = 0
        if self._is_paused:
            self._is_paused = False
            self.on_resume()

    def stop_reading(self) -> None:
        """Let the peer read nothing more."""
        self.is_reading = False

    def rewind(self) -> None:
        """Let `messages` begin again."""
        self._taken = 0

    def messages(self) -> list[Message]:
        """Return the messages written since the last call."""
        data = b"".join(self.writes[self._taken :])
        self._taken = len(self.writes)
        return messages_in(data)


def messages_in(data: bytes) -> list[Message]:
    """Return the messages of whole frames."""
    payloads = framing.FrameReader().feed(data)
    return [message for payload in payloads for message in decode_payload(payload)]


def rows_in(messages: Iterable[Message]) -> list[BetaUpdated]:
    """Return the updates among messages that are rows."""
    return [message for message in messages if type(message) is BetaUpdated]


# Real sockets


class Peer:
    """The other end of a connection to a sidecar, speaking in raw frames."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.writer = writer
        self.greeting = Hello(role=Role.SIDECAR)
        """The sidecar's `Hello`."""
        self._reader = reader
        self._frames = framing.FrameReader()
        self._received: deque[Message] = deque()

    async def greet(
        self, name: str = "peer", role: Role = Role.SUBSCRIBER, token: str = ""
    ) -> Self:
        """Exchange `Hello`."""
        await self.send(Hello(role=role, name=name, token=token))
        self.greeting = await self.expect(Hello)
        return self

    async def send(self, *messages: Message) -> None:
        """Send each message as a frame of its own, all in one write."""
        await self.send_bytes(framed(*messages))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def receive(self) -> Message | None:
        """Return the next message; ``None`` when the sidecar has closed."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._received:
                try:
                    data = await self._reader.read(64 * 1024)
                except ConnectionResetError:
                    data = b""
                if not data:
                    assert not self._frames.n_held, "the stream ended inside a frame"
                    return None
                for payload in self._frames.feed(data):
                    self._received.extend(decode_payload(payload))
        return self._received.popleft()

    async def expect(self, kind: type[M]) -> M:
        """Return the next message, which must be of this type."""
        message = await self.receive()
        assert isinstance(message, kind), message
        return message

    async def until(self, wanted: Callable[[Message], bool]) -> list[Message]:
        """Return all messages up to the first wanted one."""
        messages: list[Message] = []
        while not messages or not wanted(messages[-1]):
            message = await self.receive()
            assert message is not None, f"closed after {messages[-3:]}"
            messages.append(message)
        return messages

    async def rest(self) -> list[Message]:
        """Return all messages until the sidecar closes."""
        messages: list[Message] = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        return messages

    async def subscribe(
        self,
        pattern: str,
        *,
        subscription: int = 1,
        snapshot: bool = True,
        encoding: Encoding = Encoding.ROWS,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> Subscribed:
        """Subscribe, and return the answer."""
        await self.send(
            Subscribe(
                subscription=subscription,
                pattern=pattern,
                snapshot=snapshot,
                encoding=encoding,
                overflow=overflow,
            )
        )
        messages = await self.until(lambda message: type(message) is Subscribed)
        answer = messages[-1]
        assert isinstance(answer, Subscribed)
        return answer

    async def updates(self, count: int) -> list[BetaUpdated]:
        """Return the next ``count`` messages, which must be rows."""
        return [await self.expect(BetaUpdated) for _ in range(count)]

    async def updates_to(self, seq: int) -> list[BetaUpdated]:
        """Return all rows up to one with this ``seq``; other messages are left out."""
        return rows_in(await self.until(lambda message: seq_of(message) >= seq))

    async def close(self) -> None:
        """Close, as a process that ends does."""
        self.writer.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.writer.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the sidecar was first


def seq_of(message: Message) -> int:
    """Return the position of an update, -1 for any other message."""
    return message.seq if isinstance(message, BetaUpdated | BetasUpdated) else -1


def framed(*messages: Message) -> bytes:
    """Return messages as frames, one each."""
    return b"".join(framing.frame(encode(message)) for message in messages)


def length(size: int) -> bytes:
    """Return the header of a frame of that size."""
    return struct.pack(">I", size)


@dataclass
class Sidecar:
    """A server and its system in this process, and the peers of a test."""

    server: Server
    system: System
    path: Path
    _peers: list[Peer] = field(default_factory=list[Peer])

    async def dial(self, *, limit: int = 2**16) -> Peer:
        """Connect and say nothing; a peer that reads nothing buffers 2 ``limit``."""
        reader, writer = await asyncio.open_unix_connection(self.path, limit=limit)
        peer = Peer(reader, writer)
        self._peers.append(peer)
        return peer

    async def connect(
        self, name: str = "peer", role: Role = Role.SUBSCRIBER, *, limit: int = 2**16
    ) -> Peer:
        """Connect and greet."""
        peer = await self.dial(limit=limit)
        return await peer.greet(name, role)

    async def subscriber(
        self,
        pattern: str = "beta.>",
        *,
        name: str = "subscriber",
        limit: int = 2**16,
        encoding: Encoding = Encoding.ROWS,
        overflow: Overflow = Overflow.CONFLATE,
    ) -> Peer:
        """Connect, greet and subscribe, before there is anything to snapshot."""
        peer = await self.connect(name, limit=limit)
        await peer.subscribe(pattern, encoding=encoding, overflow=overflow)
        return peer

    async def close(self) -> None:
        """End as `serve` does, without waiting for slow readers."""
        self.system.stop()
        self.server.say_goodbye("the test is over")
        for connection in tuple(self.server.connections):
            connection.abort()
        for peer in self._peers:
            await peer.close()
        async with asyncio.timeout(PATIENCE_S):
            await self.server.emptied()


@asynccontextmanager
async def sidecar(
    path: Path,
    *,
    symbols: Sequence[str] = SYMBOLS,
    factors: Sequence[Factor] | None = None,
    fail: Callable[[BetaFactory], None] = lambda _: None,
    mailbox_capacity: int = 1024,
    overflow: OverflowPolicy = OverflowPolicy.DROP_OLDEST,
    restart_policy: RestartPolicy | None = None,
    **options: Any,
) -> AsyncGenerator[Sidecar]:
    """Run a server on a Unix socket at ``path``.

    Parameters
    ----------
    fail
        Gets the factory before the system does, to make its actors fail.
    options
        Of `Server`.
    """
    loop = asyncio.get_running_loop()
    factory = BetaFactory(symbols, factors=factors or [Factor("SPY", model=SMALL)])
    fail(factory)

    def publish(turn: list[BetaColumns | BetaRows]) -> None:
        server.publish(turn)

    system = System(
        factory,
        _LoopClock(loop),
        call_later=loop.call_later,
        call_soon=loop.call_soon,
        on_updates=publish,
        mailbox_capacity=mailbox_capacity,
        overflow=overflow,
        restart_policy=restart_policy,
    )
    server = Server(system, instance="test", **options)
    system.start()
    listener = await loop.create_unix_server(lambda: Connection(server, loop), path)
    running = Sidecar(server, system, path)
    try:
        yield running
    finally:
        listener.close()
        await running.close()


class _LoopClock:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic = loop.time

    def time_ns(self) -> int:
        return 0


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that the loop's own callbacks bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it is not ours to make an event of
            await asyncio.sleep(0)


# Scripts


def toml_of(table: dict[str, Any]) -> str:
    """Return the assignments of a flat table, as TOML."""
    return "".join(
        f"{key} = {msgspec.json.encode(value).decode()}\n"
        for key, value in table.items()
    )
