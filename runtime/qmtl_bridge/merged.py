"""Several subscriptions of one client, iterated over as one.

Rule: an update is handed on only when nothing that came before it waits. A client
delivers a read to all of its subscriptions before anybody else runs, so the oldest of
what they hold is the oldest that there is.
"""

import asyncio
from collections.abc import Sequence
from typing import Self

from ...messages import BetaUpdated
from ..subscription import Subscription


class Merged:
    """Iterates over subscriptions by bar, in it by factor, and in that by ``seq``.

    It ends, or raises, when one of them does and nothing waits.

    Parameters
    ----------
    subscriptions
        At least one, whose patterns do not overlap.
    """

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._subscriptions = tuple(subscriptions)
        self._heads: dict[Subscription, BetaUpdated] = {}
        self._tasks: dict[asyncio.Task[BetaUpdated], Subscription] = {}
        """Who waits; one that is done holds what it waited for."""

    @property
    def pending(self) -> bool:
        """Whether there is an update that `__anext__` would return at once."""
        return (
            bool(self._heads)
            or any(each.pending for each in self._subscriptions)
            or any(task.done() for task in self._tasks)
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BetaUpdated:
        """Return the oldest update that waits, or the next one to come.

        Cancelling it loses none.

        Raises
        ------
        StopAsyncIteration
            When one of the subscriptions has ended in order.
        BetaFactoryError
            What ended one of them, as `Subscription.__anext__` raises it.
        """
        heads = self._heads
        if not self.pending:
            await self._wait()
        for each in self._subscriptions:
            if each not in heads and each.pending:
                heads[each] = await anext(each)  # it is there: nobody else runs
        oldest = min(heads, key=lambda each: _place(heads[each]))
        return heads.pop(oldest)

    async def _wait(self) -> None:
        # Until any of them has something.
        tasks = self._tasks = {
            asyncio.create_task(_next(each)): each for each in self._subscriptions
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            done = {task: each for task, each in tasks.items() if not task.cancelled()}
            for task, each in done.items():
                if task.exception() is None:
                    self._heads[each] = task.result()
            self._tasks = {}
        if not self._heads:
            for task in done:
                task.result()  # raises how one of them ended


def _place(update: BetaUpdated) -> tuple[int, str, int]:
    # numbers of two factors have nothing to do with each other: by these alone the rows
    # of their bars would alternate
    return update.ts_event, update.factor, update.seq


async def _next(subscription: Subscription) -> BetaUpdated:
    return await anext(subscription)
