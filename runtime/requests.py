"""What a peer that has greeted may ask, and what it is answered.

Rule: what one may say follows from its role, and what one may subscribe to from its
grant. A subscription that is refused costs nothing but itself; anything else that one
may not say ends the connection.
"""

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from ..actors.tables import SymbolTables
from ..messages import (
    COMMAND_TYPES,
    OBSERVATION_TYPES,
    REQUEST_TYPES,
    Answer,
    Answered,
    Goodbye,
    Heartbeat,
    InvalidTopicError,
    Message,
    Rejected,
    RejectedError,
    RejectReason,
    ReportStatus,
    Request,
    Role,
    Subscribe,
    SymbolsDeclared,
    Unsubscribe,
)
from ..messages.fields import MAX_TEXT_LENGTH
from ..messages.topics import check_pattern
from .access import Grant
from .farewell import EndedError
from .status import report
from .subscriber import Subscriber

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger(__name__)

_FED = (*OBSERVATION_TYPES, SymbolsDeclared)
_SUBSCRIPTIONS = (Subscribe, Unsubscribe)

_TAKEN_FROM: Final[dict[Role, tuple[type, ...]]] = {
    Role.FEED: _FED,
    Role.SUBSCRIBER: _SUBSCRIPTIONS,
    Role.OPERATOR: (*_SUBSCRIPTIONS, *REQUEST_TYPES),
}
"""What each role may say, besides `Heartbeat` and `Goodbye`."""


class Requests:
    """Takes one peer's messages, all but the observations.

    Parameters
    ----------
    server
        The server that the peer is connected to.
    subscriber
        Where answers go.
    tables
        The peer's tables.
    role, grant
        What it is, and what it may.
    number
        Its number in the journal.
    """

    def __init__(
        self,
        server: "Server",
        subscriber: Subscriber,
        tables: SymbolTables,
        role: Role,
        grant: Grant,
        *,
        number: int,
    ) -> None:
        self._server = server
        self._system = server.system
        self._operations = server.operations
        self._subscriber = subscriber
        self._tables = tables
        self._role = role
        self._grant = grant
        self._journal = server.journal
        self._number = number

    def take(self, message: Message) -> None:
        """Do what a message asks, or say why not.

        Raises
        ------
        EndedError
            When the connection ends with it.
        MalformedMessageError
            When a table contradicts itself.
        """
        subscriber = self._subscriber
        kind = type(message)
        if kind is Goodbye:
            raise EndedError
        if kind is Heartbeat:
            return
        if kind not in _TAKEN_FROM[self._role]:
            self._refuse(message)
        elif isinstance(message, Subscribe):
            self._subscribe(subscriber, message)
        elif isinstance(message, Unsubscribe):
            subscriber.unsubscribe(message.subscription)
            if self._journal is not None:
                self._journal.unsubscribed(self._number, message.subscription)
        elif isinstance(message, SymbolsDeclared):
            self._system.take(message, self._tables)
            self._took(message)
        elif isinstance(message, REQUEST_TYPES):
            self._operate(subscriber, message)
            subscriber.flush()

    def _operate(self, subscriber: Subscriber, message: Request) -> None:
        if isinstance(message, ReportStatus):
            subscriber.send(report(self._server, message))
            return
        answer = self._operations.answer(message, self._took)
        if isinstance(answer, Answered):
            name = type(message).__name__
            if isinstance(message, COMMAND_TYPES):
                name = f"{name}({message.symbol})"
            logger.info(
                "operator.asked request=%s done=%d problem=%r",
                name,
                answer.n_done,
                answer.problem,
            )
        if self._journal is not None and isinstance(answer, Answered):
            # what was answered stays done, whatever happens to this process
            self._journal.when_durable(partial(_say, subscriber, answer))
        else:
            subscriber.send(answer)

    def _took(self, message: Message) -> None:
        if self._journal is not None:
            self._journal.took(self._number, [message])

    def _subscribe(self, subscriber: Subscriber, message: Subscribe) -> None:
        self._system.end_turn()  # the snapshot includes all that came before
        try:
            check_pattern(message.pattern)
            self._grant.check_topic(message.pattern)
            subscriber.subscribe(message)
            if self._journal is not None:
                self._journal.subscribed(
                    self._number, message.subscription, message.pattern
                )
        except InvalidTopicError as error:
            self._answer(message, RejectReason.INVALID_TOPIC, str(error))
        except RejectedError as error:
            self._answer(message, RejectReason(error.reason), error.detail)
        subscriber.flush()  # so that it is known whether it is slow

    def _refuse(self, message: Message) -> None:
        # What it may not say; a subscription that is refused costs it nothing else.
        name = type(message).__name__
        if not any(type(message) in k for k in _TAKEN_FROM.values()):
            detail = f"a sidecar takes no {name}"
            raise EndedError(RejectReason.UNEXPECTED, detail)
        detail = f"a {self._role} may not say {name}"
        if not isinstance(message, Subscribe):
            raise EndedError(RejectReason.NOT_ALLOWED, detail)
        self._answer(message, RejectReason.NOT_ALLOWED, detail)

    def _answer(self, message: Subscribe, reason: RejectReason, detail: str) -> None:
        self._subscriber.send(
            Rejected(
                reason=reason,
                detail=detail[:MAX_TEXT_LENGTH],
                subscription=message.subscription,
            )
        )


def _say(subscriber: Subscriber, answer: Answer) -> None:
    if subscriber.is_connected:
        subscriber.send(answer)
        subscriber.flush()
