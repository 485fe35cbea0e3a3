"""A whole universe wired in one call: prices, returns, sink, betas.

Rule: the price inputs stay the strategy's own; add them before the node set. Everything
behind them is in it, the benchmark first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...actors import MarketBetaConfig
from ...messages import ConfigError
from .inputs import BetaInput
from .market_beta import MarketBetaNode, market_beta_node
from .returns import Overnight, ReturnNode, asset_return_node, benchmark_return_node
from .sdk import (
    HistoryProvider,
    Node,
    NodeSet,
    NodeSetAdapter,
    NodeSetDescriptor,
    PortSpec,
    nodeset_recipe,
)
from .sink import BetaSink
from .sink_node import beta_sink_node

NAME = "market_beta_feed"


@dataclass(frozen=True)
class MarketBetaFeed(NodeSet):
    """What `make_market_beta_feed` wired; ``strategy.add_nodes`` takes it as it is."""

    benchmark_return: ReturnNode | None = None
    returns: dict[str, ReturnNode] = field(default_factory=dict[str, ReturnNode])
    """By symbol."""
    betas: "dict[str, BetaInput | MarketBetaNode]" = field(
        default_factory=dict[str, BetaInput | MarketBetaNode]
    )
    """By symbol: what a strategy's nodes read, from a sidecar or the DAG."""

    @property
    def beta_inputs(self) -> tuple[BetaInput, ...]:
        """The inputs that a `BetaFeed` must feed."""
        betas = self.betas.values()
        return tuple(node for node in betas if isinstance(node, BetaInput))


@nodeset_recipe(NAME)
def make_market_beta_feed(
    prices: Mapping[str, Node],
    benchmark: str,
    *,
    sink: BetaSink | None = None,
    factor: str = "market",
    config: MarketBetaConfig | None = None,
    field: str = "close",
    overnight: Overnight = "include",
    period: int = 1,
    beta_history: HistoryProvider | None = None,
) -> MarketBetaFeed:
    """Wire the betas of a universe.

    Parameters
    ----------
    prices
        The price input of each symbol, the benchmark's among them.
    benchmark
        Which of them.
    sink
        Where the returns go. With a sink, or with ``beta_history``, betas come back
        through a `BetaInput` for each symbol; without either, `market_beta_node`
        computes them in the DAG.
    factor
        The name of the model.
    config
        How betas are estimated in the DAG, and by its ``returns`` which returns are
        made of the prices; a sidecar has its own, which must be the same.
    field, overnight
        As for `asset_return_node`.
    period
        Bars that each `BetaInput` keeps, and in a backtest replays.
    beta_history
        For a backtest: recorded betas.

    Raises
    ------
    ConfigError
        When the benchmark has no price input, or nothing else has.
    """
    config = config or MarketBetaConfig()
    if benchmark not in prices:
        raise ConfigError([("benchmark", f"{benchmark!r} has no price input")])
    assets = [symbol for symbol in prices if symbol != benchmark]
    if not assets:
        raise ConfigError([("prices", f"hold no symbol besides {benchmark!r}")])
    kind = config.returns
    market = benchmark_return_node(
        prices[benchmark],
        symbol=benchmark,
        field=field,
        kind=kind,
        overnight=overnight,
    )
    nodes: list[Node] = [market]
    if sink is not None:
        nodes.append(beta_sink_node(market, sink))
    returns: dict[str, ReturnNode] = {}
    betas: dict[str, BetaInput | MarketBetaNode] = {}
    for symbol in assets:
        asset = asset_return_node(
            prices[symbol], symbol=symbol, field=field, kind=kind, overnight=overnight
        )
        returns[symbol] = asset
        nodes.append(asset)
        if sink is not None:
            nodes.append(beta_sink_node(asset, sink))
        beta: BetaInput | MarketBetaNode
        if sink is None and beta_history is None:
            beta = market_beta_node(asset, market, config, factor=factor)
        else:
            interval = asset.interval
            if interval is None:
                raise ConfigError([(symbol, "its price input has no interval")])
            beta = BetaInput(
                symbol,
                factor,
                interval=interval,
                period=period,
                history_provider=beta_history,
            )
        betas[symbol] = beta
        nodes.append(beta)
    return MarketBetaFeed(
        tuple(nodes),
        name=NAME,
        modes=("simulate", "paper", "live"),
        descriptor=_descriptor(benchmark, assets),
        benchmark_return=market,
        returns=returns,
        betas=betas,
    )


class MarketBetaFeedAdapter(NodeSetAdapter):
    """`make_market_beta_feed` behind ports, one for the prices of each symbol.

    Parameters
    ----------
    symbols
        The assets.
    benchmark
        Their benchmark.
    sink, factor, config, period
        As for `make_market_beta_feed`.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        benchmark: str,
        *,
        sink: BetaSink | None = None,
        factor: str = "market",
        config: MarketBetaConfig | None = None,
        period: int = 1,
    ) -> None:
        self.descriptor = _descriptor(benchmark, symbols)
        self._symbols = symbols
        self._benchmark = benchmark
        self._sink = sink
        self._factor = factor
        self._config = config
        self._period = period

    def build(
        self,
        inputs: dict[str, Node],
        *,
        world_id: str,
        options: object = None,  # noqa: ARG002 - of orders, which there are none of
    ) -> MarketBetaFeed:
        """Wire the price inputs given by port, and mark the nodes with the world.

        Raises
        ------
        ValueError
            When a symbol's input is missing.
        """
        self.validate_inputs(inputs)
        feed = make_market_beta_feed(
            {name: inputs[name] for name in (self._benchmark, *self._symbols)},
            self._benchmark,
            sink=self._sink,
            factor=self._factor,
            config=self._config,
            period=self._period,
        )
        for node in feed:
            node.world_id = world_id
        return feed


def _descriptor(
    benchmark: str, symbols: "list[str] | tuple[str, ...]"
) -> NodeSetDescriptor:
    return NodeSetDescriptor(
        name=NAME,
        inputs=(
            PortSpec(benchmark, required=True, description="prices of the benchmark"),
            *(
                PortSpec(symbol, required=True, description=f"prices of {symbol}")
                for symbol in symbols
            ),
        ),
        outputs=tuple(
            PortSpec(f"beta_{symbol}", required=True, description="beta payloads")
            for symbol in symbols
        ),
    )
