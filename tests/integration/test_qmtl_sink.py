"""`BetaSink` over a real socket: what a sidecar sees, and what a strategy never feels.

It needs qmtl's nodes for nothing but their context, so it runs on the double.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

import qmtl_double
from beta_factory.messages import (
    Acknowledged,
    BenchmarkReturnObserved,
    Goodbye,
    Hello,
    Message,
    Rejected,
    RejectReason,
    ReturnsObserved,
    Role,
    SymbolsDeclared,
    decode_payloads,
    encode,
)
from beta_factory.runtime.framing import FrameReader, frame
from beta_factory.runtime.link import Backoff

pytestmark = pytest.mark.integration

SOON_S = 20.0
FAST = Backoff(initial_s=0.001, max_s=0.02, max_attempts=10_000)
BACKTEST = qmtl_double.ComputeContext(execution_domain="backtest")
LIVE = qmtl_double.ComputeContext(world_id="alpha", execution_domain="live")


class Sidecar:
    """Welcomes, writes down and acknowledges; in a thread of its own."""

    def __init__(self, path: Path, *, n_rejects: int = 0) -> None:
        self.path = path
        self.sources: list[str] = []
        self.messages: list[Message] = []
        self._n_rejects = n_rejects
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def returns(self) -> list[tuple[int, str, float]]:
        """(ts_event, symbol, return) of all that came, in order."""
        tables: dict[int, tuple[str, ...]] = {}
        rows: list[tuple[int, str, float]] = []
        for message in tuple(self.messages):
            if isinstance(message, SymbolsDeclared):
                tables[message.table] = message.symbols
            elif isinstance(message, BenchmarkReturnObserved):
                row = (message.ts_event, message.benchmark, message.period_return)
                rows.append(row)
            elif isinstance(message, ReturnsObserved):
                assert isinstance(message.symbols, int)
                values = np.frombuffer(message.period_returns).tolist()
                rows += [
                    (message.ts_event, symbol, value)
                    for symbol, value in zip(
                        tables[message.symbols], values, strict=True
                    )
                    if not np.isnan(value)
                ]
        return rows

    @contextmanager
    def listening(self) -> Generator["Sidecar"]:
        stop = asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []
        started = threading.Event()

        async def main() -> None:
            loops.append(asyncio.get_running_loop())
            server = await asyncio.start_unix_server(self._serve, self.path)
            started.set()
            await stop.wait()
            server.close()
            while len(asyncio.all_tasks()) > 1:
                for writer in self._writers:
                    writer.close()
                await asyncio.sleep(0)
            for writer in self._writers:
                with suppress(OSError):
                    await writer.wait_closed()

        def run() -> None:
            asyncio.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(SOON_S)
        try:
            yield self
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join()
            self.path.unlink(missing_ok=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.append(writer)
        frames = FrameReader()
        try:
            while data := await reader.read(65_536):
                messages: list[Message] = []
                decode_payloads(frames.feed(data), messages)
                for message in messages:
                    self._take(message, writer)
        finally:
            writer.close()

    def _take(self, message: Message, writer: asyncio.StreamWriter) -> None:
        if isinstance(message, Hello):
            self.sources.append(message.name)
            writer.write(frame(encode(Hello(role=Role.SIDECAR, name="run-1"))))
        elif isinstance(message, Goodbye):
            writer.close()
        elif len(self.sources) <= self._n_rejects:
            reason = RejectReason.MALFORMED
            writer.write(frame(encode(Rejected(reason=reason, detail="no"))))
            writer.close()
        else:
            self.messages.append(message)
            if seq := getattr(message, "seq", 0):
                writer.write(frame(encode(Acknowledged(seq=seq))))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + SOON_S
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline, "it never happened"
        pause.wait(0.002)


@pytest.fixture
def bridge() -> Generator[Any]:
    with qmtl_double.installed() as module:
        yield module


def open_sink(bridge: Any, path: Path, **options: Any) -> Any:
    sink = bridge.BetaSink(f"unix://{path}", backoff=FAST, **options)
    for symbol in ("AAPL", "MSFT"):
        sink.slot_of(symbol)
    sink.slot_of("SPY", is_benchmark=True)
    return sink


def observe_bars(sink: Any, bars: Iterable[int], context: Any = BACKTEST) -> None:
    for bar in bars:
        for slot in (-1, 0, 1):
            sink.observe(context, 60 * bar, slot, bar / 100 + slot / 1000)


def expected(bars: Iterable[int]) -> list[tuple[int, str, float]]:
    return [
        (60 * bar * 10**9, symbol, bar / 100 + slot / 1000)
        for bar in bars
        for slot, symbol in ((-1, "SPY"), (0, "AAPL"), (1, "MSFT"))
    ]


def test_every_bar_arrives_once_as_one_column(bridge: Any, socket_path: Path) -> None:
    with Sidecar(socket_path).listening() as sidecar:
        with open_sink(bridge, socket_path) as sink:
            observe_bars(sink, range(1, 400))
            assert sink.drain(SOON_S)
            statistics = sink.statistics()

        assert sidecar.returns == expected(range(1, 400))
    assert statistics.n_acknowledged == statistics.n_observed == 3 * 399
    assert statistics.dropped == {}
    assert sink.statistics().state == bridge.SinkState.CLOSED


def test_sidecar_that_comes_later_gets_everything(
    bridge: Any, socket_path: Path
) -> None:
    with open_sink(bridge, socket_path) as sink:
        observe_bars(sink, range(1, 10))
        assert not sink.drain(0.01)
        assert not sink.is_connected
        with Sidecar(socket_path).listening() as sidecar:
            assert sink.drain(SOON_S)
            assert sink.is_connected
            assert sidecar.returns == expected(range(1, 10))
            sink.close()


def test_sidecar_that_is_started_anew_gets_what_follows(
    bridge: Any, socket_path: Path
) -> None:
    with open_sink(bridge, socket_path) as sink:
        with Sidecar(socket_path).listening():
            observe_bars(sink, range(1, 10))
            assert sink.drain(SOON_S)
        observe_bars(sink, range(10, 20))
        with Sidecar(socket_path).listening() as second:
            assert sink.drain(SOON_S)
            assert second.returns == expected(range(10, 20))
            sink.close()
    assert sink.statistics().n_gaps == 0


def test_full_buffer_is_a_gap_that_is_announced(
    bridge: Any, socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[Any] = []
    with open_sink(bridge, socket_path, capacity=31, report=reports.append) as sink:
        # 300 observations, and a sidecar only after them
        observe_bars(sink, range(1, 101))
        with Sidecar(socket_path).listening() as sidecar:
            assert sink.drain(SOON_S)
            observe_bars(sink, range(101, 103))
            assert sink.drain(SOON_S)
            assert sidecar.returns[-6:] == expected(range(101, 103))
            first = next(m for m in sidecar.messages if getattr(m, "seq", 0))
            sink.close()
    statistics = sink.statistics()
    dropped = statistics.dropped["overflow"]
    assert dropped + statistics.n_acknowledged == statistics.n_observed == 306
    assert dropped >= 300 - 32
    assert getattr(first, "seq", 0) > dropped
    assert statistics.n_gaps == 1
    assert reports[-1].n_gaps == 1
    assert "sink.gap" in caplog.text


def test_another_domain_comes_under_another_name(
    bridge: Any, socket_path: Path
) -> None:
    with Sidecar(socket_path).listening() as sidecar:
        with open_sink(bridge, socket_path) as sink:
            observe_bars(sink, range(1, 5))
            observe_bars(sink, range(5, 9), LIVE)
            assert sink.drain(SOON_S)
        assert sidecar.sources == ["qmtl/backtest/-", "qmtl/live/alpha"]
        assert sidecar.returns == expected(range(1, 9))


def test_refused_frames_are_given_up_and_the_sink_goes_on(
    bridge: Any, socket_path: Path
) -> None:
    with Sidecar(socket_path, n_rejects=1).listening() as sidecar:
        with open_sink(bridge, socket_path) as sink:
            observe_bars(sink, range(1, 2))
            eventually(lambda: sink.statistics().dropped.get("rejected", 0) == 3)
            observe_bars(sink, range(2, 3))
            assert sink.drain(SOON_S)
        assert sidecar.returns == expected(range(2, 3))
    assert sink.statistics().n_gaps == 1


def test_what_is_no_return_is_counted_and_raises_nothing(
    bridge: Any, socket_path: Path
) -> None:
    price = qmtl_double.StreamInput(interval=60, period=2, config={"symbol": "AAPL"})
    node = bridge.asset_return_node(price, symbol="AAPL")
    sink = bridge.BetaSink(f"unix://{socket_path}")
    tap = bridge.beta_sink_node(node, sink)

    tap.feed(node.node_id, 60, 60, {"nonsense": True})
    tap.feed(node.node_id, 60, 120, None)

    assert sink.statistics().dropped == {"malformed": 2}
    assert sink.statistics().state == bridge.SinkState.IDLE


def test_closing_without_a_sidecar_counts_what_is_left(
    bridge: Any, socket_path: Path
) -> None:
    sink = open_sink(bridge, socket_path)
    observe_bars(sink, range(1, 3))
    sink.close(0.01)
    observe_bars(sink, range(3, 4))

    assert sink.statistics().dropped == {"undelivered": 6, "closed": 3}
    assert sink.statistics().state == bridge.SinkState.CLOSED


def test_a_sink_that_observed_nothing_is_idle_until_it_is_closed(
    bridge: Any, socket_path: Path
) -> None:
    reports: list[Any] = []
    sink = open_sink(bridge, socket_path, report=reports.append)
    states = [sink.statistics().state]
    assert sink.drain()
    sink.close()
    states.append(sink.statistics().state)

    assert states == [bridge.SinkState.IDLE, bridge.SinkState.CLOSED]
    assert reports == []


def test_a_sink_is_connecting_from_its_first_observation(
    bridge: Any, socket_path: Path
) -> None:
    with open_sink(bridge, socket_path) as sink:
        observe_bars(sink, range(1, 2))
        assert sink.statistics().state == bridge.SinkState.CONNECTING
        sink.close(0.01)


@pytest.mark.parametrize("kind", ["simple", "log"])
def test_universe_sends_what_single_nodes_send(
    bridge: Any, socket_path: Path, kind: str
) -> None:
    rng = np.random.default_rng(5)
    symbols = ("AAPL", "BRK.B")
    bars: list[dict[str, float | None]] = []
    for bar in range(50):
        row: dict[str, float | None] = {
            symbol: float(100 + rng.normal()) for symbol in (*symbols, "SPY")
        }
        if bar % 7 == 3:
            row["AAPL"] = None
        if bar % 11 == 5:
            del row["BRK.B"]
        bars.append(row)
    sent: list[list[tuple[int, str, float]]] = []
    for is_universe in (True, False):
        with Sidecar(socket_path).listening() as sidecar:
            with bridge.BetaSink(f"unix://{socket_path}", backoff=FAST) as sink:
                pipeline, feed = wire(bridge, sink, symbols, kind, is_universe)
                for bar, row in enumerate(bars):
                    feed(pipeline, 60 * (bar + 1), row)
                assert sink.drain(SOON_S)
            sent.append(sidecar.returns)

    assert len(sent[0]) > 100
    assert sent[0] == sent[1]


def wire(bridge: Any, sink: Any, symbols: Any, kind: str, is_universe: bool) -> Any:
    if is_universe:
        node = bridge.UniversePrices(
            symbols, benchmark="SPY", sink=sink, interval=60, period=2, kind=kind
        )

        def feed_all(pipeline: Any, ts: int, row: Any) -> None:
            pipeline.feed(node, ts, row)

        return qmtl_double.Pipeline([node]), feed_all
    prices: dict[str, Any] = {}
    nodes: list[Any] = []
    for symbol in ("SPY", *symbols):
        prices[symbol] = qmtl_double.StreamInput(
            interval=60, period=2, config={"symbol": symbol}
        )
        is_benchmark = symbol == "SPY"
        make = (
            bridge.benchmark_return_node if is_benchmark else bridge.asset_return_node
        )
        returns = make(prices[symbol], symbol=symbol, kind=kind)
        nodes += [prices[symbol], returns, bridge.beta_sink_node(returns, sink)]

    def feed_each(pipeline: Any, ts: int, row: Any) -> None:
        for symbol, price in prices.items():
            if row.get(symbol) is not None:
                pipeline.feed(price, ts, {"close": row[symbol]})

    return qmtl_double.Pipeline(nodes), feed_each
