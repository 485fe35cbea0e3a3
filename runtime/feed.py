"""A feed: recorded messages to a sidecar, in the time in which they happened."""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import anyio

from ..messages import Role
from .client import connect
from .clock import LiveClock
from .observations import Observation
from .pacing import Pace
from .tls import ClientTls


class FeedSummary(NamedTuple):
    """What a feed sent."""

    n_bars: int
    n_messages: int
    n_acknowledged: int
    elapsed_s: float


async def feed(
    bars: Iterable[tuple[int, list[Observation]]],
    address: str,
    *,
    name: str = "feed",
    token: str | None = None,
    tls: ClientTls | None = None,
    speed: float = 1.0,
    on_bar: Callable[[int], None] | None = None,
) -> FeedSummary:
    """Send every bar when it is due, and wait until all is acknowledged.

    Parameters
    ----------
    bars
        Pairs of (stamp, messages), oldest first.
    address, token, tls
        As for `connect`.
    speed
        Multiple of real time; 0 = as fast as the sidecar takes it.
    on_bar
        Called with the stamp after each bar.

    Raises
    ------
    FeedDisconnectedError
        When the sidecar cannot be reached, at first or again.
    RejectedError
        When it does not let us in, or refuses what we send.
    """
    clock = LiveClock()
    started = clock.monotonic()
    n_bars = 0
    async with connect(
        address, name=name, role=Role.FEED, token=token, tls=tls
    ) as client:
        pace = Pace(clock, speed)
        for ts_event, messages in bars:
            wait_s = pace.wait_s(ts_event)
            if wait_s > 0:
                await anyio.sleep(wait_s)
            await client.publish(messages)
            n_bars += 1
            if on_bar is not None:
                on_bar(ts_event)
        await client.flush()
        return FeedSummary(
            n_bars=n_bars,
            n_messages=client.n_published,
            n_acknowledged=client.n_acknowledged,
            elapsed_s=clock.monotonic() - started,
        )


def run_feed(
    bars: Iterable[tuple[int, list[Observation]]],
    address: str,
    *,
    name: str = "feed",
    token: str | None = None,
    tls: ClientTls | None = None,
    speed: float = 1.0,
    on_bar: Callable[[int], None] | None = None,
) -> FeedSummary:
    """Run `feed` in its own event loop."""

    async def main() -> FeedSummary:
        return await feed(
            bars,
            address,
            name=name,
            token=token,
            tls=tls,
            speed=speed,
            on_bar=on_bar,
        )

    return anyio.run(main, backend_options={"use_uvloop": os.name != "nt"})
