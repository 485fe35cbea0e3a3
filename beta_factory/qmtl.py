"""Betas for qmtl strategies; see docs/qmtl.md.

Importing it without qmtl fails with one line that says how to get it.
"""

from .runtime.qmtl_bridge.backtest import isolated_qmtl, run_backtest
from .runtime.qmtl_bridge.beta_feed import BetaFeed, Tick
from .runtime.qmtl_bridge.config import load_qmtl_config
from .runtime.qmtl_bridge.feature_store import SQLiteFeatureStore, feature_plane
from .runtime.qmtl_bridge.gaps import GapTolerantNode
from .runtime.qmtl_bridge.history import BetaHistory, FrameHistory
from .runtime.qmtl_bridge.inputs import BetaInput, UniverseBetas
from .runtime.qmtl_bridge.live import LiveSummary, run_live
from .runtime.qmtl_bridge.loaders import (
    AlignedReturns,
    ReturnArrays,
    load_aligned_returns,
    load_benchmark_returns,
    load_returns,
)
from .runtime.qmtl_bridge.market_beta import MarketBetaNode, market_beta_node
from .runtime.qmtl_bridge.padding import PaddedHistory
from .runtime.qmtl_bridge.recent import recent
from .runtime.qmtl_bridge.recipe import (
    MarketBetaFeed,
    MarketBetaFeedAdapter,
    make_market_beta_feed,
)
from .runtime.qmtl_bridge.returns import (
    ReturnNode,
    asset_return_node,
    benchmark_return_node,
)
from .runtime.qmtl_bridge.schema import (
    BetaPayload,
    ReturnPayload,
    beta_payload,
    read_beta,
    read_return,
)
from .runtime.qmtl_bridge.sink import BetaSink
from .runtime.qmtl_bridge.sink_node import beta_sink_node
from .runtime.qmtl_bridge.sink_statistics import SinkState, SinkStatistics
from .runtime.qmtl_bridge.universe import UniversePrices

__all__ = [
    "AlignedReturns",
    "BetaFeed",
    "BetaHistory",
    "BetaInput",
    "BetaPayload",
    "BetaSink",
    "FrameHistory",
    "GapTolerantNode",
    "LiveSummary",
    "MarketBetaFeed",
    "MarketBetaFeedAdapter",
    "MarketBetaNode",
    "PaddedHistory",
    "ReturnArrays",
    "ReturnNode",
    "ReturnPayload",
    "SQLiteFeatureStore",
    "SinkState",
    "SinkStatistics",
    "Tick",
    "UniverseBetas",
    "UniversePrices",
    "asset_return_node",
    "benchmark_return_node",
    "beta_payload",
    "beta_sink_node",
    "feature_plane",
    "isolated_qmtl",
    "load_aligned_returns",
    "load_benchmark_returns",
    "load_qmtl_config",
    "load_returns",
    "make_market_beta_feed",
    "market_beta_node",
    "read_beta",
    "read_return",
    "recent",
    "run_backtest",
    "run_live",
]
