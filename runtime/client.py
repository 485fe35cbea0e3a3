"""What a strategy or a feed uses to talk to a sidecar: `connect`.

Rule: whatever becomes of the connection, the caller sees one subscription and one
sequence of what it published. Nothing is dropped in silence: what cannot be had is
counted (`Subscription.n_gaps`) or raised.

Theory of operation
-------------------
Messages are handled in the transport's own callback: bytes are decoded, delivered to
the inboxes and acknowledged against what was published, without a task or an await in
between. Which connection they come over is the business of `link`.
"""

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from ..messages import (
    Acknowledged,
    BetasUpdated,
    BetaUpdated,
    ConfigError,
    Encoding,
    Goodbye,
    Heartbeat,
    Hello,
    MalformedMessageError,
    Message,
    Overflow,
    Rejected,
    Role,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    Unsubscribe,
    encode,
    parse_beta_topic,
)
from ..messages.fields import MAX_NAME_LENGTH
from ..messages.topics import check_pattern
from .address import Address, default_address
from .feed_client import FeedClient
from .framing import frame
from .link import CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S, Backoff, Link
from .routes import Routes
from .subscription import DEFAULT_BUFFER_CAPACITY, Inbox, Subscription
from .tls import ClientTls
from .tokens import default_token

__all__ = ["Backoff", "BetaClient", "ClientTls", "Subscription", "connect"]


def connect(
    address: str | Address | None = None,
    *,
    name: str = "client",
    role: Role = Role.SUBSCRIBER,
    token: str | None = None,
    tls: ClientTls | None = None,
    sequence: str = "",
    reconnect: bool = True,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    silence_timeout_s: float = SILENCE_TIMEOUT_S,
    backoff: Backoff | None = None,
    clock: Callable[[], float] | None = None,
) -> "BetaClient":
    """Return a client; ``async with connect() as client`` connects it.

    Parameters
    ----------
    address
        Where the sidecar listens, by default this user's `default_address`.
    name
        Who we are, in the sidecar's logs.
    role
        What the connection is for: a feed publishes, a subscriber subscribes.
    token
        The secret that the sidecar asks for, if it does; by default that of the
        environment, see `default_token`.
    tls
        How to know the sidecar, where its address is TCP with TLS.
    sequence
        Names the sequence that our ``seq`` numbers belong to: what a sidecar has taken
        of it counts once, however often it is sent. By default it is this client's own.
        A feed that keeps the name, and its own, over restarts goes on after the last
        number taken, see `BetaClient.last_seq`; one process at a time has them.
    reconnect
        Whether to dial again when the connection is lost.
    connect_timeout_s
        How long the first connection may take, attempts while nobody listens included;
        later, how long each attempt may take.
    silence_timeout_s
        A connection on which nothing came for so long counts as lost. It must be well
        above the sidecar's ``heartbeat_interval_s``, which is at most 5.
    backoff
        Delays between attempts, and how many there are.
    clock
        Seconds, never going back; the loop's by default.

    Raises
    ------
    ConfigError
        When the address or the name cannot be one, TLS is asked for over a Unix
        socket, or a file of the token or of TLS cannot be used.
    """
    if address is None:
        address = default_address()
    elif isinstance(address, str):
        address = Address.parse(address)
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        reason = f"must have 1 to {MAX_NAME_LENGTH} characters, had {len(name)}"
        raise ConfigError([("name", reason)])
    if tls is not None:
        if address.path is not None:
            raise ConfigError([("tls", "is for a tcp:// address only")])
        tls.context()  # whatever is wrong with its files is known now
    token = default_token() if token is None else token
    return BetaClient(
        address,
        Hello(
            role=role,
            name=name,
            token=token,
            sequence=sequence or secrets.token_hex(8),
        ),
        tls=tls,
        reconnect=reconnect,
        connect_timeout_s=connect_timeout_s,
        silence_timeout_s=silence_timeout_s,
        backoff=backoff or Backoff(),
        clock=clock,
    )


class BetaClient(FeedClient):
    """A connection to a sidecar that outlives its sockets; made by `connect`.

    It belongs to one event loop and is used inside ``async with``.
    """

    def __init__(
        self,
        address: Address,
        hello: Hello,
        *,
        tls: ClientTls | None = None,
        reconnect: bool,
        connect_timeout_s: float,
        silence_timeout_s: float,
        backoff: Backoff,
        clock: Callable[[], float] | None,
    ) -> None:
        self.address = address
        self.name = hello.name
        self.instance = ""
        """Name of the sidecar's run; another one after a reconnect means that the
        sidecar was restarted."""
        self.n_connections = 0
        """Connections so far: the first, and each that replaced a lost one."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock = clock or self._loop_time
        self._routes = Routes(self._regulate)
        self._last_subscription = 0
        link = Link(
            address,
            lambda: replace(hello, taken=self._outgoing.acknowledged),
            tls=tls,
            reconnect=reconnect,
            connect_timeout_s=connect_timeout_s,
            silence_timeout_s=silence_timeout_s,
            backoff=backoff,
            clock=self._clock,
            receive=self._receive,
            on_welcome=self._welcomed,
            on_connected=self._connected,
            on_lost=self._routes.interrupted,
            on_ended=self._ended,
        )
        super().__init__(link)

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<BetaClient {self.name!r} at {self.address}, {state}>"

    async def __aenter__(self) -> Self:
        """Connect; cancelling it leaves nothing behind.

        Raises
        ------
        FeedDisconnectedError
            When nobody answered within ``connect_timeout_s``, or had room for us.
        RejectedError
            When the sidecar refused us.
        WireVersionError
            When the sidecar speaks another version.
        MalformedMessageError
            When whoever listens there is no sidecar.
        RuntimeError
            When it was entered before.
        """
        if self._loop is not None:
            raise RuntimeError("a client is entered once; call connect() for another")
        self._loop = asyncio.get_running_loop()
        await self._link.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say `Goodbye`, let the sidecar read what was written, and close.

        Cancelling it closes at once: what the sidecar has not read by then is lost.
        """
        await self._link.leave()
        self._log_unacknowledged()

    @property
    def connected(self) -> bool:
        """Whether the sidecar has welcomed us and the connection is open."""
        return self._link.is_connected

    def subscribe(
        self,
        pattern: str,
        *,
        snapshot: bool = True,
        encoding: Encoding = Encoding.ROWS,
        overflow: Overflow = Overflow.CONFLATE,
        buffer_capacity: int = DEFAULT_BUFFER_CAPACITY,
    ) -> Subscription:
        """Subscribe to every topic that matches.

        Parameters
        ----------
        pattern
            ``beta.<factor>.<symbol>``, where ``*`` stands for one token and a final
            ``>`` for the rest.
        snapshot
            Whether the newest value of each topic comes first.
        encoding
            How updates travel; they come out as rows either way.
        overflow
            What the sidecar does when we read too slowly.
        buffer_capacity
            Updates held for the iterator before the client stops reading.

        Raises
        ------
        InvalidTopicError
            When the pattern is outside the grammar.
        ValueError
            When there is no room for a single update.
        RuntimeError
            When the client was not entered.
        """
        if buffer_capacity < 1:
            msg = f"buffer_capacity must be at least 1, was {buffer_capacity}"
            raise ValueError(msg)
        request = Subscribe(
            subscription=self._next_number(),
            pattern=pattern,
            snapshot=snapshot,
            encoding=encoding,
            overflow=overflow,
        )
        inbox = self._subscribe(request, buffer_capacity)
        return Subscription(inbox, self._unsubscribe, self._entered_loop)

    async def watch(self, pattern: str, *, encoding: Encoding = Encoding.ROWS) -> None:
        """Keep `latest` up to date for every topic that matches, until we leave.

        Nothing is held for an iterator, so there is none to fall behind. It returns
        when the snapshot has arrived; cancelling it ends the watch.

        Raises
        ------
        InvalidTopicError
            When the pattern is outside the grammar.
        RejectedError
            When the sidecar refuses the pattern.
        BetaFactoryError
            What else ended the client before the snapshot had arrived.
        """
        request = Subscribe(
            subscription=self._next_number(), pattern=pattern, encoding=encoding
        )
        inbox = self._subscribe(request, buffer_capacity=0)
        try:
            while not inbox.is_whole:
                inbox.raise_error()
                self._link.raise_if_ended()
                await inbox.wait()
        except BaseException:  # also when cancelled: nobody else would unsubscribe
            self._unsubscribe(inbox)
            raise

    def latest(self, topic: str) -> BetaUpdated | None:
        """Return the newest update received for a topic, ``None`` before the first.

        Raises
        ------
        InvalidTopicError
            When ``topic`` is not ``beta.<factor>.<symbol>``.
        """
        route = self._routes.by_topic.get(topic)
        if route is None:
            parse_beta_topic(topic)  # a topic that cannot be is no topic without value
            return None
        return route.latest

    def age_s(self, topic: str) -> float | None:
        """Return how long ago `latest` was received; ``None`` before the first.

        Raises
        ------
        InvalidTopicError
            When ``topic`` is not ``beta.<factor>.<symbol>``.
        """
        route = self._routes.by_topic.get(topic)
        if route is None:
            parse_beta_topic(topic)
            return None
        return self._clock() - route.received_s

    @property
    def _entered_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("enter the client first: async with connect(...)")
        return self._loop

    def _loop_time(self) -> float:
        return self._entered_loop.time()

    def _subscribe(self, request: Subscribe, buffer_capacity: int) -> Inbox:
        _ = self._entered_loop
        check_pattern(request.pattern)
        inbox = self._routes.open(request, buffer_capacity)
        if self._link.is_ended:
            self._ended()
        self._send(request)
        return inbox

    def _unsubscribe(self, inbox: Inbox) -> None:
        if self._routes.close(inbox):
            self._send(Unsubscribe(subscription=inbox.number))
        inbox.end(None, discard=True)
        self._regulate()

    def _next_number(self) -> int:
        self._last_subscription += 1
        return self._last_subscription

    def _send(self, message: Message) -> None:
        self._link.write(frame(encode(message)))

    def _regulate(self) -> None:
        # One full inbox stops the reading for all: the sidecar conflates for this
        # connection as a whole, and memory here stays what it is.
        self._link.set_reading(enabled=not self._routes.is_full)

    def _connected(self, hello: Hello) -> bytes:
        if self.instance and hello.name != self.instance:
            self._routes.restarted(hello.name)
        self.instance = hello.name
        self.n_connections += 1
        self._regulate()
        requests = [frame(encode(request)) for request in self._routes.requests()]
        return b"".join([*requests, self._resend()])

    def _ended(self) -> None:
        self._routes.end(self._link.error)

    def _receive(self, message: Message, now_s: float) -> None:
        # in the order of how often they come
        if type(message) is BetaUpdated:
            self._routes.deliver(message, now_s)
        elif type(message) is BetasUpdated:
            self._routes.deliver_columns(message, now_s)
        elif type(message) is Acknowledged:
            self._take_acknowledged(message)
        elif type(message) is Heartbeat:
            pass  # the connection has noted that something came
        elif type(message) is SymbolsDeclared:
            self._routes.declared(message)
        elif type(message) is Subscribed:
            self._routes.subscribed(message)
        elif type(message) is Rejected:
            self._routes.rejected(message)
            self._regulate()
        elif type(message) is Goodbye:
            self._link.said_goodbye(message.reason)
        else:
            raise MalformedMessageError(f"a sidecar says no {type(message).__name__}")
