"""What an actor is, apart from what runs it.

Rule: a behavior is a synchronous state machine. It owns its state, it is handed one
message at a time, it hands back the messages that follow, and it never blocks, never
reads a clock and never keeps a message that it was given.

Whoever runs behaviors (`runtime.cell` in the sidecar, `BetaFactory` in a loop-free
program) calls ``on_start`` once before the first message, ``on_stop`` once after the
last, and ``on_restart`` between a failed message and the next one.
"""

from collections.abc import Iterable
from typing import Protocol

from ..messages import Message

Outgoing = Iterable[Message]
"""What follows from a message: published by whoever runs the behavior."""


class Behavior(Protocol):
    """One actor's rules."""

    @property
    def name(self) -> str:
        """The actor's name in logs, statistics and dead letters."""
        ...

    def receive(self, message: Message) -> Outgoing:
        """Take one message and return what follows from it.

        An exception that leaves this method is the actor's failure: its supervisor
        restarts it, the message goes to the dead letters, no other actor notices.
        """
        ...

    def on_start(self) -> None:
        """Run before the first message; a failure here counts as a failed start."""
        ...

    def on_stop(self) -> None:
        """Run after the last message; a failure here is logged and changes nothing."""
        ...

    def on_restart(self, error: BaseException) -> None:
        """Run before the actor takes messages again after ``error``."""
        ...
