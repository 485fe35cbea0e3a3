"""Which subscription an update goes to.

Rule: no I/O. An update names a topic and not a subscription, so each topic that was
seen has a `Route`: its newest update, and a `Cursor` for each subscription whose
pattern matches. The cursor knows the ``seq`` it delivered last, so that an update which
comes again (in a snapshot after a reconnect, or because two subscriptions overlap) is
delivered to each subscription once.
"""

import logging
from collections.abc import Callable, Iterator

from ..actors.columns import rows_of
from ..messages import (
    BetasUpdated,
    BetaUpdated,
    MalformedMessageError,
    Rejected,
    RejectedError,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    beta_topic,
    matches,
)
from .subscription import Inbox, Snapshot

logger = logging.getLogger(__name__)


class Cursor:
    """How far one subscription has been delivered one topic."""

    __slots__ = ("counted_in", "inbox", "seq")

    def __init__(self, inbox: Inbox, seq: int) -> None:
        self.inbox = inbox
        self.seq = seq
        self.counted_in: Snapshot | None = None


class Route:
    """One topic: its newest update, and who wants it."""

    __slots__ = ("cursors", "latest", "received_s", "seq", "topic")

    def __init__(self, topic: str, update: BetaUpdated, cursors: list[Cursor]) -> None:
        self.topic = topic
        self.latest = update
        self.received_s = 0.0
        self.seq = -1
        self.cursors = cursors


class Routes:
    """All subscriptions of a client, and every topic they have seen.

    Parameters
    ----------
    on_pressure
        Called when a subscription becomes full, and when one no longer is.
    """

    def __init__(self, on_pressure: Callable[[], None]) -> None:
        self.by_topic: dict[str, Route] = {}
        self._on_pressure = on_pressure
        # two levels of names cost half of what one tuple of names does
        self._by_name: dict[str, dict[str, Route]] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._joined: list[Inbox] = []
        self._tables: dict[int, tuple[str, ...]] = {}

    @property
    def is_full(self) -> bool:
        """Whether any subscription is full."""
        return any(inbox.is_full for inbox in self._inboxes.values())

    def requests(self) -> list[Subscribe]:
        """Return what to ask a new connection for."""
        return [inbox.request() for inbox in self._inboxes.values()]

    def open(self, request: Subscribe, capacity: int) -> Inbox:
        """Begin a subscription; see `Inbox`."""
        inbox = Inbox(request, capacity, self._on_pressure)
        self._inboxes[inbox.number] = inbox
        return inbox

    def close(self, inbox: Inbox) -> bool:
        """Forget a subscription; return whether there was one to forget."""
        if inbox in self._joined:
            self._joined.remove(inbox)
            for route in self.by_topic.values():
                route.cursors = [c for c in route.cursors if c.inbox is not inbox]
        return self._inboxes.pop(inbox.number, None) is not None

    def deliver(self, update: BetaUpdated, now_s: float) -> None:
        """Hand an update to each subscription that has not had it."""
        try:
            route = self._by_name[update.factor][update.symbol]
        except KeyError:
            route = self._add(update)
        seq = update.seq
        if seq > route.seq:
            route.seq = seq
            route.latest = update
            route.received_s = now_s
        for cursor in route.cursors:
            inbox = cursor.inbox
            if inbox.snapshot is not cursor.counted_in:
                cursor.counted_in = inbox.snapshot
                inbox.count(update)
            if seq > cursor.seq:
                cursor.seq = seq
                inbox.put(update)

    def deliver_columns(self, message: BetasUpdated, now_s: float) -> None:
        """Hand on each row of a columnar message.

        Raises
        ------
        MalformedMessageError
            When the columns contradict each other, or the table was not declared.
        """
        symbols = message.symbols
        if isinstance(symbols, int):
            if symbols not in self._tables:
                raise MalformedMessageError(f"symbol table {symbols} was not declared")
            symbols = self._tables[symbols]
        for update in rows_of(message, symbols):
            self.deliver(update, now_s)

    def declared(self, message: SymbolsDeclared) -> None:
        """Remember what a table's number means on this connection."""
        self._tables[message.table] = message.symbols

    def subscribed(self, answer: Subscribed) -> None:
        """Let a subscription take part from now on, or again."""
        inbox = self._inboxes.get(answer.subscription)
        if inbox is None:
            return  # closed before the answer came
        is_new = not inbox.is_joined
        inbox.subscribed(answer)
        if not is_new:
            return
        self._joined.append(inbox)
        for route in self.by_topic.values():
            if matches(inbox.pattern, route.topic):
                first_seq = inbox.first_seq(route.latest.factor)
                route.cursors.append(Cursor(inbox, first_seq))

    def rejected(self, message: Rejected) -> None:
        """End the subscription that was refused.

        Raises
        ------
        RejectedError
            When it is not about a subscription: what was refused would be refused
            again on the next connection.
        """
        error = RejectedError(message.reason.value, message.detail)
        if not message.subscription:
            raise error
        inbox = self._inboxes.get(message.subscription)
        if inbox is not None:
            logger.warning("subscription.%s pattern=%s", error, inbox.pattern)
            self.close(inbox)
            inbox.end(error)

    def interrupted(self) -> None:
        """Remember how far each subscription came before the connection's end."""
        newest: dict[Inbox, dict[str, int]] = {inbox: {} for inbox in self._joined}
        for factor, cursor in self._cursors():
            seqs = newest[cursor.inbox]
            seqs[factor] = max(cursor.seq, seqs.get(factor, 0))
        for inbox, seqs in newest.items():
            inbox.interrupted(seqs)
        self._tables.clear()

    def restarted(self, instance: str) -> None:
        """Begin anew with another sidecar: everything it says is new."""
        for route in self.by_topic.values():
            route.seq = -1
        for _, cursor in self._cursors():
            cursor.seq = 0
        for inbox in self._joined:
            inbox.restarted(instance)

    def end(self, error: Exception | None) -> None:
        """End every subscription, in order or with an error."""
        for inbox in list(self._inboxes.values()):
            self.close(inbox)
            inbox.end(error)

    def _cursors(self) -> Iterator[tuple[str, Cursor]]:
        for factor, routes in self._by_name.items():
            for route in routes.values():
                for cursor in route.cursors:
                    yield factor, cursor

    def _add(self, update: BetaUpdated) -> Route:
        topic = beta_topic(update.factor, update.symbol)
        cursors = [
            Cursor(inbox, inbox.first_seq(update.factor))
            for inbox in self._joined
            if matches(inbox.pattern, topic)
        ]
        route = Route(topic, update, cursors)
        self.by_topic[topic] = route
        self._by_name.setdefault(update.factor, {})[update.symbol] = route
        return route
