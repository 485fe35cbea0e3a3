"""How a sidecar is: what it took, from whom, and what became of it.

Rule: every count is a total since the sidecar began, or since its store did where it
has one (what is counted of observations goes on over a restart, what is counted of
peers does not). The counts by source, and those by topic, add up to the totals.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from .betas import Reason
from .fields import MAX_FACTORS, Count, Text

MAX_LISTED = 1000
"""Most topics, and most subscribers, in one report."""

MAX_STALE = MAX_FACTORS * len(Reason)
"""Most pairs of a factor and a reason for which topics may be stale."""

Reasons = dict[Text, Count]
"""Observations that were not used, by reason, once for each factor that did not use
them; see `actors.tally.Drop`."""


class ReportStatus(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="t", gc=False
):
    """Ask how the sidecar is; answered by `StatusReported`."""

    request: Count
    limit: Count = 20
    """So many topics and subscribers: those that lost most."""


class SourceReported(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """What one source sent, by the name under which it greeted.

    Each factor counts what it does not use. So what was received, times the factors
    that it concerns, and not dropped is in a window, or waits for its benchmark. A
    source that is slowed loses nothing: what has not been taken from it is neither
    received nor dropped.
    """

    source: Text
    n_connections: Count
    n_received: Count
    """Observations taken in; a columnar frame has one per return."""
    n_backlog: Count
    """Messages read and not taken in yet, while it is read no further."""
    dropped: Reasons
    n_repeated: Count = 0
    """Messages left out since the process began, for a message with their number, or a
    higher one, of the same sequence had been taken. They are not received."""


class SubscriberReported(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """One connection that has been slow."""

    subscriber: Text
    is_slow: bool
    """Whether its outbox is above the high-water mark now."""
    n_outbox_bytes: Count
    n_conflated: Count
    """Updates folded into newer ones for it."""


class TopicReported(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """A topic of which something was conflated or dropped."""

    topic: Text
    """``beta.<factor>.<symbol>`` of updates; ``return.<symbol>`` and
    ``benchmark.<name>`` of observations, which cannot be subscribed to."""
    n_published: Count
    """Updates; 0 for observations."""
    n_conflated: Count
    """Updates folded into newer ones, over all subscribers."""
    n_undelivered: Count
    """Updates that subscribers missed who went while they were slow."""
    dropped: Reasons


class StoreState(enum.StrEnum):
    """Whether what a store promises can be kept."""

    OK = "ok"
    DEGRADED = "degraded"


class StoreReported(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """The store, by the positions of its turns, and what waits for it."""

    state: StoreState
    reason: Text
    """Why it is degraded; empty = it is not."""
    position: Count
    """Of the last turn that was taken."""
    durable: Count
    """Of the last turn that is as durable as was promised."""
    snapshot: Count
    """Of the newest snapshot; a restart replays the turns after it."""
    n_pending_bytes: Count
    """Bytes of the turns that are not durable yet."""


class StaleReported(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """Topics of one factor that are stale now, for one reason."""

    factor: Text
    reason: Text
    """As a `Reason` is called, in small letters."""
    n_topics: Count


class StatusReported(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="T", gc=False
):
    """How the sidecar was at one moment, between two turns."""

    request: Count
    instance: Text
    memory_bytes: Count
    """Resident memory of the process; 0 where the system does not tell."""
    n_connections: Count
    n_frames: Count
    n_bars: Count
    n_pairs: Count
    n_updates: Count
    n_conflated: Count
    n_undelivered: Count
    n_outbox_bytes: Count
    """Bytes that wait for peers to read them."""
    n_waiting: Count
    """Messages in mailboxes: they wait for a turn, or for an actor that restarts."""
    n_dead_letters: Count
    n_restarts: Count
    n_quarantined: Count
    """Actors that are quarantined now."""
    dropped: Reasons
    rejected: Reasons
    """Connections that were closed, by reason."""
    sources: Annotated[tuple[SourceReported, ...], Meta(max_length=MAX_LISTED)]
    """By name; what nobody in particular sent comes first, without one."""
    n_topics: Count
    """Topics of which something was conflated or dropped."""
    topics: Annotated[tuple[TopicReported, ...], Meta(max_length=MAX_LISTED)]
    """Those that lost most, most first."""
    n_subscribers: Count
    """Connections that have been slow, of those that are open."""
    subscribers: Annotated[tuple[SubscriberReported, ...], Meta(max_length=MAX_LISTED)]
    """Those for which most was folded, most first."""
    store: StoreReported | None = None
    """``None`` = the sidecar has none."""
    n_failures: Count = 0
    """Errors that left an actor."""
    n_listener_failures: Count = 0
    """Errors that left a callback of the sidecar's process."""
    n_held: Count = 0
    """Returns in quarantine now."""
    stale: Annotated[tuple[StaleReported, ...], Meta(max_length=MAX_STALE)] = ()
    """By factor and reason; a factor without stale topics is not in it."""
