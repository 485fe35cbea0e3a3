"""A basket hedged by its betas: one qmtl strategy for backtest and live.

Each symbol is held long and hedged with the benchmark by the beta that was known before
the bar. ``scripts/qmtl_backtest.py`` runs it over a bar file, and live against a
sidecar.
"""
# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# qmtl has no types

from collections.abc import Callable, Mapping
from typing import Any

from qmtl.runtime.sdk import CacheView, HistoryProvider, Strategy, StreamInput

from beta_factory import MarketBetaConfig
from beta_factory.qmtl import (
    BetaSink,
    GapTolerantNode,
    MarketBetaFeed,
    ReturnNode,
    make_market_beta_feed,
    recent,
)


class HedgedBasket(Strategy):  # type: ignore[misc,unused-ignore]
    """Holds every symbol, hedged bar by bar.

    Parameters
    ----------
    symbols, benchmark
        The universe.
    interval
        Bar length in seconds.
    period
        Bars that a backtest replays.
    price_history
        For a backtest: where prices come from.
    sink
        For live: the betas come back from a sidecar. Without a sink and without
        ``beta_history`` they are computed in the DAG.
    beta_history
        For a backtest with recorded betas.
    model
        How betas are estimated in the DAG.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        benchmark: str,
        *,
        interval: int,
        period: int = 2,
        price_history: HistoryProvider | None = None,
        sink: BetaSink | None = None,
        beta_history: HistoryProvider | None = None,
        model: MarketBetaConfig | None = None,
    ) -> None:
        super().__init__()
        self.prices: dict[str, Any] = {
            symbol: StreamInput(
                interval=interval,
                period=period,
                config={"symbol": symbol},
                history_provider=price_history,
            )
            for symbol in (benchmark, *symbols)
        }
        self.feed: MarketBetaFeed = make_market_beta_feed(
            self.prices,
            benchmark,
            sink=sink,
            config=model,
            period=period,
            beta_history=beta_history,
        )
        self.hedged: dict[str, dict[int, tuple[float, float, float]]] = {}
        """By symbol and stamp: the bar's return, its hedged return, the beta used."""

    def setup(self) -> None:
        """Add the prices, the betas, and a hedge for each symbol."""
        self.add_nodes([*self.prices.values(), self.feed])
        for symbol in self.feed.betas:
            self.add_nodes(self._hedge(symbol))

    def _hedge(self, symbol: str) -> GapTolerantNode:
        asset = self.feed.returns[symbol]
        market = self.feed.benchmark_return
        beta = self.feed.betas[symbol]
        if market is None or asset.interval is None:
            raise ValueError("the feed has no benchmark")
        return GapTolerantNode(
            input=[market, beta, asset],
            compute_fn=hedge(self.hedged.setdefault(symbol, {}), asset, market, beta),
            name=f"hedge_{symbol}",
            interval=asset.interval,
            period=2,
            config={"role": "hedge", "symbol": symbol},
        )


def hedge(
    bars: dict[int, tuple[float, float, float]],
    asset: ReturnNode,
    market: ReturnNode,
    beta: Any,  # noqa: ANN401 - an input or a node
) -> Callable[[CacheView], Mapping[str, float] | None]:
    """Return a compute function that hedges a bar once its two returns are there."""

    def compute(view: CacheView) -> Mapping[str, float] | None:
        own_rows, market_rows = recent(view, asset), recent(view, market)
        if not own_rows or not market_rows or own_rows[0][0] != market_rows[0][0]:
            return None
        ts, own = own_rows[0]
        _, benchmark = market_rows[0]
        # The beta of this very bar contains the return that it would hedge.
        known = [row for row_ts, row in recent(view, beta, 2) if row_ts < ts]
        if ts in bars or not known or known[-1]["beta"] is None:
            return None
        slope: float = known[-1]["beta"]
        raw: float = own["period_return"]
        bars[ts] = (raw, raw - slope * benchmark["period_return"], slope)
        return {"ts": ts, "weight": 1.0, "hedge": -slope}

    return compute
