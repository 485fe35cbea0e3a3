"""From a model to the windows that it asks for."""

from ..estimators import AmendableGrid, AmendableSlab, EwmaWindows, PairWindows
from ..estimators.extent import TimeExtent
from .config import MarketBetaConfig


def windows_of(model: MarketBetaConfig, n_rows: int) -> AmendableGrid:
    """Return empty windows of a model, one per row."""
    fewest, lateness = model.min_observations, model.allowed_lateness
    if model.decay is not None:
        clock = "bars" if model.window == "session" else model.window
        return EwmaWindows(n_rows, model.decay, fewest, clock=clock, lateness=lateness)
    if model.window == "pairs":
        return PairWindows(n_rows, model.n_bars, fewest, lateness=lateness)
    if model.window == "time":
        return AmendableSlab(n_rows, TimeExtent(model.length_ns), fewest)
    return AmendableSlab(n_rows, model.n_bars, fewest)
