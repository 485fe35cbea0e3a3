"""A bounded mailbox with two lanes, and what happens when it is full.

Rule: a mailbox never holds more data messages than its capacity, never reorders what
it holds, and hands back everything it gives up. Control messages pass before data and
are never given up: there are few, and losing one (a stop, a halt) is worse than a long
mailbox.
"""

import enum
from collections import deque
from typing import Final

from ..actors.sources import NOBODY
from ..messages import COMMAND_TYPES, MailboxFullError, Message, ReturnObserved

MAX_CONTROL: Final = 1024
"""Control messages that may wait for one actor, whatever its capacity for data: an
operator sends a few, and a program that sends more is to be told."""


class OverflowPolicy(enum.StrEnum):
    """What a full mailbox does with one more data message."""

    BLOCK = "block"
    """Refuse it: `MailboxFullError` tells the source to wait."""
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    CONFLATE = "conflate"
    """Replace the waiting return of the same bar, else drop the oldest."""


class Mailbox:
    """What waits for one actor.

    Parameters
    ----------
    actor
        Its name, for errors.
    capacity
        Most data messages that may wait.
    policy
        What happens to one more.
    """

    __slots__ = (
        "_actor",
        "_control",
        "_data",
        "_sources",
        "capacity",
        "policy",
        "source",
    )

    def __init__(self, actor: str, capacity: int, policy: OverflowPolicy) -> None:
        self._actor = actor
        self.capacity = capacity
        self.policy = policy
        self._control: deque[Message] = deque()
        self._data: deque[Message] = deque()
        self._sources: deque[int] = deque()  # of each data message
        self.source = NOBODY
        """Number of the source of the data message that came out last."""

    def __len__(self) -> int:
        return len(self._control) + len(self._data)

    def put(self, message: Message, source: int = NOBODY) -> Message | None:
        """Append a message; return the one that was given up for it, if any.

        Parameters
        ----------
        message
            What waits.
        source
            Number of the source that sent it.

        Raises
        ------
        MailboxFullError
            When the mailbox is full and its policy is `block`, or the message is a
            command: none of those is given up.
        """
        if isinstance(message, COMMAND_TYPES):
            self.put_control(message)
            return None
        if len(self._data) < self.capacity:
            self._append(message, source)
            return None
        self.check_room()
        if self.policy is OverflowPolicy.DROP_NEWEST:
            self.source = source
            return message
        if self.policy is OverflowPolicy.CONFLATE:
            older = self._replace(message, source)
            if older is not None:
                return older
        oldest = self._data.popleft()
        self.source = self._sources.popleft()
        self._append(message, source)
        return oldest

    def check_room(self) -> None:
        """Raise where `put` would refuse a message.

        Raises
        ------
        MailboxFullError
            When the mailbox is full and its policy is `block`.
        """
        if self.policy is OverflowPolicy.BLOCK and len(self._data) >= self.capacity:
            raise MailboxFullError(self._actor, self.capacity)

    def put_control(self, message: Message) -> None:
        """Append a control message: it passes before all data.

        Raises
        ------
        MailboxFullError
            When `MAX_CONTROL` of them wait already.
        """
        if len(self._control) >= MAX_CONTROL:
            raise MailboxFullError(self._actor, MAX_CONTROL)
        self._control.append(message)

    def get(self) -> Message | None:
        """Return the next message, ``None`` when nothing waits."""
        if self._control:
            return self._control.popleft()
        if self._data:
            self.source = self._sources.popleft()
            return self._data.popleft()
        return None

    def waiting(self) -> list[tuple[Message, int]]:
        """Return what waits and who sent it, in the order `get` would give it."""
        control = [(message, NOBODY) for message in self._control]
        return [*control, *zip(self._data, self._sources, strict=True)]

    def drain(self) -> list[Message]:
        """Take out everything that waits, in the order `get` would give it."""
        messages = [*self._control, *self._data]
        self._control.clear()
        self._data.clear()
        self._sources.clear()
        return messages

    def _append(self, message: Message, source: int) -> None:
        self._data.append(message)
        self._sources.append(source)

    def _replace(self, message: Message, source: int) -> Message | None:
        if type(message) is not ReturnObserved:
            return None
        for position, waiting in enumerate(self._data):
            if (
                type(waiting) is ReturnObserved
                and waiting.ts_event == message.ts_event
                and waiting.symbol == message.symbol
            ):
                self._data[position] = message
                self.source, self._sources[position] = self._sources[position], source
                return waiting
        return None
