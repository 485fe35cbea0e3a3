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
    BenchmarkReturnObserved,
    BetaFactoryError,
    BetasUpdated,
    BetaUpdated,
    Reason,
    ReturnObserved,
    ReturnsObserved,
    Status,
    SymbolsDeclared,
)
from .runtime.client import BetaClient, connect

__version__: Final = version("hft-beta-factory")

__all__ = [
    "BenchmarkReturnObserved",
    "BetaClient",
    "BetaFactory",
    "BetaFactoryError",
    "BetaSeries",
    "BetaUpdated",
    "BetasUpdated",
    "Factor",
    "MarketBetaConfig",
    "Reason",
    "ReturnObserved",
    "ReturnsObserved",
    "Status",
    "SymbolsDeclared",
    "__version__",
    "compute_market_beta",
    "connect",
]
