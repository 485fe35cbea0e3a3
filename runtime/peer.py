"""One peer of a sidecar, from its `Hello` to its end.

Rule: a connection can hurt nobody but itself. What it sends is checked before it is
used; what is wrong is answered with `Rejected` and the connection closes; an error
that nobody foresaw closes the connection that caused it and is logged. Until it has
said who it is, and that is granted, it is read one short frame of, and told nothing.

Theory of operation
-------------------
One turn of the loop is one read: decode all its frames, let the system take each
message, end the turn (one commit), and write each outbox once. Nothing is scheduled in
between, so the update of a return leaves in the turn in which the return came. What a
turn cannot hold waits in `runtime.backlog`; `runtime.feed_progress` says how far a feed
has come, and `runtime.farewell` how a connection ends.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from msgspec import structs

from ..actors.tables import SymbolTables
from ..messages import (
    OBSERVATION_TYPES,
    REQUEST_TYPES,
    WIRE_VERSION,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Rejected,
    RejectReason,
    Role,
    SlowSubscriberError,
    Subscribe,
    Unsubscribe,
    WireVersionError,
    decode_payload,
)
from .backlog import MAX_REQUESTS_PER_TURN, Backlog, Until
from .encoded import EncodedUpdates
from .farewell import EndedError, Farewell
from .feed_progress import FeedProgress
from .group_reader import GroupReader
from .groups import Piece, Taken, decode_pieces, n_within
from .operations import DEAD_LETTERS
from .requests import Requests
from .sequences import Key
from .subscriber import Subscriber
from .tls import common_name

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger(__name__)

MAX_GREETING_BYTES: Final = 8 * 1024
"""Room for a `Hello` with the longest name and token, and a few requests beside it."""


class Connection(asyncio.Protocol):
    """One peer, from its `Hello` to its end.

    Parameters
    ----------
    server
        The server that accepted it.
    loop
        For the time limit on its `Hello`.
    """

    def __init__(self, server: "Server", loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._system = server.system
        self._loop = loop
        self._reader = GroupReader(min(MAX_GREETING_BYTES, server.max_frame_bytes))
        self._tables = SymbolTables(server.system.factory.row_of)
        self._hello: Hello | None = None
        self._requests: Requests | None = None
        self._is_feed = False
        self._hello_timer: asyncio.TimerHandle | None = None
        self._end_later: EndedError | None = None
        self._number = 0
        # These are there from `connection_made` on.
        self._transport: asyncio.Transport
        self._subscriber: Subscriber
        self._backlog: Backlog
        self._progress: FeedProgress
        self._farewell: Farewell

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the peer a limited time to say who it is."""
        # uvloop's transports have its methods but not its type
        stream = cast("asyncio.Transport", transport)
        server, loop = self._server, self._loop
        self._transport = stream
        _widen(stream, server.outbox_high_water_bytes)
        self._subscriber = Subscriber(
            "anonymous",
            stream,
            self._system.factory.publishers,
            server.outbox_high_water_bytes,
            server.max_subscriptions,
        )
        self._backlog = Backlog(server, stream, loop, self._take_backlog)
        self._progress = FeedProgress(server, self._subscriber)
        self._farewell = Farewell(server, stream, self._subscriber, self._backlog, loop)
        server.accepted(self)
        self._hello_timer = loop.call_later(
            server.hello_timeout_s,
            self._farewell.reject,
            RejectReason.UNEXPECTED,
            "no Hello came in time",
        )
        if server.goodbye is not None:
            self.say_goodbye(server.goodbye)

    def data_received(self, data: bytes) -> None:
        """Run one turn on what was read."""
        farewell = self._farewell
        if farewell.is_over or self._end_later is not None or self._server.is_stopping:
            return  # read only so that the peer gets to our last word
        take = self._take_data if self._hello else self._take_greeting
        self._finish_turn(farewell.end_of(take, data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the peer."""
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._farewell.gone()
        self._server.forget(self)
        if self._server.journal is not None and self._number:
            self._server.journal.left(self._number)
        if exc is not None:
            logger.info("connection.lost peer=%s error=%r", self.name, exc)

    def pause_writing(self) -> None:
        """Conflate or cut a peer that reads more slowly than it is sent to."""
        if not self._farewell.is_open:
            return
        try:
            self._subscriber.pause()
        except SlowSubscriberError as error:
            logger.warning("subscriber.cut peer=%s error=%s", self.name, error)
            self._server.rejected[RejectReason.SLOW] += 1
            # What it has not read stands before our last word, and it is slow.
            self._farewell.close(self._server.linger_timeout_s)
            return
        logger.warning("subscriber.slow peer=%s policy=conflate", self.name)

    def resume_writing(self) -> None:
        """Go on with a peer that has caught up."""
        if self._farewell.is_open:
            before = self._subscriber.n_conflated
            self._subscriber.resume()
            self._progress.acknowledge()
            self._subscriber.flush()
            logger.info(
                "subscriber.caught_up peer=%s conflated=%d",
                self.name,
                self._subscriber.n_conflated - before,
            )
            self._backlog.wake(Until.READ)

    def publish(self, turn: Sequence[EncodedUpdates]) -> None:
        """Queue and write a turn's updates."""
        if self._farewell.is_open:
            self._subscriber.publish(turn)
            self._subscriber.flush()

    def heartbeat(self, message: Heartbeat) -> None:
        """Write a sign of life; a slow peer is sent nothing more."""
        subscriber = self._subscriber
        if self._hello and self._farewell.is_open and not subscriber.is_slow:
            subscriber.send(message)
            subscriber.flush()

    def say_goodbye(self, reason: str) -> None:
        """Write `Goodbye` and close once everything before it has been read."""
        if self._farewell.is_open:
            if self._subscriber.is_slow:
                self._subscriber.resume()  # what it missed, for there is no later
            self._progress.acknowledge()
            self._farewell.say_last(Goodbye(reason=reason))
            # How long it may take to read that is for whoever shuts down to say.
            self._transport.close()

    def evict(self, detail: str) -> None:
        """Close it for another one's sake, before it has said who it is."""
        if self._farewell.is_open:
            reason = RejectReason.TOO_MANY
            self._server.rejected[reason] += 1
            self._farewell.say_last(Rejected(reason=reason, detail=detail))
            self._farewell.close()
        else:
            self.abort()

    def stop_reading(self) -> None:
        """Take nothing more."""
        if self._farewell.is_open:
            self._backlog.stop()

    def abort(self) -> None:
        """Close at once, whatever has not been read or taken."""
        self._farewell.abort()

    @property
    def is_slow(self) -> bool:
        """Whether its outbox is above the high-water mark."""
        return self._subscriber.is_slow

    @property
    def n_conflated(self) -> int:
        """Updates folded for this peer so far."""
        return self._subscriber.n_conflated

    @property
    def n_outbox_bytes(self) -> int:
        """Bytes that wait for this peer to read them."""
        return self._transport.get_write_buffer_size()

    @property
    def is_feed(self) -> bool:
        """Whether it may send observations."""
        return self._is_feed

    @property
    def n_backlog(self) -> int:
        """Messages read and not taken in yet."""
        return len(self._backlog.messages)

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self._hello.name if self._hello else "anonymous"

    @property
    def sequence(self) -> Key:
        """Name and sequence of a feed that has one."""
        return self._progress.sequence

    def _take_greeting(self, data: bytes) -> None:
        # Frame by frame, until one of them says who this is.
        payloads = deque(self._reader.feed(data))
        self._server.n_frames += len(payloads)
        messages: list[Message] = []
        while payloads and not messages:
            messages = decode_payload(payloads.popleft())
        if messages:
            self._greet(messages.pop(0))
            self._reader.max_frame_bytes = self._server.max_frame_bytes
            rest = [*payloads, *self._reader.feed(b"")]
            self._take_pieces([rest], [*messages])
        self._reader.check()

    def _take_data(self, data: bytes) -> None:
        payload = self._reader.whole(data)
        if payload is not None:  # of a quiet peer: mostly one return
            self._server.n_frames += 1
            messages = decode_payload(payload)
            if (
                len(messages) == 1
                and self._is_feed
                and not self._backlog.messages
                and not self._progress.repeats_to
                and self._system.take_lone(messages[0], self._tables)
            ):
                self._progress.took(messages)
            else:
                self._take_all([*messages])
            return
        if self._is_feed:
            pieces = self._reader.feed_groups(data)
        else:
            pieces = [self._reader.feed(data)]
        self._server.n_frames += sum(map(len, pieces))
        self._take_pieces(pieces, [])
        self._reader.check()

    def _take_pieces(self, pieces: Sequence[Piece], messages: list[Taken]) -> None:
        try:
            decode_pieces(pieces, messages)
        finally:
            # What stands before a malformed frame is as good as ever.
            self._take_all(messages)

    def _finish_turn(self, end: EndedError | None) -> None:
        # What came before the end counts, and is acknowledged before it.
        end = self._farewell.end_of(self._end_turn) or end
        if self._backlog.messages:
            self._end_later = end or self._end_later  # what waits came before it
            return
        end = end or self._end_later
        if end is not None:
            self._farewell.end(end)

    def _take_all(self, messages: list[Taken]) -> None:
        # One turn's worth of them, and the rest after what the others sent.
        if self._backlog.messages:
            self._backlog.hold(messages)
            return
        n_messages = n_within(messages, self._server.share)
        if n_messages < len(messages):
            turn, rest = messages[:n_messages], messages[n_messages:]
            self._take_turn(turn)
            self._backlog.hold(rest)
        else:
            self._take_turn(messages)

    def _take_backlog(self) -> None:
        # A turn of its own for what had to wait.
        backlog = self._backlog
        turn = backlog.turn()
        first = turn[0]
        end = self._farewell.end_of(self._take_turn, turn)
        if end is not None:
            backlog.messages.clear()  # it came after the mistake
        elif backlog.messages and backlog.messages[0] is first:
            return  # it has to wait on: there is no turn to end
        self._finish_turn(end)

    def _take_turn(self, messages: list[Taken]) -> None:
        # Whole runs of observations stay in this loop; the rest is rare.
        progress = self._progress
        position = n_asked = 0
        while position < len(messages):
            if progress.repeats_to:
                messages, position = progress.untaken(messages[position:]), 0
                if not messages:
                    return
            if self._is_feed:
                first = position
                position = self._system.take_all(messages, self._tables, first)
                if position > first:
                    is_all = not first and position == len(messages)
                    progress.took(messages if is_all else messages[first:position])
                    continue
            message = cast("Message", messages[position])  # only a feed has groups
            until = self._must_wait(message)
            if until is None and n_asked == MAX_REQUESTS_PER_TURN:
                until = Until.TURN
            if until is not None:
                self._backlog.put_back(messages[position:], until)
                return
            n_asked += 1
            self._take_request(message)
            position += 1

    def _must_wait(self, message: Message) -> Until | None:
        if isinstance(message, OBSERVATION_TYPES):
            return Until.ROOM if self._is_feed else None
        # A slow peer reads its snapshots before the next one makes its outbox longer.
        if self.is_slow and isinstance(message, (Subscribe, *REQUEST_TYPES)):
            return Until.READ
        return None

    def _take_request(self, message: Message) -> None:
        if self._requests is None or not self._farewell.is_open:
            return
        self._requests.take(message)
        if isinstance(message, Subscribe | Unsubscribe):
            is_subscribed = self._subscriber.is_subscribed
            self._server.subscribed(self, is_subscribed=is_subscribed)

    def _greet(self, message: Message) -> None:
        if type(message) is not Hello:
            detail = f"the first message must be Hello, was {type(message).__name__}"
            raise EndedError(RejectReason.UNEXPECTED, detail)
        if message.version != WIRE_VERSION:
            raise WireVersionError(message.version, WIRE_VERSION)
        if not self._farewell.is_open:
            return
        subscriber = self._subscriber
        certificate = common_name(self._transport.get_extra_info("peercert"))
        grant = self._server.access.admit(message, certificate)
        if message.name == DEAD_LETTERS:  # it tells a replay what was requeued
            detail = f"no peer may be called {DEAD_LETTERS}: choose another name"
            raise EndedError(RejectReason.NOT_ALLOWED, detail)
        if self._server.is_full:
            detail = f"the sidecar takes {self._server.max_connections} connections"
            raise EndedError(RejectReason.TOO_MANY, detail)
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._hello = structs.replace(message, token="")
        self._tables.source = message.name
        self._is_feed = message.role is Role.FEED
        self._begin_sequence(message)
        self._requests = Requests(
            self._server,
            subscriber,
            self._tables,
            message.role,
            grant,
            number=self._number,
        )
        self._farewell.is_stranger = False
        self._server.greeted(self)
        logger.info(
            "connection.greeted peer=%s role=%s grant=%s",
            message.name,
            message.role,
            grant.name,
        )
        subscriber.name = message.name
        taken = self._progress.repeats_to if self._progress.sequence[1] else None
        name = self._server.instance
        subscriber.send(Hello(role=Role.SIDECAR, name=name, taken=taken))

    def _begin_sequence(self, hello: Hello) -> None:
        server = self._server
        if server.journal is not None:
            self._number = server.journal.greeted(hello.name, hello.sequence)
        if not self._is_feed:
            return
        key = hello.name, hello.sequence
        if hello.sequence:
            # What its feed sends again comes after all that the old one brought.
            old = server.feeds.get(key)
            if old is not None and old is not self:
                old.abort()
            server.feeds[key] = self
        self._progress.begin(self._number, key, knows=hello.taken is not None)

    def _end_turn(self) -> None:
        self._system.end_turn()
        progress = self._progress
        if progress.last_seq > progress.awaited_seq:
            progress.turn_ended()
        journal = self._server.journal
        if journal is not None and self._is_feed and not journal.has_room:
            self._backlog.wait(Until.DURABLE)
        subscriber = self._subscriber
        if subscriber.queued and self._farewell.is_open:
            subscriber.flush()


def _widen(transport: asyncio.Transport, n_bytes: int) -> None:
    # A turn that does not fit what the system holds for a socket (200 KB by default,
    # a bar of 3,000 symbols) leaves in pieces, and between two of them its reader has
    # to run and we to be woken. The system may allow less than is asked for.
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None:
        return
    with suppress(OSError):
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < n_bytes:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, n_bytes)
