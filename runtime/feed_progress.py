"""How far one feed's messages are taken, durable and acknowledged.

Rule: a number is acknowledged when all up to it are taken, in a turn that is as durable
as was promised, and it is acknowledged once. What was taken already, over another
connection or by the run before, is not taken again, and acknowledged again.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..messages import Acknowledged
from .groups import NUMBERED_TYPES, Taken, ungrouped
from .sequences import Key, first_seq, last_seq, untaken
from .subscriber import Subscriber

if TYPE_CHECKING:
    from .server import Server


logger = logging.getLogger(__name__)


class FeedProgress:
    """How far one feed has come.

    Parameters
    ----------
    server
        Knows the journal, if there is one, and what was taken of each sequence.
    subscriber
        Where acknowledgements go.
    """

    def __init__(self, server: "Server", subscriber: Subscriber) -> None:
        self.sequence: Key = "", ""
        """Name and sequence of a feed that has one."""
        self.repeats_to = 0
        """Up to here its sequence was taken before; 0 = nothing of it comes again."""
        self.last_seq = 0
        """The last number taken."""
        self.awaited_seq = 0
        """The last number whose turn has ended; it is durable, or will be."""
        self._server = server
        self._sequences = server.sequences
        self._journal = server.journal
        self._subscriber = subscriber
        self._number = 0
        self._n_repeated = 0
        self._durable_seq = 0
        self._acknowledged_seq = 0

    def begin(self, number: int, sequence: Key, *, knows: bool) -> None:
        """Go on with a sequence.

        Parameters
        ----------
        number
            The peer's, in the journal.
        sequence
            The feed's name and that of its sequence, which may be empty.
        knows
            Whether the feed can be told what was taken of it before. To one that
            cannot, an acknowledgement would be of what it never published.
        """
        self._number = number
        if sequence[1]:
            self.sequence = sequence
            self.repeats_to = self._sequences.last(sequence)
            if knows:  # acknowledged like all else, once it is durable
                self.last_seq = self.repeats_to

    def untaken(self, messages: Sequence[Taken]) -> list[Taken]:
        """Return messages without those that come again, one by one."""
        singles = ungrouped(messages)
        newest = last_seq(singles)
        self.last_seq = max(self.last_seq, min(newest, self.repeats_to))
        kept = untaken(singles, self.repeats_to)
        if len(kept) < len(singles):
            self._note_repeats(first_seq(singles), len(singles) - len(kept))
        if newest > self.repeats_to:
            self.repeats_to = 0  # a feed's numbers rise
        return [*kept]

    def took(self, messages: Sequence[Taken]) -> None:
        """Note observations that the system took."""
        last = messages[-1]
        seq = last.seq if isinstance(last, NUMBERED_TYPES) else 0
        if not seq and len(messages) > 1:
            seq = last_seq(messages)
        if seq:
            self.last_seq = seq
            self._sequences.advance(self.sequence, seq)
        if self._journal is not None:
            self._journal.took(self._number, messages)

    def turn_ended(self) -> None:
        """Acknowledge what was taken, once it is durable."""
        seq = self.awaited_seq = self.last_seq
        if self._journal is None:
            self._durable_seq = seq
            self.acknowledge()
        else:
            self._journal.when_durable(partial(self._became_durable, seq))

    def acknowledge(self) -> None:
        """Queue the newest acknowledgement; a slow peer is told later."""
        if self._durable_seq > self._acknowledged_seq and not self._subscriber.is_slow:
            self._acknowledged_seq = self._durable_seq
            self._subscriber.send(Acknowledged(seq=self._durable_seq))

    def _note_repeats(self, first: int, n_messages: int) -> None:
        # Logged once: they may be as many as were ever sent.
        if not self._n_repeated:
            logger.warning(
                "feed.repeats peer=%s sequence=%s taken=%d first=%d",
                *self.sequence,
                self.repeats_to,
                first,
            )
        self._n_repeated += n_messages
        self._server.repeated(self.sequence[0], n_messages)

    def _became_durable(self, seq: int) -> None:
        self._durable_seq = max(seq, self._durable_seq)
        if self._subscriber.is_connected:
            self.acknowledge()
            self._subscriber.flush()
