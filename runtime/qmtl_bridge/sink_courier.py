"""`Courier`: takes what a strategy has observed to a sidecar, on an event loop.

Rule: it belongs to one loop and knows of no thread. Everything here is called in that
loop, but for `Courier.is_connected` and `Courier.statistics`: they only read, and may
be called from anywhere. `sink` says what crosses the threads.

Theory of operation
-------------------
The courier takes what was observed, gathers it into bars (`BarFrames`) and publishes
one columnar frame per bar through a `BetaClient`: numbered, kept until acknowledged,
sent again after a reconnect or to a sidecar that was started anew. A bar is sent when
it is complete, or ``linger_s`` after its newest return.

What is given up (because the buffer was full, or the sidecar refused it) is a *gap*: it
is counted by reason, logged, reported to the metrics, and leaves a hole of its size in
the ``seq`` of the messages.

qmtl's own feed ends without a word when its connection does. Here the client owns the
liveness: it expects the sidecar's heartbeats, dials again with backoff for as long as
the sink is open, and says `is_connected`.

A connection belongs to one execution domain and one world, and its `Hello` names them:
``qmtl/<domain>/<world>``. When the nodes move to another, the courier says goodbye and
comes again under the new name.
"""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Final

import numpy as np

from ...messages import BetaFactoryError, RejectedError, Role
from ...messages.fields import MAX_NAME_LENGTH
from ..address import Address
from ..client import BetaClient, connect
from ..link import Backoff
from ..outgoing import MESSAGES_PER_FRAME
from .bar_frames import BarFrames
from .schema import NS_PER_S
from .sdk import ComputeContext
from .sink_buffer import Observation, SinkBuffer
from .sink_outbox import Outbox
from .sink_statistics import Report, SinkState, SinkStatistics

logger = logging.getLogger(__name__)

FOREVER: Final = 2**31
"""Attempts to reconnect: a strategy outlives any outage of its sidecar."""

RETRY_S: Final = 1.0
"""Wait after a connection that could not be made, or ended for good."""

REPORT_INTERVAL_S: Final = 0.1
"""A report with its metrics costs about as much as a frame."""


class Courier:
    """Empties a `SinkBuffer` into a sidecar, until it is stopped.

    Parameters
    ----------
    buffer
        What the strategy observes; the courier is the side that takes.
    frames
        Gathers it into messages; the courier's own from now on.
    address, token, backoff
        As for `connect`.
    linger_s
        How long a bar waits for its other symbols.
    report
        Called after each gap and change of state, and else at most ten times a second.
    """

    def __init__(
        self,
        buffer: SinkBuffer,
        frames: BarFrames,
        address: Address,
        *,
        token: str,
        linger_s: float,
        backoff: Backoff,
        report: Report,
    ) -> None:
        self._buffer = buffer
        self._frames = frames
        self._address = address
        self._token = token
        self._linger_s = linger_s
        self._backoff = backoff
        self._report = report
        self._event = asyncio.Event()
        self._closing = asyncio.Event()
        self._is_unreachable = False
        self._state = SinkState.CONNECTING
        self._client: BetaClient | None = None
        self._context: ComputeContext | None = None
        self._outbox = Outbox()
        self._in_bar = 0
        self._waiters: list[Future[bool]] = []
        self._told_at_s = 0.0
        self._n_sent = 0
        self._n_acknowledged = 0
        self._n_frames = 0
        self._n_connections = 0
        self._n_gaps = 0
        self._n_lost = 0

    @property
    def is_connected(self) -> bool:
        """Whether the sidecar has welcomed us and answers. For any thread."""
        client = self._client
        return client is not None and client.connected

    def statistics(self) -> SinkStatistics:
        """Return what became of the observations so far. For any thread."""
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

    def wake(self) -> None:
        """Look into the buffer."""
        self._event.set()

    def drain(self, waiter: Future[bool]) -> None:
        """Answer when the sidecar has taken in all that is in the buffer now.

        The answer is whether it has; it has not when the courier is stopped before.
        """
        self._waiters.append(waiter)
        self._event.set()

    def stop(self) -> None:
        """Let `run` end, and give up what is left."""
        self._closing.set()

    async def run(self) -> None:
        """Connect and send, again and again, until `stop`; once per courier.

        Something must have been observed.
        """
        closing = asyncio.create_task(self._closing.wait())
        try:
            while not self._closing.is_set():
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
            logger.error("sink.failed address=%s", self._address, exc_info=error)
        elif not self._is_unreachable:
            self._is_unreachable = True
            logger.warning("sink.unreachable address=%s error=%s", self._address, error)

    async def _serve_one_connection(self) -> None:
        if self._context is None:
            self._context = self._first_context()
        source = _source(self._context)
        client = connect(
            self._address,
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
                self._outbox.begin_connection()
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

    def _first_context(self) -> ComputeContext:
        first = self._buffer.take()
        assert isinstance(first, ComputeContext)  # noqa: S101 - put() begins with one
        return first

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
                if self._outbox.n_new >= MESSAGES_PER_FRAME:
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
        if self._frames.n_open:
            self._outbox.add_bar(self._frames.flush(), self._in_bar)
            self._in_bar = 0

    async def _publish(self, client: BetaClient) -> None:
        if not self._outbox.n_new:
            return
        messages = self._outbox.to_publish()
        before = client.n_published
        try:
            await client.publish(messages)
        finally:
            n_published = client.n_published - before
            self._n_frames += n_published
            self._n_sent += self._outbox.published(n_published)
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
        n_in_flight = client.n_published - client.n_acknowledged
        self._n_acknowledged += self._outbox.settle(n_in_flight)

    def _give_up_outbox(self, reason: str) -> None:
        if n_lost := self._outbox.give_up():
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
            self._address,
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

    def _set_state(self, state: SinkState, source: str) -> None:
        if state is not self._state:
            self._state = state
            logger.info(
                "sink.%s address=%s source=%s", state.value, self._address, source
            )
            self._tell()

    def _tell(self) -> None:
        self._report(self.statistics())


def _source(context: ComputeContext) -> str:
    world = context.world_id or "-"
    return f"qmtl/{context.execution_domain}/{world}"[:MAX_NAME_LENGTH]


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
