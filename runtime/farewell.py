"""How a connection ends, and what its peer is told last.

Rule: whatever goes wrong with what a peer sent ends its own connection and nothing
else: it is told why, if it reads, and has a limited time for that. After its last word
a peer is sent nothing, and nothing more is taken of it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVarTuple

from ..messages import (
    FrameTooLargeError,
    MalformedMessageError,
    Message,
    Rejected,
    RejectedError,
    RejectReason,
    WireVersionError,
)
from ..messages.fields import MAX_TEXT_LENGTH
from .backlog import Backlog
from .subscriber import Subscriber

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger(__name__)

Given = TypeVarTuple("Given")

ABORT_AFTER_S = 5.0
"""A peer gets this long to read our last word before its connection is aborted."""


class EndedError(Exception):
    """Leaves the loop over a peer's messages: it has ended with this one.

    Parameters
    ----------
    reason, detail
        Of the `Rejected` that it is told; ``None`` after a `Goodbye`.
    """

    def __init__(self, reason: RejectReason | None = None, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Farewell:
    """The end of one connection.

    Parameters
    ----------
    server
        Counts why connections end.
    transport
        What is closed.
    subscriber
        Where the last word goes.
    backlog
        What is not taken any more.
    loop
        For the time limit on reading the last word.
    """

    def __init__(
        self,
        server: "Server",
        transport: asyncio.Transport,
        subscriber: Subscriber,
        backlog: Backlog,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.is_over = False
        """Whether the last word is said, or the peer has gone."""
        self.is_stranger = True
        """Whether the peer has not said who it is."""
        self._server = server
        self._transport = transport
        self._subscriber = subscriber
        self._backlog = backlog
        self._loop = loop
        self._abort_timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether the peer is still served."""
        return not self.is_over and not self._transport.is_closing()

    def end_of(
        self, step: Callable[[*Given], None], *given: *Given
    ) -> EndedError | None:
        """Take a step on the peer's input; return the end that it makes, if any."""
        try:
            step(*given)
        except EndedError as end:
            return end
        except FrameTooLargeError as error:
            return EndedError(RejectReason.TOO_LARGE, str(error))
        except MalformedMessageError as error:
            return EndedError(RejectReason.MALFORMED, str(error))
        except WireVersionError as error:
            return EndedError(RejectReason.VERSION, str(error))
        except RejectedError as error:
            return EndedError(RejectReason(error.reason), error.detail)
        except Exception:
            # The last line of defence: a fault in our own code on one peer's input
            # must not reach the loop, which would take every other peer down with it.
            logger.exception("connection.failed peer=%s", self._subscriber.name)
            return EndedError(RejectReason.UNEXPECTED, "internal error, see the log")
        return None

    def end(self, end: EndedError) -> None:
        """Close as an error or a `Goodbye` of the peer says."""
        if end.reason is None:
            self.close()
        else:
            self.reject(end.reason, end.detail)

    def reject(self, reason: RejectReason, detail: str) -> None:
        """Say why, and close when the peer has read it."""
        if not self.is_open:
            return
        # Of strangers there may be a flood: they are counted, and logged by interval.
        logger.log(
            logging.DEBUG if self.is_stranger else logging.WARNING,
            "connection.rejected peer=%s reason=%s detail=%s",
            self._subscriber.name,
            reason,
            detail,
        )
        self._server.rejected[reason] += 1
        self.say_last(Rejected(reason=reason, detail=detail[:MAX_TEXT_LENGTH]))
        # A peer that is still writing when we close sees its write fail, and never
        # reads why: let it write, and close when it does.
        if not self._transport.is_closing():
            if self._transport.can_write_eof():  # TLS has no half of a connection
                self._transport.write_eof()
            self._abort_later(ABORT_AFTER_S)
        self._backlog.read_out()

    def say_last(self, message: Message) -> None:
        """Write the last word, however slowly it is read: now that does not matter."""
        self.is_over = True
        self._subscriber.send(message)
        self._subscriber.flush()
        self._subscriber.close()

    def close(self, timeout_s: float | None = None) -> None:
        """Close once everything written has been read, or a time is over."""
        self.is_over = True
        self._backlog.drop()
        self._subscriber.close()
        if not self._transport.is_closing():
            self._transport.close()
            self._abort_later(timeout_s or ABORT_AFTER_S)

    def abort(self) -> None:
        """Close at once, whatever has not been read or taken."""
        self._backlog.drop()
        self._transport.abort()

    def gone(self) -> None:
        """Note that the connection is no more."""
        self.is_over = True
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._backlog.drop()
        self._subscriber.close()

    def _abort_later(self, timeout_s: float) -> None:
        self._abort_timer = self._loop.call_later(timeout_s, self._transport.abort)
