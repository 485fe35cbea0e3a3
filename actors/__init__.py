"""Behavior: what to do with a message. Synchronous; no loop, no clock, no socket."""

from .batch import BetaSeries, compute_market_beta
from .behavior import Behavior, Outgoing
from .columns import BetaColumns
from .config import Factor, MarketBetaConfig
from .factory import BetaFactory
from .rows import BetaRows
from .tally import Drop, Tally
from .turns import BetaTurns

__all__ = [
    "Behavior",
    "BetaColumns",
    "BetaFactory",
    "BetaRows",
    "BetaSeries",
    "BetaTurns",
    "Drop",
    "Factor",
    "MarketBetaConfig",
    "Outgoing",
    "Tally",
    "compute_market_beta",
]
