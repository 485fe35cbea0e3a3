"""All connections of a sidecar: how many there may be, and what they are all sent.

Rule: what one connection does is its own affair (`runtime.peer`); here is only what
concerns several of them. One that fails while a turn is handed to it is closed, and
the others get the turn.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from ..actors import BetaColumns, BetaRows
from ..messages import Heartbeat, RejectReason, StoreReported
from .access import ANYBODY, Access
from .backlog import MAX_MESSAGES_PER_TURN, MIN_MESSAGES_PER_TURN, Backlog
from .encoded import EncodedUpdates
from .frame_buffers import FrameBuffers
from .framing import DEFAULT_MAX_FRAME_BYTES
from .journal import Journal
from .operations import Operations
from .peer import Connection
from .sequences import Sequences
from .system import System

logger = logging.getLogger(__name__)

MAX_UNGREETED: Final = 512
"""Connections that have not said who they are. One more and the oldest of them goes:
an honest peer greets within milliseconds, so a flood pushes out only itself. As many
more may be on their way out: over TLS, to close takes as long as the stranger likes."""


class Server:
    """All connections of one system.

    Parameters
    ----------
    system
        What takes the returns; its ``on_updates`` must be this server's `publish`.
    instance
        Name of this run of the sidecar: a client that reconnects and finds another
        name knows that the sequence numbers started anew.
    access
        Who may connect; anybody who can open the socket by default.
    max_connections, max_subscriptions, max_frame_bytes, outbox_high_water_bytes
        See `runtime.config.ServerConfig`, as for the other limits.
    journal
        Where turns are written down before they are acknowledged, if anywhere.
    sequences
        What was taken of each feed's sequence before this run.
    store_status
        Returns how the store is, if there is one.
    """

    def __init__(
        self,
        system: System,
        *,
        instance: str,
        access: Access | None = None,
        max_connections: int = 1024,
        max_subscriptions: int = 1024,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        outbox_high_water_bytes: int = 1024 * 1024,
        hello_timeout_s: float = 5.0,
        linger_timeout_s: float = 60.0,
        journal: Journal | None = None,
        sequences: Sequences | None = None,
        store_status: Callable[[], StoreReported | None] = lambda: None,
    ) -> None:
        self.system = system
        self.journal = journal
        self.sequences = sequences or Sequences()
        self.store_status = store_status
        self.feeds: dict[tuple[str, str], Connection] = {}
        """The one connection over which each sequence comes."""
        self.floods: set[Backlog] = set()
        """Of the connections that sent more than one turn may hold."""
        self.is_stopping = False
        """Whether nothing more is taken."""
        self.instance = instance
        self.access = access or Access([ANYBODY])
        self.max_connections = max_connections
        self.max_subscriptions = max_subscriptions
        self.max_frame_bytes = max_frame_bytes
        self.outbox_high_water_bytes = outbox_high_water_bytes
        self.hello_timeout_s = hello_timeout_s
        self.linger_timeout_s = linger_timeout_s
        self.operations = Operations(system, journal)
        self.connections: set[Connection] = set()
        self.goodbye: str | None = None
        """Why no more will come; ``None`` while the sidecar serves."""
        self._ungreeted: dict[Connection, None] = {}  # oldest first
        self._greeted: set[Connection] = set()
        self._subscribed: dict[Connection, None] = {}
        self._buffers = FrameBuffers()
        self._table_of = {
            publisher.factor: table
            for table, publisher in enumerate(system.factory.publishers)
        }
        self._left = asyncio.Event()
        self._n_conflated_left = 0
        self.n_accepted = 0
        """Connections accepted so far."""
        self.rejected: Counter[RejectReason] = Counter()
        """Connections closed because of what they sent, or because they were slow."""
        self.n_frames = 0
        """Frames received so far."""
        self.n_repeated: Counter[int] = Counter()
        """Messages left out so far, for their numbers had been taken; by source."""

    @property
    def n_conflated(self) -> int:
        """Updates folded for slow subscribers so far."""
        here = sum(connection.n_conflated for connection in self.connections)
        return self._n_conflated_left + here

    @property
    def n_rejected(self) -> int:
        """Connections closed for any reason but good order so far."""
        return self.rejected.total()

    @property
    def n_outbox_bytes(self) -> int:
        """Bytes that wait for peers to read them."""
        return sum(connection.n_outbox_bytes for connection in self.connections)

    @property
    def share(self) -> int:
        """Messages of one peer to take in one turn: floods share what one may have."""
        share = MAX_MESSAGES_PER_TURN // max(len(self.floods), 1)
        return max(share, MIN_MESSAGES_PER_TURN)

    @property
    def is_full(self) -> bool:
        """Whether no more peers may greet."""
        return len(self._greeted) >= self.max_connections

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._left.clear()
            await self._left.wait()

    def accepted(self, connection: Connection) -> None:
        """Take in a connection that has not said who it is."""
        self.connections.add(connection)
        self.n_accepted += 1
        self._ungreeted[connection] = None
        if len(self._ungreeted) > MAX_UNGREETED:
            oldest = next(iter(self._ungreeted))
            del self._ungreeted[oldest]
            oldest.evict(f"more than {MAX_UNGREETED} connections have not said Hello")
            n_strangers = len(self.connections) - len(self._greeted)
            if n_strangers > 2 * MAX_UNGREETED:
                oldest.abort()

    def greeted(self, connection: Connection) -> None:
        """Count a connection among those that may stay."""
        self._ungreeted.pop(connection, None)
        self._greeted.add(connection)

    def repeated(self, source: str, n_messages: int) -> None:
        """Count messages of a feed that were left out: they had been taken."""
        number = self.system.factory.tally.sources.number(source)
        self.n_repeated[number] += n_messages

    def subscribed(self, connection: Connection, *, is_subscribed: bool) -> None:
        """Hand turns to a connection that has a subscription, and to no other."""
        if is_subscribed:
            self._subscribed[connection] = None
        else:
            self._subscribed.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has ended."""
        self._ungreeted.pop(connection, None)
        self._greeted.discard(connection)
        self._subscribed.pop(connection, None)
        if connection in self.connections:
            self.connections.remove(connection)
            self._n_conflated_left += connection.n_conflated
        if self.feeds.get(connection.sequence) is connection:
            del self.feeds[connection.sequence]
        self._left.set()

    def publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        """Queue a turn's updates for every subscriber, and write each outbox once."""
        table_of = self._table_of
        buffers = self._buffers
        encoded = [EncodedUpdates(u, table_of[u.factor], buffers) for u in turn]
        _each(self._subscribed, lambda connection: connection.publish(encoded))

    def heartbeat(self, now_ns: int) -> None:
        """Send every peer a sign of life."""
        message = Heartbeat(ts_init=now_ns)
        _each(self.connections, lambda connection: connection.heartbeat(message))

    def stop_reading(self) -> None:
        """Take nothing more, while what was taken becomes durable."""
        self.is_stopping = True
        _each(self.connections, lambda connection: connection.stop_reading())

    def say_goodbye(self, reason: str) -> None:
        """Tell every peer that no more will come, and close once it has been sent.

        A peer that was accepted and connects only now is told first thing.
        """
        self.goodbye = reason
        _each(self.connections, lambda connection: connection.say_goodbye(reason))


def _each(
    connections: Collection[Connection], act: Callable[[Connection], None]
) -> None:
    for connection in tuple(connections):
        try:
            act(connection)
        except Exception:
            # A fault of ours with one peer must not cost the next one its turn.
            logger.exception("connection.failed peer=%s", connection.name)
            connection.abort()
