"""Rolling regressions over whole series: the live windows, fed bar by bar.

Rule: a batch runs the very windows that the live path runs, so the two agree to the
last bit by construction; there is no second implementation to drift.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from .moments import LARGEST, Floats
from .ols import (
    ALPHA,
    BETA,
    R_SQUARED,
    RESIDUAL_STD,
    STATISTICS,
    STD_ERROR,
    T_STAT,
    alpha_std_error,
    correlation,
    solve,
)
from .slab import WindowSlab


@dataclass(frozen=True, slots=True)
class Estimates:
    """Regression statistics per bar and asset; NaN = undefined.

    Every array has shape (n_bars, n_assets); the value at a bar uses the window that
    ends there.
    """

    beta: Floats
    alpha: Floats
    std_error: Floats
    alpha_std_error: Floats
    t_stat: Floats
    r_squared: Floats
    residual_std: Floats
    correlation: Floats
    n_obs: NDArray[np.int64]


def rolling_ols(
    asset_returns: Floats,
    benchmark_returns: Floats,
    *,
    lookback_length: int,
    min_observations: int,
) -> Estimates:
    """Regress each asset on the benchmark over every window of bars.

    Parameters
    ----------
    asset_returns
        Shape (n_bars, n_assets); not finite or above `LARGEST` = missing.
    benchmark_returns
        Shape (n_bars,); not finite = missing.
    lookback_length
        Window length, in bars, at least 2.
    min_observations
        Complete pairs below which a value is undefined.
    """
    n_bars, n_assets = asset_returns.shape
    slab = WindowSlab(n_assets, lookback_length, min_observations)
    usable = np.where(np.abs(asset_returns) <= LARGEST, asset_returns, np.nan)
    numbers = {
        field.name: np.empty((n_bars, n_assets))
        for field in fields(Estimates)
        if field.name != "n_obs"
    }
    n_obs = np.empty((n_bars, n_assets), dtype=np.int64)
    statistics = np.empty((STATISTICS, n_assets))
    for bar in range(n_bars):
        slab.advance(bar, float(benchmark_returns[bar]))
        slab.fill(usable[bar])
        n, mean, centred = slab.moments()
        solve(n, mean, centred, min_observations, statistics)
        n_obs[bar] = n
        numbers["beta"][bar] = statistics[BETA]
        numbers["alpha"][bar] = statistics[ALPHA]
        numbers["std_error"][bar] = statistics[STD_ERROR]
        numbers["t_stat"][bar] = statistics[T_STAT]
        numbers["r_squared"][bar] = statistics[R_SQUARED]
        numbers["residual_std"][bar] = statistics[RESIDUAL_STD]
        numbers["alpha_std_error"][bar] = alpha_std_error(
            n, mean, centred, statistics[RESIDUAL_STD]
        )
        numbers["correlation"][bar] = correlation(centred, statistics[BETA])
    return Estimates(n_obs=n_obs, **numbers)
