"""A connection that is replaced when it is lost.

Rule: one task decides what becomes of a connection that has ended: over in order, over
for good, or dial again. It alone ends the link, so that everyone who waits learns the
same.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..messages import (
    BetaFactoryError,
    FeedDisconnectedError,
    Goodbye,
    Hello,
    Message,
    RejectedError,
    RejectReason,
    encode,
)
from .address import Address
from .connection import ClientConnection, dial
from .framing import frame
from .tls import ClientTls

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0
"""A sidecar that is just starting listens within a second or two; a wrong address
should be known before anybody goes looking."""

SILENCE_TIMEOUT_S: Final = 10.0
"""Ten heartbeats of the sidecar. Fewer would take a long pause of its loop for a lost
network, more would trade on a dead connection for longer."""

GRACE_S: Final = 0.1
"""After a silence the loop gets this long to read what came meanwhile: where our own
program kept it busy, uvloop runs the timer that finds the silence before it reads."""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long leaving waits for the sidecar to read what was written."""

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


class Link:
    """Dials, dials again, and knows when it is over.

    Parameters
    ----------
    address, tls
        Where to connect, and how to know who answers.
    hello
        Returns what to say first.
    reconnect, connect_timeout_s, silence_timeout_s, backoff, clock
        As for `client.connect`.
    receive
        As for `ClientConnection`.
    on_welcome
        As for `ClientConnection`.
    on_connected
        Called with each `Hello` of a sidecar; returns the bytes to begin with.
    on_lost
        Called when a connection was lost, before anything else is tried.
    on_ended
        Called once, when there will be no other connection.
    """

    def __init__(
        self,
        address: Address,
        hello: Callable[[], Hello],
        *,
        tls: ClientTls | None,
        reconnect: bool,
        connect_timeout_s: float,
        silence_timeout_s: float,
        backoff: Backoff,
        clock: Callable[[], float],
        receive: Callable[[Message, float], None],
        on_welcome: Callable[[Hello], None],
        on_connected: Callable[[Hello], bytes],
        on_lost: Callable[[], None],
        on_ended: Callable[[], None],
    ) -> None:
        self.address = address
        self.is_ended = False
        self.error: Exception | None = None
        """Why it ended; ``None`` = in order."""
        self._hello = hello
        self._tls = tls
        self._reconnect = reconnect
        self._connect_timeout_s = connect_timeout_s
        self._silence_timeout_s = silence_timeout_s
        self._backoff = backoff
        self._clock = clock
        self._receive = receive
        self._on_welcome = on_welcome
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_ended = on_ended
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: ClientConnection | None = None
        self._connected_at_s = 0.0
        self._n_failures = 0
        self._farewell = ""

    @property
    def is_connected(self) -> bool:
        """Whether a sidecar has welcomed us and the connection is open."""
        return self._connection is not None and self._connection.is_open

    @property
    def is_writable(self) -> bool:
        """Whether there is nothing to wait for before writing."""
        # without a connection, what is published is kept for the next one
        return self._connection is None or self._connection.is_writable

    async def open(self) -> None:
        """Connect for the first time; cancelling it leaves nothing behind.

        Raises
        ------
        FeedDisconnectedError
            When no sidecar answered within ``connect_timeout_s``, or none that had
            room for us.
        RejectedError, WireVersionError, MalformedMessageError
            As `dial` raises them; they are not tried again.
        """
        n_attempts = 0
        cause: OSError = TimeoutError("no answer")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                while self._connection is None:
                    n_attempts += 1
                    try:
                        self._adopt(await self._dial())
                    except OSError as error:
                        cause = error
                        await asyncio.sleep(self._backoff.delay_s(n_attempts))
        except TimeoutError:
            raise self._disconnected(n_attempts, cause) from cause
        self._task = asyncio.get_running_loop().create_task(
            self._run(self._connection), name=f"link to {self.address}"
        )

    async def leave(self) -> None:
        """Say `Goodbye`, let the sidecar read what was written, and close.

        Cancelling it closes at once: what the sidecar has not read by then is lost.
        """
        connection = self._connection
        self._end(None, "the client was closed")
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            if connection is not None and connection.is_open:
                # The sidecar closes when it has read this. To close from here while it
                # still writes would reset the connection under the bytes it must read.
                connection.write(frame(encode(Goodbye(reason=self._farewell))))
                connection.set_reading(enabled=True)
                await asyncio.wait([connection.closed], timeout=CLOSE_TIMEOUT_S)
        finally:
            if connection is not None:
                connection.abort()
        if connection is not None:
            await asyncio.wait([connection.closed])

    def write(self, data: bytes) -> None:
        """Write framed bytes; without a connection they go nowhere."""
        if self._connection is not None:
            self._connection.write(data)

    def set_reading(self, *, enabled: bool) -> None:
        """Read from the sidecar, or let its outbox fill."""
        if self._connection is not None:
            self._connection.set_reading(enabled=enabled)

    def said_goodbye(self, reason: str) -> None:
        """Take the sidecar's word that it shuts down in order: nobody dials again."""
        self._farewell = f"the sidecar said Goodbye: {reason}"
        if self._connection is not None:
            self._connection.close()

    def raise_if_ended(self) -> None:
        """Raise why there will be no other connection, if so.

        Raises
        ------
        FeedDisconnectedError
            When it was over in order, or reconnecting was given up.
        BetaFactoryError
            What else ended it.
        """
        if self.error is not None:
            # one error may be raised in many tasks, and many times
            raise self.error.with_traceback(None)
        if self.is_ended:
            raise FeedDisconnectedError(str(self.address), 0, self._farewell)

    def wake(self) -> None:
        """Let those who `wait` look again."""
        self._changed.set()
        self._changed.clear()

    async def wait(self) -> None:
        """Wait for `wake`, a writable link or its end. Cancelling loses nothing."""
        await self._changed.wait()

    async def _run(self, connection: ClientConnection) -> None:
        try:
            while True:
                cause = await self._until_closed(connection)
                if self._farewell:
                    self._end(None, self._farewell)
                    return
                self._lost(cause)
                connection = await self._redial(cause)
                self._adopt(connection)
        except BetaFactoryError as error:
            logger.warning("client.failed address=%s error=%s", self.address, error)
            self._end(error, str(error))
        except Exception as error:
            # a fault of ours in a callback: whoever waits must not wait for ever
            logger.exception("client.failed address=%s", self.address)
            self._end(error, str(error))

    async def _until_closed(self, connection: ClientConnection) -> OSError | None:
        limit_s = self._silence_timeout_s
        was_silent = False
        while not connection.closed.done():
            silent_s = connection.silent_s
            is_silent = silent_s >= limit_s
            if is_silent and was_silent:
                connection.abort(TimeoutError(f"silent for {silent_s:.1f} s"))
            was_silent = is_silent
            await asyncio.wait(
                [connection.closed], timeout=max(limit_s - silent_s, GRACE_S)
            )
        cause = connection.closed.result()
        if cause is None or isinstance(cause, OSError):
            return cause
        raise cause

    async def _redial(self, cause: OSError | None) -> ClientConnection:
        backoff = self._backoff
        if self._clock() - self._connected_at_s >= backoff.stable_after_s:
            self._n_failures = 0
        if not self._reconnect:
            raise self._disconnected(0, cause) from cause
        while self._n_failures < backoff.max_attempts:
            self._n_failures += 1
            await asyncio.sleep(backoff.delay_s(self._n_failures))
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    return await self._dial()
            except OSError as error:
                cause = error
        raise self._disconnected(self._n_failures, cause) from cause

    async def _dial(self) -> ClientConnection:
        try:
            return await dial(
                self.address,
                lambda: ClientConnection(
                    self._hello(),
                    receive=self._receive,
                    on_welcome=self._on_welcome,
                    on_writable=self.wake,
                    clock=self._clock,
                ),
                self._tls,
            )
        except RejectedError as error:
            if error.reason != RejectReason.TOO_MANY:
                raise
            # There is room when others go: of a lost network, our own old connection.
            raise ConnectionRefusedError(str(error)) from error

    def _adopt(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._connected_at_s = self._clock()
        hello = connection.welcomed.result()
        logger.info("client.connected address=%s instance=%s", self.address, hello.name)
        connection.write(self._on_connected(hello))
        self.wake()

    def _lost(self, cause: OSError | None) -> None:
        self._connection = None
        logger.warning(
            "client.disconnected address=%s cause=%s", self.address, _reason(cause)
        )
        self._on_lost()
        self.wake()

    def _end(self, error: Exception | None, farewell: str) -> None:
        if self.is_ended:
            return
        self.is_ended = True
        self.error = error
        self._farewell = farewell
        self._on_ended()
        self.wake()

    def _disconnected(
        self, n_attempts: int, cause: OSError | None
    ) -> FeedDisconnectedError:
        return FeedDisconnectedError(str(self.address), n_attempts, _reason(cause))


def _reason(cause: OSError | None) -> str:
    if cause is None:
        return "the connection was closed"
    return str(cause) or type(cause).__name__
