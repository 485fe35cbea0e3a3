"""One running actor: a behavior, its mailbox and its lifecycle.

Rule: an exception that leaves a behavior stops here. The failed message goes to the
dead letters, the rest of the mailbox stays, the supervisor decides what comes next,
and no other actor notices. That holds for `CancelledError` and `SystemExit` too: a
behavior is synchronous, so that nobody can have meant to cancel it, and what it calls
may not end the process. Only `KeyboardInterrupt` is a person's.

States::

    starting --> live <--> restarting --> quarantined
    and from each of them --> stopped

A live actor with an empty mailbox takes a message on the spot: the dispatcher handles
messages in the order in which they came, so queueing it would change nothing but time.
"""

import enum
import logging
from collections.abc import Callable
from typing import Final

from ..actors import Behavior
from ..actors.sources import NOBODY
from ..messages import ActorDeadError, Message
from .mailbox import Mailbox

logger = logging.getLogger(__name__)


class CellState(enum.StrEnum):
    """Where an actor is in its life."""

    STARTING = "starting"
    LIVE = "live"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


class ActorCell:
    """Runs one behavior.

    Parameters
    ----------
    behavior
        The actor's rules.
    mailbox
        Where messages wait while it cannot take them.
    on_failure
        Called with the cell, the failed message (``None``: a hook failed) and the
        error, once the cell no longer takes messages.
    on_outgoing
        Called with each message that the behavior sends.
    """

    __slots__ = (
        "_on_failure",
        "_on_outgoing",
        "_was_started",
        "behavior",
        "last_error",
        "mailbox",
        "n_failures",
        "n_processed",
        "state",
    )

    def __init__(
        self,
        behavior: Behavior,
        mailbox: Mailbox,
        *,
        on_failure: Callable[["ActorCell", Message | None, BaseException], None],
        on_outgoing: Callable[[Message], None],
    ) -> None:
        self.behavior = behavior
        self.mailbox = mailbox
        self.state = CellState.STARTING
        self.n_processed = 0
        self.n_failures = 0
        self.last_error = ""
        """The newest failure, in words: the error itself would keep its frames."""
        self._was_started = False
        self._on_failure = on_failure
        self._on_outgoing = on_outgoing

    @property
    def name(self) -> str:
        """The actor's name."""
        return self.behavior.name

    def start(self) -> None:
        """Run ``on_start`` and go live; a failure there counts like one in receive."""
        try:
            self.behavior.on_start()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the actor's failure stops here
            self._fail(None, error)
        else:
            self._was_started = True
            self.state = CellState.LIVE

    def invoke(self, message: Message) -> None:
        """Let the live behavior take one message."""
        try:
            outgoing = self.behavior.receive(message)
            if outgoing:
                for following in outgoing:
                    self._on_outgoing(following)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the actor's failure stops here
            self._fail(message, error)
        else:
            self.n_processed += 1

    def restart(self, error: BaseException) -> bool:
        """Run ``on_restart`` and go live again; return whether that worked.

        One that has never started is started: there is nothing to come back to.
        """
        try:
            if self._was_started:
                self.behavior.on_restart(error)
            else:
                self.behavior.on_start()
        except KeyboardInterrupt:
            raise
        except BaseException as again:  # noqa: BLE001 - the actor's failure stops here
            self._fail(None, again)
            return False
        self._was_started = True
        self.state = CellState.LIVE
        return True

    def stop(self, *, quietly: bool = False) -> list[Message]:
        """Run ``on_stop``, unless there is no time; return what was never taken."""
        if self.state is not CellState.STOPPED:
            self.state = CellState.STOPPED
            if not quietly:
                try:
                    _run_on_stop(self.behavior)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # the actor's failure stops here
                    logger.exception("actor.stop_failed actor=%s", self.name)
        return self.mailbox.drain()

    def put(self, message: Message, source: int = NOBODY) -> Message | None:
        """Queue a message for later; return the one given up for it, if any.

        Parameters
        ----------
        message, source
            As for `Mailbox.put`.

        Raises
        ------
        ActorDeadError
            When the actor is quarantined or stopped.
        MailboxFullError
            When the mailbox is full and blocks.
        """
        if self.state in (CellState.QUARANTINED, CellState.STOPPED):
            raise ActorDeadError(self.name, self.state)
        return self.mailbox.put(message, source)

    def _fail(self, message: Message | None, error: BaseException) -> None:
        self.state = CellState.RESTARTING
        self.n_failures += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self._on_failure(self, message, error)


def _run_on_stop(behavior: Behavior) -> None:
    # Calls nothing else, so that it can be told by its frame what an actor's code is.
    behavior.on_stop()


CALLS_BEHAVIOR: Final = frozenset((ActorCell.invoke.__code__, _run_on_stop.__code__))
"""What calls an actor's code that may be interrupted, see `runtime.deadline`."""
