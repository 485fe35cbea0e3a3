"""What peers say to each other besides data."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from .fields import MAX_FACTORS, Count, Name, Pattern, Text, TimestampNs

WIRE_VERSION = 1
"""The version of the wire format in this package; see `Hello`."""


class Role(enum.StrEnum):
    """What a connection is for."""

    FEED = "feed"
    SUBSCRIBER = "subscriber"
    OPERATOR = "operator"
    SIDECAR = "sidecar"


class Encoding(enum.StrEnum):
    """How a subscriber wants its updates."""

    ROWS = "rows"
    """One `BetaUpdated` per update."""
    COLUMNS = "columns"
    """One `BetasUpdated` per turn."""


class Overflow(enum.StrEnum):
    """What happens above the high-water mark of a subscriber's outbox."""

    CONFLATE = "conflate"
    """Only the newest value per topic is kept, and the next one says how many went."""
    DISCONNECT = "disconnect"
    """The subscriber is told and cut off."""


class RejectReason(enum.StrEnum):
    """Why the sidecar refused a message or a connection."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    VERSION = "version"
    NOT_ALLOWED = "not_allowed"
    INVALID_TOPIC = "invalid_topic"
    SLOW = "slow"
    UNEXPECTED = "unexpected"
    TOO_MANY = "too_many"


class Hello(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="h", gc=False
):
    """The first message each way: who speaks, and which version."""

    version: int = WIRE_VERSION
    role: Role = Role.SUBSCRIBER
    name: Name = "anonymous"
    token: Text = ""
    """Shared secret; empty = none."""
    sequence: Text = ""
    """Which sequence the speaker's `seq` numbers belong to, the same over all of its
    connections, so that what it sends again counts once; empty = none."""
    taken: Count | None = None
    """Last number taken of the feed's sequence, 0 = none: a feed says what it was told,
    the sidecar what it knows. ``None`` = the speaker does not say; such a feed is told
    only of what came over this connection."""


class Subscribe(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="s", gc=False
):
    """Ask for every update whose topic matches ``pattern``."""

    subscription: Count
    """The client's number for this subscription."""
    pattern: Pattern
    snapshot: bool = True
    """Whether the last value of each matching topic comes first."""
    encoding: Encoding = Encoding.ROWS
    overflow: Overflow = Overflow.CONFLATE


class Unsubscribe(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="u", gc=False
):
    """End a subscription."""

    subscription: Count


class Subscribed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="S", gc=False
):
    """The subscription holds; the snapshot follows, then every later update."""

    subscription: Count
    pattern: Pattern
    seqs: Annotated[dict[Name, Count], Meta(max_length=MAX_FACTORS)]
    """Join point by factor: the snapshot includes all up to here, the deltas begin
    after it."""
    n_snapshot: Count
    """Updates of snapshot that follow."""


class Rejected(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="X", gc=False
):
    """A message was refused; after a protocol error the connection closes."""

    reason: RejectReason
    detail: Text
    subscription: Count = 0
    """The subscription it is about; 0 = none."""


class Heartbeat(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="H", gc=False
):
    """Still here."""

    ts_init: TimestampNs


class Acknowledged(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="A", gc=False
):
    """The feed's messages up to ``seq`` are taken in."""

    seq: Count


class Goodbye(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="G", gc=False
):
    """The speaker has said all it had to say and closes."""

    reason: Text = ""
