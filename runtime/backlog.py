"""What a peer sent and nobody has taken yet, and so whether the peer is read from.

Rule: a peer is read from while nothing holds it up, and nobody but its backlog stops
its reading or goes on with it. One thing at a time holds it up, and it is looked at
again when that has come about and not before: a peer that waits makes no work.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from .groups import Taken, n_within

if TYPE_CHECKING:
    from .server import Server

MAX_MESSAGES_PER_TURN: Final = 1024
"""Messages that are taken of those peers that send more than one turn's worth, before
everybody else has a turn: a few milliseconds, however many such peers there are. A read
of a flood holds ten thousand, for which an operator would wait as long again."""

MIN_MESSAGES_PER_TURN: Final = 64
"""What is taken of one peer at least: a turn costs as much as some dozen messages."""

MAX_REQUESTS_PER_TURN: Final = 64
"""Requests of one peer that are answered before everybody else has a turn: each may
take as long as a snapshot does."""


class Until(enum.Enum):
    """What has to come about before more of a peer is taken."""

    TURN = enum.auto()
    """The others have had a turn: it sends more than one may hold."""
    ROOM = enum.auto()
    """A mailbox that was full and blocks may have room."""
    READ = enum.auto()
    """The peer has read what it was answered, so that the next answer has room."""
    DURABLE = enum.auto()
    """What was taken is in the store, for which too much waits."""
    NEVER = enum.auto()
    """Nothing: no more is taken of it."""


class Backlog:
    """What was read of one peer and not taken yet.

    Parameters
    ----------
    server
        Whose turns are shared.
    transport
        Where the peer is read from.
    loop
        For turns that come soon.
    take
        Takes a `turn` of it, and puts back what it could not take.
    """

    def __init__(
        self,
        server: "Server",
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[], None],
    ) -> None:
        self.messages: deque[Taken] = deque()
        """Oldest first. While it holds any, what comes is held behind them."""
        self._server = server
        self._transport = transport
        self._loop = loop
        self._take = take
        self._until: Until | None = None

    def hold(self, messages: Sequence[Taken]) -> None:
        """Keep what is more than this turn may hold, behind all that waits."""
        if messages and not self._transport.is_closing():
            self.messages.extend(messages)
            self.wait(Until.TURN)

    def put_back(self, messages: Sequence[Taken], until: Until) -> None:
        """Keep what could not be taken, before all that waits."""
        if not self._transport.is_closing():
            self.messages.extendleft(reversed(messages))
            self.wait(until)

    def turn(self) -> list[Taken]:
        """Take out what one turn may hold."""
        share = self._server.share
        first = list(islice(self.messages, share))
        n_messages = n_within(first, share)
        for _ in range(n_messages):
            self.messages.popleft()
        return first[:n_messages]

    def wait(self, until: Until) -> None:
        """Read nothing more until then; one that waits already goes on with that."""
        if self._until is not None or self._transport.is_closing():
            return
        self._until = until
        self._transport.pause_reading()
        if until is Until.TURN:
            self._server.floods.add(self)
            self._loop.call_soon(self._take_turn)
            return
        self._server.floods.discard(self)
        if until is Until.ROOM:
            self._server.system.when_room(partial(self.wake, until))
        elif until is Until.DURABLE and self._server.journal is not None:
            self._server.journal.when_durable(partial(self.wake, until))

    def wake(self, until: Until) -> None:
        """Go on if this is what it waited for."""
        if self._until is not until:
            return
        if self.messages:  # soon, not now: another's turn may be just ending
            self._until = Until.TURN
            self._loop.call_soon(self._take_turn)
        else:
            self._read_on()

    def stop(self) -> None:
        """Read and take nothing more, whatever waits."""
        self._until = Until.NEVER
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def drop(self) -> None:
        """Forget what waits, and take nothing more."""
        self._until = Until.NEVER
        self.messages.clear()
        self._server.floods.discard(self)

    def read_out(self) -> None:
        """Read what still comes, for who is writing does not read our last word."""
        self.drop()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _take_turn(self) -> None:
        if self._until is not Until.TURN or self._transport.is_closing():
            return  # it ended meanwhile
        self._until = None
        self._take()
        if self.messages:
            self.wait(Until.TURN)
        elif self._until is None:
            self._read_on()

    def _read_on(self) -> None:
        self._until = None
        self._server.floods.discard(self)
        if not self._transport.is_closing():
            self._transport.resume_reading()
