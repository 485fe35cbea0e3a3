"""From a sidecar's topics to a strategy's beta inputs.

Rule: the inputs say what is wanted, nothing else is asked for where that is few topics
of a factor, and what comes is handed on in the sidecar's order, bar by bar.
A sidecar that is away, stops or comes back is no end: the feed dials again for as long
as it is iterated over, and says so once each way.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Final, NamedTuple

from ...messages import (
    BetaUpdated,
    ConfigError,
    Encoding,
    FeedDisconnectedError,
    beta_topic,
)
from ...messages.fields import MAX_SYMBOLS
from ...messages.topics import escape
from ..address import Address, default_address
from ..client import BetaClient, connect
from ..clock import Clock, LiveClock
from ..link import Backoff
from ..subscription import Subscription
from .inputs import BetaInput, UniverseBetas
from .merged import Merged
from .metrics import UpdateMetrics
from .schema import NS_PER_S, beta_payload
from .sdk import Payload, StreamInput
from .sink_courier import FOREVER, RETRY_S

logger = logging.getLogger(__name__)

BUFFER_CAPACITY: Final = 65_536
"""Updates that wait for the strategy: a dozen bars of 5,000 symbols. Each subscription
has an equal share of it, on top of room for a whole snapshot. Beyond that the sidecar
conflates, so that the strategy sees the newest of each symbol."""

MAX_TOPICS: Final = 32
"""Inputs of a factor up to which each is a subscription to its own topic. Above it the
factor is taken as a whole, for then to sort out its updates costs less than to merge so
many subscriptions."""

MAX_PATTERNS: Final = 256
"""Subscriptions of a feed up to which a further factor has one for each of its inputs,
well below the 1,024 that a sidecar lets a connection have."""


class Tick(NamedTuple):
    """What a feed yields: one payload for one input."""

    node: StreamInput
    ts: int
    """Seconds since the epoch."""
    payload: Payload


class BetaFeed:
    """Yields a `Tick` for each update of the inputs' topics, without end.

    It subscribes to the topics of its inputs; of a factor with more than `MAX_TOPICS`
    of them, or that would make them more than `MAX_PATTERNS`, to ``beta.<factor>.*``.
    Iterating raises `RejectedError` where the sidecar does not grant that, or does not
    have a factor or a topic.

    Parameters
    ----------
    inputs
        `BetaInput` and `UniverseBetas`, of any factors.
    address
        Where the sidecar listens, by default this user's.
    name
        Who we are, in the sidecar's logs.
    token
        The secret that the sidecar asks for, if it does.
    backoff
        Delays between attempts to reconnect.
    clock
        For the metric of the round trip; the machine's by default.

    Raises
    ------
    ConfigError
        When there is no input, two are for the same topic, or the address is none.
    """

    def __init__(
        self,
        inputs: Iterable[BetaInput | UniverseBetas],
        address: str | Address | None = None,
        *,
        name: str = "qmtl",
        token: str = "",
        backoff: Backoff | None = None,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(address, str):
            address = Address.parse(address)
        self.address = address or default_address()
        self.n_updates = 0
        """Updates handed on."""
        self.n_connections = 0
        self._inputs = tuple(inputs)
        self._node_of = _nodes_by_topic(self._inputs)
        self._name = name
        self._token = token
        self._backoff = backoff or Backoff(max_attempts=FOREVER)
        self._clock = clock or LiveClock()
        self._metrics = UpdateMetrics()
        self._client: BetaClient | None = None
        self._merged: Merged | None = None
        self._patterns = _patterns(self._node_of)
        self._joined = asyncio.Event()
        self._is_unreachable = False

    def __aiter__(self) -> AsyncIterator[Tick]:
        return self._ticks()

    async def wait_joined(self) -> None:
        """Wait until a sidecar has agreed to the subscriptions of this connection."""
        await self._joined.wait()

    async def catch_up(self) -> None:
        """Wait until all that the sidecar has published by now was handed on.

        Somebody must be iterating. It returns at once without a connection.
        """
        client, merged = self._client, self._merged
        if client is None or merged is None or not client.connected:
            return
        async with self._barrier(client) as barrier:
            await barrier.wait_joined()
        # whoever iterates takes them in this loop's other tasks, one per turn
        while merged.pending and self._merged is merged:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def _ticks(self) -> AsyncGenerator[Tick]:
        while True:
            client = connect(
                self.address,
                name=self._name,
                token=self._token,
                backoff=self._backoff,
            )
            try:
                async with client:
                    self.n_connections += 1
                    self._is_unreachable = False
                    self._client = client
                    async with aclosing(self._updates(client)) as ticks:
                        async for tick in ticks:
                            yield tick
                logger.info("beta_feed.ended address=%s", self.address)
            except FeedDisconnectedError as error:
                if not self._is_unreachable:
                    self._is_unreachable = True
                    logger.warning(
                        "beta_feed.unreachable address=%s error=%s", self.address, error
                    )
            finally:
                self._client = self._merged = None
                self._joined.clear()
            await asyncio.sleep(RETRY_S)

    def _barrier(self, client: BetaClient) -> Subscription:
        # The answer to another subscription comes after everything before it.
        return client.subscribe(
            self._patterns[0], snapshot=False, encoding=Encoding.COLUMNS
        )

    async def _updates(self, client: BetaClient) -> AsyncGenerator[Tick]:
        async with AsyncExitStack() as stack:
            subscriptions = [
                await stack.enter_async_context(
                    client.subscribe(
                        pattern,
                        encoding=Encoding.COLUMNS,
                        buffer_capacity=_room(pattern, len(self._patterns)),
                    )
                )
                for pattern in self._patterns
            ]
            # The snapshot is one when all of it is there. All is asked for at once:
            # what is published between the answers waits for us, too.
            async with self._barrier(client) as barrier:
                for each in (*subscriptions, barrier):
                    await each.wait_joined()
            merged = self._merged = Merged(subscriptions)
            self._joined.set()
            panel = _Panel()
            async for update in merged:
                node = self._node_of.get((update.factor, update.symbol))
                if node is not None:
                    self.n_updates += 1
                    self._metrics.observe(update, self._clock.time_ns())
                    if isinstance(node, BetaInput):
                        ts = update.ts_event // NS_PER_S
                        yield Tick(node, ts, beta_payload(update))
                    elif finished := panel.add(node, update):
                        yield finished
                if not merged.pending and (finished := panel.take()):
                    yield finished


class _Panel:
    # The updates of one universe at one bar, until another bar's come.
    def __init__(self) -> None:
        self._node: UniverseBetas | None = None
        self._ts = 0
        self._rows: dict[str, object] = {}

    def add(self, node: UniverseBetas, update: BetaUpdated) -> Tick | None:
        ts = update.ts_event // NS_PER_S
        finished = None
        if self._rows and (node is not self._node or ts != self._ts):
            finished = self.take()
        self._node, self._ts = node, ts
        self._rows[update.symbol] = beta_payload(update)
        return finished

    def take(self) -> Tick | None:
        if self._node is None or not self._rows:
            return None
        rows, self._rows = self._rows, {}
        return Tick(self._node, self._ts, rows)


def _nodes_by_topic(
    inputs: Sequence[BetaInput | UniverseBetas],
) -> dict[tuple[str, str], BetaInput | UniverseBetas]:
    node_of: dict[tuple[str, str], BetaInput | UniverseBetas] = {}
    for node in inputs:
        symbols = (node.symbol,) if isinstance(node, BetaInput) else node.symbols
        for symbol in symbols:
            if (node.factor, symbol) in node_of:
                reason = f"{node.factor}, {symbol} stands twice"
                raise ConfigError([("inputs", reason)])
            node_of[node.factor, symbol] = node
    if not node_of:
        raise ConfigError([("inputs", "must hold at least one input")])
    return node_of


def _room(pattern: str, n_patterns: int) -> int:
    # Nobody iterates before all of them are answered, and one that is full keeps the
    # client from reading the answers.
    n_snapshot = MAX_SYMBOLS if pattern.endswith(".*") else 1
    return n_snapshot + BUFFER_CAPACITY // n_patterns


def _patterns(topics: Iterable[tuple[str, str]]) -> list[str]:
    symbols_of: dict[str, list[str]] = {}
    for factor, symbol in topics:
        symbols_of.setdefault(factor, []).append(symbol)
    patterns: list[str] = []
    for factor, symbols in symbols_of.items():
        is_whole = len(symbols) > MAX_TOPICS
        is_one_too_many = len(patterns) + len(symbols) > MAX_PATTERNS
        if is_whole or (is_one_too_many and len(symbols) > 1):
            patterns.append(f"beta.{escape(factor)}.*")
        else:
            patterns += [beta_topic(factor, symbol) for symbol in symbols]
    return patterns
