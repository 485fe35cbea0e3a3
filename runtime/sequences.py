"""How far each feed's sequence has been taken: what comes again counts once.

Rule: a feed numbers what it publishes, and sends again what was not acknowledged. Taken
is taken: whatever connection, or run of the sidecar, a feed comes over, it is told the
last number taken of its sequence, and a number up to that one is dropped and counted.
The numbers of one connection rise: one that falls back below what came over the same
connection meets the window's own rule for duplicates, as do all repeats of a feed
without a sequence (`Hello.sequence`).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from ..messages import OBSERVATION_TYPES, Message
from .groups import NUMBERED_TYPES, Taken

MAX_SEQUENCES: Final = 4096
"""A feed begins one per process; this many restarts later nobody sends again."""

Key = tuple[str, str]
"""A feed's name and the name of its sequence."""


class Sequences:
    """The last number taken of each sequence.

    Parameters
    ----------
    limit
        How many are remembered; the one that was silent longest is forgotten first.
    """

    def __init__(self, limit: int = MAX_SEQUENCES) -> None:
        self._limit = limit
        self._last: OrderedDict[Key, int] = OrderedDict()

    def last(self, key: Key) -> int:
        """Return the last number taken; 0 = none."""
        return self._last.get(key, 0)

    def advance(self, key: Key, seq: int) -> None:
        """Remember that all numbers up to this one are taken."""
        if not key[1] or not seq:
            return
        self._last[key] = max(seq, self._last.get(key, 0))
        self._last.move_to_end(key)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)

    def state(self) -> list[tuple[str, str, int]]:
        """Return all of them, the one that was silent longest first."""
        return [(*key, seq) for key, seq in self._last.items()]

    def restore(self, state: Sequence[tuple[str, str, int]]) -> None:
        """Go on from a `state`."""
        self._last = OrderedDict(((name, seq), last) for name, seq, last in state)


def untaken(messages: Sequence[Message], last: int) -> list[Message]:
    """Return the messages without the observations up to number ``last``."""
    return [
        message
        for message in messages
        if not isinstance(message, OBSERVATION_TYPES) or not 0 < message.seq <= last
    ]


def first_seq(messages: Sequence[Taken]) -> int:
    """Return the number of the first observation that has one; 0 = none has."""
    return last_seq(messages[::-1])


def last_seq(messages: Sequence[Taken]) -> int:
    """Return the number of the last observation that has one; 0 = none has."""
    for message in reversed(messages):
        if isinstance(message, NUMBERED_TYPES) and message.seq:
            return message.seq
    return 0
