"""One connection to a sidecar as its client sees it, and when to try for the next.

Rule: bytes become messages here and nowhere else in the client, and nothing is decided
about a message but whether the first one is a welcome. What ends a connection is kept
as its ``closed`` result: an error of ours is final, an `OSError` or ``None`` is a
connection that was lost.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..messages import (
    WIRE_VERSION,
    BetaFactoryError,
    Goodbye,
    Hello,
    MalformedMessageError,
    Message,
    Rejected,
    RejectedError,
    Role,
    WireVersionError,
    decode_payload,
    encode,
)
from .address import Address
from .framing import FrameReader, frame

INITIAL_DELAY_S: Final = 0.05
"""A restarted sidecar listens after some 100 ms: waiting longer first only adds to the
outage, trying sooner meets nobody."""

MAX_DELAY_S: Final = 5.0
"""Beyond this a longer delay saves nothing and makes the recovery visibly late."""

MAX_ATTEMPTS: Final = 20
"""With the delays above a bit more than a minute: a restart is over by then, and an
operator should hear of anything longer."""

JITTER: Final = 0.5
"""Part of a delay that is random: all clients lose a sidecar in the same instant and
must not come back in the same one."""

STABLE_AFTER_S: Final = 5.0
"""A connection that lasted this long was a success; the attempts are counted anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Jittered exponential delays between attempts to connect."""

    initial_s: float = INITIAL_DELAY_S
    max_s: float = MAX_DELAY_S
    max_attempts: int = MAX_ATTEMPTS
    """Attempts in a row after which reconnecting is given up."""
    jitter: float = JITTER
    """Part of each delay that is random; 0 = none, 1 = all of it."""
    stable_after_s: float = STABLE_AFTER_S
    uniform: Callable[[], float] = random.random
    """Where chance comes from: a number in [0, 1)."""

    def delay_s(self, attempt: int) -> float:
        """Return how long to wait before an attempt.

        Parameters
        ----------
        attempt
            Attempts in a row, this one included, from 1.

        Examples
        --------
        >>> [Backoff(jitter=0).delay_s(attempt) for attempt in (1, 2, 3, 2000)]
        [0.05, 0.1, 0.2, 5.0]
        """
        doublings = min(attempt - 1, 64)  # 2.0**1024 is no float
        delay_s = min(self.max_s, self.initial_s * 2.0**doublings)
        return delay_s * (1.0 - self.jitter * self.uniform())


class ClientConnection(asyncio.Protocol):
    """A connection to a sidecar, from our `Hello` to its end.

    Parameters
    ----------
    hello
        What we say first.
    receive
        Takes each message after the sidecar's `Hello`. A `BetaFactoryError` that it
        raises ends the connection.
    on_writable
        Called when the transport takes bytes again.
    clock
        Seconds; for ``last_received_s``.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        receive: Callable[[Message], None],
        on_writable: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[Hello] = loop.create_future()
        """The sidecar's `Hello`, or why there is none."""
        self.closed: asyncio.Future[Exception | None] = loop.create_future()
        """What ended the connection, once it has ended; never an exception raised."""
        self.last_received_s = clock()
        """When bytes last came, or could have come again after a pause."""
        self.is_writable = True
        """Whether the transport's buffer is below its high-water mark."""
        self._hello = hello
        self._receive = receive
        self._on_writable = on_writable
        self._clock = clock
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None
        self._is_reading = True

    @property
    def is_open(self) -> bool:
        """Whether what is written can still reach the sidecar."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_reading(self) -> bool:
        """Whether the transport is read from; see `set_reading`."""
        return self._is_reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - stream sockets
        self._transport = transport
        transport.write(frame(encode(self._hello)))

    def data_received(self, data: bytes) -> None:
        """Hand on what was read."""
        self.last_received_s = self._clock()
        try:
            for payload in self._reader.feed(data):
                for message in decode_payload(payload):
                    if self.welcomed.done():
                        self._receive(message)
                    else:
                        self._welcome(message)
        except (BetaFactoryError, ConnectionError) as error:
            self.abort(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits for this connection."""
        self._transport = None
        error = self._error or exc
        if not self.welcomed.done():
            self.welcomed.set_exception(
                error or ConnectionResetError("closed before the sidecar said Hello")
            )
        if not self.closed.done():
            self.closed.set_result(error)
        self._on_writable()

    def pause_writing(self) -> None:
        """The sidecar reads more slowly than we write."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """The sidecar has caught up."""
        self.is_writable = True
        self._on_writable()

    def set_reading(self, *, enabled: bool) -> None:
        """Read from the transport or stop reading: the sidecar's outbox then fills."""
        if self._transport is None or enabled == self._is_reading:
            return
        self._is_reading = enabled
        if enabled:
            self.last_received_s = self._clock()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Write framed bytes; on a connection that has ended they go nowhere."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Close at once; ``error`` becomes the result of ``closed``."""
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    def _welcome(self, message: Message) -> None:
        if type(message) is Hello:
            if message.version != WIRE_VERSION:
                raise WireVersionError(message.version, WIRE_VERSION)
            if message.role is not Role.SIDECAR:
                raise MalformedMessageError(f"peer is no sidecar but a {message.role}")
            self.welcomed.set_result(message)
        elif type(message) is Rejected:
            raise RejectedError(message.reason.value, message.detail)
        elif type(message) is Goodbye:
            # it shuts down while we come: whoever starts next is worth waiting for
            raise ConnectionAbortedError(message.reason or "the sidecar said Goodbye")
        else:
            name = type(message).__name__
            raise MalformedMessageError(f"first message must be Hello, was {name}")


async def dial(
    address: Address, make_connection: Callable[[], ClientConnection]
) -> ClientConnection:
    """Connect and wait for the sidecar's `Hello`.

    Cancelling it closes the connection; nothing is lost that was sent before.

    Raises
    ------
    OSError
        When nobody listens, or the connection ends before the `Hello`.
    RejectedError
        When the sidecar refuses us.
    WireVersionError
        When it speaks another version.
    MalformedMessageError
        When it does not speak this protocol at all.
    """
    loop = asyncio.get_running_loop()
    if address.path is not None:
        _, connection = await loop.create_unix_connection(make_connection, address.path)
    else:
        _, connection = await loop.create_connection(
            make_connection, address.host, address.port
        )
    try:
        await connection.welcomed
    except BaseException:
        connection.abort()
        raise
    return connection
