"""The estimator as a node: betas inside the DAG, for backtests.

qmtl replays history in one synchronous loop, where nobody outside can answer in time.
So here the actors run inside the node: the same `BetaFactory` that a sidecar runs, one
symbol wide, fed with the messages that `BetaSink` would send.

The node learns of a bar in `feed`, not from its view: a view shows a window, in which a
late bar is last and a corrected one stands twice. What the engine makes of both is
decided by ``allowed_lateness``.
"""

import msgspec

from ...actors import BetaFactory, Factor, MarketBetaConfig
from ...messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    ConfigError,
    ReturnObserved,
)
from .gaps import GapTolerantNode
from .returns import ReturnNode
from .schema import NS_PER_S, BetaPayload, beta_payload, read_return
from .sdk import CacheView, ComputeContext, Payload


class MarketBetaNode(GapTolerantNode):
    """Betas of one asset to one benchmark; made by `market_beta_node`."""

    def __init__(
        self,
        asset_return: ReturnNode,
        benchmark_return: ReturnNode,
        *,
        config: MarketBetaConfig,
        factor: str,
    ) -> None:
        symbol, benchmark = asset_return.symbol, benchmark_return.symbol
        if not benchmark_return.is_benchmark:
            reason = "must come from benchmark_return_node"
            raise ConfigError([("benchmark_return", reason)])
        if asset_return.interval != benchmark_return.interval:
            reason = (
                f"must be the asset's {asset_return.interval} s, "
                f"was {benchmark_return.interval} s"
            )
            raise ConfigError([("benchmark_return.interval", reason)])
        if asset_return.kind != benchmark_return.kind:
            reason = f"must be {asset_return.kind}, was {benchmark_return.kind}"
            raise ConfigError([("benchmark_return.kind", reason)])
        if asset_return.kind != config.returns:
            reason = f"must be the returns' {asset_return.kind}, was {config.returns}"
            raise ConfigError([("config.returns", reason)])
        self.symbol = symbol
        self.benchmark = benchmark
        self.market_config = config
        self._benchmark_id = benchmark_return.node_id
        self._updates: list[BetaUpdated] = []
        self._factor = factor
        self._factory = self._new_factory()
        super().__init__(
            input=[benchmark_return, asset_return],
            compute_fn=self._compute,
            name=f"market_beta_{symbol}",
            interval=asset_return.interval,
            period=1,
            tags=["market_beta"],
            config={
                "role": "market_beta",
                "symbol": symbol,
                "benchmark": benchmark,
                "factor": factor,
                "model": msgspec.to_builtins(config),
                "enable_feature_artifacts": True,
            },
        )

    def apply_compute_context(self, context: ComputeContext) -> None:
        """Move to another world or domain: the window belongs to the old one."""
        if context != self.compute_context:
            self._factory = self._new_factory()
            self._updates.clear()
        super().apply_compute_context(context)

    def feed(
        self,
        upstream_id: str,
        interval: int,
        timestamp: int,
        payload: Payload,
        *,
        on_missing: str = "skip",
    ) -> bool:
        """Take one return; return whether a beta follows from it.

        Raises
        ------
        PayloadError
            When it is no return payload.
        """
        read = read_return(payload)
        super().feed(upstream_id, interval, timestamp, payload, on_missing=on_missing)
        ts_event = read.ts * NS_PER_S
        message: ReturnObserved | BenchmarkReturnObserved
        if upstream_id == self._benchmark_id:
            message = BenchmarkReturnObserved(
                benchmark=self.benchmark,
                ts_event=ts_event,
                period_return=read.period_return,
                ts_init=ts_event,
            )
        else:
            message = ReturnObserved(
                symbol=self.symbol,
                ts_event=ts_event,
                period_return=read.period_return,
                ts_init=ts_event,
            )
        self._updates = self._factory.receive(message)
        return bool(self._updates)

    def _compute(self, view: CacheView) -> BetaPayload | None:  # noqa: ARG002 - qmtl calls it so
        if not self._updates:
            return None
        return beta_payload(self._updates[-1])

    def _new_factory(self) -> BetaFactory:
        return BetaFactory(
            [self.symbol],
            factors=[Factor(self.benchmark, self._factor, self.market_config)],
        )


def market_beta_node(
    asset_return: ReturnNode,
    benchmark_return: ReturnNode,
    config: MarketBetaConfig | None = None,
    *,
    factor: str = "market",
) -> MarketBetaNode:
    """Return a node that estimates a market beta inside the DAG.

    Parameters
    ----------
    asset_return, benchmark_return
        From `asset_return_node` and `benchmark_return_node`, of one interval and kind.
    config
        How it is estimated; ``MarketBetaConfig()`` by default. It enters the node's id.
    factor
        The ``factor`` of its payloads.

    Returns
    -------
    MarketBetaNode
        Its results are beta payloads (`schema`), one per bar of the asset.

    Raises
    ------
    ConfigError
        When the two returns cannot be paired.
    PayloadError
        From the node, when it is fed what is no return payload.
    """
    return MarketBetaNode(
        asset_return,
        benchmark_return,
        config=config or MarketBetaConfig(),
        factor=factor,
    )
