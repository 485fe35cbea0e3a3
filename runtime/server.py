"""The sidecar's socket: feeds in, subscribers out.

Rule: a connection can hurt nobody but itself. What it sends is checked before it is
used; what is wrong is answered with `Rejected` and the connection closes; an error
that nobody foresaw closes the connection that caused it and is logged.

Theory of operation
-------------------
One turn of the loop is one read: decode all its frames, let the system take each
message, end the turn (one commit), and write each outbox once. Nothing is scheduled in
between, so the update of a return leaves in the turn in which the return came.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import cast

from ..actors import BetaColumns, BetaRows
from ..actors.tables import SymbolTables
from ..messages import (
    WIRE_VERSION,
    Acknowledged,
    BenchmarkReturnObserved,
    FrameTooLargeError,
    Goodbye,
    Heartbeat,
    Hello,
    InvalidTopicError,
    MalformedMessageError,
    Message,
    Rejected,
    RejectReason,
    ReturnObserved,
    ReturnsObserved,
    Role,
    SlowSubscriberError,
    Subscribe,
    SymbolsDeclared,
    Unsubscribe,
    WireVersionError,
    decode_payloads,
)
from .framing import DEFAULT_MAX_FRAME_BYTES, FrameReader
from .subscriber import EncodedUpdates, Subscriber
from .system import System

logger = logging.getLogger(__name__)

_OBSERVATIONS = (ReturnObserved, BenchmarkReturnObserved, ReturnsObserved)

ABORT_AFTER_S = 5.0
"""A rejected peer gets this long to read why before its connection is aborted."""


class Server:
    """All connections of one system.

    Parameters
    ----------
    system
        What takes the returns; its ``on_columns`` must be this server's `publish`.
    instance
        Name of this run of the sidecar: a client that reconnects and finds another
        name knows that the sequence numbers started anew.
    max_frame_bytes, outbox_high_water_bytes, hello_timeout_s
        See `runtime.config.ServerConfig`.
    """

    def __init__(
        self,
        system: System,
        *,
        instance: str,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        outbox_high_water_bytes: int = 1024 * 1024,
        hello_timeout_s: float = 5.0,
    ) -> None:
        self.system = system
        self.instance = instance
        self.max_frame_bytes = max_frame_bytes
        self.outbox_high_water_bytes = outbox_high_water_bytes
        self.hello_timeout_s = hello_timeout_s
        self.connections: set[Connection] = set()
        self._left = asyncio.Event()
        self.n_accepted = 0
        """Connections accepted so far."""
        self.n_rejected = 0
        """Connections closed because of what they sent, or because they were slow."""
        self.n_frames = 0
        """Frames received so far."""
        self.n_conflated = 0
        """Updates folded for slow subscribers that have left."""

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._left.clear()
            await self._left.wait()

    def publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        """Queue a turn's updates for every subscriber, and write each outbox once."""
        factors = [publisher.factor for publisher in self.system.factory.publishers]
        encoded = [EncodedUpdates(u, factors.index(u.factor)) for u in turn]
        for connection in tuple(self.connections):
            connection.publish(encoded)

    def forget(self, connection: "Connection") -> None:
        """Drop a connection that has ended."""
        self.connections.discard(connection)
        self._left.set()

    def heartbeat(self, now_ns: int) -> None:
        """Send every peer a sign of life."""
        message = Heartbeat(ts_init=now_ns)
        for connection in tuple(self.connections):
            connection.heartbeat(message)

    def say_goodbye(self, reason: str) -> None:
        """Tell every peer that no more will come, and close once it has been sent."""
        for connection in tuple(self.connections):
            connection.say_goodbye(reason)


class Connection(asyncio.Protocol):
    """One peer, from its `Hello` to its end.

    Parameters
    ----------
    server
        The server that accepted it.
    loop
        For the time limit on its `Hello`.
    """

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._system = server.system
        self._loop = loop
        self._reader = FrameReader(server.max_frame_bytes)
        self._tables = SymbolTables(server.system.factory.row_of)
        self._hello: Hello | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._subscriber: Subscriber | None = None
        self._held: deque[Message] = deque()
        self._last_seq = 0
        self._acknowledged = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the peer a limited time to say who it is."""
        # uvloop's transports have its methods but not its type
        stream = cast("asyncio.Transport", transport)
        self._transport = stream
        self._subscriber = Subscriber(
            "anonymous",
            stream,
            self._system.factory.publishers,
            self._server.outbox_high_water_bytes,
        )
        self._server.connections.add(self)
        self._server.n_accepted += 1
        self._hello_timer = self._loop.call_later(
            self._server.hello_timeout_s,
            self._reject,
            RejectReason.UNEXPECTED,
            "no Hello came in time",
        )

    def data_received(self, data: bytes) -> None:
        """Run one turn on what was read."""
        messages: list[Message] = []
        try:
            try:
                payloads = self._reader.feed(data)
                self._server.n_frames += len(payloads)
                decode_payloads(payloads, messages)
            finally:
                # What stands before a malformed frame is as good as ever.
                self._take_all(messages)
        except FrameTooLargeError as error:
            self._reject(RejectReason.TOO_LARGE, str(error))
        except MalformedMessageError as error:
            self._reject(RejectReason.MALFORMED, str(error))
        except WireVersionError as error:
            self._reject(RejectReason.VERSION, str(error))
        except Exception:
            # The last line of defence: a fault in our own code on one peer's input
            # must not reach the loop, which would take every other peer down with it.
            logger.exception("connection.failed peer=%s", self._name)
            self._reject(RejectReason.UNEXPECTED, "internal error, see the log")
        self._end_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the peer."""
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._server.forget(self)
        if self._subscriber is not None:
            self._server.n_conflated += self._subscriber.n_conflated
        self._transport = None
        if exc is not None:
            logger.info("connection.lost peer=%s error=%r", self._name, exc)

    def pause_writing(self) -> None:
        """Conflate or cut a peer that reads more slowly than it is sent to."""
        if self._subscriber is None:
            return
        try:
            self._subscriber.pause()
        except SlowSubscriberError as error:
            logger.warning("subscriber.cut peer=%s error=%s", self._name, error)
            self._server.n_rejected += 1
            self._close()
            return
        logger.warning("subscriber.slow peer=%s policy=conflate", self._name)

    def resume_writing(self) -> None:
        """Go on with a peer that has caught up."""
        if self._subscriber is not None and self._transport is not None:
            before = self._subscriber.n_conflated
            self._subscriber.resume()
            logger.info(
                "subscriber.caught_up peer=%s conflated=%d",
                self._name,
                self._subscriber.n_conflated - before,
            )

    def publish(self, turn: Sequence[EncodedUpdates]) -> None:
        """Queue and write a turn's updates."""
        if self._subscriber is not None and self._is_open:
            self._subscriber.publish(turn)
            self._subscriber.flush()

    def heartbeat(self, message: Heartbeat) -> None:
        """Write a sign of life; a slow peer is sent nothing more."""
        subscriber = self._subscriber
        if subscriber is None or not self._hello or not self._is_open:
            return
        if not subscriber.is_slow:
            subscriber.send(message)
            subscriber.flush()

    def say_goodbye(self, reason: str) -> None:
        """Write `Goodbye` and close once everything before it has been read."""
        if self._subscriber is not None and self._is_open:
            self._acknowledge()
            self._subscriber.send(Goodbye(reason=reason))
            self._subscriber.flush()
            self._close()

    def abort(self) -> None:
        """Close at once, whatever has not been read."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def _name(self) -> str:
        return self._hello.name if self._hello else "anonymous"

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _take_all(self, messages: Sequence[Message]) -> None:
        # Whole runs of observations stay in this loop; the rest is rare.
        if self._held:
            self._held.extend(messages)
            return
        position = 0
        while position < len(messages):
            if self._hello:
                first, position = (
                    position,
                    self._system.take_all(messages, self._tables, position),
                )
                last = messages[position - 1]
                if position > first and isinstance(last, _OBSERVATIONS):
                    self._last_seq = last.seq or self._last_seq
                if position == len(messages):
                    return
                if isinstance(messages[position], _OBSERVATIONS):
                    self._hold(messages[position:])
                    return
            self._take_control(messages[position])
            position += 1

    def _hold(self, messages: Sequence[Message]) -> None:
        # A blocking mailbox is full: read nothing more until it has room.
        self._held.extend(messages)
        if self._transport is not None:
            self._transport.pause_reading()
        self._loop.call_later(0.01, self._system.end_turn)
        self._system.when_room(self._take_held)

    def _take_held(self) -> None:
        messages, self._held = list(self._held), deque()
        if self._is_open and self._transport is not None:
            self._take_all(messages)
            if not self._held:
                self._transport.resume_reading()
                self._loop.call_soon(self._end_turn)

    def _take_control(self, message: Message) -> None:
        subscriber = self._subscriber
        if subscriber is None or not self._is_open:
            return
        if self._hello is None:
            self._greet(message)
        elif type(message) is Subscribe:
            self._system.end_turn()  # the snapshot includes all that came before
            try:
                subscriber.subscribe(message)
            except InvalidTopicError as error:
                subscriber.send(
                    Rejected(
                        reason=RejectReason.INVALID_TOPIC,
                        detail=str(error),
                        subscription=message.subscription,
                    )
                )
        elif type(message) is Unsubscribe:
            subscriber.unsubscribe(message.subscription)
        elif type(message) is SymbolsDeclared:
            self._system.take(message, self._tables)
        elif type(message) is Goodbye:
            self._end_turn()
            self._close()
        elif type(message) is not Heartbeat:
            detail = f"a sidecar takes no {type(message).__name__}"
            self._reject(RejectReason.UNEXPECTED, detail)

    def _greet(self, message: Message) -> None:
        if type(message) is not Hello:
            detail = f"the first message must be Hello, was {type(message).__name__}"
            self._reject(RejectReason.UNEXPECTED, detail)
            return
        if message.version != WIRE_VERSION:
            raise WireVersionError(message.version, WIRE_VERSION)
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._hello = message
        if self._subscriber is not None:
            self._subscriber.name = message.name
            self._subscriber.send(Hello(role=Role.SIDECAR, name=self._server.instance))

    def _end_turn(self) -> None:
        self._system.end_turn()
        self._acknowledge()
        if self._subscriber is not None and self._is_open:
            self._subscriber.flush()

    def _acknowledge(self) -> None:
        if self._last_seq > self._acknowledged and self._subscriber is not None:
            self._acknowledged = self._last_seq
            self._subscriber.send(Acknowledged(seq=self._last_seq))

    def _reject(self, reason: RejectReason, detail: str) -> None:
        if self._subscriber is None or not self._is_open:
            return
        logger.warning(
            "connection.rejected peer=%s reason=%s detail=%s",
            self._name,
            reason,
            detail,
        )
        self._server.n_rejected += 1
        self._subscriber.send(Rejected(reason=reason, detail=detail[:1024]))
        self._subscriber.flush()
        self._close()

    def _close(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.close()
            self._loop.call_later(ABORT_AFTER_S, transport.abort)
