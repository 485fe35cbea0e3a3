"""Groups: many single returns of one bar that came in one read, kept together.

Rule: a group is worth exactly the sequence of its messages, in numbers, order, counts
and errors. Whoever cannot take it as it is takes them one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from ..actors.staging import SMALL_FRAME
from ..messages import (
    OBSERVATION_TYPES,
    Message,
    Observation,
    ReturnObserved,
    ReturnsObserved,
    decode,
    decode_payloads,
)
from ..messages.returns import FLOAT64_BYTES

Words = NDArray[np.uint64]
"""Eight characters each: the first in the highest byte, zeros behind a name's end."""

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class ReturnGroup:
    """`ReturnObserved` messages of one stamp, each field a column of shape (k,)."""

    data: bytes
    """The bytes that their frames are part of."""
    starts: Places
    """Where each frame begins in them."""
    ends: Places
    """Where it ends."""
    names: list[Words]
    """Eight characters of each name a column, as many columns as it takes."""
    lengths: Places
    """Characters of each name."""
    ts_event: int
    returns: NDArray[np.float64]
    seqs: NDArray[np.int64]
    ts_inits: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.returns)

    @property
    def start(self) -> int:
        """Where the first frame begins."""
        return int(self.starts[0])

    @property
    def end(self) -> int:
        """Where the last frame ends."""
        return int(self.ends[-1])

    @property
    def seq(self) -> int:
        """`seq` of the last message that has one; 0 = none has."""
        last = int(self.seqs[-1])
        if not last and self.seqs.any():
            last = int(self.seqs[np.flatnonzero(self.seqs)[-1]])
        return last

    def payloads(self) -> list[bytes]:
        """Return the bytes of each message."""
        data = self.data
        places = zip((self.starts + 4).tolist(), self.ends.tolist(), strict=True)
        return [data[start:end] for start, end in places]

    def message(self, position: int) -> ReturnObserved:
        """Return one of the messages."""
        start, end = int(self.starts[position]) + 4, int(self.ends[position])
        return cast("ReturnObserved", decode(self.data[start:end]))

    def messages(self) -> list[Message]:
        """Return the messages one by one."""
        messages: list[Message] = []
        decode_payloads(self.payloads(), messages)
        return messages


Piece = list[bytes] | ReturnGroup
"""What a stream is cut into: payloads, or a group."""
Taken = Message | ReturnGroup
"""What a source sent."""

ROWS_PER_MESSAGE: Final = 16
"""Returns of a columnar frame that take as long as one message, but for the first
`SMALL_FRAME` of them."""

_MANY_RETURNS: Final = (ReturnGroup, ReturnsObserved)

NUMBERED_TYPES: Final[tuple[type[Observation] | type[ReturnGroup], ...]] = (
    *OBSERVATION_TYPES,
    ReturnGroup,
)
"""What has a place in a feed's own sequence."""


def decode_pieces(pieces: Sequence[Piece], messages: list[Taken]) -> None:
    """Append the messages of payloads, and groups of them, oldest first.

    Parameters
    ----------
    pieces
        As `group_reader.GroupReader.feed_groups` returns them.
    messages
        Appended to; it holds what came before the fault when this raises.

    Raises
    ------
    MalformedMessageError
        At the first payload that is malformed.
    """
    singles: list[Any] = messages
    for piece in pieces:
        if isinstance(piece, ReturnGroup):
            messages.append(piece)
        else:
            decode_payloads(piece, singles)


def ungrouped(messages: Sequence[Taken]) -> list[Message]:
    """Return messages with those of groups in their place."""
    singles: list[Message] = []
    for message in messages:
        if isinstance(message, ReturnGroup):
            singles += message.messages()
        else:
            singles.append(message)
    return singles


def n_within(messages: Sequence[Taken], budget: int) -> int:
    """Return how many of the first messages together cost no more than so many.

    A message of a group that is taken as it is costs an eighth of what it costs alone,
    one of a group that has to give way (late, say) as much: half stands for both. A
    return of a long columnar frame costs a sixteenth, but for the first ones. The first
    message is within every budget.
    """
    if set(map(type, messages)).isdisjoint(_MANY_RETURNS):
        return min(len(messages), budget)
    spent = 0
    for position, message in enumerate(messages):
        if isinstance(message, ReturnGroup):
            spent += len(message) // 2
        elif isinstance(message, ReturnsObserved):
            n_rows = len(message.period_returns) // FLOAT64_BYTES
            spent += 1 + min(n_rows, SMALL_FRAME) + n_rows // ROWS_PER_MESSAGE
        else:
            spent += 1
        if spent > budget and position:
            return position
    return len(messages)
