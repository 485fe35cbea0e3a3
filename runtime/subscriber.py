"""One connection's subscriptions and its bounded outbox.

Rule: a subscriber costs nobody else anything. What a turn computed is encoded once for
all subscribers; each gets one write per turn; one that does not read is conflated or
cut, and holds at most its high-water mark and one turn.

Theory of operation
-------------------
The transport's write buffer is the outbox. When it passes the high-water mark the
transport says `pause_writing`, and from then on nothing is written for this
subscriber: the publishers' row versions (``seq`` per row) already remember what it
misses. When the buffer has drained, every row whose version is newer than the pause is
sent once, with its newest value and with how many updates that value stands for.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..actors.publisher import BetaPublisher
from ..messages import (
    Encoding,
    Message,
    Overflow,
    Rejected,
    RejectedError,
    RejectReason,
    SlowSubscriberError,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    encode,
)
from .encoded import EncodedUpdates
from .framing import frame
from .selection import Mask, PatternUnion, Selected, Selection, select


class Subscriber:
    """What one connection subscribed to, and what it has been sent.

    Parameters
    ----------
    name
        For logs.
    transport
        Where bytes go; its high-water mark is the outbox's.
    publishers
        One per factor; their order numbers the symbol tables.
    high_water_bytes
        Bytes in the outbox above which the subscriber counts as slow.
    max_subscriptions
        How many it may have at once.
    """

    def __init__(
        self,
        name: str,
        transport: asyncio.WriteTransport,
        publishers: Sequence[BetaPublisher],
        high_water_bytes: int,
        max_subscriptions: int = 1024,
    ) -> None:
        self.name = name
        self.n_conflated = 0
        """Updates folded into newer ones so far."""
        self._transport = transport
        self._publishers = publishers
        self._high_water_bytes = high_water_bytes
        self._max_subscriptions = max_subscriptions
        self.queued: list[bytes] = []
        """Frames for this turn's write."""
        self._subscriptions: dict[int, tuple[Subscribe, Selected]] = {}
        self._unions: dict[Encoding, PatternUnion] = {}
        # The same, in the form and order in which they are written.
        self._masks: dict[Encoding, list[Mask]] = {}
        self._wanted: list[tuple[Encoding, list[Selection | None]]] = []
        self._declared = False
        self._is_paused = False
        self._is_closed = False
        self._seen: list[tuple[int, NDArray[np.int64]]] = []
        transport.set_write_buffer_limits(high=high_water_bytes)

    @property
    def is_slow(self) -> bool:
        """Whether the outbox is above its high-water mark."""
        return self._is_paused

    @property
    def is_subscribed(self) -> bool:
        """Whether it has any subscription."""
        return bool(self._subscriptions)

    @property
    def overflow(self) -> Overflow:
        """What happens when it is slow: the strictest of its subscriptions."""
        policies = {request.overflow for request, _ in self._subscriptions.values()}
        if Overflow.DISCONNECT in policies:
            return Overflow.DISCONNECT
        return Overflow.CONFLATE

    @property
    def is_connected(self) -> bool:
        """Whether anybody may still read what is written."""
        return not self._is_closed and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Queue one message for this turn's write."""
        self.queued.append(frame(encode(message)))

    def subscribe(self, request: Subscribe) -> None:
        """Answer with `Subscribed` and the snapshot; deltas follow from now on.

        Raises
        ------
        InvalidTopicError
            When the pattern is outside the grammar, or would never select anything.
        RejectedError
            When it has as many subscriptions as it may have.
        """
        publishers = self._publishers
        selected = select(request.pattern, publishers)
        is_new = request.subscription not in self._subscriptions
        if is_new and len(self._subscriptions) >= self._max_subscriptions:
            detail = f"a connection may have {self._max_subscriptions} subscriptions"
            raise RejectedError(RejectReason.TOO_MANY.value, detail)
        if request.encoding is Encoding.COLUMNS and not self._declared:
            self._declared = True
            for table, publisher in enumerate(publishers):
                self.send(SymbolsDeclared(table=table, symbols=publisher.symbols))
        snapshot = [
            (table, columns)
            for table, rows in selected.items()
            if request.snapshot
            for columns in publishers[table].last_values(
                np.arange(len(publishers[table].symbols))[rows]
            )
        ]
        self.send(
            Subscribed(
                subscription=request.subscription,
                pattern=request.pattern,
                seqs={p.factor: p.last_seq for p in publishers},
                n_snapshot=sum(len(columns) for _, columns in snapshot),
            )
        )
        for table, columns in snapshot:
            encoded = EncodedUpdates(columns, table)
            self.queued.append(encoded.encoded(request.encoding, None))
        if not is_new:
            self._take_out(*self._subscriptions[request.subscription])
        self._subscriptions[request.subscription] = request, selected
        self._put_in(request, selected)
        self._arrange()

    def unsubscribe(self, subscription: int) -> None:
        """End a subscription; one that does not exist is no error."""
        ended = self._subscriptions.pop(subscription, None)
        if ended is not None:
            self._take_out(*ended)
            self._arrange()

    def publish(self, turn: Sequence[EncodedUpdates]) -> None:
        """Queue what of this turn was subscribed to."""
        if self._is_paused:
            return
        for encoding, selections in self._wanted:
            for encoded in turn:
                part = encoded.encoded(encoding, selections[encoded.table])
                if part:
                    self.queued.append(part)

    def flush(self) -> None:
        """Write what this turn queued, in one write."""
        parts = self.queued
        if len(parts) == 1:
            self._transport.write(parts.pop())
        elif parts:
            self.queued = []
            self._transport.writelines(parts)  # not joined: they may be long

    def pause(self) -> None:
        """Note that the outbox passed its high-water mark.

        Raises
        ------
        SlowSubscriberError
            When its policy is to be disconnected; it has been told.
        """
        self._is_paused = True
        self._seen = [(p.last_seq, p.n_updates.copy()) for p in self._publishers]
        if self.overflow is Overflow.DISCONNECT:
            error = SlowSubscriberError(
                self.name,
                self._transport.get_write_buffer_size(),
                self._high_water_bytes,
            )
            self.send(Rejected(reason=RejectReason.SLOW, detail=str(error)))
            self.flush()
            raise error

    def resume(self) -> None:
        """Send the newest value of whatever was missed: the outbox has drained."""
        self._is_paused = False
        for encoding, masks in self._masks.items():
            for table, (publisher, mask, (seq, n_updates)) in enumerate(
                zip(self._publishers, masks, self._seen, strict=True)
            ):
                for columns in publisher.last_values(
                    np.flatnonzero(mask & (publisher.seq > seq))
                ):
                    rows = columns.rows
                    folded = publisher.n_updates[rows] - n_updates[rows] - 1
                    columns.conflated = folded.astype(np.int32)
                    self.n_conflated += int(folded.sum())
                    publisher.n_conflated[rows] += folded
                    encoded = EncodedUpdates(columns, table)
                    self.queued.append(encoded.encoded(encoding, None))
        self.flush()

    def close(self) -> None:
        """Write nothing more, and count what a slow one missed: nobody will send it."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_paused:
            return
        for masks in self._masks.values():
            for publisher, mask, (_, n_updates) in zip(
                self._publishers, masks, self._seen, strict=True
            ):
                missed = publisher.n_updates - n_updates
                publisher.n_undelivered[mask] += missed[mask]

    def _put_in(self, request: Subscribe, selected: Selected) -> None:
        # Two patterns of one connection that overlap do not send an update twice.
        union = self._unions.get(request.encoding)
        if union is None:
            union = self._unions[request.encoding] = PatternUnion(self._publishers)
        union.add(selected)

    def _take_out(self, request: Subscribe, selected: Selected) -> None:
        union = self._unions[request.encoding]
        union.remove(selected)
        if not union.n_patterns:
            del self._unions[request.encoding]

    def _arrange(self) -> None:
        # The form of the oldest subscription is written first.
        unions = self._unions
        oldest = next((r.encoding for r, _ in self._subscriptions.values()), None)
        encodings = sorted(unions, key=lambda encoding: encoding is not oldest)
        self._masks = {each: unions[each].masks for each in encodings}
        self._wanted = [(each, unions[each].selections) for each in encodings]
