"""All that a sidecar knows after some turn, as the bytes of a store's snapshot.

Rule: bytes that were changed, cut short, or stand at another position are refused
whole.
"""

import zlib
from typing import Any, Final

import msgspec

from ..messages import SnapshotError
from ..messages.fields import Count, TimestampNs

MAGIC: Final = b"BFC\x01"
_HEADER: Final = len(MAGIC) + 4


class PeerState(msgspec.Struct, frozen=True, array_like=True):
    """A connection that was open."""

    name: str
    sequence: str
    tables: dict[str, Any]
    """See `actors.tables.SymbolTables.state`."""
    patterns: dict[int, str]
    """Its subscriptions, by number."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The state after turn ``position``."""

    position: Count
    ts: TimestampNs
    """What the clock showed in that turn."""
    instance: str
    """The run to which that turn belongs."""
    config: str
    """See `runtime.journal_entries.RunStarted`."""
    factory: bytes
    """See `actors.BetaFactory.snapshot`."""
    sequences: list[tuple[str, str, int]]
    """See `runtime.sequences.Sequences.state`."""
    peers: dict[int, PeerState]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Checkpoint)


def pack(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as bytes."""
    body = _encoder.encode(checkpoint)
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(content: bytes) -> Checkpoint:
    """Return the checkpoint that these bytes hold.

    Raises
    ------
    SnapshotError
        When they are not those of a checkpoint, or not all of them.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise SnapshotError("is no checkpoint of this version")
    body = memoryview(content)[_HEADER:]
    if zlib.crc32(body) != int.from_bytes(content[len(MAGIC) : _HEADER], "little"):
        raise SnapshotError(f"is damaged: {len(body)} bytes with another checksum")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(f"cannot be read: {error}") from error
