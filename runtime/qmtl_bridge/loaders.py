"""The data that a strategy's return nodes see, as arrays for `compute_market_beta`.

Rule: the same prices through the same chain (`chain`), so a backtest's betas and those
of the arrays are the same numbers. qmtl keeps the first row of a bar, and so do these.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...actors import BetaSeries, MarketBetaConfig, compute_market_beta
from ...messages import ConfigError, InvalidReturnsError
from .chain import ReturnChain, check_kind, longest_gap_s
from .returns import Overnight, ReturnNode
from .schema import NS_PER_S, ReturnKind, read_price
from .sdk import Node, StreamInput

Stamps = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReturnArrays:
    """One symbol's returns."""

    symbol: str
    timestamps: Stamps
    """Nanoseconds since the epoch, increasing. Shape (n_bars,)."""
    period_returns: Values
    """NaN = no return for this bar. Shape (n_bars,)."""

    def on(self, timestamps: Stamps) -> "ReturnArrays":
        """Return the same returns on another grid of bars.

        Parameters
        ----------
        timestamps
            The grid, increasing; mostly the benchmark's. Bars that are not in it are
            left out, as an actor leaves out what has no pair.
        """
        values = np.full(len(timestamps), np.nan)
        places = np.searchsorted(timestamps, self.timestamps)
        inside = places < len(timestamps)
        inside[inside] = timestamps[places[inside]] == self.timestamps[inside]
        values[places[inside]] = self.period_returns[inside]
        return ReturnArrays(self.symbol, timestamps, values)


@dataclass(frozen=True, slots=True)
class AlignedReturns:
    """Returns of assets on their benchmark's grid: what `compute_market_beta` takes."""

    asset_returns_by_symbol: dict[str, Values]
    benchmark_returns: Values
    timestamps: Stamps

    def market_betas(
        self, config: MarketBetaConfig | None = None
    ) -> dict[str, BetaSeries]:
        """Return `compute_market_beta` of these returns."""
        return compute_market_beta(
            self.asset_returns_by_symbol,
            self.benchmark_returns,
            config,
            self.timestamps,
        )


async def load_returns(
    stream: Node,
    start: int,
    end: int,
    *,
    symbol: str | None = None,
    field: str = "close",
    kind: ReturnKind = "simple",
    overnight: Overnight = "include",
) -> ReturnArrays:
    """Load an asset's returns from its price input's history.

    Parameters
    ----------
    stream
        An `asset_return_node`, whose parameters then hold; or a price `StreamInput`.
        Its ``history_provider`` is asked: any qmtl `HistoryProvider`.
    start, end
        Seconds since the epoch, ``[start, end)``. The first price in it has no return.
    symbol
        Whose returns; by default the ``symbol`` in the input's ``config``.
    field, kind, overnight
        As for `asset_return_node`.

    Raises
    ------
    ConfigError
        When there is no provider or no symbol, or a parameter cannot be used.
    InvalidReturnsError
        When the history has no column ``ts``.
    PayloadError
        When a row has no such field, or no number there.
    """
    if isinstance(stream, ReturnNode):
        symbol, field, kind = stream.symbol, stream.field, stream.kind
        overnight, stream = stream.overnight, stream.price
    check_kind(kind)
    symbol = symbol or stream.config.get("symbol")
    if symbol is None:
        raise ConfigError([("symbol", "name it, or put it into the input's config")])
    provider = stream.history_provider if isinstance(stream, StreamInput) else None
    if provider is None or stream.interval is None:
        raise ConfigError([(symbol, "its price input has no history_provider")])
    interval = stream.interval
    fetched = await provider.fetch(
        start, end, node_id=stream.node_id, interval=interval
    )
    frame = getattr(fetched, "frame", fetched)  # a seamless provider wraps it
    if "ts" not in frame.columns:
        raise InvalidReturnsError(symbol, f"history has no 'ts': {frame.columns}")
    chain = ReturnChain(kind, longest_gap_s(overnight, interval))
    stamps: list[int] = []
    values: list[float] = []
    for row in frame.sort("ts", maintain_order=True).iter_rows(named=True):
        ts = int(row["ts"])
        bar = ts - ts % interval
        price = read_price(row, field, f"price of {symbol} at {ts}")
        value = chain.advance(bar, price)
        if value is not None:
            stamps.append(bar * NS_PER_S)
            values.append(value)
    return ReturnArrays(
        symbol, np.array(stamps, dtype=np.int64), np.array(values, dtype=np.float64)
    )


async def load_benchmark_returns(
    stream: Node,
    start: int,
    end: int,
    *,
    symbol: str | None = None,
    field: str = "close",
    kind: ReturnKind = "simple",
    overnight: Overnight = "include",
) -> ReturnArrays:
    """Load a benchmark's returns; its timestamps are the grid. As `load_returns`."""
    return await load_returns(
        stream,
        start,
        end,
        symbol=symbol,
        field=field,
        kind=kind,
        overnight=overnight,
    )


async def load_aligned_returns(
    assets: Mapping[str, Node], benchmark: Node, start: int, end: int
) -> AlignedReturns:
    """Load the returns of many assets, on their benchmark's grid.

    Parameters
    ----------
    assets
        By symbol: what `load_returns` takes.
    benchmark
        What `load_benchmark_returns` takes.
    start, end
        Seconds since the epoch, ``[start, end)``.

    Raises
    ------
    ConfigError, InvalidReturnsError, PayloadError
        As `load_returns`.
    """
    market = await load_benchmark_returns(benchmark, start, end)
    columns: dict[str, Values] = {}
    for symbol, stream in assets.items():
        asset = await load_returns(stream, start, end, symbol=symbol)
        columns[symbol] = asset.on(market.timestamps).period_returns
    return AlignedReturns(columns, market.period_returns, market.timestamps)
