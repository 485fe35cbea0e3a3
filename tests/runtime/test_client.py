"""The client against a small sidecar on a real socket that does what a test tells it.

Every test runs under asyncio and under uvloop. Nothing sleeps: tests wait for what they
need, for `SOON_S` at most.
"""
# pyright: reportPrivateUsage=false
# Some tests look inside: whether the socket is read is nowhere to be seen from outside.

import asyncio
import gc
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
)
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pytest
import pytest_asyncio
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from beta_factory.actors.columns import BetaColumns
from beta_factory.messages import (
    Acknowledged,
    BenchmarkReturnObserved,
    BetasUpdated,
    BetaUpdated,
    ConfigError,
    Encoding,
    FeedDisconnectedError,
    FrameTooLargeError,
    Goodbye,
    Heartbeat,
    Hello,
    InvalidTopicError,
    MalformedMessageError,
    Message,
    Overflow,
    Reason,
    Rejected,
    RejectedError,
    RejectReason,
    ReturnObserved,
    ReturnsObserved,
    Role,
    Status,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    Unsubscribe,
    WireVersionError,
    decode_payload,
    encode,
    matches,
)
from beta_factory.messages.topics import beta_topic
from beta_factory.runtime.address import Address, default_address
from beta_factory.runtime.client import BetaClient, Subscription, connect
from beta_factory.runtime.framing import DEFAULT_MAX_FRAME_BYTES, FrameReader, frame
from beta_factory.runtime.link import Backoff
from beta_factory.runtime.outgoing import (
    MAX_LIST_BYTES,
    MESSAGES_PER_FRAME,
    Outgoing,
    Publishable,
)

SOON_S: Final = 5.0
FAST: Final = Backoff(initial_s=0.001, max_s=0.01)
Loop = Callable[[], asyncio.AbstractEventLoop]
M = TypeVar("M")


# pytest-asyncio's own hook for this can only stand in a conftest.py, and would then
# hold for every test of the folder.
@pytest.fixture(
    params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def _asyncio_loop_factory(request: pytest.FixtureRequest) -> Loop:
    factory: Loop = request.param
    return factory


every_loop = pytest.mark.usefixtures("_asyncio_loop_factory")


async def soon(awaitable: Awaitable[M]) -> M:
    async with asyncio.timeout(SOON_S):
        return await awaitable


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - of sockets and tasks, not our own
            await asyncio.sleep(0)


async def until_equal(expected: int, value: Callable[[], int]) -> None:
    await until(lambda: value() == expected)


async def until_steady(value: Callable[[], int]) -> int:
    """Wait until a number has stood still for a hundred turns of the loop."""
    last, n_turns = value(), 0
    async with asyncio.timeout(SOON_S):
        while n_turns < 100:
            await asyncio.sleep(0)
            last, n_turns = value(), n_turns + 1 if value() == last else 0
    return last


@asynccontextmanager
async def running(coroutine: Coroutine[Any, Any, M]) -> AsyncGenerator[asyncio.Task[M]]:
    """A task that ends with the block, whatever happens."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def updated(symbol: str, seq: int, **changes: Any) -> BetaUpdated:
    fields: dict[str, Any] = {
        "factor": "market",
        "symbol": symbol,
        "benchmark": "SPY",
        "ts_event": 60,
        "beta": 1.5,
        "alpha": 0.0,
        "std_error": 0.1,
        "t_stat": 15.0,
        "r_squared": 0.9,
        "residual_std": 0.01,
        "n_obs": 60,
        "window_start": 0,
        "status": Status.OK,
        "reason": Reason.NONE,
        "revision": 0,
        "seq": seq,
        "ts_init": 61,
    }
    return BetaUpdated(**(fields | changes))


def observed(symbol: str = "AAPL", **fields: Any) -> ReturnObserved:
    values: dict[str, Any] = {"ts_event": 60, "period_return": 0.01}
    return ReturnObserved(symbol=symbol, **(values | fields))


class Peer:
    """The sidecar's end of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.hello = Hello()
        self.writer = writer
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.payloads: list[list[Message]] = []
        self.is_closed = False
        self._reader = reader
        self._frames = FrameReader()

    async def run(self) -> None:
        """Read until the client says `Goodbye` or is gone."""
        try:
            while not self.is_closed:
                await self.may_read.wait()
                data = await self._reader.read(65_536)
                if not data:
                    break
                for payload in self._frames.feed(data):
                    messages = decode_payload(payload)
                    self.payloads.append(messages)
                    for message in messages:
                        self.messages.put_nowait(message)
                        self.is_closed |= type(message) is Goodbye
        except ConnectionError:
            pass
        self.is_closed = True
        self.writer.close()

    async def receive(self, kind: type[M]) -> M:
        """The next message, which must be of this kind."""
        message = await soon(self.messages.get())
        assert isinstance(message, kind), message
        return message

    def send(self, *messages: Message) -> None:
        self.writer.write(b"".join([frame(encode(message)) for message in messages]))

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def accept(self, *snapshot: BetaUpdated, seq: int | None = None) -> Subscribe:
        """Agree to the next subscription."""
        request = await self.receive(Subscribe)
        rows = [
            update
            for update in snapshot
            if matches(request.pattern, beta_topic(update.factor, update.symbol))
        ]
        newest = max([update.seq for update in snapshot], default=0)
        self.send(
            Subscribed(
                subscription=request.subscription,
                pattern=request.pattern,
                seqs={"market": newest if seq is None else seq},
                n_snapshot=len(rows),
            ),
            *rows,
        )
        return request

    def drop(self) -> None:
        """End the connection without a word."""
        self.writer.transport.abort()


class FakeSidecar:
    """Listens, says `Hello`, and hands each connection to the test."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.instance = "first run"
        self.greeting: Callable[[Hello], bytes] = self.welcome
        self.n_connections = 0
        self._path = path
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: asyncio.AbstractServer | None = None
        self._tasks: dict[asyncio.Task[Any], Peer] = {}

    def welcome(self, hello: Hello) -> bytes:
        return frame(encode(Hello(role=Role.SIDECAR, name=self.instance)))

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        """Go without a word, like a process that was killed."""
        if self._server is not None:
            self._server.close()
            for peer in self._tasks.values():
                peer.may_read.set()
                peer.drop()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)
            self._server = None

    async def peer(self) -> Peer:
        """The next client that was greeted."""
        return await soon(self._peers.get())

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.n_connections += 1
        peer = Peer(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = peer
        run = asyncio.ensure_future(peer.run())
        try:
            peer.hello = await peer.receive(Hello)
            writer.write(self.greeting(peer.hello))
            self._peers.put_nowait(peer)
        finally:
            await run
            del self._tasks[task]


@pytest_asyncio.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[FakeSidecar]:
    fake = FakeSidecar(tmp_path / "s.sock")
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


@pytest.fixture(autouse=True)
def _loops_have_nothing_to_complain_about(
    caplog: pytest.LogCaptureFixture,
) -> Iterator[None]:
    """No task died unseen, none was destroyed while pending, no callback raised."""
    yield
    gc.collect(1)
    complaints = [
        record.getMessage()
        for when in ("setup", "call", "teardown")
        for record in caplog.get_records(when)
        if record.name == "asyncio"
    ]
    assert complaints == []


def connected(sidecar: FakeSidecar, **options: Any) -> BetaClient:
    all_options: dict[str, Any] = {"backoff": FAST, **options}
    return connect(sidecar.address, **all_options)


async def take(subscription: Subscription, n_updates: int) -> list[BetaUpdated]:
    return [await soon(anext(subscription)) for _ in range(n_updates)]


async def symbols_and_seqs(
    subscription: Subscription, n_updates: int
) -> list[tuple[str, int]]:
    return [(u.symbol, u.seq) for u in await take(subscription, n_updates)]


async def assert_ended(subscription: Subscription) -> None:
    with pytest.raises(StopAsyncIteration):
        await soon(anext(subscription))


# -- subscribing --


@pytest.mark.asyncio
@every_loop
async def test_client_says_who_it_is_and_knows_who_answered(
    sidecar: FakeSidecar,
) -> None:
    options = {
        "name": "desk",
        "role": Role.FEED,
        "token": "secret",
        "sequence": "of today",
    }
    async with connected(sidecar, **options) as client:
        peer = await sidecar.peer()
        assert peer.hello == Hello(
            role=Role.FEED, name="desk", token="secret", sequence="of today", taken=0
        )
        assert client.connected
        assert client.instance == "first run"
        assert repr(client) == f"<BetaClient 'desk' at {sidecar.address}, connected>"
    assert repr(client).endswith("not connected>")
    await peer.receive(Goodbye)


@pytest.mark.asyncio
@every_loop
async def test_snapshot_comes_first_then_every_delta(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe(
            "beta.market.*", encoding=Encoding.COLUMNS, overflow=Overflow.DISCONNECT
        )
        assert subscription.joined == {}
        request = await peer.accept(updated("AAPL", 3), updated("MSFT", 4))
        assert request == Subscribe(
            subscription=1,
            pattern="beta.market.*",
            encoding=Encoding.COLUMNS,
            overflow=Overflow.DISCONNECT,
        )
        peer.send(updated("AAPL", 5), updated("NEW", 6, conflated=2))
        expected = [("AAPL", 3), ("MSFT", 4), ("AAPL", 5), ("NEW", 6)]
        assert await symbols_and_seqs(subscription, 4) == expected
        assert subscription.joined == {"market": 4}
        assert subscription.n_received == 4
        assert subscription.n_conflated == 2
        assert subscription.n_gaps == 0
        assert subscription.pending == 0
        assert "'beta.market.*' pending=0" in repr(subscription)


@pytest.mark.asyncio
@every_loop
async def test_each_subscription_gets_what_matches_its_pattern(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        one = client.subscribe("beta.market.BRK%2EB")
        all_ = client.subscribe("beta.>")
        sector = client.subscribe("beta.sector.*")
        for _ in range(3):
            await peer.accept()
        peer.send(
            updated("BRK.B", 1),
            updated("AAPL", 2),
            updated("AAPL", 1, factor="sector"),
        )
        peer.send(Goodbye())
        assert [u.symbol async for u in one] == ["BRK.B"]
        assert [u.seq async for u in all_] == [1, 2, 1]
        assert [u.factor async for u in sector] == ["sector"]


@pytest.mark.asyncio
@every_loop
async def test_update_that_two_patterns_brought_twice_is_delivered_once_to_each(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        early = client.subscribe("beta.market.AAPL")
        await peer.accept(updated("AAPL", 1))
        late = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
        delta = updated("AAPL", 3)
        peer.send(delta, delta, Goodbye())
        assert [u.seq async for u in early] == [1, 3]
        assert [u.seq async for u in late] == [1, 2, 3]


@pytest.mark.asyncio
@every_loop
async def test_updates_before_the_join_are_not_delivered(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        first = client.subscribe("beta.>")
        await peer.accept()
        second = client.subscribe("beta.>", snapshot=False)
        peer.send(updated("AAPL", 1))
        request = await peer.accept(seq=1)
        assert not request.snapshot
        peer.send(updated("AAPL", 2), Goodbye())
        assert [u.seq async for u in first] == [1, 2]
        assert [u.seq async for u in second] == [2]


@pytest.mark.asyncio
@every_loop
async def test_rejected_pattern_raises_in_its_own_iterator_only(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        refused = client.subscribe("beta.secret.*")
        other = client.subscribe("beta.market.*")
        request = await peer.receive(Subscribe)
        peer.send(
            Rejected(
                reason=RejectReason.NOT_ALLOWED,
                detail="not for you",
                subscription=request.subscription,
            )
        )
        await peer.accept(updated("AAPL", 1))
        for _ in range(2):
            with pytest.raises(RejectedError, match="not for you") as caught:
                await soon(anext(refused))
            assert caught.value.reason == "not_allowed"
        with pytest.raises(RejectedError):
            await soon(refused.wait_joined())
        assert await symbols_and_seqs(other, 1) == [("AAPL", 1)]
        assert client.connected


@pytest.mark.asyncio
@every_loop
async def test_what_cannot_be_subscribed_to_is_refused_at_once(
    sidecar: FakeSidecar,
) -> None:
    client = connect(sidecar.address)
    with pytest.raises(RuntimeError, match="enter the client first"):
        client.subscribe("beta.>")
    async with client:
        with pytest.raises(InvalidTopicError):
            client.subscribe("beta..x")
        with pytest.raises(ValueError, match="at least 1, was 0"):
            client.subscribe("beta.>", buffer_capacity=0)
        with pytest.raises(RuntimeError, match="entered once"):
            await client.__aenter__()


@pytest.mark.asyncio
@every_loop
async def test_leaving_the_loop_unsubscribes(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()

        async def first_of_many() -> int:
            async for update in client.subscribe("beta.>"):
                return update.seq
            return 0

        async with running(first_of_many()) as task:
            await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
            assert await soon(task) == 1
        assert await peer.receive(Unsubscribe) == Unsubscribe(subscription=1)
        # what was on its way is nobody's
        peer.send(updated("AAPL", 3))
        await until(lambda: _seq(client, "beta.market.AAPL") == 3)


def _seq(client: BetaClient, topic: str) -> int:
    update = client.latest(topic)
    return update.seq if update else 0


@pytest.mark.asyncio
@every_loop
async def test_closed_subscription_ends_and_forgets_what_is_pending(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        async with client.subscribe("beta.>") as subscription:
            await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
            await until(lambda: subscription.pending == 2)
        assert await peer.receive(Unsubscribe) == Unsubscribe(subscription=1)
        assert subscription.pending == 0
        await assert_ended(subscription)
        await subscription.aclose()
        assert peer.messages.empty()


@pytest.mark.asyncio
@every_loop
async def test_subscription_closed_before_the_answer_ignores_it(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await subscription.aclose()
        await peer.accept(updated("AAPL", 1))
        await peer.receive(Unsubscribe)
        peer.send(Rejected(reason=RejectReason.SLOW, detail="", subscription=1))
        await until(lambda: _seq(client, "beta.market.AAPL") == 1)
        await assert_ended(subscription)
        assert subscription.n_received == 0


@pytest.mark.asyncio
@every_loop
async def test_cancelled_wait_loses_no_update(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await peer.accept()
        await soon(subscription.wait_joined())
        async with running(anext_of(subscription)) as task:
            await asyncio.sleep(0)
            peer.send(updated("AAPL", 1))
            await until(lambda: subscription.n_received == 1)
            task.cancel()
        assert not task.cancelled() or subscription.pending == 1
        peer.send(updated("AAPL", 2))
        last = await take(subscription, 2 - task.done() + task.cancelled())
        assert last[-1].seq == 2


async def anext_of(subscription: Subscription) -> BetaUpdated:
    return await anext(subscription)


@pytest.mark.asyncio
@every_loop
async def test_several_tasks_share_a_subscription(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        async with (
            running(anext_of(subscription)) as one,
            running(anext_of(subscription)) as two,
        ):
            await peer.accept(updated("AAPL", 1), updated("AAPL", 2))
            assert {(await soon(one)).seq, (await soon(two)).seq} == {1, 2}


@pytest.mark.asyncio
@every_loop
async def test_leaving_the_client_ends_every_iterator(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        await until(lambda: subscription.pending == 1)
    assert await symbols_and_seqs(subscription, 1) == [("AAPL", 1)]
    await assert_ended(subscription)
    await assert_ended(client.subscribe("beta.>"))
    assert _seq(client, "beta.market.AAPL") == 1
    with pytest.raises(FeedDisconnectedError, match="the client was closed"):
        await client.publish(observed())


# -- columns --


def columns(
    symbols: tuple[str, ...], rows: list[int], seqs: list[int], table: int | None
) -> BetasUpdated:
    k = len(rows)
    numbers = np.arange(6.0 * k).reshape(6, k)
    numbers[0, -1] = np.nan
    return BetaColumns(
        factor="market",
        benchmark="SPY",
        symbols=symbols,
        rows=np.array(rows),
        ts_event=60,
        numbers=numbers,
        n_obs=np.full(k, 60, dtype=np.int32),
        window_start=np.zeros(1, dtype=np.int64),
        status=np.ones(k, dtype=np.uint8),
        reason=np.zeros(k, dtype=np.uint8),
        revision=np.zeros(k, dtype=np.int32),
        ts_init=np.zeros(1, dtype=np.int64),
        seqs=np.array(seqs),
    ).as_columns(table)


@pytest.mark.asyncio
@every_loop
async def test_columns_come_out_as_rows(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        everything = client.subscribe("beta.>", encoding=Encoding.COLUMNS)
        one = client.subscribe("beta.market.MSFT", encoding=Encoding.COLUMNS)
        symbols = ("AAPL", "MSFT", "NVDA")
        for _ in range(2):
            await peer.accept()
        peer.send(
            SymbolsDeclared(table=0, symbols=symbols),
            columns(symbols, [0, 1, 2], [1, 2, 3], table=0),
            columns(symbols, [1, 2], [4, 7], table=0),
            columns(symbols, [2, 1], [8, 9], table=None),
            Goodbye(),
        )
        received = [u async for u in everything]
        assert [(u.symbol, u.seq) for u in received] == [
            ("AAPL", 1),
            ("MSFT", 2),
            ("NVDA", 3),
            ("MSFT", 4),
            ("NVDA", 7),
            ("NVDA", 8),
            ("MSFT", 9),
        ]
        assert [u.beta for u in received[:3]] == [0.0, 1.0, None]
        assert [u.seq async for u in one] == [2, 4, 9]


@pytest.mark.asyncio
@every_loop
async def test_table_is_forgotten_with_its_connection(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>", encoding=Encoding.COLUMNS)
        peer.send(SymbolsDeclared(table=0, symbols=("AAPL",)))
        peer.send(columns(("AAPL",), [0], [1], table=0))
        await until(lambda: client.latest("beta.market.AAPL") is not None)
        peer.drop()
        peer = await sidecar.peer()
        peer.send(columns(("AAPL",), [0], [2], table=0))
        with pytest.raises(MalformedMessageError, match="table 0 was not declared"):
            await soon(anext(subscription))
        assert not client.connected


# -- latest values --


@pytest.mark.asyncio
@every_loop
async def test_latest_is_the_newest_update_and_ages(sidecar: FakeSidecar) -> None:
    now_s = 100.0
    topic = "beta.market.AAPL"
    async with connected(sidecar, clock=lambda: now_s) as client:
        peer = await sidecar.peer()
        client_subscription = client.subscribe("beta.>")
        assert client.latest(topic) is None
        assert client.age_s(topic) is None
        await peer.accept(updated("AAPL", 1))
        await take(client_subscription, 1)
        now_s = 103.0
        assert client.age_s(topic) == 3.0
        newer = updated("AAPL", 2)
        peer.send(newer, updated("AAPL", 1), updated("MSFT", 3))
        await take(client_subscription, 2)
        assert client.latest(topic) == newer
        assert client.age_s(topic) == 0.0
        for call in (client.latest, client.age_s):
            with pytest.raises(InvalidTopicError):
                call("AAPL")


@pytest.mark.asyncio
@every_loop
async def test_watch_keeps_latest_without_an_iterator(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        async with running(client.watch("beta.market.*")) as task:
            await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
            await soon(task)
        assert _seq(client, "beta.market.MSFT") == 2
        peer.send(*[updated("MSFT", seq) for seq in range(3, 20_003)])
        await until(lambda: _seq(client, "beta.market.MSFT") == 20_002)
        # it outlives the connection
        peer.drop()
        peer = await sidecar.peer()
        await peer.accept(updated("MSFT", 20_003))
        await until(lambda: _seq(client, "beta.market.MSFT") == 20_003)


@pytest.mark.asyncio
@every_loop
async def test_watch_that_cannot_be_raises(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        async with running(client.watch("beta.secret.*")) as task:
            await peer.receive(Subscribe)
            peer.send(
                Rejected(reason=RejectReason.NOT_ALLOWED, detail="no", subscription=1)
            )
            with pytest.raises(RejectedError):
                await soon(task)
        async with running(client.watch("beta.market.*")) as task:
            await peer.receive(Subscribe)
            task.cancel()
            await peer.receive(Unsubscribe)
        async with running(client.watch("beta.market.*")) as task:
            await peer.receive(Subscribe)
            peer.send(Goodbye(reason="maintenance"))
            with pytest.raises(FeedDisconnectedError, match="maintenance"):
                await soon(task)


# -- the end --


@pytest.mark.asyncio
@every_loop
async def test_goodbye_ends_iteration_after_what_came_before(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        pending = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        peer.send(updated("AAPL", 2), Goodbye(reason="maintenance"))
        assert [u.seq async for u in subscription] == [1, 2]
        await assert_ended(pending)
        await soon(pending.wait_joined())
        assert not client.connected
        await assert_ended(client.subscribe("beta.>"))
        await client.flush()
        with pytest.raises(FeedDisconnectedError, match="said Goodbye: maintenance"):
            await client.publish(observed())
    assert sidecar.n_connections == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(b"\x93\xa1U\x01"), "malformed"),
        (frame(b""), "malformed"),
        (frame(b"\xc1"), "malformed"),
        (b"\xff\xff\xff\xff", "frame length must be at most"),
        (frame(encode(observed())), "a sidecar says no ReturnObserved"),
        (frame(encode(Hello(role=Role.SIDECAR))), "a sidecar says no Hello"),
        (frame(encode(Acknowledged(seq=1))), "the newest published is 0"),
    ],
)
@pytest.mark.asyncio
@every_loop
async def test_bytes_that_no_sidecar_sends_are_raised_and_close(
    sidecar: FakeSidecar, data: bytes, reason: str
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        await until(lambda: subscription.pending == 1)
        peer.send_raw(data)
        await until(lambda: not client.connected)
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 1)]
        for _ in range(2):
            with pytest.raises(MalformedMessageError, match=reason):
                await soon(anext(subscription))
        with pytest.raises(MalformedMessageError):
            await soon(client.publish(observed()))
        await until(lambda: peer.is_closed)
        assert not client.connected
    assert sidecar.n_connections == 1


@pytest.mark.asyncio
@every_loop
async def test_slow_subscriber_that_was_cut_is_told(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>", overflow=Overflow.DISCONNECT)
        await peer.accept(updated("AAPL", 1))
        peer.send(Rejected(reason=RejectReason.SLOW, detail="2 MB pending"))
        await take(subscription, 1)
        with pytest.raises(RejectedError, match="2 MB pending") as caught:
            await soon(anext(subscription))
        assert caught.value.reason == "slow"
    assert sidecar.n_connections == 1


@pytest.mark.asyncio
@every_loop
async def test_fault_of_our_own_reaches_who_waits(
    sidecar: FakeSidecar,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        subscription = client.subscribe("beta.>")

        def fail(*args: object) -> None:
            raise ZeroDivisionError("our own")

        monkeypatch.setattr(client._routes, "deliver", fail)
        peer.send(updated("AAPL", 1))
        with pytest.raises(ZeroDivisionError, match="our own"):
            await soon(anext(subscription))
        with pytest.raises(ZeroDivisionError, match="our own"):
            await soon(client.publish(observed()))
    assert "client.failed" in caplog.text


# -- reconnecting --


@pytest.mark.asyncio
@every_loop
async def test_reconnect_without_a_change_delivers_nothing_twice(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.market.*", snapshot=False)
        await peer.accept(seq=7)
        peer.send(updated("AAPL", 8), updated("MSFT", 9))
        await take(subscription, 2)
        peer.drop()
        peer = await sidecar.peer()
        request = await peer.accept(
            updated("NVDA", 7), updated("AAPL", 8), updated("MSFT", 9)
        )
        # asked for, to see what was missed; what is older than the join stays unseen
        assert request.snapshot
        peer.send(updated("NVDA", 10))
        assert await symbols_and_seqs(subscription, 1) == [("NVDA", 10)]
        assert subscription.n_gaps == 0
        assert subscription.n_received == 3
        assert client.n_connections == 2


@pytest.mark.parametrize(
    ("snapshot", "n_gaps"),
    [
        # each topic changed once: both changes are here
        ([("AAPL", 3), ("MSFT", 4)], 0),
        ([("AAPL", 1), ("MSFT", 3)], 0),
        # by conflation or by a late bar the order may be any
        ([("MSFT", 4), ("AAPL", 3)], 0),
        # 3 was an older value of one of them
        ([("AAPL", 1), ("MSFT", 4)], 1),
        ([("AAPL", 4), ("MSFT", 5)], 1),
    ],
)
@pytest.mark.asyncio
@every_loop
async def test_reconnect_counts_a_gap_when_the_snapshot_shows_one(
    sidecar: FakeSidecar,
    snapshot: list[tuple[str, int]],
    n_gaps: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.market.*")
        await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
        await take(subscription, 2)
        peer.drop()
        peer = await sidecar.peer()
        await peer.accept(*[updated(symbol, seq) for symbol, seq in snapshot])
        peer.send(updated("END", 9))
        changed = [(symbol, seq) for symbol, seq in snapshot if seq > 2]
        received = await symbols_and_seqs(subscription, len(changed) + 1)
        assert received == [*changed, ("END", 9)]
        assert subscription.n_gaps == n_gaps
    assert caplog.text.count("subscription.gap") == n_gaps


@pytest.mark.asyncio
@every_loop
async def test_snapshot_that_was_cut_short_hides_no_gap(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.market.*")
        await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
        await take(subscription, 2)
        peer.drop()
        peer = await sidecar.peer()
        # AAPL 3 is announced by the join point and never comes
        request = await peer.receive(Subscribe)
        peer.send(
            Subscribed(
                subscription=request.subscription,
                pattern=request.pattern,
                seqs={"market": 4},
                n_snapshot=2,
            ),
            updated("MSFT", 4),
        )
        assert await symbols_and_seqs(subscription, 1) == [("MSFT", 4)]
        peer.drop()
        peer = await sidecar.peer()
        await peer.accept(updated("MSFT", 4), updated("AAPL", 5))
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 5)]
        assert subscription.n_gaps == 1


@pytest.mark.asyncio
@every_loop
async def test_delta_ends_a_snapshot_that_is_shorter_than_announced(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        async with running(client.watch("beta.market.*")) as task:
            request = await peer.receive(Subscribe)
            peer.send(
                Subscribed(
                    subscription=request.subscription,
                    pattern=request.pattern,
                    seqs={"market": 5},
                    n_snapshot=9,
                ),
                updated("AAPL", 5),
            )
            await until(lambda: _seq(client, "beta.market.AAPL") == 5)
            assert not task.done()
            peer.send(updated("AAPL", 6), updated("MSFT", 7))
            await soon(task)


@pytest.mark.asyncio
@every_loop
async def test_restarted_sidecar_is_a_gap_and_its_values_are_new(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        waiting = client.subscribe("beta.other.*")
        await peer.accept(updated("AAPL", 100))
        await take(subscription, 1)
        sidecar.instance = "second run"
        await sidecar.stop()
        await sidecar.start()
        peer = await sidecar.peer()
        await peer.accept(updated("AAPL", 1))
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 1)]
        assert _seq(client, "beta.market.AAPL") == 1
        assert client.instance == "second run"
        assert subscription.joined == {"market": 1}
        assert subscription.n_gaps == 1
        assert waiting.n_gaps == 0
    assert caplog.text.count("subscription.gap") == 1


@pytest.mark.asyncio
@every_loop
async def test_subscriptions_made_and_closed_while_disconnected(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        closed = client.subscribe("beta.a.*")
        await peer.accept()
        await soon(closed.wait_joined())
        await sidecar.stop()
        await until(lambda: not client.connected)
        await closed.aclose()
        made = client.subscribe("beta.b.*")
        await sidecar.start()
        peer = await sidecar.peer()
        assert (await peer.accept()).pattern == "beta.b.*"
        await soon(made.wait_joined())
        assert peer.messages.empty()


@pytest.mark.asyncio
@every_loop
async def test_giving_up_is_raised_in_everyone_who_waits(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    backoff = Backoff(initial_s=0.001, max_s=0.001, max_attempts=3)
    async with connected(sidecar, backoff=backoff) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        other = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        await until(lambda: subscription.pending == 1)
        await client.publish(observed())
        await sidecar.stop()
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 1)]
        waiting: list[Awaitable[object]] = [
            anext(subscription),
            anext(other),
            client.flush(),
            other.wait_joined(),
        ]
        results = await soon(asyncio.gather(*waiting, return_exceptions=True))
        for error in results:
            assert isinstance(error, FeedDisconnectedError)
            assert error.address == sidecar.address
            assert error.attempts == 3
            assert "No such file" in error.cause
        with pytest.raises(FeedDisconnectedError):
            await client.publish(observed())
        with pytest.raises(FeedDisconnectedError):
            await anext(client.subscribe("beta.>"))
        assert not client.connected
    assert "left_unacknowledged" in caplog.text


@pytest.mark.asyncio
@every_loop
async def test_connections_that_do_not_last_are_given_up(sidecar: FakeSidecar) -> None:
    backoff = Backoff(initial_s=0.001, max_s=0.001, max_attempts=3)
    async with connected(sidecar, backoff=backoff) as client:
        peer = await sidecar.peer()
        for _ in range(3):
            peer.drop()
            peer = await sidecar.peer()
        peer.drop()
        with pytest.raises(FeedDisconnectedError) as caught:
            await soon(anext(client.subscribe("beta.>")))
        assert caught.value.attempts == 3


@pytest.mark.asyncio
@every_loop
async def test_connections_that_last_are_counted_anew(sidecar: FakeSidecar) -> None:
    backoff = Backoff(initial_s=0.001, max_attempts=1, stable_after_s=0.0)
    async with connected(sidecar, backoff=backoff) as client:
        peer = await sidecar.peer()
        for n_connections in (2, 3, 4):
            peer.drop()
            peer = await sidecar.peer()
            await until_equal(n_connections, lambda: client.n_connections)


@pytest.mark.asyncio
@every_loop
async def test_without_reconnect_a_lost_connection_is_raised(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar, reconnect=False) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        await take(subscription, 1)
        peer.drop()
        with pytest.raises(FeedDisconnectedError):
            await soon(anext(subscription))
    assert sidecar.n_connections == 1


@pytest.mark.asyncio
@every_loop
async def test_silent_connection_is_replaced(sidecar: FakeSidecar) -> None:
    async with connected(sidecar, silence_timeout_s=0.02) as client:
        await until(lambda: client.n_connections >= 2)


@pytest.mark.asyncio
@every_loop
async def test_heartbeats_keep_a_connection(sidecar: FakeSidecar) -> None:
    now_s = 0.0
    options = {"silence_timeout_s": 0.01, "clock": lambda: now_s}
    async with connected(sidecar, **options) as client:
        peer = await sidecar.peer()
        connection = client._link._connection
        assert connection is not None

        def is_heard() -> bool:
            return connection.last_received_s == now_s

        for beat in range(5):
            now_s += 0.009
            peer.send(Heartbeat(ts_init=beat))
            await until(is_heard)
        assert client.n_connections == 1


# -- the first connection --


@pytest.mark.asyncio
@every_loop
async def test_client_waits_for_a_sidecar_that_is_just_starting(
    tmp_path: Path,
) -> None:
    late = FakeSidecar(tmp_path / "late.sock")
    n_delays = 0

    def chance() -> float:
        nonlocal n_delays
        n_delays += 1
        return 0.5

    backoff = Backoff(initial_s=0.001, max_s=0.01, uniform=chance)
    client = connect(late.address, backoff=backoff)
    async with running(client.__aenter__()) as task:
        await until(lambda: n_delays == 3)
        assert not task.done()
        await late.start()
        try:
            assert await soon(task) is client
            assert client.connected
            await client.__aexit__(None, None, None)
        finally:
            await late.stop()


@pytest.mark.asyncio
@every_loop
async def test_nobody_there_is_raised_with_address_and_attempts(
    tmp_path: Path,
) -> None:
    address = f"unix://{tmp_path}/nobody.sock"
    with pytest.raises(FeedDisconnectedError) as caught:
        async with connect(address, connect_timeout_s=0.1, backoff=FAST):
            pass
    assert caught.value.address == address
    assert caught.value.attempts >= 1
    assert "No such file" in caught.value.cause
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.asyncio
@every_loop
async def test_silence_instead_of_hello_is_raised(sidecar: FakeSidecar) -> None:
    sidecar.greeting = lambda hello: b""
    with pytest.raises(FeedDisconnectedError, match="1 attempts: no answer"):
        async with connect(sidecar.address, connect_timeout_s=0.1):
            pass
    peer = await sidecar.peer()
    await until(lambda: peer.is_closed)


@pytest.mark.asyncio
@every_loop
async def test_cancelled_connect_leaves_nothing(sidecar: FakeSidecar) -> None:
    sidecar.greeting = lambda hello: b""
    async with running(connect(sidecar.address).__aenter__()) as task:
        peer = await sidecar.peer()
    assert task.cancelled()
    await until(lambda: peer.is_closed)


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (Rejected(reason=RejectReason.NOT_ALLOWED, detail="bad token"), RejectedError),
        (Rejected(reason=RejectReason.VERSION, detail="speak 2"), RejectedError),
        (Hello(version=2, role=Role.SIDECAR), WireVersionError),
        (Hello(role=Role.FEED, name="another client"), MalformedMessageError),
        (Heartbeat(ts_init=0), MalformedMessageError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", MalformedMessageError),
    ],
)
@pytest.mark.asyncio
@every_loop
async def test_refused_hello_is_raised_and_not_tried_again(
    sidecar: FakeSidecar, greeting: Message | bytes, error: type[Exception]
) -> None:
    sidecar.greeting = lambda hello: (
        greeting if isinstance(greeting, bytes) else frame(encode(greeting))
    )
    with pytest.raises(error):
        async with connect(sidecar.address, backoff=FAST):
            pass
    peer = await sidecar.peer()
    await until(lambda: peer.is_closed)
    assert sidecar.n_connections == 1


@pytest.mark.asyncio
@every_loop
async def test_refused_hello_after_a_reconnect_is_raised(sidecar: FakeSidecar) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        sidecar.greeting = lambda hello: frame(
            encode(Rejected(reason=RejectReason.NOT_ALLOWED, detail="token expired"))
        )
        peer.drop()
        with pytest.raises(RejectedError, match="token expired"):
            await soon(anext(subscription))
    assert sidecar.n_connections == 2


FULL: Final = frame(encode(Rejected(reason=RejectReason.TOO_MANY, detail="2 are here")))


@pytest.mark.asyncio
@every_loop
async def test_sidecar_that_is_full_is_tried_again(sidecar: FakeSidecar) -> None:
    sidecar.greeting = lambda hello: FULL
    client = connected(sidecar)
    async with running(client.__aenter__()) as task:
        await sidecar.peer()
        sidecar.greeting = sidecar.welcome
        await soon(task)
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 1)]
        sidecar.greeting = lambda hello: FULL  # with our own old connection, say
        peer.drop()
        await sidecar.peer()
        sidecar.greeting = sidecar.welcome
        peer = await sidecar.peer()
        await peer.accept(updated("AAPL", 2))
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 2)]
        await client.__aexit__(None, None, None)


@pytest.mark.asyncio
@every_loop
async def test_sidecar_that_stays_full_is_given_up_with_its_answer(
    sidecar: FakeSidecar,
) -> None:
    answer = r"rejected \(too_many\): 2 are here"
    backoff = Backoff(initial_s=0.001, max_s=0.001, max_attempts=3)
    async with connected(sidecar, backoff=backoff) as client:
        peer = await sidecar.peer()
        sidecar.greeting = lambda hello: FULL
        peer.drop()
        with pytest.raises(FeedDisconnectedError, match=f"3 attempts: {answer}"):
            await soon(client.wait_ended())
    with pytest.raises(FeedDisconnectedError, match=answer):
        async with connected(sidecar, connect_timeout_s=0.05):
            pass


@pytest.mark.asyncio
@every_loop
async def test_sidecar_that_shuts_down_while_we_come_is_tried_again(
    sidecar: FakeSidecar,
) -> None:
    sidecar.greeting = lambda hello: frame(encode(Goodbye(reason="restart")))
    client = connect(sidecar.address, backoff=FAST)
    async with running(client.__aenter__()) as task:
        await sidecar.peer()
        sidecar.greeting = sidecar.welcome
        await soon(task)
        assert client.connected
        await client.__aexit__(None, None, None)


@pytest.mark.asyncio
@every_loop
async def test_tcp(sidecar: FakeSidecar) -> None:
    server = await asyncio.start_server(sidecar._serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with connect(Address(host="127.0.0.1", port=port)) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>")
        await peer.accept(updated("AAPL", 1))
        assert await symbols_and_seqs(subscription, 1) == [("AAPL", 1)]
    server.close()
    await server.wait_closed()


def test_client_is_made_without_a_loop() -> None:
    assert connect().address == default_address()
    assert connect("tcp://h:1").address == Address(host="h", port=1)
    assert (
        repr(connect("tcp://h:1"))
        == "<BetaClient 'client' at tcp://h:1, not connected>"
    )
    with pytest.raises(ConfigError, match="1 to 64 characters, had 0"):
        connect(name="")
    with pytest.raises(ConfigError, match="must be unix:"):
        connect("nowhere")


# -- publishing --


@pytest.mark.asyncio
@every_loop
async def test_published_messages_are_numbered_and_acknowledged(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        table = SymbolsDeclared(table=3, symbols=("AAPL",))
        benchmark = BenchmarkReturnObserved(
            benchmark="SPY", ts_event=60, period_return=0.01
        )
        returns = ReturnsObserved(ts_event=60, symbols=3, period_returns=b"\0" * 8)
        await client.publish(table)
        await client.publish([benchmark, observed()])
        await client.publish(returns)
        assert await peer.receive(SymbolsDeclared) == table
        assert (await peer.receive(BenchmarkReturnObserved)).seq == 1
        assert (await peer.receive(ReturnObserved)).seq == 2
        assert (await peer.receive(ReturnsObserved)).seq == 3
        assert [len(messages) for messages in peer.payloads] == [1, 1, 2, 1]
        assert benchmark.seq == 0
        async with running(client.flush()) as task:
            peer.send(Acknowledged(seq=2))
            await until(lambda: client.n_acknowledged == 2)
            assert not task.done()
            peer.send(Acknowledged(seq=3))
            await soon(task)
        assert client.n_published == client.n_acknowledged == 3
        await client.flush()


@pytest.mark.asyncio
@every_loop
async def test_long_sequence_is_split_into_frames(sidecar: FakeSidecar) -> None:
    n_messages = 3 * MESSAGES_PER_FRAME + 1
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        await soon(client.publish([observed() for _ in range(n_messages)]))
        await soon(client.publish([]))
        seqs = [(await peer.receive(ReturnObserved)).seq for _ in range(n_messages)]
        assert seqs == list(range(1, n_messages + 1))
        assert len(peer.payloads) == 1 + 4


@pytest.mark.asyncio
@every_loop
async def test_what_a_feed_does_not_publish_is_refused_whole(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        wrong: Any = Goodbye()
        with pytest.raises(TypeError, match="was Goodbye"):
            await client.publish([observed(), wrong])
        await client.publish(observed(seq=7))
        with pytest.raises(ValueError, match="seq must be above 8, was 7"):
            await client.publish([observed(), observed(seq=7)])
        large = ReturnsObserved(
            ts_event=60, symbols=0, period_returns=bytes(DEFAULT_MAX_FRAME_BYTES)
        )
        with pytest.raises(FrameTooLargeError):
            await client.publish([observed(), large])
        assert client.n_published == 1
        await client.publish(observed())
        assert (await peer.receive(ReturnObserved)).seq == 7
        assert (await peer.receive(ReturnObserved)).seq == 8


@pytest.mark.asyncio
@every_loop
async def test_unacknowledged_messages_are_sent_again_in_order(
    sidecar: FakeSidecar,
) -> None:
    seen: list[int] = []
    n_messages = 60
    async with connected(sidecar) as client:
        peer = await sidecar.peer()

        async def feed() -> None:
            for _ in range(n_messages):
                await client.publish(observed())
            await client.flush()

        async with running(feed()) as task:
            while not task.done():
                # a sidecar that takes some, acknowledges fewer, and drops the rest
                for n_taken in range(1, 11):
                    seq = (await peer.receive(ReturnObserved)).seq
                    seen.append(seq)
                    if n_taken == 7 or seq == n_messages:
                        peer.send(Acknowledged(seq=seq))
                    if seq == n_messages:
                        break
                if seen[-1] == n_messages:
                    await soon(task)
                    break
                await until(lambda: client.n_acknowledged == seen[-4])
                peer.drop()
                peer = await sidecar.peer()
        assert task.done()
        assert client.n_published == client.n_acknowledged == n_messages
    assert sorted(set(seen)) == list(range(1, n_messages + 1))
    firsts = [seq for at, seq in enumerate(seen) if seq not in seen[:at]]
    assert firsts == sorted(firsts)
    assert len(seen) > n_messages


def knows(sidecar: FakeSidecar, taken: int | None, *more: Message) -> None:
    """Let it say this of the sequence of whoever comes next, and more in that write."""
    hello = Hello(role=Role.SIDECAR, name=sidecar.instance, taken=taken)
    data = b"".join([frame(encode(message)) for message in (hello, *more)])
    sidecar.greeting = lambda _: data


@pytest.mark.asyncio
@every_loop
async def test_feed_that_is_started_anew_goes_on_after_what_was_taken(
    sidecar: FakeSidecar,
) -> None:
    knows(sidecar, 100)
    async with connected(sidecar, role=Role.FEED, sequence="prices") as client:
        peer = await sidecar.peer()
        assert client.last_seq == 100
        await client.publish([observed(), observed(seq=103), observed()])
        seqs = [(await peer.receive(ReturnObserved)).seq for _ in range(3)]
        assert seqs == [101, 103, 104]
        assert client.last_seq == 104
        peer.send(Acknowledged(seq=104))
        await soon(client.flush())
        assert client.n_published == client.n_acknowledged == 3


@pytest.mark.asyncio
@every_loop
async def test_flush_waits_until_what_was_taken_before_is_acknowledged(
    sidecar: FakeSidecar,
) -> None:
    knows(sidecar, 100)
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        async with running(client.flush()) as task:
            peer.send(Acknowledged(seq=99))
            await until(lambda: client._outgoing.acknowledged == 99)
            assert not task.done()
            peer.send(Acknowledged(seq=100))
            await soon(task)
        assert client.n_acknowledged == 0


@pytest.mark.asyncio
@every_loop
async def test_flush_waits_for_no_more_than_a_restarted_sidecar_still_has(
    sidecar: FakeSidecar,
) -> None:
    knows(sidecar, 100)
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        async with running(client.flush()) as task:
            knows(sidecar, 90)
            peer.drop()
            peer = await sidecar.peer()
            peer.send(Acknowledged(seq=89))
            await until(lambda: client._outgoing.acknowledged == 89)
            assert not task.done()
            peer.send(Acknowledged(seq=90))
            await soon(task)
        assert client.last_seq == 90


@pytest.mark.asyncio
@every_loop
async def test_flush_waits_for_nothing_that_a_restarted_sidecar_has_lost(
    sidecar: FakeSidecar,
) -> None:
    knows(sidecar, 100)
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        async with running(client.flush()) as task:
            knows(sidecar, 0)
            peer.drop()
            await sidecar.peer()
            await soon(task)
        assert client.last_seq == 0


@pytest.mark.asyncio
@every_loop
async def test_feed_that_keeps_its_own_numbers_may_repeat_them(
    sidecar: FakeSidecar,
) -> None:
    knows(sidecar, 2, Acknowledged(seq=2))
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        await soon(client.flush())
        await client.publish([observed(seq=seq) for seq in (1, 2, 3)])
        seqs = [(await peer.receive(ReturnObserved)).seq for _ in range(3)]
        assert seqs == [1, 2, 3]
        peer.send(Acknowledged(seq=3))
        await soon(client.flush())
        assert client.n_acknowledged == 3


@pytest.mark.parametrize(("taken", "again"), [(3, [4]), (4, []), (None, [3, 4])])
@pytest.mark.asyncio
@every_loop
async def test_only_what_was_not_taken_is_sent_again(
    sidecar: FakeSidecar, taken: int | None, again: list[int]
) -> None:
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        for _ in range(4):
            await client.publish(observed())
        await peer.receive(ReturnObserved)
        peer.send(Acknowledged(seq=2))
        await until(lambda: client.n_acknowledged == 2)
        knows(sidecar, taken)
        peer.drop()
        peer = await sidecar.peer()
        assert peer.hello.taken == 2
        await client.publish(observed())
        seqs = [(await peer.receive(ReturnObserved)).seq for _ in [*again, 5]]
        assert seqs == [*again, 5]
        peer.send(Acknowledged(seq=5))
        await soon(client.flush())
        assert client.n_acknowledged == 5


@pytest.mark.asyncio
@every_loop
async def test_numbers_begin_anew_where_nothing_was_published_nor_taken(
    sidecar: FakeSidecar,
) -> None:
    knows(sidecar, 100)
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        peer.send(Acknowledged(seq=100))
        await soon(client.flush())
        knows(sidecar, 0)
        peer.drop()
        peer = await sidecar.peer()
        await until_equal(0, lambda: client.last_seq)
        await client.publish(observed())
        assert (await peer.receive(ReturnObserved)).seq == 1
        assert client.n_acknowledged == 0


@pytest.mark.asyncio
@every_loop
async def test_another_feed_under_the_same_sequence_is_noticed(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar, role=Role.FEED) as client:
        peer = await sidecar.peer()
        await client.publish(observed())
        knows(sidecar, 7)
        peer.drop()
        with pytest.raises(MalformedMessageError, match=r"7 was taken.*another feed"):
            await soon(client.flush())


@pytest.mark.asyncio
@every_loop
async def test_what_is_published_while_disconnected_is_kept(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        await client.publish(SymbolsDeclared(table=1, symbols=("AAPL", "MSFT")))
        await client.publish(observed())
        await peer.receive(SymbolsDeclared)
        await peer.receive(ReturnObserved)
        peer.send(Acknowledged(seq=1))
        await soon(client.flush())
        await sidecar.stop()
        await until(lambda: not client.connected)
        await client.publish(
            ReturnsObserved(ts_event=60, symbols=1, period_returns=bytes(16))
        )
        await sidecar.start()
        peer = await sidecar.peer()
        assert (await peer.receive(SymbolsDeclared)).symbols == ("AAPL", "MSFT")
        assert (await peer.receive(ReturnsObserved)).seq == 2
        peer.send(Acknowledged(seq=2))
        await soon(client.flush())


@pytest.mark.asyncio
@every_loop
async def test_publish_waits_while_the_sidecar_does_not_read(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        peer.may_read.clear()
        returns = ReturnsObserved(
            ts_event=60, symbols=0, period_returns=bytes(64 * 1024)
        )
        n_published = 0

        async def feed() -> None:
            nonlocal n_published
            while True:
                await client.publish(returns)
                n_published += 1
                await asyncio.sleep(0)

        async with running(feed()):
            await until(lambda: not client._link.is_writable)
            stalled_at = await until_steady(lambda: n_published)
            # the sockets' own buffers and the transport's high-water mark
            assert stalled_at * 64 <= 2048
            peer.may_read.set()
            await until(lambda: n_published > stalled_at + 10)
        for seq in range(1, client.n_published + 1):
            assert (await peer.receive(ReturnsObserved)).seq == seq


@pytest.mark.asyncio
@every_loop
async def test_publish_waits_while_too_much_is_unacknowledged(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        client._outgoing = Outgoing(max_frames=2)
        await client.publish(observed())
        await client.publish(observed())
        async with running(client.publish(observed())) as cancelled:
            await peer.receive(ReturnObserved)
            await peer.receive(ReturnObserved)
            assert not cancelled.done()
        assert client.n_published == 2
        async with running(client.publish(observed())) as waiting:
            await asyncio.sleep(0)
            assert not waiting.done()
            peer.send(Acknowledged(seq=1))
            await soon(waiting)
        assert (await peer.receive(ReturnObserved)).seq == 3


@pytest.mark.asyncio
@every_loop
async def test_refused_observation_is_raised_and_not_sent_again(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        await client.publish(observed())
        peer.send(Rejected(reason=RejectReason.MALFORMED, detail="table 9"))
        with pytest.raises(RejectedError, match="table 9"):
            await soon(client.flush())
        with pytest.raises(RejectedError, match="table 9"):
            await client.publish(observed())
    assert sidecar.n_connections == 1


@pytest.mark.asyncio
@every_loop
async def test_what_is_left_unacknowledged_is_logged(
    sidecar: FakeSidecar, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        await client.publish([observed() for _ in range(5)])
    assert [(await peer.receive(ReturnObserved)).seq for _ in range(5)] == [
        1,
        2,
        3,
        4,
        5,
    ]
    await peer.receive(Goodbye)
    assert "left_unacknowledged" in caplog.text
    assert "acknowledged=0 published=5" in caplog.text


# -- back-pressure of a slow consumer --


@pytest.mark.asyncio
@every_loop
async def test_slow_consumer_stops_the_sidecar_and_loses_nothing(
    sidecar: FakeSidecar,
) -> None:
    n_updates = 60_000
    capacity = 500
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.market.AAPL", buffer_capacity=capacity)
        idle = client.subscribe("beta.market.MSFT", buffer_capacity=1)
        for _ in range(2):
            await peer.accept()
        n_written = 0

        async def write() -> None:
            nonlocal n_written
            for seq in range(1, n_updates + 1):
                peer.send(updated("AAPL", seq))
                n_written += 1
                if seq % 100 == 0:
                    await peer.writer.drain()

        async with running(write()) as writing:
            await until(lambda: subscription.pending >= capacity)
            # the sidecar's writes stall: its outbox stays full
            assert await until_steady(lambda: n_written) < n_updates
            assert peer.writer.transport.get_write_buffer_size() > 16_384
            assert not writing.done()
            # capacity, and what one read brought on top
            most = capacity + 256 * 1024 // len(frame(encode(updated("AAPL", 1))))
            assert subscription.pending <= most
            most_pending = 0
            for seq in range(1, n_updates + 1):
                most_pending = max(most_pending, subscription.pending)
                assert (await soon(anext(subscription))).seq == seq
            await soon(writing)
            assert most_pending <= most
        assert subscription.n_received == n_updates
        assert idle.n_received == 0
        assert client.n_connections == 1


@pytest.mark.asyncio
@every_loop
async def test_closing_a_full_subscription_lets_the_others_go_on(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        full = client.subscribe("beta.market.AAPL", buffer_capacity=1)
        other = client.subscribe("beta.market.MSFT")
        await peer.accept(updated("AAPL", 1))
        await until(lambda: full.pending == 1)
        await peer.accept(updated("MSFT", 2))
        await until(lambda: not _is_reading(client))
        assert other.pending == 0
        await full.aclose()
        assert await symbols_and_seqs(other, 1) == [("MSFT", 2)]


def _is_reading(client: BetaClient) -> bool:
    connection = client._link._connection
    return connection is not None and connection.is_reading


@pytest.mark.asyncio
@every_loop
async def test_silence_of_a_connection_that_is_not_read_is_none(
    sidecar: FakeSidecar,
) -> None:
    now_s = 0.0
    async with connected(sidecar, clock=lambda: now_s) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.>", buffer_capacity=1)
        await peer.accept(updated("AAPL", 1))
        connection = client._link._connection
        assert connection is not None
        now_s = 1.0
        assert connection.silent_s == 1.0
        await until(lambda: not _is_reading(client))
        now_s = 1000.0
        assert connection.silent_s == 0.0
        await take(subscription, 1)
        assert _is_reading(client)
        assert connection.silent_s == 0.0
        now_s = 1001.0
        assert connection.silent_s == 1.0


@pytest.mark.asyncio
@every_loop
async def test_full_subscription_stays_full_over_a_reconnect(
    sidecar: FakeSidecar,
) -> None:
    async with connected(sidecar) as client:
        peer = await sidecar.peer()
        subscription = client.subscribe("beta.market.*", buffer_capacity=2)
        await peer.accept(updated("AAPL", 1), updated("MSFT", 2))
        await until(lambda: subscription.pending == 2)
        assert not _is_reading(client)
        # a connection that is not read is not seen to end until it is
        client._link._connection.abort()  # type: ignore[union-attr]
        peer = await sidecar.peer()
        await peer.accept(updated("AAPL", 1), updated("MSFT", 3))
        assert subscription.pending == 2
        assert await symbols_and_seqs(subscription, 3) == [
            ("AAPL", 1),
            ("MSFT", 2),
            ("MSFT", 3),
        ]
        assert subscription.n_gaps == 0


# -- without a socket --


@given(
    attempt=st.integers(1, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
    jitter=st.floats(0, 1),
)
def test_delay_is_jittered_within_its_bounds(
    attempt: int, chance: float, jitter: float
) -> None:
    backoff = Backoff(jitter=jitter, uniform=lambda: chance)
    whole = Backoff(jitter=0).delay_s(attempt)
    assert whole * (1 - jitter) <= backoff.delay_s(attempt) <= whole <= backoff.max_s


def parsed(data: bytes) -> list[Message]:
    return [m for payload in FrameReader().feed(data) for m in decode_payload(payload)]


def test_tables_mean_what_they_meant_when_frames_are_sent_again() -> None:
    outgoing = Outgoing()
    first = SymbolsDeclared(table=1, symbols=("AAPL",))
    second = SymbolsDeclared(table=1, symbols=("MSFT",))
    bar = ReturnsObserved(ts_event=60, symbols=1, period_returns=bytes(8))
    batches: list[list[Publishable]] = [[first], [bar], [bar, second, bar], [bar]]
    for batch in batches:
        outgoing.add(batch)

    def again() -> list[object]:
        return [
            m.seq if isinstance(m, ReturnsObserved) else m
            for m in parsed(outgoing.resend())
        ]

    assert again() == [first, 1, 2, second, 3, 4]
    outgoing.acknowledge(1)
    assert again() == [first, 2, second, 3, 4]
    outgoing.acknowledge(2)
    assert again() == [first, 2, second, 3, 4]
    outgoing.acknowledge(3)
    assert again() == [second, 4]
    outgoing.acknowledge(2)
    assert (outgoing.acknowledged, outgoing.n_acknowledged) == (3, 3)
    outgoing.acknowledge(4)
    assert again() == [second]
    assert (outgoing.n_kept, outgoing.n_acknowledged) == (0, 4)
    with pytest.raises(MalformedMessageError, match="seq 5 was acknowledged"):
        outgoing.acknowledge(5)


def test_tables_of_what_was_taken_are_declared_again() -> None:
    outgoing = Outgoing()
    first = SymbolsDeclared(table=1, symbols=("AAPL",))
    second = SymbolsDeclared(table=1, symbols=("MSFT",))
    bar = ReturnsObserved(ts_event=60, symbols=1, period_returns=bytes(8))
    batches: list[list[Publishable]] = [[first, bar], [second, bar], [bar]]
    for batch in batches:
        outgoing.add(batch)
    one, two, three = (replace(bar, seq=seq) for seq in (1, 2, 3))
    for n_acknowledged in (0, 1):
        outgoing.acknowledge(n_acknowledged)
        outgoing.begin(2)
        assert parsed(outgoing.resend()) == [first, second, three]
    # A sidecar that was killed may know less: it is sent what it lost.
    outgoing = Outgoing()
    for batch in batches:
        outgoing.add(batch)
    for taken in (2, 0):
        outgoing.begin(taken)
    assert parsed(outgoing.resend()) == [first, one, second, two, three]


def test_tables_alone_never_fill_what_is_kept() -> None:
    outgoing = Outgoing(max_frames=1)
    for symbol in ("A", "B", "C"):
        outgoing.add([SymbolsDeclared(table=1, symbols=(symbol,))])
        assert outgoing.has_room
    assert [m.symbols for m in parsed(outgoing.resend())] == [("C",)]  # type: ignore[union-attr]


def test_large_list_is_halved() -> None:
    outgoing = Outgoing(max_bytes=MAX_LIST_BYTES)
    bar = ReturnsObserved(
        ts_event=60, symbols=1, period_returns=bytes(MAX_LIST_BYTES // 4)
    )
    data = outgoing.add([bar] * 7)
    payloads = FrameReader().feed(data)
    assert [len(decode_payload(payload)) for payload in payloads] == [3, 2, 2]
    assert [m.seq for m in parsed(data)] == [1, 2, 3, 4, 5, 6, 7]  # type: ignore[union-attr]
    assert outgoing.resend() == data
    assert not outgoing.has_room
    outgoing.acknowledge(5)
    assert outgoing.n_acknowledged == 5
    assert outgoing.has_room
