"""`BetaSink`: a strategy's returns to a sidecar, from a backtest or live.

Rule: the strategy comes first. Its thread hands an observation over and goes on;
everything that can wait or fail is done by a `Courier`, in the sink's own thread, on an
event loop of its own. An error there is counted and logged, and never reaches a node.

What is whose
-------------
The attributes of a `BetaSink` belong to the strategy's thread, those of its `Courier`
to the sink's. What crosses:

* Observations, through the `SinkBuffer`. Both sides count in its ``dropped``, but each
  reason only one of them: the courier ``rejected`` and ``undelivered``, the strategy's
  side the others.
* The names by slot, which the courier's `BarFrames` reads. The lists only grow, and a
  name is in them before anything of its slot is observed.
* Requests: `Courier.wake`, `Courier.drain` and `Courier.stop` are called in the
  courier's loop. The answer to a `drain` is the `Future` that went with it.
* What the courier says of itself: `Courier.is_connected` and `Courier.statistics` only
  read, and whatever they read has one writer.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from ...messages import ConfigError
from ..address import Address, default_address
from ..clock import Clock
from ..link import Backoff
from .bar_frames import BarFrames
from .metrics import SinkMetrics
from .sdk import ComputeContext
from .sink_buffer import Column, SinkBuffer
from .sink_courier import FOREVER, Courier
from .sink_statistics import Report, SinkState, SinkStatistics

logger = logging.getLogger(__name__)

CAPACITY: Final = 100_000
"""Observations that wait for a sidecar: some twenty bars of 5,000 symbols, 10 MB."""

LINGER_S: Final = 0.005
"""How long a bar may wait for its other symbols. qmtl needs about half a millisecond
per symbol; a bar that takes longer than this between two of them goes in parts."""

CLOSE_TIMEOUT_S: Final = 5.0


class BetaSink:
    """Sends the returns that a strategy's nodes see to a sidecar.

    Attach it with `beta_sink_node`, `UniversePrices` or the recipe. It starts with the
    first observation; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    address
        Where the sidecar listens, by default this user's.
    token
        The secret that the sidecar asks for, if it does.
    capacity
        Observations that may wait; above it the oldest are given up.
    linger_s
        How long a bar waits for its other symbols.
    clock
        Stamps the messages, for live use; by default a message carries its bar's own
        stamp, so that two runs send the same bytes.
    backoff
        Delays between attempts to reconnect.
    report
        Called in the sink's thread after each gap and change of state, and else at
        most ten times a second; by default it keeps the metrics (`metrics`).

    Raises
    ------
    ConfigError
        When the address is none, or there is no room for a single observation.
    """

    def __init__(
        self,
        address: str | Address | None = None,
        *,
        token: str = "",
        capacity: int = CAPACITY,
        linger_s: float = LINGER_S,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        report: Report | None = None,
    ) -> None:
        if isinstance(address, str):
            address = Address.parse(address)
        if capacity < 1:
            raise ConfigError([("capacity", f"must be at least 1, was {capacity}")])
        self.address = address or default_address()
        self.symbols: list[str] = []
        """The assets, by slot."""
        self.benchmarks: list[str] = []
        self._buffer = SinkBuffer(capacity, self._wake)
        self._courier = Courier(
            self._buffer,
            BarFrames(self.symbols, self.benchmarks, clock),
            self.address,
            token=token,
            linger_s=linger_s,
            backoff=backoff or Backoff(max_attempts=FOREVER),
            report=report or SinkMetrics().observe,
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the sidecar has welcomed us and answers."""
        return self._courier.is_connected

    def statistics(self) -> SinkStatistics:
        """Return what became of the observations so far."""
        statistics = self._courier.statistics()
        if self._is_closed:
            return statistics._replace(state=SinkState.CLOSED)
        if self._thread is None:
            return statistics._replace(state=SinkState.IDLE)
        return statistics

    def slot_of(self, symbol: str, *, is_benchmark: bool = False) -> int:
        """Return the slot of a symbol, a new one if it has none."""
        names = self.benchmarks if is_benchmark else self.symbols
        if symbol not in names:
            names.append(symbol)
            self._buffer.n_expected += 1
        slot = names.index(symbol)
        return -1 - slot if is_benchmark else slot

    def slots_of(self, symbols: tuple[str, ...]) -> int:
        """Give consecutive new slots to symbols that have none; return the first.

        Raises
        ------
        ConfigError
            When one of them has a slot already.
        """
        if taken := sorted(set(symbols) & set(self.symbols)):
            reason = f"{taken[0]!r} is already observed by another node"
            raise ConfigError([("symbols", reason)])
        first = len(self.symbols)
        self.symbols.extend(symbols)
        self._buffer.n_expected += 1  # they come as one column
        return first

    def observe(
        self, context: ComputeContext, ts: int, slot: int, value: float | Column
    ) -> None:
        """Take one observation, or a column of them; wait for nothing."""
        if self._is_closing:
            self._buffer.dropped["closed"] += 1
            return
        self._buffer.put(context, (ts, slot, value))

    def refuse(self, reason: str, error: Exception) -> None:
        """Count an observation that cannot be used; the first of its kind is logged."""
        if not self._buffer.dropped[reason]:
            logger.warning("sink.refused reason=%s error=%s", reason, error)
        self._buffer.dropped[reason] += 1

    def drain(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until the sidecar has taken in all that was observed so far.

        Not for a coroutine: there, ``await asyncio.to_thread(sink.drain)``.

        Returns
        -------
        bool
            Whether it has, within the time.
        """
        if self._loop is None or self._loop.is_closed():
            return not len(self._buffer)
        waiter: Future[bool] = Future()
        self._call(partial(self._courier.drain, waiter))
        try:
            return waiter.result(timeout_s)
        except FutureTimeoutError:
            return False

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what is left, for as long as this, and end the thread.

        What is not acknowledged by then is counted as ``undelivered``.
        """
        self.drain(timeout_s)
        self._is_closing = True
        if self._thread is not None:
            self._call(self._courier.stop)
            self._thread.join(CLOSE_TIMEOUT_S)
        self._is_closed = True

    def _wake(self) -> None:
        if self._thread is None:
            self._start()
        else:
            self._call(self._courier.wake)

    def _call(self, method: Callable[[], None]) -> None:
        if self._loop is not None:
            # the thread may have ended in this instant: then nobody waits
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(method)

    def _start(self) -> None:
        loop: Future[asyncio.AbstractEventLoop] = Future()

        def main() -> None:
            with asyncio.Runner() as runner:
                loop.set_result(runner.get_loop())
                runner.run(self._courier.run())

        self._thread = threading.Thread(target=main, name="beta-sink", daemon=True)
        self._thread.start()
        self._loop = loop.result()
