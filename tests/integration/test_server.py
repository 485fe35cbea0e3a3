"""Raw frames over real sockets: what a peer does to itself, and never to another."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest
import uvloop

from beta_factory.actors import BetaFactory, Factor
from beta_factory.actors.columns import rows_of
from beta_factory.messages import (
    Acknowledged,
    AddressInUseError,
    BetasUpdated,
    BetaUpdated,
    ConfigError,
    Encoding,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Overflow,
    Rejected,
    RejectReason,
    ReturnsObserved,
    Role,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    Unsubscribe,
    encode,
)
from beta_factory.runtime import farewell as farewell_module
from beta_factory.runtime import server as server_module
from beta_factory.runtime.address import Address
from beta_factory.runtime.backlog import MAX_MESSAGES_PER_TURN, MIN_MESSAGES_PER_TURN
from beta_factory.runtime.config import ServerConfig, SidecarConfig
from beta_factory.runtime.framing import frame as framed_payload
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.peer import Connection
from beta_factory.runtime.server import Server
from beta_factory.runtime.sidecar import SidecarSummary, serve
from beta_factory.runtime.supervisor import RestartPolicy
from strategies import asset, bench, frame, wide_universe
from testkit import (
    PATIENCE_S,
    RESTART_S,
    SMALL,
    SYMBOLS,
    FakeTransport,
    Flaky,
    Peer,
    Sidecar,
    Stage,
    VirtualLoop,
    bars_of,
    column_bars_of,
    eventually,
    framed,
    length,
    rows_in,
    seq_of,
    sidecar,
    virtual_loop,
)

pytestmark = pytest.mark.integration
over_sockets = pytest.mark.anyio

N = len(SYMBOLS)
WIDE = wide_universe(64)
TOKEN = "correct-horse-battery-staple"


class Feed:
    """A peer that numbers what it sends, and waits until it is taken."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.seq = 0

    async def send(self, *messages: Message) -> None:
        """Send messages as one write, and wait for their acknowledgement."""
        numbered: list[Message] = []
        for message in messages:
            self.seq += 1
            numbered.append(msgspec.structs.replace(message, seq=self.seq))
        await self.peer.send(*numbered)
        await self.peer.until(lambda m: m == Acknowledged(seq=self.seq))

    async def bars(
        self,
        first: int,
        n_bars: int,
        symbols: tuple[str, ...] = SYMBOLS,
        *,
        bars: Callable[..., list[list[Message]]] = bars_of,
    ) -> None:
        """Send some bars, one write each."""
        for bar in bars(n_bars, symbols, first=first):
            await self.send(*bar)


async def feed_of(running: Sidecar) -> Feed:
    return Feed(await running.connect("feed", Role.FEED))


def seqs(updates: list[BetaUpdated]) -> list[int]:
    return [update.seq for update in updates]


# A peer that does wrong

BEFORE_HELLO: list[tuple[str, bytes, RejectReason, str]] = [
    (
        "a return",
        framed(asset("BAC", 1, 0.1)),
        RejectReason.UNEXPECTED,
        "must be Hello",
    ),
    (
        "a subscription",
        framed(Subscribe(subscription=1, pattern="beta.>")),
        RejectReason.UNEXPECTED,
        "must be Hello, was Subscribe",
    ),
    (
        "another version",
        framed(Hello(version=2)),
        RejectReason.VERSION,
        "version must be 1, was 2",
    ),
]
ANY_TIME: list[tuple[str, bytes, RejectReason, str]] = [
    (
        "bytes of no message",
        framed_payload(b"\xc1"),
        RejectReason.MALFORMED,
        "malformed",
    ),
    ("an empty frame", framed_payload(b""), RejectReason.MALFORMED, "malformed"),
    ("another protocol", b"GET / HTTP/1.1\r\n\r\n", RejectReason.TOO_LARGE, "at most"),
    ("too long a frame", length(2**31), RejectReason.TOO_LARGE, "was 2147483648"),
    (
        "a frame cut short inside",
        framed_payload(encode(Hello())[:-1]),
        RejectReason.MALFORMED,
        "malformed",
    ),
]
AFTER_HELLO: list[tuple[str, bytes, RejectReason, str]] = [
    ("another Hello", framed(Hello()), RejectReason.UNEXPECTED, "takes no Hello"),
    (
        "what only a sidecar says",
        framed(Acknowledged(seq=1)),
        RejectReason.UNEXPECTED,
        "takes no Acknowledged",
    ),
    (
        "an undeclared table",
        framed(frame(1, 7, [0.1])),
        RejectReason.MALFORMED,
        "table 7 was never declared",
    ),
    (
        "fewer values than symbols",
        framed(frame(1, SYMBOLS, [0.1])),
        RejectReason.MALFORMED,
        "need 24 bytes",
    ),
    (
        "a symbol twice",
        framed(SymbolsDeclared(table=1, symbols=("BAC", "BAC"))),
        RejectReason.MALFORMED,
        "'BAC' stands twice",
    ),
    (
        "too many tables",
        framed(*(SymbolsDeclared(table=i, symbols=("BAC",)) for i in range(65))),
        RejectReason.MALFORMED,
        "at most 64 tables",
    ),
]
wrongs = pytest.mark.parametrize(
    ("greets", "data", "reason", "detail"),
    [
        pytest.param(
            greets, data, reason, detail, id=f"{name}{'' if greets else ' first'}"
        )
        for greets, cases in (
            (False, BEFORE_HELLO + ANY_TIME),
            (True, AFTER_HELLO + ANY_TIME),
        )
        for name, data, reason, detail in cases
    ],
)


@over_sockets
@wrongs
async def test_what_is_wrong_is_rejected_and_no_neighbour_notices(
    socket_path: Path, greets: bool, data: bytes, reason: RejectReason, detail: str
) -> None:
    async with sidecar(socket_path) as running:
        neighbour = await running.subscriber()
        feed = await feed_of(running)
        await feed.bars(1, 2)
        wrong = await (
            running.connect("wrong", Role.FEED) if greets else running.dial()
        )
        await wrong.send_bytes(data)
        (rejected,) = await wrong.rest()
        assert isinstance(rejected, Rejected)
        assert rejected.reason is reason
        assert detail in rejected.detail
        await feed.bars(3, 2)
        assert seqs(await neighbour.updates(4 * N)) == list(range(1, 4 * N + 1))
        assert running.server.n_rejected == 1
        await wrong.close()
        await eventually(lambda: len(running.server.connections) == 2)


@over_sockets
async def test_a_peer_that_is_still_writing_reads_why_it_was_rejected(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path, max_frame_bytes=1024) as running:
        neighbour = await running.subscriber()
        wrong = await running.connect("wrong", Role.FEED)
        wrong.writer.write(framed_payload(bytes(8_000_000)) + framed(bench(1, 0.1)))
        (rejected,) = await wrong.rest()
        assert isinstance(rejected, Rejected)
        assert rejected.reason is RejectReason.TOO_LARGE
        feed = await feed_of(running)
        await feed.bars(2, 1)
        assert [u.ts_event for u in await neighbour.updates(N)] == [2] * N


@over_sockets
async def test_no_hello_in_time_is_rejected(socket_path: Path) -> None:
    async with sidecar(socket_path, hello_timeout_s=0.02) as running:
        silent = await running.dial()
        assert await silent.rest() == [
            Rejected(reason=RejectReason.UNEXPECTED, detail="no Hello came in time")
        ]
        half = await running.dial()
        await half.send_bytes(framed(Hello())[:-1])
        (rejected,) = await half.rest()
        assert isinstance(rejected, Rejected)


@over_sockets
async def test_a_peer_that_vanishes_inside_a_frame_is_only_gone(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path) as running:
        neighbour = await running.subscriber()
        feed = await feed_of(running)
        vanishing = await running.connect("vanishing", Role.FEED)
        await vanishing.send_bytes(framed(asset("BAC", 1, 0.1))[:-3])
        await vanishing.close()
        await eventually(lambda: len(running.server.connections) == 2)
        await feed.bars(1, 1)
        assert len(await neighbour.updates(N)) == N
        assert running.server.n_rejected == 0


@over_sockets
async def test_what_came_before_a_mistake_counts_and_what_follows_does_not(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path) as running:
        neighbour = await running.subscriber()
        peer = await running.connect("wrong", Role.FEED)
        await peer.send(
            bench(1, 0.1),
            asset("AAPL", 1, 0.2, seq=7),
            Acknowledged(seq=1),
            asset("BAC", 1, 0.3, seq=8),
        )
        acknowledged, rejected = await peer.rest()
        assert acknowledged == Acknowledged(seq=7)
        assert isinstance(rejected, Rejected)
        feed = await feed_of(running)
        await feed.send(asset("IBM", 1, 0.1))
        updates = await neighbour.updates(2)
        assert [update.symbol for update in updates] == ["AAPL", "IBM"]


@over_sockets
async def test_a_fault_of_our_own_closes_the_connection_that_met_it(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(socket_path) as running:
        neighbour = await running.subscriber()
        feed = await feed_of(running)
        unlucky = await running.connect("unlucky", Role.FEED)
        take_all = running.system.take_all
        bug = RuntimeError("a bug of ours")

        def failing(messages: list[Message], *args: object) -> int:
            if any(getattr(message, "ts_event", 0) == 666 for message in messages):
                raise bug
            return take_all(messages, *args)  # type: ignore[arg-type]

        running.system.take_all = failing  # type: ignore[assignment]
        await unlucky.send_bytes(2 * framed(asset("BAC", 666, 0.1)))
        assert await unlucky.rest() == [
            Rejected(
                reason=RejectReason.UNEXPECTED, detail="internal error, see the log"
            )
        ]
        await feed.bars(1, 1)
        assert len(await neighbour.updates(N)) == N
    assert "connection.failed peer=unlucky" in caplog.text
    assert "a bug of ours" in caplog.text


@over_sockets
async def test_a_rejected_peer_that_does_not_read_is_cut_off_in_the_end(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell_module, "ABORT_AFTER_S", 0.02)
    async with sidecar(socket_path, symbols=WIDE) as running:
        deaf = await running.subscriber(limit=512)
        feed = await feed_of(running)
        await fill(running, feed, slow=1)
        await deaf.send_bytes(length(2**31))
        await eventually(lambda: len(running.server.connections) == 1)


# Messages in


@over_sockets
async def test_byte_by_byte_is_as_good_as_at_once(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        subscriber = await running.subscriber()
        slow = await running.dial()
        data = framed(
            Hello(name="slow", role=Role.FEED), *bars_of(1)[0], Heartbeat(ts_init=1)
        )
        for i in range(len(data)):
            await slow.send_bytes(data[i : i + 1])
            await asyncio.sleep(0)
        updates = await subscriber.updates(N)
        assert [update.symbol for update in updates] == list(SYMBOLS)


@over_sockets
async def test_thousands_of_frames_in_one_write(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        subscriber = await running.subscriber()
        feed = await feed_of(running)
        n_bars = 2000
        await feed.send(*(m for bar in bars_of(n_bars) for m in bar))
        received = await subscriber.updates_to(n_bars * N)
        assert seqs(received) == list(range(1, n_bars * N + 1))
        assert running.server.n_frames == 2 + 1 + n_bars * (N + 1)


@over_sockets
async def test_a_frame_may_hold_a_list_of_messages(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        subscriber = await running.subscriber()
        peer = await running.dial()
        bar = bars_of(1)[0]
        await peer.send_bytes(framed_payload(encode([Hello(role=Role.FEED), *bar])))
        assert [u.symbol for u in await subscriber.updates(N)] == list(SYMBOLS)


@over_sockets
@pytest.mark.parametrize("symbols", [SYMBOLS, WIDE], ids=["few", "many"])
async def test_columns_by_a_declared_table_are_as_good_as_single_returns(
    socket_path: Path, symbols: tuple[str, ...]
) -> None:
    table = SymbolsDeclared(table=3, symbols=symbols)
    n_updates = 6 * len(symbols)
    received: list[list[BetaUpdated]] = []
    for columnar in (False, True):
        async with sidecar(socket_path, symbols=symbols) as running:
            subscriber = await running.subscriber()
            feed = await feed_of(running)
            if columnar:
                await feed.peer.send(table)
                for bar in column_bars_of(6, symbols):
                    await feed.send(
                        *(
                            msgspec.structs.replace(message, symbols=3)
                            if isinstance(message, ReturnsObserved)
                            else message
                            for message in bar
                        )
                    )
            else:
                await feed.bars(1, 6, symbols)
            received.append(await subscriber.updates(n_updates))
    assert received[0] == received[1]


def test_both_loops_send_the_same_bytes(tmp_path: Path) -> None:
    async def session(path: Path) -> list[Message]:
        async with sidecar(path, symbols=WIDE) as running:
            subscriber = await running.subscriber()
            columns = await running.subscriber(encoding=Encoding.COLUMNS)
            feed = await feed_of(running)
            for bar, columnar in zip(
                bars_of(20, WIDE), column_bars_of(20, WIDE), strict=True
            ):
                await feed.send(*(columnar if feed.seq % 2 else bar))
            running.server.say_goodbye("enough")
            return [*await subscriber.rest(), *await columns.rest()]

    sent: list[bytes] = []
    for name, new_loop in (
        ("a", asyncio.new_event_loop),
        ("u", uvloop.new_event_loop),
    ):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            sent.append(framed(*runner.run(session(tmp_path / name))))
    assert sent[0] == sent[1]
    assert len(sent[0]) > 100_000


@over_sockets
async def test_tables_belong_to_their_connection(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        first, second = await feed_of(running), await feed_of(running)
        await first.peer.send(SymbolsDeclared(table=1, symbols=SYMBOLS))
        await second.peer.send(SymbolsDeclared(table=1, symbols=SYMBOLS[::-1]))
        subscriber = await running.subscriber()
        await first.send(bench(1, 0.1), frame(1, 1, [0.1, float("nan"), float("nan")]))
        await second.send(frame(1, 1, [0.3, float("nan"), float("nan")]))
        updates = await subscriber.updates(2)
        assert [update.symbol for update in updates] == ["AAPL", "IBM"]


@over_sockets
async def test_what_is_taken_is_acknowledged_once_per_turn(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        peer = await running.connect("feed", Role.FEED)
        await peer.send(bench(1, 0.1, ts_init=1), Heartbeat(ts_init=1))
        await peer.send(*(asset("BAC", ts, 0.1, seq=ts) for ts in range(1, 51)))
        messages = await peer.until(lambda m: m == Acknowledged(seq=50))
        assert all(isinstance(message, Acknowledged) for message in messages)
        acknowledged = [m.seq for m in messages if isinstance(m, Acknowledged)]
        assert acknowledged == sorted(set(acknowledged))
        # What has no seq is not acknowledged; the same seq is not acknowledged again.
        await peer.send(asset("BAC", 99, 0.1), asset("BAC", 99, 0.1, seq=50))
        await peer.send(asset("BAC", 100, 0.1, seq=51))
        assert await peer.expect(Acknowledged) == Acknowledged(seq=51)


@over_sockets
async def test_heartbeats_are_taken_and_given(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        greeted, silent = await running.connect(), await running.dial()
        await greeted.send(Heartbeat(ts_init=1))
        running.server.heartbeat(5)
        assert await greeted.expect(Heartbeat) == Heartbeat(ts_init=5)
        await silent.greet()  # the first thing that it hears is the answer to its Hello
        assert silent.greeting.role is Role.SIDECAR


@over_sockets
async def test_the_greeting_names_the_run(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        peer = await running.connect()
        assert peer.greeting == Hello(role=Role.SIDECAR, name="test")


# Updates out


@over_sockets
@pytest.mark.parametrize("encoding", Encoding)
async def test_joining_while_a_feed_is_running_leaves_no_gap_and_no_duplicate(
    socket_path: Path, encoding: Encoding
) -> None:
    n_bars = 150
    async with sidecar(socket_path) as running:
        witness = await running.subscriber(name="witness")
        feed = await feed_of(running)
        late: list[Peer] = []

        async def join() -> None:
            for _ in range(10):
                peer = await running.connect("late")
                await peer.send(
                    Subscribe(subscription=1, pattern="beta.>", encoding=encoding)
                )
                late.append(peer)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.bars, 1, n_bars)
            tasks.start_soon(join)
        await feed.bars(n_bars + 1, 1)
        n_updates = (n_bars + 1) * N
        everything = await witness.updates(n_updates)
        assert seqs(everything) == list(range(1, n_updates + 1))
        for peer in late:
            messages = await peer.until(lambda m: seq_of(m) == n_updates)
            (answer,) = [m for m in messages if isinstance(m, Subscribed)]
            joined = answer.seqs["market"]
            updates = all_updates(messages)
            snapshot, deltas = (
                updates[: answer.n_snapshot],
                updates[answer.n_snapshot :],
            )
            newest = {u.symbol: u for u in everything[:joined]}
            assert sorted(seqs(snapshot)) == sorted(u.seq for u in newest.values())
            assert deltas == everything[joined:]


def all_updates(messages: list[Message]) -> list[BetaUpdated]:
    updates: list[BetaUpdated] = []
    symbols: tuple[str, ...] = ()
    for message in messages:
        if isinstance(message, SymbolsDeclared):
            symbols = message.symbols
        elif isinstance(message, BetasUpdated):
            updates += rows_of(message, symbols)
        elif isinstance(message, BetaUpdated):
            updates.append(message)
    return updates


@over_sockets
async def test_a_snapshot_holds_what_was_taken_before_it(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        peer, feed = await running.connect(), await feed_of(running)
        first, second = bars_of(2)
        await feed.send(*first)
        answer = await peer.subscribe("beta.>")
        await feed.send(*second)
        assert (answer.n_snapshot, answer.seqs) == (N, {"market": N})
        assert seqs(await peer.updates(2 * N)) == list(range(1, 2 * N + 1))


@over_sockets
@pytest.mark.parametrize(
    ("pattern", "topics"),
    [
        ("beta.>", ["market AAPL", "market BRK.B", "sector AAPL", "sector BRK.B"]),
        ("beta.market.*", ["market AAPL", "market BRK.B"]),
        ("beta.*.BRK%2EB", ["market BRK.B", "sector BRK.B"]),
        ("beta.sector.AAPL", ["sector AAPL"]),
        (">", ["market AAPL", "market BRK.B", "sector AAPL", "sector BRK.B"]),
    ],
)
async def test_a_pattern_gets_what_it_matches(
    socket_path: Path, pattern: str, topics: list[str]
) -> None:
    symbols = ("AAPL", "BRK.B")
    factors = [Factor("SPY", "market", SMALL), Factor("SPY", "sector", SMALL)]
    async with sidecar(socket_path, symbols=symbols, factors=factors) as running:
        subscriber = await running.subscriber(pattern)
        feed = await feed_of(running)
        await feed.bars(1, 1, symbols)
        running.server.say_goodbye("enough")
        updates = rows_in(await subscriber.rest())
        assert sorted(f"{u.factor} {u.symbol}" for u in updates) == topics


@over_sockets
async def test_a_pattern_that_matches_nothing_is_refused_and_the_peer_stays(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path) as running:
        peer = await running.connect()
        await peer.send(Subscribe(subscription=4, pattern="beta.market.BRK.B"))
        rejected = await peer.expect(Rejected)
        assert rejected.reason is RejectReason.INVALID_TOPIC
        assert rejected.subscription == 4
        assert "BRK%2EB" in rejected.detail
        await peer.send(Subscribe(subscription=6, pattern="beta.markt.*"))
        rejected = await peer.expect(Rejected)
        assert rejected.reason is RejectReason.INVALID_TOPIC
        assert rejected.subscription == 6
        assert "no factor markt, but market" in rejected.detail
        assert (await peer.subscribe("beta.>", subscription=5)).subscription == 5
        assert running.server.n_rejected == 0


@over_sockets
async def test_after_unsubscribing_nothing_more_comes(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        peer = await running.subscriber("beta.market.BAC")
        await peer.subscribe("beta.market.IBM", subscription=2)
        feed = await feed_of(running)
        await feed.bars(1, 1)
        await peer.send(Unsubscribe(subscription=1), Unsubscribe(subscription=99))
        await peer.subscribe("beta.market.IBM", subscription=2, snapshot=False)
        await feed.bars(2, 1)
        running.server.say_goodbye("enough")
        updates = rows_in(await peer.rest())
        assert [(u.symbol, u.ts_event) for u in updates] == [("IBM", 2)]


# Slow readers


@over_sockets
async def test_the_system_holds_as_much_for_a_peer_as_its_outbox_may(
    socket_path: Path,
) -> None:
    option = socket.SOL_SOCKET, socket.SO_SNDBUF
    async with sidecar(socket_path) as running:
        await running.connect()
        (connection,) = running.server.connections
        transport = connection._transport  # pyright: ignore[reportPrivateUsage]
        assert transport is not None
        held = transport.get_extra_info("socket").getsockopt(*option)
        by_itself, asked = socket.socketpair()
        with by_itself, asked:
            asked.setsockopt(*option, running.server.outbox_high_water_bytes)
            assert held == asked.getsockopt(*option) > by_itself.getsockopt(*option)


async def fill(running: Sidecar, feed: Feed, *, slow: int, first: int = 1) -> int:
    """Feed bars until that many subscribers are slow; return the next bar."""
    bar = first
    while sum(connection.is_slow for connection in running.server.connections) < slow:
        assert bar < 2000, "nobody became slow"
        await feed.bars(bar, 10, running.system.factory.symbols, bars=column_bars_of)
        bar += 10
    return bar


@over_sockets
@pytest.mark.parametrize("encoding", Encoding)
async def test_a_slow_reader_is_conflated_and_told_how_much_while_a_fast_one_gets_all(
    socket_path: Path, encoding: Encoding
) -> None:
    async with sidecar(
        socket_path, symbols=WIDE, outbox_high_water_bytes=10_000
    ) as running:
        fast = await running.subscriber(name="fast")
        slow = await running.subscriber(name="slow", limit=512, encoding=encoding)
        feed = await feed_of(running)
        received: list[BetaUpdated] = []
        bar = total = 0

        async def read_fast() -> None:
            while True:
                received.append(await fast.expect(BetaUpdated))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_fast)
            bar = await fill(running, feed, slow=1)
            await feed.bars(bar, 5, WIDE, bars=column_bars_of)
            total = running.system.statistics().n_updates
            await eventually(lambda: len(received) == total)
            tasks.cancel_scope.cancel()
        assert seqs(received) == list(range(1, total + 1))
        assert not any(update.conflated for update in received)
        messages = await slow.until(lambda m: seq_of(m) == total)
        updates = all_updates([SymbolsDeclared(table=0, symbols=WIDE), *messages])
        assert sum(1 + update.conflated for update in updates) == total
        assert any(update.conflated for update in updates)
        newest = {update.symbol: update.beta for update in updates}
        assert newest == {update.symbol: update.beta for update in received}
        # From here on it is as good as any.
        await feed.bars(bar + 5, 1, WIDE, bars=column_bars_of)
        messages = await slow.until(lambda m: seq_of(m) == total + 64)
        updates = all_updates([SymbolsDeclared(table=0, symbols=WIDE), *messages])
        assert seqs(updates) == list(range(total + 1, total + 65))
        assert not any(update.conflated for update in updates)


@over_sockets
async def test_a_slow_reader_that_asked_for_it_is_told_and_cut(
    socket_path: Path,
) -> None:
    async with sidecar(
        socket_path, symbols=WIDE, outbox_high_water_bytes=10_000
    ) as running:
        slow = await running.subscriber(limit=512, overflow=Overflow.DISCONNECT)
        feed = await feed_of(running)
        bar = 1
        while running.server.n_rejected == 0:
            assert bar < 2000
            await feed.bars(bar, 10, WIDE, bars=column_bars_of)
            bar += 10
        *updates, rejected = await slow.rest()
        assert isinstance(rejected, Rejected)
        assert rejected.reason is RejectReason.SLOW
        assert "high-water mark is 10000" in rejected.detail
        assert seqs(rows_in(updates)) == list(range(1, len(updates) + 1))
        await eventually(lambda: len(running.server.connections) == 1)


@over_sockets
async def test_a_reader_that_is_slow_at_the_end_still_gets_the_newest_values(
    socket_path: Path,
) -> None:
    async with sidecar(
        socket_path, symbols=WIDE, outbox_high_water_bytes=10_000
    ) as running:
        slow = await running.subscriber(limit=512)
        feed = await feed_of(running)
        bar = await fill(running, feed, slow=1)
        await feed.bars(bar, 5, WIDE, bars=column_bars_of)
        total = running.system.statistics().n_updates
        running.server.say_goodbye("enough")
        *updates, goodbye = await slow.rest()
        assert goodbye == Goodbye(reason="enough")
        received = rows_in(updates)
        assert sum(1 + update.conflated for update in received) == total
        assert received[-1].seq == total
        await eventually(lambda: not running.server.connections)
        assert running.server.n_conflated == sum(u.conflated for u in received)


# Actors that fail


def failing_at(symbol: str, stamp: int) -> Callable[[BetaFactory], None]:
    def fail(factory: BetaFactory) -> None:
        flaky = Flaky(factory.actors[symbol])
        flaky.poison[stamp] = ValueError("boom")
        factory.actors[symbol] = flaky  # type: ignore[assignment]

    return fail


@over_sockets
@pytest.mark.parametrize("capacity", [1, 3, 100])
async def test_a_feed_waits_for_a_blocking_mailbox_and_loses_nothing(
    socket_path: Path, capacity: int
) -> None:
    policy = RestartPolicy(restart_backoff_s=0.02)
    async with sidecar(
        socket_path,
        fail=failing_at("BAC", 99),
        restart_policy=policy,
        mailbox_capacity=capacity,
        overflow=OverflowPolicy.BLOCK,
    ) as running:
        subscriber = await running.subscriber("beta.market.BAC")
        first, second = await feed_of(running), await feed_of(running)
        # Ten bars that are still to be opened, the poison before them.
        poison = asset("BAC", 99, 0.1)
        await first.send(poison, *(asset("BAC", ts, ts / 100) for ts in range(1, 11)))
        await eventually(lambda: running.system.statistics().n_restarts == 1)
        await second.send(*(bench(ts, -ts / 50) for ts in range(1, 11)))
        updates = await subscriber.updates_to(10)
        assert [(u.ts_event, u.n_obs) for u in updates] == [
            (ts, min(ts, 8)) for ts in range(1, 11)
        ]
        assert running.system.statistics().dropped == {"undeliverable": 1}


@over_sockets
async def test_a_mistake_that_had_to_wait_ends_its_own_connection(
    socket_path: Path,
) -> None:
    async with sidecar(
        socket_path,
        fail=failing_at("BAC", 99),
        restart_policy=RestartPolicy(restart_backoff_s=0.02),
        mailbox_capacity=1,
        overflow=OverflowPolicy.BLOCK,
    ) as running:
        neighbour = await running.subscriber("beta.market.IBM")
        feed = await feed_of(running)
        wrong = await running.connect("wrong", Role.FEED)
        await wrong.send(
            asset("BAC", 99, 0.1),
            asset("BAC", 1, 0.1),
            asset("BAC", 2, 0.1, seq=5),
            frame(3, 7, [0.1]),
        )
        (bar,) = bars_of(1, ("IBM",))
        await feed.send(*bar)
        acknowledged, rejected = await wrong.rest()
        assert acknowledged == Acknowledged(seq=5)
        assert isinstance(rejected, Rejected)
        assert "table 7 was never declared" in rejected.detail
        await wrong.close()
        # One that makes its mistake while it waits is not waited for.
        wrong = await running.connect("wrong", Role.FEED)
        await wrong.send_bytes(
            framed(asset("BAC", 99, 0.1), *(asset("BAC", ts, 0.1) for ts in (3, 4, 5)))
            + length(2**31)
        )
        (rejected,) = await wrong.rest()
        assert isinstance(rejected, Rejected)
        await wrong.close()
        await eventually(lambda: len(running.server.connections) == 2)
        (bar,) = bars_of(1, ("IBM",), first=2)
        await feed.send(*bar)
        assert [u.ts_event for u in await neighbour.updates(2)] == [1, 2]


# The end


@over_sockets
async def test_a_goodbye_closes_after_what_came_before_it(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        neighbour = await running.subscriber()
        leaving = await running.connect("leaving", Role.FEED)
        (bar,) = bars_of(1)
        await leaving.send(
            *bar[:-1],
            asset("IBM", 1, 0.1, seq=3),
            Goodbye(),
            asset("IBM", 2, 0.1, seq=4),
        )
        assert await leaving.rest() == [Acknowledged(seq=3)]
        assert len(await neighbour.updates(N)) == N
        assert running.server.n_rejected == 0
        feed = await feed_of(running)
        await feed.send(bench(2, 0.1), asset("BAC", 2, 0.1))
        assert (await neighbour.expect(BetaUpdated)).symbol == "BAC"


@over_sockets
async def test_everybody_hears_the_goodbye(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        peers = [
            await running.subscriber(),
            await running.connect(),
            await running.dial(),
        ]
        await running.connect()
        feed = await feed_of(running)
        await feed.bars(1, 1)
        running.server.say_goodbye("see you")
        heard = [await peer.rest() for peer in peers]
        assert [messages[-1] for messages in heard] == [Goodbye(reason="see you")] * 3
        assert len(rows_in(heard[0])) == N
        await running.server.emptied()


# The whole sidecar


def configured(address: str, **options: object) -> SidecarConfig:
    options = {"heartbeat_interval_s": 60.0, "report_interval_s": 60.0} | options
    server = ServerConfig(address=address, **options)  # type: ignore[arg-type]
    return SidecarConfig(
        symbols=SYMBOLS, server=server, factors=(Factor("SPY", model=SMALL),)
    )


def is_there(path: Path) -> bool:
    return path.exists()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Served:
    """A sidecar that `serve` runs, and its peers."""

    def __init__(self, address: Address, stop: anyio.Event) -> None:
        self.address = address
        self.stop = stop
        self.peers: list[Peer] = []
        self.summary: SidecarSummary | None = None

    async def connect(
        self, role: Role = Role.SUBSCRIBER, *, limit: int = 2**16, token: str = ""
    ) -> Peer:
        if self.address.path is None:
            streams = await asyncio.open_connection(
                self.address.host, self.address.port, limit=limit
            )
        else:
            streams = await asyncio.open_unix_connection(self.address.path, limit=limit)
        peer = Peer(*streams)
        self.peers.append(peer)
        return await peer.greet(role=role, token=token)


@asynccontextmanager
async def served(config: SidecarConfig) -> AsyncGenerator[Served]:
    """Run `serve` until the block ends; the summary is there after it."""
    stop, listening = anyio.Event(), anyio.Event()
    addresses: list[Address] = []

    def on_listening(address: Address) -> None:
        addresses.append(address)
        listening.set()

    running = Served(Address(), stop)

    async def run() -> None:
        running.summary = await serve(config, stop, on_listening=on_listening)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await listening.wait()
            (running.address,) = addresses
            try:
                yield running
            finally:
                stop.set()
    for peer in running.peers:
        await peer.close()


@over_sockets
async def test_serve_from_the_first_connection_to_the_summary(
    socket_path: Path,
) -> None:
    async with served(configured(str(socket_path))) as running:
        subscriber = await running.connect()
        await subscriber.subscribe("beta.>")
        feed = Feed(await running.connect(Role.FEED))
        await feed.bars(1, 4)
        assert seqs(await subscriber.updates(4 * N)) == list(range(1, 4 * N + 1))
        running.stop.set()
        goodbye = Goodbye(reason="the sidecar shuts down")
        assert await subscriber.rest() == [goodbye]
        assert await feed.peer.rest() == [goodbye]
    summary = running.summary
    assert summary is not None
    assert summary.system.n_updates == 4 * N
    assert (summary.n_connections, summary.n_rejected) == (2, 0)
    assert summary.n_frames == 3 + 4 * (N + 1)
    assert not is_there(socket_path)


@over_sockets
async def test_only_its_user_may_connect_to_a_socket(socket_path: Path) -> None:
    before = os.umask(0)
    try:
        async with served(configured(str(socket_path))):
            assert mode_of(socket_path) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(before)


@over_sockets
async def test_a_stale_socket_is_taken_over(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(socket_path))
    assert is_there(socket_path)
    async with served(configured(str(socket_path))) as running:
        await running.connect()
    assert f"sidecar.stale_socket path={socket_path}" in caplog.text


@over_sockets
async def test_a_live_socket_is_refused_and_left_alone(socket_path: Path) -> None:
    async with served(configured(str(socket_path))) as running:
        with pytest.raises(AddressInUseError) as caught:
            await serve(configured(str(socket_path)), anyio.Event())
        assert caught.value.address == str(socket_path)
        peer = await running.connect()
        assert peer.greeting.role is Role.SIDECAR


@over_sockets
async def test_a_file_that_is_no_socket_is_left_alone(socket_path: Path) -> None:
    precious = anyio.Path(socket_path)
    await precious.write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a socket"):
        await serve(configured(str(socket_path)), anyio.Event())
    assert await precious.read_text() == "precious"


@over_sockets
async def test_a_folder_that_is_not_there_is_a_mistake_of_the_configuration(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"server\.address"):
        await serve(configured(str(tmp_path / "nowhere" / "s")), anyio.Event())


@over_sockets
async def test_over_tcp_the_chosen_port_is_told_and_a_taken_one_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DESK_TOKEN", TOKEN)
    config = configured("tcp://127.0.0.1:0", token_variable="DESK_TOKEN")
    async with served(config) as running:
        assert running.address.port > 0
        subscriber = await running.connect(token=TOKEN)
        await subscriber.subscribe("beta.>")
        feed = Feed(await running.connect(Role.FEED, token=TOKEN))
        await feed.bars(1, 2)
        assert len(await subscriber.updates(2 * N)) == 2 * N
        taken = configured(str(running.address), token_variable="DESK_TOKEN")
        with pytest.raises(AddressInUseError) as caught:
            await serve(taken, anyio.Event())
        assert caught.value.address == str(running.address)


@over_sockets
async def test_a_reader_that_never_reads_does_not_hold_up_the_end(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell_module, "ABORT_AFTER_S", 3600.0)
    config = configured(
        str(socket_path), drain_timeout_s=0.05, outbox_high_water_bytes=1000
    )
    config = msgspec.structs.replace(config, symbols=WIDE)
    rescued: list[bool] = []
    timer: asyncio.TimerHandle | None = None
    async with served(config) as running:
        deaf = await running.connect(limit=512)
        await deaf.subscribe("beta.>")
        polite = await running.connect()
        feed = Feed(await running.connect(Role.FEED))
        # More than the kernel keeps for a socket, so that most of it waits with us.
        await feed.bars(1, 100, WIDE, bars=column_bars_of)
        running.stop.set()
        assert await polite.rest() == [Goodbye(reason="the sidecar shuts down")]

        def rescue() -> None:
            rescued.append(True)
            deaf.writer.transport.abort()

        timer = asyncio.get_running_loop().call_later(PATIENCE_S / 2, rescue)
    assert timer is not None
    timer.cancel()
    assert not rescued
    summary = running.summary
    assert summary is not None
    # It counts although it was cut off.
    assert summary.n_conflated > 0


@over_sockets
async def test_heartbeats_come_by_themselves_and_drops_are_reported(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(
        str(socket_path), heartbeat_interval_s=0.01, report_interval_s=0.01
    )
    async with served(config) as running:
        peer = await running.connect(Role.FEED)
        await peer.expect(Heartbeat)
        await peer.send(asset("TSLA", 1, 0.1), asset("TSLA", 2, 0.1))
        expected = "observations.dropped reason=unknown_symbol count=2 total=2"
        await eventually(lambda: expected in caplog.text)
        await peer.send(asset("TSLA", 3, 0.1))
        expected = "observations.dropped reason=unknown_symbol count=1 total=3"
        await eventually(lambda: expected in caplog.text)
    assert caplog.text.count("observations.dropped") == 2


@over_sockets
async def test_being_cancelled_drains_too(socket_path: Path) -> None:
    listening = anyio.Event()
    peers: list[Peer] = []
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await serve(
                    configured(str(socket_path)),
                    anyio.Event(),
                    on_listening=lambda _: listening.set(),
                )

            tasks.start_soon(run)
            await listening.wait()
            peers.append(Peer(*await asyncio.open_unix_connection(socket_path)))
            await peers[0].greet()
            tasks.cancel_scope.cancel()
    assert await peers[0].rest() == [Goodbye(reason="the sidecar shuts down")]
    await peers[0].close()
    assert not is_there(socket_path)


# One connection without a socket, in virtual time


class Line:
    """Some connections of one server, over transports without a socket."""

    def __init__(self, loop: VirtualLoop, **options: object) -> None:
        self.loop = loop
        self.stage = Stage(loop, **options)  # type: ignore[arg-type]
        self.server = Server(
            self.stage.system, instance="test", outbox_high_water_bytes=1000
        )
        self.stage.listeners.append(self.server.publish)
        self.stage.system.start()

    def connect(
        self, role: Role = Role.SUBSCRIBER, *, greet: bool = True
    ) -> tuple[Connection, FakeTransport]:
        connection = Connection(self.server, self.loop)
        transport = FakeTransport(connection.pause_writing, connection.resume_writing)
        connection.connection_made(transport)  # type: ignore[arg-type]
        if greet:
            connection.data_received(framed(Hello(role=role)))
            assert transport.messages() == [Hello(role=Role.SIDECAR, name="test")]
        return connection, transport


def is_read(transport: FakeTransport) -> bool:
    return transport.is_read


def test_a_peer_has_its_time_to_greet_and_not_more() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        _, silent = line.connect(greet=False)
        timely, transport = line.connect(greet=False)
        loop.advance(line.server.hello_timeout_s - 0.1)
        timely.data_received(framed(Hello()))
        loop.advance(3600)
        assert silent.has_ended
        assert not transport.has_ended
        assert silent.is_closed  # it was given another moment to read why
        assert line.server.n_rejected == 1


def test_strangers_who_do_not_close_take_no_place_of_a_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "MAX_UNGREETED", 4)
    with virtual_loop() as loop:
        line = Line(loop)
        line.server.max_connections = 2
        first, _ = line.connect()
        # As over TLS, none of them is gone when it is closed.
        strangers = [line.connect(greet=False)[1] for _ in range(20)]
        assert [stranger.is_closed for stranger in strangers] == 16 * [True] + 4 * [
            False
        ]
        told = [stranger.messages() for stranger in strangers]
        assert all(type(messages[0]) is Rejected for messages in told[:16])
        line.connect()
        assert line.server.is_full
        first.connection_lost(None)
        assert not line.server.is_full


def test_strangers_who_do_not_close_are_no_more_than_those_who_do_not_greet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "MAX_UNGREETED", 4)
    with virtual_loop() as loop:
        line = Line(loop)
        line.connect()
        for _ in range(20):
            connection, transport = line.connect(greet=False)
            # What is aborted is gone at once.
            transport.abort = partial(connection.connection_lost, None)  # type: ignore[method-assign]
        assert len(line.server.connections) == 1 + 2 * 4
        assert line.server.rejected[RejectReason.TOO_MANY] == 16


def test_who_waits_for_a_mailbox_makes_no_work_meanwhile() -> None:
    policy = RestartPolicy(restart_backoff_s=100, restart_backoff_max_s=100)
    with virtual_loop() as loop:
        line = Line(
            loop,
            mailbox_capacity=1,
            overflow=OverflowPolicy.BLOCK,
            restart_policy=policy,
        )
        line.stage.poison("BAC", 99)
        waiting, transport = line.connect(Role.FEED)
        other, _ = line.connect(Role.FEED)
        mail = [asset("BAC", ts, 0.1) for ts in (99, 1, 2, 3)]
        waiting.data_received(framed(*mail))
        assert is_read(transport) is False
        loop.advance()
        before = loop.n_scheduled
        for ts in range(100):
            other.data_received(framed(asset("IBM", ts, 0.1)))
            loop.advance()
        assert loop.n_scheduled == before
        loop.advance(100)
        assert is_read(transport) is True
        assert line.stage.flaky["BAC"].stamps == [1, 2, 3]


def test_what_a_peer_sends_while_it_waits_comes_after_what_waits() -> None:
    with virtual_loop() as loop:
        line = Line(loop, mailbox_capacity=1, overflow=OverflowPolicy.BLOCK)
        line.stage.poison("BAC", 99)
        connection, transport = line.connect(Role.FEED)
        for ts in (99, 1, 2, 3, 4):
            # A transport may still have a read in flight when it is paused.
            connection.data_received(framed(asset("BAC", ts, 0.1, seq=ts)))
        connection.data_received(framed(asset("IBM", 5, 0.1, seq=100), Goodbye()))
        loop.advance(RESTART_S)
        loop.settle()
        assert line.stage.flaky["BAC"].stamps == [1, 2, 3, 4]
        assert line.stage.flaky["IBM"].stamps == [5]
        assert transport.messages()[-1] == Acknowledged(seq=100)
        assert transport.is_closed


@pytest.mark.parametrize("n_requests", [10, 1000])
def test_one_that_asks_and_does_not_read_holds_one_snapshot_however_often_it_asks(
    n_requests: int,
) -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        for bar in bars_of(5):
            line.stage.turn(*bar)
        connection, transport = line.connect()
        connection.data_received(framed(Subscribe(subscription=0, pattern="beta.>")))
        one = len(transport.writes[-1])
        transport.messages()
        transport.stop_reading()
        requests = [
            Subscribe(subscription=i, pattern="beta.>") for i in range(1, n_requests)
        ]
        connection.data_received(framed(*requests))
        assert transport.get_write_buffer_size() <= 1000 + one
        assert is_read(transport) is False
        while not is_read(transport):
            transport.read()
            transport.stop_reading()
            loop.settle()
        transport.read()
        answers = [m for m in transport.messages() if isinstance(m, Subscribed)]
        assert [a.subscription for a in answers] == list(range(1, n_requests))


def test_one_that_feeds_and_does_not_read_is_acknowledged_when_it_does() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, transport = line.connect(Role.FEED)
        transport.stop_reading()
        for seq in range(1, 2001):
            connection.data_received(framed(asset("BAC", seq, 0.1, seq=seq)))
        assert transport.get_write_buffer_size() <= 1100
        transport.read()
        assert transport.messages()[-1] == Acknowledged(seq=2000)


def test_one_whose_last_word_overflows_is_not_cut_for_it() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, transport = line.connect()
        connection.data_received(
            framed(
                Subscribe(
                    subscription=1, pattern="beta.>", overflow=Overflow.DISCONNECT
                )
            )
        )
        transport.stop_reading()
        transport.write(bytes(995))
        transport.writes.pop()
        connection.say_goodbye("enough")
        assert transport.messages()[-1] == Goodbye(reason="enough")
        assert line.server.n_rejected == 0


def test_the_time_for_the_goodbye_is_that_of_the_drain() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        _, transport = line.connect()
        transport.stop_reading()
        line.server.say_goodbye("enough")
        loop.advance(3600)
        assert transport.is_closed
        assert not transport.is_aborted


def test_the_time_for_any_other_last_word_is_limited() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        for last in (framed(Goodbye()), length(2**31)):
            connection, transport = line.connect()
            connection.data_received(last)
            loop.advance(farewell_module.ABORT_AFTER_S - 0.1)
            assert not transport.is_aborted
            loop.advance(0.2)
            assert transport.is_aborted


def test_one_that_drains_after_its_rejection_is_sent_nothing_more() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, transport = line.connect()
        connection.data_received(framed(Subscribe(subscription=1, pattern="beta.>")))
        transport.stop_reading()
        for bar in bars_of(6):
            line.stage.turn(*bar)
        connection.data_received(length(2**31))
        transport.read()
        last = transport.messages()[-1]
        assert isinstance(last, Rejected)
        assert transport.has_ended


def test_one_that_connects_during_the_goodbye_hears_it() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        line.server.say_goodbye("we close")
        _, transport = line.connect(greet=False)
        assert transport.messages() == [Goodbye(reason="we close")]
        assert transport.is_closed


def test_one_that_is_gone_leaves_no_timer() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        rejected, _ = line.connect()
        rejected.data_received(length(2**31))
        silent, _ = line.connect(greet=False)
        for connection in (rejected, silent):
            connection.connection_lost(None)
        assert loop.n_scheduled == 0
        assert not line.server.connections


def test_conflated_updates_are_counted_while_a_peer_is_there_and_after() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, transport = line.connect()
        connection.data_received(framed(Subscribe(subscription=1, pattern="beta.>")))
        transport.stop_reading()
        for bar in bars_of(20):
            line.stage.turn(*bar)
        transport.read()
        assert line.server.n_conflated > 0
        counted = line.server.n_conflated
        connection.connection_lost(ConnectionResetError("gone"))
        connection.connection_lost(None)
        assert line.server.n_conflated == counted


def test_silent_ends_are_no_news() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, _ = line.connect()
        connection.connection_lost(None)
        connection.publish([])
        connection.heartbeat(Heartbeat(ts_init=1))
        connection.say_goodbye("nobody")
        connection.abort()
        connection.pause_writing()
        connection.resume_writing()
        assert not line.server.connections


def test_a_flood_gives_way_to_the_others_between_its_turns() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        flood, transport = line.connect(Role.FEED)
        other, _ = line.connect(Role.FEED)
        limit = MAX_MESSAGES_PER_TURN
        mail = [asset("BAC", ts, 0.1, seq=ts) for ts in range(1, 3 * limit)]
        flood.data_received(framed(*mail))
        assert len(line.stage.flaky["BAC"].seen) == limit
        assert is_read(transport) is False
        other.data_received(framed(asset("IBM", 1, 0.1)))
        assert line.stage.flaky["IBM"].stamps == [1]
        loop.settle()
        assert line.stage.flaky["BAC"].seen == mail
        assert is_read(transport) is True
        acknowledged = [m.seq for m in transport.messages() if type(m) is Acknowledged]
        assert (acknowledged[0], acknowledged[-1]) == (limit, 3 * limit - 1)


def test_floods_share_what_one_may_have_in_a_turn() -> None:
    with virtual_loop() as loop:
        line = Line(loop, symbols=wide_universe(20))
        limit = MAX_MESSAGES_PER_TURN
        floods = [line.connect(Role.FEED)[0] for _ in range(20)]
        taken: list[int] = []
        for i, flood in enumerate(floods):
            symbol = line.stage.factory.symbols[i]
            mail = [asset(symbol, ts, 0.1) for ts in range(1, 2 * limit)]
            flood.data_received(framed(*mail))
            taken.append(len(line.stage.flaky[symbol].seen))
        shares = [limit // max(i, 1) for i in range(20)]
        assert taken == [max(n, MIN_MESSAGES_PER_TURN) for n in shares]
        assert line.server.share == MIN_MESSAGES_PER_TURN
        floods.pop().connection_lost(None)
        loop.settle()
        # Whoever is left has had all of it taken, and has the whole turn again.
        assert all(
            len(f.seen) == 2 * limit - 1 for f in [*line.stage.flaky.values()][:19]
        )
        assert line.server.share == limit


def test_a_columnar_frame_counts_for_as_long_as_it_takes() -> None:
    universe = wide_universe(800)
    with virtual_loop() as loop:
        line = Line(loop, symbols=universe)
        feed, transport = line.connect(Role.FEED)
        bars = [frame(ts, universe, [0.1] * 800, seq=ts) for ts in range(1, 21)]
        feed.data_received(framed(*bars))
        # 1 + 64 + 800 / 16 each: of a budget of 1,024 there is room for eight.
        acknowledged = [m.seq for m in transport.messages() if type(m) is Acknowledged]
        assert acknowledged == [8]
        loop.settle()
        acknowledged = [m.seq for m in transport.messages() if type(m) is Acknowledged]
        assert acknowledged[-1] == 20


def test_one_frame_is_taken_however_large_it_is() -> None:
    universe = wide_universe(20_000)
    with virtual_loop() as loop:
        line = Line(loop, symbols=universe)
        feed, transport = line.connect(Role.FEED)
        bars = [frame(ts, universe, [0.1] * 20_000, seq=ts) for ts in (1, 2)]
        feed.data_received(framed(*bars))
        loop.settle()
        acknowledged = [m.seq for m in transport.messages() if type(m) is Acknowledged]
        assert acknowledged == [1, 2]


def test_what_waits_for_its_turn_comes_before_the_mistake_after_it() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        flood, transport = line.connect(Role.FEED)
        limit = MAX_MESSAGES_PER_TURN
        mail = [asset("BAC", ts, 0.1, seq=ts) for ts in range(1, 3 * limit)]
        flood.data_received(framed(*mail) + framed_payload(b"\xc1"))
        flood.data_received(framed(asset("BAC", 10**6, 0.1)))  # too late
        assert not transport.has_ended
        loop.settle()
        assert line.stage.flaky["BAC"].seen == mail
        *_, acknowledged, rejected = transport.messages()
        assert acknowledged == Acknowledged(seq=3 * limit - 1)
        assert isinstance(rejected, Rejected)
        assert rejected.reason is RejectReason.MALFORMED
        assert transport.has_ended


def test_one_that_was_cut_and_sleeps_still_finds_out_why() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, transport = line.connect()
        connection.data_received(
            framed(
                Subscribe(
                    subscription=1, pattern="beta.>", overflow=Overflow.DISCONNECT
                )
            )
        )
        transport.stop_reading()
        for bar in bars_of(20):
            line.stage.turn(*bar)
        assert transport.is_closed  # nothing more is taken from it, or sent to it
        last = transport.messages()[-1]
        assert isinstance(last, Rejected)
        assert last.reason is RejectReason.SLOW
        loop.advance(line.server.linger_timeout_s - 0.1)
        assert not transport.is_aborted
        loop.advance(0.2)
        assert transport.is_aborted


@pytest.mark.parametrize("overflow", Overflow)
def test_what_comes_after_the_end_of_a_slow_one_is_not_what_it_missed(
    overflow: Overflow,
) -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connection, transport = line.connect()
        connection.data_received(
            framed(Subscribe(subscription=1, pattern="beta.>", overflow=overflow))
        )
        transport.stop_reading()
        while not connection.is_slow:
            line.stage.turn(
                *bars_of(1, first=line.stage.system.statistics().n_bars + 1)[0]
            )
        missed = 0
        if overflow is Overflow.CONFLATE:
            line.stage.turn(*bars_of(1, first=1000)[0])
            missed = N
            connection.data_received(length(2**31))
        for bar in bars_of(20, first=2000):
            line.stage.turn(*bar)
        connection.connection_lost(None)
        (publisher,) = line.stage.factory.publishers
        assert publisher.n_undelivered.sum() == missed


def test_one_whose_updates_fail_is_closed_and_the_others_get_them() -> None:
    with virtual_loop() as loop:
        line = Line(loop)
        connections = [line.connect() for _ in range(3)]
        for connection, _ in connections:
            connection.data_received(
                framed(Subscribe(subscription=1, pattern="beta.>"))
            )
        broken, its_transport = connections[1]
        broken.publish = None  # type: ignore[assignment, method-assign]
        for bar in bars_of(2):
            line.stage.turn(*bar)
        assert its_transport.is_aborted
        for _, transport in (connections[0], connections[2]):
            assert len(rows_in(transport.messages())) == 2 * N
