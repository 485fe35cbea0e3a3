"""The live loop that qmtl lacks: feeds in, a strategy's nodes run, betas back.

Rule: one loop, one thread, the order of this page. `Runner.submit` ends after the
warm-up and consumes nothing; what runs live is qmtl's own `Pipeline`, fed by us.

1. The strategy is set up, and told that it starts.
2. Every node is moved to the world and the execution domain. That empties its cache,
   so it comes before the warm-up. From here on each message to the sidecar comes from a
   connection that is named after both.
3. The warm-up loads the inputs' history and replays it through the nodes, sinks
   included: a sidecar that knows it already ignores what it has.
4. The feeds are iterated over, each in a task. After each payload the loop yields: qmtl
   computes for half a millisecond and more per symbol, in which no socket is read.
5. When the last finite feed has ended, the sinks are drained and the betas of the last
   bars are waited for; then the strategy is told that it finished.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from ...messages import ConfigError, PayloadError
from .backtest import isolated_qmtl
from .beta_feed import BetaFeed, Tick
from .sdk import ComputeContext, HistoryWarmupService, Pipeline, Strategy, set_no_ray
from .sink import BetaSink

logger = logging.getLogger(__name__)

DOMAINS: Final = ("backtest", "dryrun", "live", "shadow")

Feed = AsyncIterable[Tick]
"""Anything that yields `Tick`s: (node, ts, payload)."""


class LiveSummary(NamedTuple):
    """What one run of `run_live` did."""

    n_ticks: int
    """Payloads from finite feeds."""
    n_updates: int
    """Beta updates from sidecars."""
    n_refused: int
    """Payloads outside their schema; each was logged and left out."""
    is_delivered: bool
    """Whether the sidecars have taken in all that the sinks observed."""


async def run_live(
    strategy: Strategy,
    feeds: Sequence[Feed],
    world_id: str,
    *,
    execution_domain: str = "live",
    sinks: Sequence[BetaSink] = (),
    stop: asyncio.Event | None = None,
    warm_up: bool = True,
    drain_timeout_s: float = 5.0,
) -> LiveSummary:
    """Run a strategy on live feeds until they end, or until told to stop.

    Parameters
    ----------
    strategy
        Set up here, unless it has nodes already.
    feeds
        Prices, and `BetaFeed`s for the strategy's beta inputs. A price feed is any
        async iterable of `Tick`.
    world_id
        The world: part of each node's compute key and of each sink's source.
    execution_domain
        ``live``, ``shadow``, ``dryrun`` or ``backtest``.
    sinks
        Drained at the end, not closed.
    stop
        Ends the run, when set.
    warm_up
        Whether to load and replay the inputs' history first.
    drain_timeout_s
        How long the end waits for sidecars.

    Returns
    -------
    LiveSummary
        What was done.

    Raises
    ------
    ConfigError
        When there is no such domain, or no feed.
    ExceptionGroup
        Of what a feed or a node raised. ``strategy.on_error`` was told first, and all
        other feeds were ended. A `PayloadError` ends nothing: it is logged, counted,
        and told.
    """
    if execution_domain not in DOMAINS:
        reason = f"must be one of {', '.join(DOMAINS)}, was {execution_domain!r}"
        raise ConfigError([("execution_domain", reason)])
    if not feeds:
        raise ConfigError([("feeds", "must hold at least one feed")])
    set_no_ray()
    if not strategy.nodes:
        strategy.setup()
    strategy.on_start()
    for node in strategy.nodes:
        node.apply_compute_context(
            ComputeContext(world_id=world_id, execution_domain=execution_domain)
        )
    if warm_up:
        with isolated_qmtl():
            await HistoryWarmupService().warmup_strategy(
                strategy, offline_mode=True, history_start=None, history_end=None
            )
    logger.info(
        "live.started world=%s domain=%s nodes=%d feeds=%d",
        world_id,
        execution_domain,
        len(strategy.nodes),
        len(feeds),
    )
    run = _Run(strategy)
    is_delivered = await run.until_ended(feeds, sinks, stop, drain_timeout_s)
    strategy.on_finish()
    logger.info(
        "live.finished world=%s ticks=%d updates=%d refused=%d",
        world_id,
        run.n_ticks,
        run.n_updates,
        run.n_refused,
    )
    return LiveSummary(run.n_ticks, run.n_updates, run.n_refused, is_delivered)


class _Run:
    def __init__(self, strategy: Strategy) -> None:
        self.n_ticks = 0
        self.n_updates = 0
        self.n_refused = 0
        self._strategy = strategy
        self._pipeline = Pipeline(strategy.nodes)

    async def until_ended(
        self,
        feeds: Sequence[Feed],
        sinks: Sequence[BetaSink],
        stop: asyncio.Event | None,
        timeout_s: float,
    ) -> bool:
        back = [feed for feed in feeds if isinstance(feed, BetaFeed)]
        finite = [feed for feed in feeds if not isinstance(feed, BetaFeed)]
        async with asyncio.TaskGroup() as tasks:
            endless = [tasks.create_task(self._follow(feed)) for feed in back]
            ending = [tasks.create_task(self._consume(feed)) for feed in finite]
            ends = [tasks.create_task(_all_done(ending or endless))]
            if stop is not None:
                ends.append(tasks.create_task(_is_set(stop)))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (*ending, *ends):
                task.cancel()
            is_delivered = await self._finish(back, sinks, timeout_s)
            for task in endless:
                task.cancel()
        self.n_updates = sum(feed.n_updates for feed in back)
        return is_delivered

    async def _finish(
        self, back: Sequence[BetaFeed], sinks: Sequence[BetaSink], timeout_s: float
    ) -> bool:
        drained = await asyncio.gather(
            *(asyncio.to_thread(sink.drain, timeout_s) for sink in sinks)
        )
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(feed.catch_up() for feed in back))
        except TimeoutError:
            return False
        return all(drained)

    async def _consume(self, feed: Feed) -> None:
        async with _iterating(feed) as ticks:
            async for tick in ticks:
                self._feed(tick)
                self.n_ticks += 1
                await asyncio.sleep(0)

    async def _follow(self, feed: BetaFeed) -> None:
        async with _iterating(feed) as ticks:
            async for tick in ticks:
                self._feed(tick)
                await asyncio.sleep(0)

    def _feed(self, tick: Tick) -> None:
        node, ts, payload = tick
        try:
            self._pipeline.feed(node, ts, payload)
        except PayloadError as error:
            self.n_refused += 1
            logger.warning("live.refused ts=%d error=%s", ts, error)
            self._strategy.on_error(error)
        except Exception as error:
            # the strategy's own code: it is told, and then it ends the run
            self._strategy.on_error(error)
            raise


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _is_set(event: asyncio.Event) -> None:
    await event.wait()


@asynccontextmanager
async def _iterating(feed: Feed) -> AsyncGenerator[AsyncIterator[Tick]]:
    # A generator that is left in the middle must close its connection here and now.
    ticks = aiter(feed)
    try:
        yield ticks
    finally:
        if isinstance(ticks, AsyncGenerator):
            await ticks.aclose()
