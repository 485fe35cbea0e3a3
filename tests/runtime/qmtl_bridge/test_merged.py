"""Several subscriptions are one: in order, whole, and over when one of them is."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import (
    BetaUpdated,
    Reason,
    RejectedError,
    Status,
    Subscribe,
    Subscribed,
    beta_topic,
)
from beta_factory.runtime.qmtl_bridge.merged import Merged
from beta_factory.runtime.subscription import Inbox, Subscription
from strategies import examples

SYMBOLS = ("AAPL", "IBM", "MSFT")


def updated(symbol: str, seq: int, ts_event: int) -> BetaUpdated:
    return BetaUpdated(
        factor="market",
        symbol=symbol,
        benchmark="SPY",
        ts_event=ts_event,
        beta=1.5,
        alpha=0.0,
        std_error=0.1,
        t_stat=15.0,
        r_squared=0.9,
        residual_std=0.01,
        n_obs=60,
        window_start=0,
        status=Status.OK,
        reason=Reason.NONE,
        revision=0,
        seq=seq,
        ts_init=61,
    )


class Wire:
    """A subscription per symbol, and what a client delivers to them."""

    def __init__(self) -> None:
        self.inboxes: dict[str, Inbox] = {}
        self.merged = Merged([self.subscription(symbol) for symbol in SYMBOLS])
        self.taken: list[BetaUpdated] = []

    def subscription(self, symbol: str) -> Subscription:
        number = len(self.inboxes) + 1
        pattern = beta_topic("market", symbol)
        request = Subscribe(subscription=number, pattern=pattern)
        inbox = self.inboxes[symbol] = Inbox(request, 100, lambda: None)
        answer = Subscribed(
            subscription=number, pattern=pattern, seqs={"market": 0}, n_snapshot=0
        )
        inbox.subscribed(answer)
        return Subscription(inbox, _end, asyncio.get_running_loop())

    def read(self, updates: Sequence[BetaUpdated]) -> None:
        for update in updates:
            self.inboxes[update.symbol].put(update)

    async def iterate(self) -> None:
        async for update in self.merged:
            self.taken.append(update)


def _end(inbox: Inbox) -> None:
    inbox.end(None, discard=True)


async def rest() -> None:
    """Let everybody run until they wait for something."""
    for _ in range(10):
        await asyncio.sleep(0)


@given(
    st.lists(st.sampled_from(SYMBOLS), max_size=20),
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=1, max_size=6),
)
@examples(60)
def test_however_it_is_read_it_comes_in_order(
    symbols: list[str], sizes: list[int], is_waiting: list[bool]
) -> None:
    updates = [updated(s, seq, seq // 3) for seq, s in enumerate(symbols, 1)]

    async def main() -> list[BetaUpdated]:
        wire = Wire()
        task = asyncio.create_task(wire.iterate())
        at = turn = 0
        while at < len(updates):
            size = sizes[turn % len(sizes)]
            wire.read(updates[at : at + size])
            if is_waiting[turn % len(is_waiting)]:
                await rest()
            at += size
            turn += 1
        for inbox in wire.inboxes.values():
            inbox.end(None)  # as a Goodbye does: what waits can still be had
        await task
        return wire.taken

    assert asyncio.run(main()) == updates


@pytest.mark.parametrize("error", [RejectedError("not_allowed", "no"), None])
def test_it_ends_as_one_of_them_does_when_nothing_waits(
    error: Exception | None,
) -> None:
    async def main() -> None:
        wire = Wire()
        task = asyncio.create_task(wire.iterate())
        await rest()
        wire.read([updated("AAPL", 1, 1)])
        wire.inboxes["IBM"].end(error)
        if error is None:
            await task
        else:
            with pytest.raises(RejectedError):
                await task
        assert len(wire.taken) == 1
        assert not wire.merged.pending

    asyncio.run(main())


def test_what_is_on_its_way_to_whoever_iterates_is_pending() -> None:
    async def main() -> None:
        wire = Wire()
        task = asyncio.create_task(wire.iterate())
        await rest()
        for seq in (1, 2):
            wire.read([updated("IBM", seq, seq)])
            while wire.merged.pending:  # noqa: ASYNC110 - as `BetaFeed.catch_up` does
                await asyncio.sleep(0)
            assert [update.seq for update in wire.taken] == [*range(1, seq + 1)]
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


def test_cancelling_it_loses_nothing() -> None:
    async def main(read_first: Callable[[Wire], None]) -> None:
        wire = Wire()
        task = asyncio.create_task(anext(wire.merged))
        await rest()
        read_first(wire)
        task.cancel()
        await asyncio.wait([task])
        wire.read([updated("MSFT", 3, 1)])
        assert [(await anext(wire.merged)).seq for _ in range(3)] == [1, 2, 3]

    def both(wire: Wire) -> None:
        wire.read([updated("IBM", 1, 1), updated("AAPL", 2, 1)])

    asyncio.run(main(both))
