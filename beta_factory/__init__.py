"""Live rolling betas of many symbols, each with its uncertainty and its status.

Everything a strategy needs is importable from here; see README.md for the three ways
to use it.
"""

from importlib.metadata import version
from typing import Final

from .actors import (
    BetaFactory,
    BetaSeries,
    Factor,
    MarketBetaConfig,
    compute_market_beta,
)
from .messages import (
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    BetaFactoryError,
    BetasUpdated,
    BetaUpdated,
    Encoding,
    NotReleasedError,
    Overflow,
    Reason,
    ReturnObserved,
    ReturnsObserved,
    Role,
    SessionOpened,
    SnapshotError,
    StaleBoardError,
    Status,
    SymbolsDeclared,
    beta_topic,
)
from .runtime.board import Board, BoardColumns
from .runtime.client import BetaClient, ClientTls, connect

__version__: Final = version("hft-beta-factory")

__all__ = [
    "BenchmarkReturnMissed",
    "BenchmarkReturnObserved",
    "BetaClient",
    "BetaFactory",
    "BetaFactoryError",
    "BetaSeries",
    "BetaUpdated",
    "BetasUpdated",
    "Board",
    "BoardColumns",
    "ClientTls",
    "Encoding",
    "Factor",
    "MarketBetaConfig",
    "NotReleasedError",
    "Overflow",
    "Reason",
    "ReturnObserved",
    "ReturnsObserved",
    "Role",
    "SessionOpened",
    "SnapshotError",
    "StaleBoardError",
    "Status",
    "SymbolsDeclared",
    "__version__",
    "beta_topic",
    "compute_market_beta",
    "connect",
]
