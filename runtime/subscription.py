"""One subscription of a client: from updates received to updates iterated over.

Rule: no I/O. A subscription holds at most its capacity and what one read brought on
top; the client stops reading while one is full, so nothing is ever dropped here.

Theory of operation
-------------------
Whether a reconnect lost updates shows in the snapshot that follows. Up to some ``seq``
(the floor) everything was seen. A topic that changed since has a newer ``seq`` in the
snapshot; when every number from the floor up to the newest of these belongs to a row of
the snapshot, each change is in it and nothing is missing. A number without a row was an
older value of some topic: certainly one of ours if the pattern takes the whole factor,
possibly one otherwise. Both count as a gap.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from ..messages import BetaUpdated, Subscribe, Subscribed

logger = logging.getLogger(__name__)

DEFAULT_BUFFER_CAPACITY: Final = 16_384
"""Updates a subscription may hold: three bars of 5,000 symbols, 8 MB. Less would stop
the reading within a bar, more would let a strategy act on bars that are long past."""


@dataclass(slots=True)
class Snapshot:
    """What has arrived of a snapshot."""

    n_expected: int
    seqs: dict[str, int]
    n_arrived: int = 0
    changed: dict[str, tuple[int, int]] = field(
        default_factory=dict[str, tuple[int, int]]
    )
    """By factor: rows newer than the floor, and the newest ``seq`` among them."""


class Inbox:
    """The state of one subscription, whatever becomes of connections.

    Parameters
    ----------
    request
        What was asked for; its ``snapshot`` holds for the first time only.
    capacity
        Updates held before it counts as full; 0 = it holds none, and only the newest
        values of its topics are of interest.
    on_pressure
        Called when it becomes full, and when it no longer is.
    """

    def __init__(
        self, request: Subscribe, capacity: int, on_pressure: Callable[[], None]
    ) -> None:
        self.number = request.subscription
        self.pattern = request.pattern
        self.updates: deque[BetaUpdated] = deque()
        self.joined: dict[str, int] = {}
        self.is_joined = False
        """Whether the sidecar has ever answered with `Subscribed`."""
        self.is_whole = False
        """Whether the first snapshot has arrived completely."""
        self.is_full = False
        self.is_ended = False
        self.error: Exception | None = None
        """What is raised at the end; ``None`` = it ends in order."""
        self.n_received = 0
        self.n_conflated = 0
        self.n_gaps = 0
        self.snapshot: Snapshot | None = None
        """The snapshot that is arriving; updates must be counted while there is one."""
        self._request = request
        self._capacity = capacity
        self._low_water = capacity // 2
        self._on_pressure = on_pressure
        self._changed = asyncio.Event()
        self._is_resuming = False
        self._floors: dict[str, int] = {}

    def request(self) -> Subscribe:
        """Return what to ask a sidecar for, now."""
        if not self.is_joined:
            return self._request
        request = self._request
        return Subscribe(
            subscription=request.subscription,
            pattern=request.pattern,
            snapshot=True,
            encoding=request.encoding,
            overflow=request.overflow,
        )

    def first_seq(self, factor: str) -> int:
        """Return the ``seq`` that an update of a new topic must be above."""
        # without a snapshot nothing that is older than the join may be delivered,
        # not even by the snapshot of a reconnect
        return 0 if self._request.snapshot else self._floors.get(factor, 0)

    def subscribed(self, answer: Subscribed) -> None:
        """Take the sidecar's consent; the snapshot follows, if one was asked for."""
        self._is_resuming = self.is_joined and bool(self._floors)
        self.joined = dict(answer.seqs)
        self.is_joined = True
        self.snapshot = Snapshot(answer.n_snapshot, self.joined)
        if not answer.n_snapshot:
            self._complete(self.snapshot)
        self._wake()

    def put(self, update: BetaUpdated) -> None:
        """Hold an update for the iterator."""
        self.n_received += 1
        self.n_conflated += update.conflated
        if not self._capacity:
            return
        updates = self.updates
        updates.append(update)
        if len(updates) == 1:
            self._wake()
        if len(updates) >= self._capacity and not self.is_full:
            self.is_full = True
            self._on_pressure()

    def pop(self) -> BetaUpdated:
        """Return the oldest update held; there must be one."""
        updates = self.updates
        update = updates.popleft()
        if self.is_full and len(updates) <= self._low_water:
            self.is_full = False
            self._on_pressure()
        return update

    async def wait(self) -> None:
        """Wait for an update, an answer or the end. Cancelling loses nothing."""
        await self._changed.wait()

    def end(self, error: Exception | None, *, discard: bool = False) -> None:
        """Take no more updates; what is held can still be had, unless discarded."""
        if not self.is_ended:
            self.is_ended = True
            self.error = error
        if discard:
            self.updates.clear()
            self.is_full = False
        self._wake()

    def raise_error(self) -> None:
        """Raise what ended it, if anything but good order did."""
        if self.error is not None:
            # one error may be raised in many tasks, and many times
            raise self.error.with_traceback(None)

    def count(self, update: BetaUpdated) -> None:
        """Account for a topic's first update since the snapshot was announced."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        factor, seq = update.factor, update.seq
        if seq > snapshot.seqs.get(factor, 0):
            self._complete(snapshot)  # a delta: the snapshot is over
            return
        snapshot.n_arrived += 1
        if seq > self._floors.get(factor, 0):
            n_changed, newest = snapshot.changed.get(factor, (0, 0))
            snapshot.changed[factor] = (n_changed + 1, max(newest, seq))
        if snapshot.n_arrived >= snapshot.n_expected:
            self._complete(snapshot)

    def interrupted(self, newest: dict[str, int]) -> None:
        """Remember the highest ``seq`` by factor that a lost connection brought."""
        # in the middle of a snapshot the numbers below the newest were not all seen
        if self.snapshot is None:
            for factor, seq in newest.items():
                self._floors[factor] = max(seq, self._floors.get(factor, 0))
        self.snapshot = None

    def restarted(self, instance: str) -> None:
        """Begin anew with another sidecar, whose numbers are its own."""
        self._floors.clear()
        self._gap(f"another sidecar, {instance}")

    def _complete(self, snapshot: Snapshot) -> None:
        self.snapshot = None
        missing = [
            f"{factor} {self._floors.get(factor, 0)}..{newest}"
            for factor, (n_changed, newest) in snapshot.changed.items()
            if newest - self._floors.get(factor, 0) > n_changed
        ]
        if missing and self._is_resuming:
            self._gap("updates missed, " + ", ".join(missing))
        self._floors = dict(snapshot.seqs)
        self.is_whole = True
        self._wake()

    def _gap(self, reason: str) -> None:
        self.n_gaps += 1
        logger.warning("subscription.gap pattern=%s reason=%s", self.pattern, reason)

    def _wake(self) -> None:
        self._changed.set()
        self._changed.clear()


class Subscription:
    """Updates of the topics that match one pattern; made by `BetaClient.subscribe`.

    Iterate over it with ``async for``. It ends when the sidecar says `Goodbye` or the
    client is left, and raises what ended it otherwise. It is cancelled with `aclose`,
    by leaving ``async with``, or by letting go of it: a loop over
    ``client.subscribe(...)`` is unsubscribed when it is left.

    Characteristics: buffered, bounded; one that is full stops the reading of the whole
    client, so that the sidecar applies the overflow policy. Nothing else arrives then,
    acknowledgements included, until it has been iterated over to half or is closed.
    Several tasks may iterate; each update goes to one of them.
    """

    __slots__ = ("__weakref__", "_inbox", "_loop", "_unsubscribe")

    def __init__(
        self,
        inbox: Inbox,
        unsubscribe: Callable[[Inbox], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._inbox = inbox
        self._unsubscribe = unsubscribe
        self._loop = loop

    def __repr__(self) -> str:
        return f"<Subscription {self.pattern!r} pending={self.pending}>"

    @property
    def pattern(self) -> str:
        """Which topics it takes."""
        return self._inbox.pattern

    @property
    def joined(self) -> dict[str, int]:
        """Join point by factor, as of the newest `Subscribed`; empty before the first.

        What the snapshot holds is not above it, and every delta is.
        """
        return dict(self._inbox.joined)

    @property
    def pending(self) -> int:
        """Updates received and not iterated over yet."""
        return len(self._inbox.updates)

    @property
    def n_received(self) -> int:
        """Updates received, each counted once however often it came."""
        return self._inbox.n_received

    @property
    def n_conflated(self) -> int:
        """Updates that the sidecar folded into those received, for we were slow."""
        return self._inbox.n_conflated

    @property
    def n_gaps(self) -> int:
        """Reconnects after which updates were, or may have been, missing."""
        return self._inbox.n_gaps

    async def wait_joined(self) -> None:
        """Wait until the sidecar has agreed, or the subscription has ended in order.

        Cancelling it loses nothing.

        Raises
        ------
        BetaFactoryError
            What ended the subscription before it began, as `__anext__` raises it.
        """
        inbox = self._inbox
        while not inbox.is_joined and not inbox.is_ended:
            await inbox.wait()
        inbox.raise_error()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BetaUpdated:
        """Return the next update; cancelling it loses none.

        Raises
        ------
        StopAsyncIteration
            When the sidecar said `Goodbye`, or the client or this was closed.
        RejectedError
            When the sidecar refused the pattern, or cut us off.
        FeedDisconnectedError
            When the connection is gone for good.
        MalformedMessageError
            When the sidecar sent what is no message.
        """
        inbox = self._inbox
        while not inbox.updates:
            if inbox.is_ended:
                inbox.raise_error()
                raise StopAsyncIteration
            await inbox.wait()
        return inbox.pop()

    async def aclose(self) -> None:
        """Unsubscribe and let go of what is pending. It waits for nothing."""
        self._unsubscribe(self._inbox)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The last reference may go in any thread, or after the loop: the same way out
        # that asyncio has for asynchronous generators.
        if not self._inbox.is_ended and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._unsubscribe, self._inbox)
