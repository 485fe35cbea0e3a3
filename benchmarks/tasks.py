"""The same product as one asyncio task and queue per actor: what ours is measured by.

Not a straw man: the messages and their codec are ours, the regression is a scalar
update of running sums (fewer promises than ours, and cheaper), and nothing is awaited
that need not be. What it pays for is a task's wake and Python's arithmetic per symbol.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf, nan, sqrt

from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Reason,
    ReturnObserved,
    Status,
)


class SlidingRegression:
    """One asset's running sums over a window of pairs."""

    def __init__(self, window: int) -> None:
        self.pairs: deque[tuple[float, float]] = deque()
        self._window = window
        self._sums = [0.0] * 5

    def add(
        self, x: float, y: float
    ) -> tuple[float, float, float, float, float, float]:
        """Take a pair; return the six numbers in the order of `BetaUpdated`."""
        sx, sy, sxx, sxy, syy = self._sums
        self.pairs.append((x, y))
        if len(self.pairs) > self._window:
            u, v = self.pairs.popleft()
            sx, sy, sxx = sx - u, sy - v, sxx - u * u
            sxy, syy = sxy - u * v, syy - v * v
        sx, sy, sxx = sx + x, sy + y, sxx + x * x
        sxy, syy = sxy + x * y, syy + y * y
        self._sums = [sx, sy, sxx, sxy, syy]
        n = len(self.pairs)
        vxx, vxy, vyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
        if n < 3 or vxx <= 0.0:  # noqa: PLR2004 - two degrees of freedom
            return nan, nan, nan, nan, nan, nan
        beta = vxy / vxx
        residual = max(vyy - beta * vxy, 0.0) / (n - 2)
        error = sqrt(residual / vxx)
        return (
            beta,
            (sy - beta * sx) / n,
            error,
            beta / error if error else inf,
            beta * vxy / vyy if vyy else nan,
            sqrt(residual),
        )


class TaskFactory:
    """A task and a queue for each symbol.

    Parameters
    ----------
    symbols, window
        The universe, and how far each looks back.
    publish
        Takes each update.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        window: int,
        publish: Callable[[BetaUpdated], None],
    ) -> None:
        self.queues: dict[str, asyncio.Queue[ReturnObserved | BenchmarkReturnObserved]]
        self.queues = {symbol: asyncio.Queue() for symbol in symbols}
        self.regressions = {symbol: SlidingRegression(window) for symbol in symbols}
        self.betas = dict.fromkeys(symbols, nan)
        self._publish = publish
        self._seq = 0
        self._tasks = [asyncio.create_task(self._run(symbol)) for symbol in symbols]

    def take(self, message: ReturnObserved | BenchmarkReturnObserved) -> None:
        """Hand a message to its actor, or to all of them."""
        if type(message) is ReturnObserved:
            self.queues[message.symbol].put_nowait(message)
            return
        for queue in self.queues.values():
            queue.put_nowait(message)

    async def close(self) -> None:
        """End every task."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, symbol: str) -> None:
        get = self.queues[symbol].get
        add = self.regressions[symbol].add
        # Either side of a pair may come first.
        x: dict[int, float] = {}
        y: dict[int, float] = {}
        while True:
            message = await get()
            ts_event = message.ts_event
            if type(message) is ReturnObserved:
                y[ts_event] = message.period_return
            else:
                x[ts_event] = message.period_return
            if ts_event in x and ts_event in y:
                numbers = add(x.pop(ts_event), y.pop(ts_event))
                self._update(symbol, message, numbers)

    def _update(
        self,
        symbol: str,
        cause: ReturnObserved | BenchmarkReturnObserved,
        numbers: tuple[float, float, float, float, float, float],
    ) -> None:
        self._seq += 1
        self.betas[symbol] = numbers[0]
        beta, alpha, std_error, t_stat, r_squared, residual_std = numbers
        self._publish(
            BetaUpdated(
                factor="market",
                symbol=symbol,
                benchmark="SPY",
                ts_event=cause.ts_event,
                beta=beta,
                alpha=alpha,
                std_error=std_error,
                t_stat=t_stat,
                r_squared=r_squared,
                residual_std=residual_std,
                n_obs=len(self.regressions[symbol].pairs),
                window_start=0,
                status=Status.OK,
                reason=Reason.NONE,
                revision=0,
                seq=self._seq,
                ts_init=cause.ts_init,
            )
        )
