"""Live rolling betas of many symbols, each with its uncertainty and its status.

Everything a strategy needs is importable from here; see README.md for the three ways
to use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

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
    UnknownSymbolError,
    beta_topic,
)

if TYPE_CHECKING:
    from .runtime.board import Board, BoardColumns
    from .runtime.client import BetaClient, ClientTls, connect
    from .runtime.memory import keep_freed_memory

    __version__: str

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
    "UnknownSymbolError",
    "__version__",
    "beta_topic",
    "compute_market_beta",
    "connect",
    "keep_freed_memory",
]

_ON_DEMAND: Final = {
    "BetaClient": ".runtime.client",
    "Board": ".runtime.board",
    "BoardColumns": ".runtime.board",
    "ClientTls": ".runtime.client",
    "connect": ".runtime.client",
    "keep_freed_memory": ".runtime.memory",
}
"""Where the names are that need sockets, shared memory or the C library.

Those modules take a tenth of a second to import, which a batch, a replay and a factory
without a loop need not wait for.
"""


if not TYPE_CHECKING:  # to a type checker a module with this has every name

    def __getattr__(name: str) -> object:
        """Import what is used for the first time."""
        if name == "__version__":
            value: object = import_module("importlib.metadata").version(
                "hft-beta-factory"
            )
        elif name in _ON_DEMAND:
            value = getattr(import_module(_ON_DEMAND[name], __name__), name)
        else:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
