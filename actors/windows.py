"""From a model to the windows that it asks for."""

from ..estimators import AmendableGrid, AmendableSlab
from ..estimators.extent import TimeExtent
from .config import MarketBetaConfig


def windows_of(model: MarketBetaConfig, n_rows: int) -> AmendableGrid:
    """Return empty windows of a model, one per row."""
    fewest = model.min_observations
    if model.window == "time":
        return AmendableSlab(n_rows, TimeExtent(model.length_ns), fewest)
    return AmendableSlab(n_rows, model.n_bars, fewest)
