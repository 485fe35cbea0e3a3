"""Our own side without sockets: bytes in, bytes out, as a connection's turn does it."""

import time
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from beta_factory import BetaFactory, MarketBetaConfig, SymbolsDeclared
from beta_factory.actors import BetaColumns, BetaRows
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import Encoding, Message, decode_payload, encode
from beta_factory.runtime.clock import LiveClock
from beta_factory.runtime.encoded import EncodedUpdates
from beta_factory.runtime.frame_buffers import FrameBuffers
from beta_factory.runtime.framing import frame
from beta_factory.runtime.group_reader import GroupReader
from beta_factory.runtime.groups import ReturnGroup, decode_pieces
from beta_factory.runtime.system import System

from .harness import check
from .market import MIN_OBSERVATIONS, WINDOW, Market, names, reads

Floats = NDArray[np.float64]


class Pipeline:
    """Decode, route, pair, compute, encode; and the market that it is fed with."""

    def __init__(
        self,
        n_symbols: int,
        encoding: Encoding = Encoding.COLUMNS,
        *,
        window: int = WINDOW,
        missing: float = 0.0,
        betas: tuple[float, float] = (1.2, 1.2),
        is_filled: bool = True,
    ) -> None:
        self.symbols = names(n_symbols)
        self.market = Market(self.symbols, window, missing, betas)
        self.factory = BetaFactory(
            self.symbols,
            benchmark="SPY",
            config=MarketBetaConfig(window, min(window, MIN_OBSERVATIONS)),
        )
        self.n_bytes = 0
        self.on_turn: Callable[[list[BetaColumns | BetaRows]], object] | None = None
        """Also given each turn's updates."""
        self._encoding = encoding
        self._reader = GroupReader()
        self._buffers = FrameBuffers()
        self._tables = SymbolTables(self.factory.row_of)
        self.system = System(
            self.factory,
            LiveClock(),
            call_later=lambda _delay, _callback: None,
            call_soon=lambda _callback: None,
            on_updates=self._publish,
        )
        self.system.start()
        self.turn(frame(encode(SymbolsDeclared(table=1, symbols=self.symbols))))
        for _ in range(window + 10 if is_filled else 0):
            self.market.advance()
            self.turn(self.market.benchmark() + self.market.columns())

    def turn(self, data: bytes) -> None:
        """Run one turn on what one read brought."""
        payload = self._reader.whole(data)
        lone = None if payload is None else decode_payload(payload)
        if (
            lone is None
            or len(lone) > 1
            or not self.system.take_lone(lone[0], self._tables)
        ):
            self._take_all(data, lone)
        self.system.end_turn()

    def _take_all(self, data: bytes, decoded: list[Message] | None) -> None:
        messages: list[Message | ReturnGroup] = []
        if decoded is None:
            decode_pieces(self._reader.feed_groups(data), messages)
        else:
            messages += decoded
        taken = self.system.take_all(messages, self._tables)
        for message in messages[taken:]:  # a declared table
            self.system.take(message, self._tables)  # type: ignore[arg-type]

    def timed(self, data: Iterable[bytes]) -> float:
        """Return the nanoseconds that some reads take."""
        started = time.perf_counter_ns()
        for read in data:
            self.turn(read)
        return float(time.perf_counter_ns() - started)

    def check(self, name: str = "ours") -> None:
        """Compare the newest betas with numpy's; `WrongAnswerError` if they differ."""
        columns = self.factory.publishers[0].last_values(np.arange(len(self.symbols)))
        betas = np.full(len(self.symbols), np.nan)
        for part in columns:
            betas[part.rows] = part.numbers[0]
        # A symbol that misses the newest bar has last been computed for an older one.
        current = ~np.isnan(self.market.returns)
        check(name, betas[current], self.market.betas()[current])

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            encoded = EncodedUpdates(updates, 0, self._buffers)
            self.n_bytes += len(encoded.encoded(self._encoding, None))
        if self.on_turn is not None:
            self.on_turn(turn)


def fan_out(pipeline: Pipeline, n_bars: int, n_before: int = 0) -> list[float]:
    """Return ns per bar from the benchmark's frame to one frame of all betas.

    Parameters
    ----------
    pipeline
        Whose market goes on.
    n_bars
        How many are timed.
    n_before
        How many come before them, as a contender that has just filled its window has
        them, too: after another's burst the first bars find nothing in the caches.
    """
    market = pipeline.market
    spent: list[float] = []
    for _ in range(n_before + n_bars):
        market.advance()
        pipeline.turn(market.columns())
        spent.append(pipeline.timed([market.benchmark()]))
    pipeline.check()
    return spent[n_before:]


def columns(pipeline: Pipeline, n_bars: int, n_before: int = 0) -> list[float]:
    """Return ns per bar of columnar frames in and out, benchmark first.

    Parameters
    ----------
    pipeline, n_bars, n_before
        As for `fan_out`.
    """
    market = pipeline.market
    spent: list[float] = []
    for _ in range(n_before + n_bars):
        market.advance()
        spent.append(pipeline.timed([market.benchmark() + market.columns()]))
    pipeline.check()
    return spent[n_before:]


def singles(pipeline: Pipeline, n_bars: int, *, is_checked: bool = True) -> list[float]:
    """Return ns per bar of single-message frames, benchmark first."""
    market = pipeline.market
    spent: list[float] = []
    for _ in range(n_bars):
        market.advance()
        stream = market.benchmark() + b"".join(market.singles())
        spent.append(pipeline.timed(reads(stream)))
    if is_checked:
        pipeline.check()
    return spent


def without_arithmetic(pipeline: Pipeline) -> None:
    """Take the windows out of a pipeline: cells are written, nothing is computed."""
    (cohort,) = pipeline.factory.cohorts
    slab = cohort._slab  # pyright: ignore[reportPrivateUsage]
    n, numbers = (array.copy() for array in slab.estimate())

    def estimate(
        rows: NDArray[np.intp] | None = None, *, full: bool = True
    ) -> tuple[Floats, Floats]:
        del full
        k = len(n) if rows is None else len(rows)
        return n[:k], numbers[:, :k]

    def nothing(*_: object) -> None:
        pass

    for name, replacement in (
        ("add", nothing),
        ("fill", nothing),
        ("estimate", estimate),
    ):
        setattr(slab, name, replacement)
