"""`BetaSink`: a strategy's returns to a sidecar, from a backtest or live.

Rule: the strategy comes first. Its thread hands an observation over (`SinkBuffer`) and
goes on; everything that can wait or fail happens in the sink's own thread, on an event
loop of its own. An error there is counted and logged, and never reaches a node.

Theory of operation
-------------------
The thread takes what was observed, gathers it into bars (`BarFrames`) and publishes one
columnar frame per bar through a `BetaClient`: numbered, kept until acknowledged, sent
again after a reconnect or to a sidecar that was started anew. A bar is sent when it is
complete, or `LINGER_S` after its newest return.

What is given up (because the buffer was full, or the sidecar refused it) is a *gap*: it
is counted by reason, logged, reported to the metrics, and leaves a hole of its size in
the ``seq`` of the messages.

qmtl's own feed ends without a word when its connection does. Here the client owns the
liveness: it expects the sidecar's heartbeats, dials again with backoff for as long as
the sink is open, and says `is_connected`.

A connection belongs to one execution domain and one world, and its `Hello` names them:
``qmtl/<domain>/<world>``. When the nodes move to another, the sink says goodbye and
comes again under the new name.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Final, Self

import numpy as np

from ...messages import (
    BetaFactoryError,
    ConfigError,
    RejectedError,
    ReturnsObserved,
    Role,
    SymbolsDeclared,
)
from ...messages.fields import MAX_NAME_LENGTH
from ..address import Address, default_address
from ..client import BetaClient, connect
from ..clock import Clock
from ..link import Backoff
from ..outgoing import MESSAGES_PER_FRAME, Publishable
from .bar_frames import BarFrames
from .metrics import SinkMetrics
from .schema import NS_PER_S
from .sdk import ComputeContext
from .sink_buffer import Column, Observation, SinkBuffer
from .sink_statistics import Report, SinkState, SinkStatistics

logger = logging.getLogger(__name__)

CAPACITY: Final = 100_000
"""Observations that wait for a sidecar: some twenty bars of 5,000 symbols, 10 MB."""

LINGER_S: Final = 0.005
"""How long a bar may wait for its other symbols. qmtl needs about half a millisecond
per symbol; a bar that takes longer than this between two of them goes in parts."""

FOREVER: Final = 2**31
"""Attempts to reconnect: a strategy outlives any outage of its sidecar."""

RETRY_S: Final = 1.0
"""Wait after a connection that could not be made, or ended for good."""

REPORT_INTERVAL_S: Final = 0.1
"""A report with its metrics costs about as much as a frame."""

CLOSE_TIMEOUT_S: Final = 5.0


class BetaSink:
    """Sends the returns that a strategy's nodes see to a sidecar.

    Attach it with `beta_sink_node`, `UniversePrices` or the recipe. It starts with the
    first observation; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    address
        Where the sidecar listens, by default this user's.
    token
        The secret that the sidecar asks for, if it does.
    capacity
        Observations that may wait; above it the oldest are given up.
    linger_s
        How long a bar waits for its other symbols.
    clock
        Stamps the messages, for live use; by default a message carries its bar's own
        stamp, so that two runs send the same bytes.
    backoff
        Delays between attempts to reconnect.
    report
        Called in the sink's thread after each gap and change of state, and else at
        most ten times a second; by default it keeps the metrics (`metrics`).

    Raises
    ------
    ConfigError
        When the address is none, or there is no room for a single observation.
    """

    def __init__(
        self,
        address: str | Address | None = None,
        *,
        token: str = "",
        capacity: int = CAPACITY,
        linger_s: float = LINGER_S,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        report: Report | None = None,
    ) -> None:
        if isinstance(address, str):
            address = Address.parse(address)
        if capacity < 1:
            raise ConfigError([("capacity", f"must be at least 1, was {capacity}")])
        self.address = address or default_address()
        self.symbols: list[str] = []
        """The assets, by slot."""
        self.benchmarks: list[str] = []
        self._token = token
        self._linger_s = linger_s
        self._clock = clock
        self._backoff = backoff or Backoff(max_attempts=FOREVER)
        self._report = report or SinkMetrics().observe
        self._buffer = SinkBuffer(capacity, self._wake)
        self._frames = BarFrames(self.symbols, self.benchmarks, clock)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self._closing = asyncio.Event()
        self._is_closing = False
        self._is_unreachable = False
        self._state = SinkState.IDLE
        self._client: BetaClient | None = None
        # (message, observations it settles), not acknowledged; the first n_in_flight
        # of them are published on the present connection
        self._outbox: deque[tuple[Publishable, int]] = deque()
        self._n_in_flight = 0
        self._tables: dict[int, SymbolsDeclared] = {}
        self._declared: set[int] = set()
        self._in_bar = 0
        self._told_at_s = 0.0
        self._n_sent = 0
        self._n_acknowledged = 0
        self._n_frames = 0
        self._n_connections = 0
        self._n_gaps = 0
        self._n_lost = 0
        self._waiters: list[Future[bool]] = []
        self._context: ComputeContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the sidecar has welcomed us and answers."""
        client = self._client
        return client is not None and client.connected

    def statistics(self) -> SinkStatistics:
        """Return what became of the observations so far."""
        return SinkStatistics(
            state=self._state,
            is_connected=self.is_connected,
            n_observed=self._buffer.n_observed,
            n_sent=self._n_sent,
            n_acknowledged=self._n_acknowledged,
            n_pending=len(self._buffer),
            n_frames=self._n_frames,
            n_connections=self._n_connections,
            n_gaps=self._n_gaps,
            dropped=dict(self._buffer.dropped),
        )

    def slot_of(self, symbol: str, *, is_benchmark: bool = False) -> int:
        """Return the slot of a symbol, a new one if it has none."""
        names = self.benchmarks if is_benchmark else self.symbols
        if symbol not in names:
            names.append(symbol)
            self._buffer.n_expected += 1
        slot = names.index(symbol)
        return -1 - slot if is_benchmark else slot

    def slots_of(self, symbols: tuple[str, ...]) -> int:
        """Give consecutive new slots to symbols that have none; return the first.

        Raises
        ------
        ConfigError
            When one of them has a slot already.
        """
        if taken := sorted(set(symbols) & set(self.symbols)):
            reason = f"{taken[0]!r} is already observed by another node"
            raise ConfigError([("symbols", reason)])
        first = len(self.symbols)
        self.symbols.extend(symbols)
        self._buffer.n_expected += 1  # they come as one column
        return first

    def observe(
        self, context: ComputeContext, ts: int, slot: int, value: float | Column
    ) -> None:
        """Take one observation, or a column of them; wait for nothing."""
        if self._is_closing:
            self._buffer.dropped["closed"] += 1
            return
        self._buffer.put(context, (ts, slot, value))

    def refuse(self, reason: str, error: Exception) -> None:
        """Count an observation that cannot be used; the first of its kind is logged."""
        if not self._buffer.dropped[reason]:
            logger.warning("sink.refused reason=%s error=%s", reason, error)
        self._buffer.dropped[reason] += 1

    def drain(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until the sidecar has taken in all that was observed so far.

        Not for a coroutine: there, ``await asyncio.to_thread(sink.drain)``.

        Returns
        -------
        bool
            Whether it has, within the time.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            return not len(self._buffer)
        waiter: Future[bool] = Future()
        self._waiters.append(waiter)
        self._notify(self._event)
        try:
            return waiter.result(timeout_s)
        except FutureTimeoutError:
            return False

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what is left, for as long as this, and end the thread.

        What is not acknowledged by then is counted as ``undelivered``.
        """
        self.drain(timeout_s)
        self._is_closing = True
        if self._thread is not None:
            self._notify(self._closing)
            self._thread.join(CLOSE_TIMEOUT_S)
        self._state = SinkState.CLOSED

    def _wake(self) -> None:
        if self._thread is None:
            self._start()
        else:
            self._notify(self._event)

    def _notify(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            # the thread may have ended in this instant: then nobody waits
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(event.set)

    def _start(self) -> None:
        self._state = SinkState.CONNECTING
        started = threading.Event()
        self._event.set()

        def main() -> None:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                started.set()
                runner.run(self._run())

        self._thread = threading.Thread(target=main, name="beta-sink", daemon=True)
        self._thread.start()
        started.wait()

    async def _run(self) -> None:
        closing = asyncio.create_task(self._closing.wait())
        try:
            while not self._is_closing:
                n_connections = self._n_connections
                connection = asyncio.create_task(self._serve_one_connection())
                await asyncio.wait(
                    [connection, closing], return_when=asyncio.FIRST_COMPLETED
                )
                connection.cancel()
                await asyncio.wait([connection])
                if not connection.cancelled() and (error := connection.exception()):
                    self._failed(error)
                    if self._n_connections == n_connections:
                        await asyncio.wait([closing], timeout=RETRY_S)
        finally:
            closing.cancel()
            self._give_up_the_rest()

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, BetaFactoryError):
            # a fault of ours: the strategy goes on, and the log says why
            logger.error("sink.failed address=%s", self.address, exc_info=error)
        elif not self._is_unreachable:
            self._is_unreachable = True
            logger.warning("sink.unreachable address=%s error=%s", self.address, error)

    async def _serve_one_connection(self) -> None:
        if self._context is None:
            await self._first_context()
        source = self._source()
        client = connect(
            self.address,
            name=source,
            role=Role.FEED,
            token=self._token,
            backoff=self._backoff,
        )
        try:
            async with client:
                self._client = client
                self._n_connections += 1
                self._is_unreachable = False
                self._set_state(SinkState.LIVE, source)
                self._n_in_flight = 0
                self._declared.clear()
                await self._publish(client)
                await _first(self._pump(client), client.wait_ended())
        except RejectedError:
            # what was refused would be refused again
            self._give_up_outbox("rejected")
            raise
        finally:
            self._settle(client)
            self._client = None
            self._set_state(SinkState.CONNECTING, source)

    async def _first_context(self) -> None:
        first = self._buffer.take()
        while first is None:
            await self._event.wait()
            self._event.clear()
            self._buffer.is_idle = True
            first = self._buffer.take()
        assert isinstance(first, ComputeContext)  # noqa: S101 - put() begins with one
        self._context = first

    async def _pump(self, client: BetaClient) -> None:
        # Until the nodes move to another world or domain.
        frames, buffer = self._frames, self._buffer
        while True:
            self._note_overflow()
            waiters = tuple(self._waiters)
            while (item := buffer.take()) is not None:
                if isinstance(item, ComputeContext):
                    self._flush_bar()
                    await self._publish(client)
                    await client.flush()
                    self._context = item
                    return
                self._gather(item)
                if len(self._outbox) - self._n_in_flight >= MESSAGES_PER_FRAME:
                    await self._publish(client)
            if frames.is_complete or waiters:
                self._flush_bar()
            await self._publish(client)
            if waiters:
                await client.flush()
                self._settle(client)
                self._answer(waiters, is_delivered=True)
            if await self._until_woken() or len(buffer):
                continue
            self._flush_bar()
            await self._publish(client)

    async def _until_woken(self) -> bool:
        # Whether it was, before the open bar had waited long enough.
        timeout_s = self._linger_s if self._frames.n_open else None
        self._buffer.is_idle = timeout_s is None
        if timeout_s is None and len(self._buffer):
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def _gather(self, observation: Observation) -> None:
        ts, slot, value = observation
        ts_event = ts * NS_PER_S
        frames = self._frames
        if not frames.belongs(ts_event):
            self._flush_bar()
        self._in_bar += 1
        if isinstance(value, np.ndarray):
            frames.add_column(ts_event, slot, value)
        elif slot >= 0:
            frames.add(ts_event, slot, value)
        else:
            frames.add_benchmark(ts_event, -1 - slot, value)

    def _flush_bar(self) -> None:
        if not self._frames.n_open:
            return
        for message in self._frames.flush():
            if isinstance(message, SymbolsDeclared):
                self._tables[message.table] = message
            else:
                self._outbox.append((message, 0))
        # all of the bar's observations are settled with its last message
        last, _ = self._outbox.pop()
        self._outbox.append((last, self._in_bar))
        self._in_bar = 0

    async def _publish(self, client: BetaClient) -> None:
        new = tuple(islice(self._outbox, self._n_in_flight, None))
        if not new:
            return
        messages: list[Publishable] = []
        for message, _ in new:
            if isinstance(message, ReturnsObserved):
                table = message.symbols
                if isinstance(table, int) and table not in self._declared:
                    self._declared.add(table)
                    messages.append(self._tables[table])
            messages.append(message)
        before = client.n_published
        try:
            await client.publish(messages)
        finally:
            n_published = client.n_published - before
            self._n_in_flight += n_published
            self._n_frames += n_published
            self._n_sent += sum(count for _, count in new[:n_published])
            self._settle(client)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_at_s >= REPORT_INTERVAL_S:
            self._told_at_s = now_s
            self._tell()

    def _answer(self, waiters: tuple[Future[bool], ...], *, is_delivered: bool) -> None:
        self._tell()
        for waiter in waiters:
            self._waiters.remove(waiter)
            if not waiter.done():
                waiter.set_result(is_delivered)

    def _settle(self, client: BetaClient) -> None:
        while self._n_in_flight > client.n_published - client.n_acknowledged:
            self._n_in_flight -= 1
            self._n_acknowledged += self._outbox.popleft()[1]

    def _give_up_outbox(self, reason: str) -> None:
        n_lost = sum(count for _, count in self._outbox)
        self._outbox.clear()
        self._n_in_flight = 0
        if n_lost:
            self._gap(reason, n_lost)

    def _note_overflow(self) -> None:
        n_lost = self._buffer.dropped["overflow"] - self._n_lost
        if n_lost:
            self._n_lost += n_lost
            self._gap("overflow", n_lost, counted=True)

    def _gap(self, reason: str, n_lost: int, *, counted: bool = False) -> None:
        if not counted:
            self._buffer.dropped[reason] += n_lost
        self._n_gaps += 1
        self._frames.skip(n_lost)
        logger.warning(
            "sink.gap address=%s reason=%s observations=%d",
            self.address,
            reason,
            n_lost,
        )
        self._tell()

    def _give_up_the_rest(self) -> None:
        n_left = self._in_bar
        while (item := self._buffer.take()) is not None:
            n_left += not isinstance(item, ComputeContext)
        if n_left:
            self._gap("undelivered", n_left)
        self._give_up_outbox("undelivered")
        self._state = SinkState.CLOSED
        self._answer(tuple(self._waiters), is_delivered=False)

    def _source(self) -> str:
        context = self._context
        domain = context.execution_domain if context else "default"
        world = (context.world_id if context else "") or "-"
        return f"qmtl/{domain}/{world}"[:MAX_NAME_LENGTH]

    def _set_state(self, state: SinkState, source: str) -> None:
        if state is not self._state:
            self._state = state
            logger.info(
                "sink.%s address=%s source=%s", state.value, self.address, source
            )
            self._tell()

    def _tell(self) -> None:
        self._report(self.statistics())


async def _first(*coroutines: Coroutine[None, None, None]) -> None:
    # Runs them until one of them ends, and raises what that one raised.
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
