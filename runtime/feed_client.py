"""The half of a client that a feed uses: what it publishes, and what was taken of it.

Rule: what is published is numbered, and kept until it is acknowledged; what a sidecar
has not taken is sent again over the next connection. Which number a sequence goes on
after is for the sidecar to say, which it does in its `Hello`, before we can publish.
"""

import logging
from collections.abc import Sequence

from ..messages import Acknowledged, Hello
from .link import Link
from .outgoing import MESSAGES_PER_FRAME, PUBLISHABLE_TYPES, Outgoing, Publishable

logger = logging.getLogger(__name__)


class FeedClient:
    """What publishes over a link, as one sequence; a `BetaClient` is one.

    Parameters
    ----------
    link
        Where it goes.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._outgoing = Outgoing()

    @property
    def last_seq(self) -> int:
        """Number of our sequence's last message, 0 = none; the next one is above it.

        Before anything is published it is the number up to which the sidecar has taken
        the sequence, from feeds before this one; after `flush`, as durably as it
        promises. So a feed that numbers what it reads knows where to go on.
        """
        return self._outgoing.last_seq

    @property
    def n_published(self) -> int:
        """Observations published so far; tables do not count."""
        return self._outgoing.n_published

    @property
    def n_acknowledged(self) -> int:
        """Observations that the sidecar has taken in."""
        return self._outgoing.n_acknowledged

    async def publish(self, messages: Publishable | Sequence[Publishable]) -> None:
        """Publish observations, or tables that later ones refer to.

        It returns when they have been written, or kept for the next connection; not
        when the sidecar has them, see `flush`. It waits while the sidecar reads more
        slowly, or while too much is unacknowledged. Cancelling it publishes a front
        part of a sequence, of at least 0 messages, and nothing of the rest.

        Parameters
        ----------
        messages
            One message or several, which share frames. A ``seq`` of 0 is replaced by
            the number after `last_seq`; others must rise. One that the sidecar has
            taken of this sequence before is not taken again.

        Raises
        ------
        FeedDisconnectedError
            When the connection is gone for good.
        RejectedError
            When the sidecar refused what was published before.
        MalformedMessageError
            When the sidecar sent what is no message, or (`FrameTooLargeError`) one of
            ours does not fit a frame.
        TypeError
            When a feed does not publish this.
        ValueError
            When a ``seq`` does not rise. What stands more than a frame before it has
            been published.
        """
        batch = messages if isinstance(messages, Sequence) else (messages,)
        for message in batch:
            if type(message) not in PUBLISHABLE_TYPES:
                name = type(message).__name__
                raise TypeError(f"a feed publishes observations, was {name}")
        for start in range(0, len(batch), MESSAGES_PER_FRAME):
            self._link.raise_if_ended()
            while not (self._link.is_writable and self._outgoing.has_room):
                await self._link.wait()
                self._link.raise_if_ended()
            part = batch[start : start + MESSAGES_PER_FRAME]
            self._link.write(self._outgoing.add(part))

    async def flush(self) -> None:
        """Return when everything published so far is acknowledged.

        That includes what feeds before this one published under the same sequence, as
        far as the sidecar still has it: one that came back with less than it had taken
        makes `last_seq` lower than before, for a feed that has published nothing to go
        on after. Cancelling it loses nothing.

        Raises
        ------
        FeedDisconnectedError
            When the connection is gone for good before that.
        RejectedError
            When the sidecar refused something.
        MalformedMessageError
            When the sidecar sent what is no message.
        """
        outgoing = self._outgoing
        seq = outgoing.last_seq
        # what a sidecar that came back has lost of it nobody will acknowledge
        while outgoing.acknowledged < min(seq, outgoing.last_seq):
            self._link.raise_if_ended()
            await self._link.wait()

    async def wait_ended(self) -> None:
        """Wait until there will be no other connection. Cancelling it loses nothing.

        For a feed that has nothing to publish just now: whoever publishes or iterates
        learns of the end there.

        Raises
        ------
        FeedDisconnectedError
            When the sidecar said `Goodbye`, or reconnecting was given up.
        RejectedError
            When the sidecar refused something.
        MalformedMessageError
            When the sidecar sent what is no message.
        """
        while True:
            self._link.raise_if_ended()
            await self._link.wait()

    def _welcomed(self, hello: Hello) -> None:
        self._outgoing.begin(hello.taken or 0)

    def _resend(self) -> bytes:
        return self._outgoing.resend()

    def _take_acknowledged(self, message: Acknowledged) -> None:
        self._outgoing.acknowledge(message.seq)
        self._link.wake()

    def _log_unacknowledged(self) -> None:
        outgoing = self._outgoing
        if outgoing.acknowledged < outgoing.seq:
            logger.warning(
                "client.left_unacknowledged address=%s acknowledged=%d published=%d",
                self._link.address,
                outgoing.acknowledged,
                outgoing.seq,
            )
