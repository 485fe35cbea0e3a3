"""What the live sidecar took, turn by turn, on its way into the store.

Rule: a turn is written down as it was taken: by whom, in which order, and with the one
time that its clock showed. A feed is told that its messages are taken when the turn
that took them is durable, and not before.

Theory of operation
-------------------
A `Journal` is the system's clock as well: it looks at the real one once per turn, so
that every rule that asks for the time gets the answer that is written down.

Parts are collected as they happen and sealed into an entry where the system ends a
turn. What waits for the store is bounded: beyond that the connections stop reading.
"""

from collections import deque
from collections.abc import Callable, Sequence, Sized
from typing import Final, Protocol

from msgspec import Raw

from ..messages import Message, encode
from .clock import Clock
from .groups import ReturnGroup
from .journal_entries import (
    Part,
    PeerGreeted,
    PeerLeft,
    RunStarted,
    SubscriptionBegan,
    SubscriptionEnded,
    Taken,
    Turn,
    encode_entry,
)
from .store_writer import Entry

MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
"""Entries that wait for the store: some seconds of a busy feed."""

ENTRY_OVERHEAD_BYTES: Final = 600
"""What an entry takes beside its content: its objects, its places in the queues here
and to the writer, and the callback of its feed. By tracemalloc, on CPython 3.11, 250
bytes, and 600 with the callback; the content of a turn of one return is 61."""


class EntryWriter(Protocol):
    """Where entries go; see `runtime.store_writer.StoreWriter`."""

    def put(self, entry: Entry) -> None:
        """Take an entry."""
        ...


class Journal:
    """Collects turns and waits for them to be durable.

    Parameters
    ----------
    writer
        Where entries go.
    clock
        What time it is.
    position
        Of the last turn in the store.
    n_published
        Returns how many updates were published so far, over all factors.
    max_pending_bytes
        See `MAX_PENDING_BYTES`; an entry counts with `ENTRY_OVERHEAD_BYTES`.
    """

    def __init__(
        self,
        writer: EntryWriter,
        clock: Clock,
        *,
        position: int,
        n_published: Callable[[], int],
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self.position = position
        """Of the last turn that was sealed."""
        self.durable = position
        """Of the last turn that is as durable as was promised."""
        self._writer = writer
        self._clock = clock
        self._n_published = n_published
        self._max_pending_bytes = max_pending_bytes
        self._parts: list[Part] = []
        self._ts: int | None = None
        self._looked = False
        self._last_peer = 0
        self._pending: deque[tuple[int, int]] = deque()
        self.n_pending_bytes = 0
        """Bytes of the turns that are not durable yet."""
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def time_ns(self) -> int:
        """Return the time of this turn, in nanoseconds since the Unix epoch."""
        if self._ts is None:
            self._ts = self._clock.time_ns()
        return self._ts

    def monotonic(self) -> float:
        """Return seconds on the real clock, for durations."""
        return self._clock.monotonic()

    @property
    def has_room(self) -> bool:
        """Whether more may be taken before the store has caught up."""
        return self.n_pending_bytes < self._max_pending_bytes

    def run_started(self, instance: str, config: str) -> None:
        """Write down that a run begins; its first turn holds what follows from it."""
        self._parts.append(RunStarted(instance, config))

    def greeted(self, name: str, sequence: str) -> int:
        """Write down that a peer said who it is; return its number."""
        self._last_peer += 1
        self._parts.append(PeerGreeted(self._last_peer, name, sequence))
        return self._last_peer

    def left(self, peer: int) -> None:
        """Write down that a peer has gone."""
        self._parts.append(PeerLeft(peer))

    def took(self, peer: int, messages: Sequence[Message | ReturnGroup]) -> None:
        """Write down what a peer sent and the system took."""
        flat: list[Message | Raw] = []
        for message in messages:
            if isinstance(message, ReturnGroup):
                flat += map(Raw, message.payloads())
            else:
                flat.append(message)
        self._parts.append(Taken(peer, encode(flat)))

    def subscribed(self, peer: int, subscription: int, pattern: str) -> None:
        """Write down that a peer is subscribed."""
        self._parts.append(SubscriptionBegan(peer, subscription, pattern))

    def unsubscribed(self, peer: int, subscription: int) -> None:
        """Write down that a peer gave a subscription up."""
        self._parts.append(SubscriptionEnded(peer, subscription))

    def looked_at_clock(self) -> None:
        """Write down that this turn looks for symbols that are stale by the clock."""
        self._looked = True

    def turn_ended(self, updates: Sized) -> None:
        """Seal the turn; one in which nothing happened leaves no entry.

        Parameters
        ----------
        updates
            What it published, if anything.
        """
        if self._parts or updates or self._looked:
            ts = self.time_ns()
            turn = Turn(ts, self._looked, self._n_published(), tuple(self._parts))
            self.position += 1
            content = encode_entry(self.position, turn)
            self._parts = []
            self._looked = False
            n_bytes = len(content) + ENTRY_OVERHEAD_BYTES
            self._pending.append((self.position, n_bytes))
            self.n_pending_bytes += n_bytes
            self._writer.put(Entry(self.position, ts, content))
        self._ts = None

    def when_durable(self, callback: Callable[[], None]) -> None:
        """Call back once every turn so far is durable; at once if they are."""
        if self.durable >= self.position:
            callback()
        else:
            self._waiting.append((self.position, callback))

    def became_durable(self, position: int) -> None:
        """Take the store's word that turns up to here are durable."""
        self.durable = position
        pending = self._pending
        while pending and pending[0][0] <= position:
            self.n_pending_bytes -= pending.popleft()[1]
        waiting = self._waiting
        while waiting and waiting[0][0] <= position:
            waiting.popleft()[1]()
