"""What a client published and the sidecar has not acknowledged.

Rule: no I/O. Frames are kept until they are acknowledged and then forgotten; what is
kept is bounded in number and in bytes, and a feed waits when it is full.

Theory of operation
-------------------
A frame is kept with the tables that it declares. When it is acknowledged its tables
become *settled*. After a reconnect the settled tables are declared anew, then those of
the frames that the sidecar has taken, and every other frame follows in its old order: a
table number that was declared twice then means at each frame what it meant when that
frame was published.

A feed that is started anew has published nothing, and its sidecar may have taken much
of its sequence: numbers then begin after that.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from ..messages import (
    OBSERVATION_TYPES,
    FrameTooLargeError,
    MalformedMessageError,
    Observation,
    SymbolsDeclared,
    encode,
)
from .framing import DEFAULT_MAX_FRAME_BYTES, frame

Publishable = Observation | SymbolsDeclared
"""What a feed may publish."""

PUBLISHABLE_TYPES: Final = frozenset((*OBSERVATION_TYPES, SymbolsDeclared))

MAX_KEPT_FRAMES: Final = 1024
"""The sidecar acknowledges once per turn, so that a few frames are enough to keep it
busy; the rest is what a feed can publish while a sidecar restarts."""

MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Memory that a feed may spend on a sidecar that does not answer."""

MESSAGES_PER_FRAME: Final = 256
"""Past some tens of messages a longer list is not cheaper, only later."""

MAX_LIST_BYTES: Final = 256 * 1024
"""A list above this is halved: one read of the sidecar, one turn."""


class KeptFrame(NamedTuple):
    """One frame that may have to be sent again."""

    seq: int
    n_messages: int
    data: bytes
    tables: tuple[SymbolsDeclared, ...]


class Outgoing:
    """Numbers what is published, and keeps it until it is acknowledged.

    Parameters
    ----------
    max_frames, max_bytes
        What may be kept; one frame always may, whatever its size.
    """

    def __init__(
        self, max_frames: int = MAX_KEPT_FRAMES, max_bytes: int = MAX_KEPT_BYTES
    ) -> None:
        self.seq = 0
        """`seq` of the newest message published."""
        self.taken_before = 0
        """`seq` up to which the sidecar had taken the sequence before all of these."""
        self.acknowledged = 0
        """`seq` up to which the sidecar has taken everything in."""
        self.n_published = 0
        self.n_acknowledged = 0
        self._taken = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[KeptFrame] = deque()
        self._n_bytes = 0
        self._settled: dict[int, SymbolsDeclared] = {}

    @property
    def last_seq(self) -> int:
        """`seq` after which the sequence goes on."""
        return max(self.seq, self.taken_before)

    @property
    def n_kept(self) -> int:
        """Frames kept."""
        return len(self._frames)

    @property
    def has_room(self) -> bool:
        """Whether another frame may be added."""
        return len(self._frames) < self._max_frames and self._n_bytes < self._max_bytes

    def add(self, messages: Sequence[Publishable]) -> bytes:
        """Return the frames that hold these messages, numbered; keep them.

        All of them are kept or, when it raises, none.

        Raises
        ------
        ValueError
            When a message has a ``seq`` that is not above the one before.
        FrameTooLargeError
            When one message alone is above the maximum frame size.
        """
        seq = self.seq
        numbered: list[Publishable] = []
        for message in messages:
            if isinstance(message, SymbolsDeclared):
                numbered.append(message)
            elif not message.seq:
                seq = max(seq, self.taken_before) + 1
                numbered.append(replace(message, seq=seq))
            elif message.seq > seq:
                seq = message.seq
                numbered.append(message)
            else:
                raise ValueError(f"seq must be above {seq}, was {message.seq}")
        frames = list(_frames_of(numbered, self.seq))
        for kept in frames:
            self.n_published += kept.n_messages
            self._n_bytes += len(kept.data)
        self._frames.extend(frames)
        self.seq = seq
        self._forget()
        return b"".join([kept.data for kept in frames])

    def acknowledge(self, seq: int) -> None:
        """Forget what the sidecar has taken in.

        Raises
        ------
        MalformedMessageError
            When it acknowledges what was never published.
        """
        if seq > self.last_seq:
            detail = (
                f"seq {seq} was acknowledged, the newest published is {self.last_seq}"
            )
            raise MalformedMessageError(detail)
        # after a reconnect the numbers of what is sent again come again
        self.acknowledged = max(self.acknowledged, seq)
        self._forget()

    def begin(self, taken: int) -> None:
        """Note what the sidecar of a new connection has taken of the sequence.

        Parameters
        ----------
        taken
            Its last number; 0 = none, or the sidecar does not say.

        Raises
        ------
        MalformedMessageError
            When it was never published.
        """
        if not self.seq:
            self.taken_before, self.acknowledged = taken, 0
        elif taken > self.last_seq:
            detail = (
                f"seq {taken} was taken, the newest published is {self.last_seq}: "
                "another feed has this name and sequence"
            )
            raise MalformedMessageError(detail)
        self._taken = taken

    def resend(self) -> bytes:
        """Return all frames that a new connection must begin with.

        What its sidecar has taken is not sent again, but kept: it may not be durable.
        """
        tables = [*self._settled.values()]
        again: list[bytes] = []
        for kept in self._frames:
            if kept.seq <= self._taken:
                tables += kept.tables
            else:
                again.append(kept.data)
        return b"".join([*[frame(encode(table)) for table in tables], *again])

    def _forget(self) -> None:
        frames = self._frames
        while frames and frames[0].seq <= self.acknowledged:
            kept = frames.popleft()
            self._n_bytes -= len(kept.data)
            self.n_acknowledged += kept.n_messages
            for table in kept.tables:
                self._settled[table.table] = table


def _frames_of(messages: Sequence[Publishable], seq: int) -> Iterator[KeptFrame]:
    payload = encode(messages[0] if len(messages) == 1 else messages)
    if len(messages) > 1 and len(payload) > MAX_LIST_BYTES:
        half = len(messages) // 2
        for kept in _frames_of(messages[:half], seq):
            yield kept
            seq = kept.seq
        yield from _frames_of(messages[half:], seq)
        return
    if len(payload) > DEFAULT_MAX_FRAME_BYTES:
        raise FrameTooLargeError(len(payload), DEFAULT_MAX_FRAME_BYTES)
    tables = tuple(m for m in messages if isinstance(m, SymbolsDeclared))
    seqs = [m.seq for m in messages if not isinstance(m, SymbolsDeclared)]
    yield KeptFrame(seqs[-1] if seqs else seq, len(seqs), frame(payload), tables)
