"""One connection to a sidecar as its client sees it.

Rule: bytes become messages here and nowhere else in the client, and nothing is decided
about a message but whether the first one is a welcome. What ended a connection is the
result of its ``closed``: an `OSError` or ``None`` is a connection that was lost, and
anything else is final.
"""

import asyncio
from collections.abc import Callable
from typing import cast

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
from .tls import ClientTls


class ClientConnection(asyncio.Protocol):
    """A connection to a sidecar, from our `Hello` to its end.

    Parameters
    ----------
    hello
        What we say first.
    receive
        Takes each message after the sidecar's `Hello`, and when it was read. A
        `BetaFactoryError` that it raises ends the connection.
    on_welcome
        Takes the sidecar's `Hello` before any other message, of the same read or a
        later one, is received. Errors as for ``receive``.
    on_writable
        Called when the transport takes bytes again.
    clock
        Seconds; for ``last_received_s``.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        receive: Callable[[Message, float], None],
        on_welcome: Callable[[Hello], None],
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
        self.is_reading = True
        """Whether the transport is read from; see `set_reading`."""
        self._hello = hello
        self._receive = receive
        self._on_welcome = on_welcome
        self._on_writable = on_writable
        self._clock = clock
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is written can still reach the sidecar."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def silent_s(self) -> float:
        """For how long nothing came, while something could."""
        return self._clock() - self.last_received_s if self.is_reading else 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        # uvloop's transports have its methods but not its type
        stream = cast("asyncio.Transport", transport)
        self._transport = stream
        stream.write(frame(encode(self._hello)))

    def data_received(self, data: bytes) -> None:
        """Hand on what was read."""
        self.last_received_s = now_s = self._clock()
        receive = self._receive if self.welcomed.done() else self._welcome
        try:
            payload = self._reader.whole(data)
            payloads = self._reader.feed(data) if payload is None else (payload,)
            for each in payloads:
                for message in decode_payload(each):
                    receive(message, now_s)
            self._reader.check()
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
            self.welcomed.exception()  # seen: where dialing was cancelled nobody waits
        self.closed.set_result(error)
        self._on_writable()

    def pause_writing(self) -> None:
        """Note that the sidecar reads more slowly than we write."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """Note that the sidecar has caught up."""
        self.is_writable = True
        self._on_writable()

    def set_reading(self, *, enabled: bool) -> None:
        """Read from the transport or stop reading: the sidecar's outbox then fills."""
        if self._transport is None or enabled == self.is_reading:
            return
        self.is_reading = enabled
        if enabled:
            self.last_received_s = self._clock()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Write framed bytes; on a connection that has ended they go nowhere."""
        if data and self._transport is not None and not self._transport.is_closing():
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

    def _welcome(self, message: Message, now_s: float) -> None:
        if self.welcomed.done():  # more came in the same read
            self._receive(message, now_s)
        elif type(message) is Hello:
            if message.version != WIRE_VERSION:
                raise WireVersionError(message.version, WIRE_VERSION)
            if message.role is not Role.SIDECAR:
                raise MalformedMessageError(f"peer is no sidecar but a {message.role}")
            self._on_welcome(message)
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
    address: Address,
    make_connection: Callable[[], ClientConnection],
    tls: ClientTls | None = None,
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
            make_connection,
            address.host,
            address.port,
            ssl=tls.context() if tls else None,
            server_hostname=(tls.server_name or address.host) if tls else None,
        )
    try:
        await connection.welcomed
    except BaseException:  # also when cancelled: nobody else has the connection
        connection.abort()
        raise
    return connection
