"""From a model's keys to the limits of its returns, bar by bar."""

from ..estimators import cells_of
from ..estimators.robust import Limits, RobustLimits
from .config import MarketBetaConfig


def limits_of(model: MarketBetaConfig, n_rows: int) -> RobustLimits:
    """Return the limits that a model asks for."""
    return RobustLimits(
        n_rows,
        bound=model.max_abs_return,
        max_z=model.max_robust_z,
        length=model.robust_bars or model.robust_min_observations,
        min_observations=model.robust_min_observations,
    )


class BarLimits:
    """What holds for one bar, and for the benchmark of the bar after it."""

    __slots__ = ("benchmark", "high_cells", "limits", "low_cells")

    def __init__(self, limits: Limits, benchmark: tuple[float, float]) -> None:
        self.limits = limits
        self.benchmark = benchmark
        self.low_cells = cells_of(limits.low)
        self.high_cells = cells_of(limits.high)
