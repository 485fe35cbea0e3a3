"""What a journal says: one entry per turn, everything that the turn took.

Rule: an entry holds all that a factory needs to do the turn again, and all of it comes
from outside: what peers sent, in order, and what the clock showed. What the factory
made of it is not in it, but for one number that tells whether it was made again.

Layout of entries in a row: for each one its length and the CRC-32 of its position and
its bytes (two little-endian uint32), then its bytes, msgpack. Positions count from 1
without a gap, so an entry that is lost is missed, and one that stands in another's
place is no good.
"""

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ..messages.fields import Count, TimestampNs

_HEAD: Final = 8


class RunStarted(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """A sidecar began here: no peer of the run before is left."""

    instance: str
    config: str
    """Symbols and factors, as JSON; see `runtime.journal_replay`."""


class PeerGreeted(msgspec.Struct, frozen=True, array_like=True, tag="h", gc=False):
    """A peer said who it is."""

    peer: Count
    """Its number in this run."""
    name: str
    sequence: str
    """See `messages.Hello`."""


class PeerLeft(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False):
    """A peer's connection ended."""

    peer: Count


class Taken(msgspec.Struct, frozen=True, array_like=True, tag="t", gc=False):
    """Messages of one peer, in order, that the factory took."""

    peer: Count
    payload: bytes
    """A list of messages, as the wire has it."""


class SubscriptionBegan(
    msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False
):
    """A peer was subscribed to a pattern."""

    peer: Count
    subscription: Count
    pattern: str


class SubscriptionEnded(
    msgspec.Struct, frozen=True, array_like=True, tag="u", gc=False
):
    """A peer gave a subscription up."""

    peer: Count
    subscription: Count


Part = (
    RunStarted | PeerGreeted | PeerLeft | Taken | SubscriptionBegan | SubscriptionEnded
)
"""One thing that happened in a turn."""


class Turn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry."""

    ts: TimestampNs
    """What the clock showed during the turn, in nanoseconds since the Unix epoch."""
    looked: bool
    """Whether the turn looked at the clock for symbols that are stale by it."""
    n_published: Count
    """Updates published up to the end of this turn, over all factors: a replay that
    comes to another number has not done what the live run did."""
    parts: tuple[Part, ...]


class DamagedEntryError(ValueError):
    """An entry that is cut short, changed, or stands in another's place."""

    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        self.reason = reason
        super().__init__(f"turn {position} {reason}")


class PlacedTurn(NamedTuple):
    """A turn and its position in the journal."""

    position: int
    turn: Turn


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Turn)


def encode_entry(position: int, turn: Turn) -> bytes:
    """Return a turn as the bytes of its entry."""
    body = _encoder.encode(turn)
    head = len(body).to_bytes(4, "little") + _crc(position, body).to_bytes(4, "little")
    return head + body


def decode_entries(first: int, content: bytes) -> Iterator[PlacedTurn]:
    """Give the turns of entries in a row.

    Parameters
    ----------
    first
        Position of the first one.
    content
        Their bytes.

    Raises
    ------
    DamagedEntryError
        At the first entry that is not what was written; those before it are given.
    """
    view = memoryview(content)
    offset = 0
    position = first
    while offset < len(view):
        head = view[offset : offset + _HEAD]
        end = offset + _HEAD + int.from_bytes(head[:4], "little")
        if len(head) < _HEAD or end > len(view):
            raise DamagedEntryError(position, "is cut short")
        body = bytes(view[offset + _HEAD : end])
        if _crc(position, body) != int.from_bytes(head[4:], "little"):
            raise DamagedEntryError(position, "has another checksum")
        try:
            turn = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamagedEntryError(position, f"cannot be read: {error}") from error
        yield PlacedTurn(position, turn)
        offset = end
        position += 1


def _crc(position: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(position.to_bytes(8, "little")))
