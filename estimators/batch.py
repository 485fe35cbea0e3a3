"""Rolling regressions over whole series: the live windows, fed bar by bar.

Rule: a batch runs the very windows that the live path runs, so the two agree to the
last bit by construction; there is no second implementation to drift.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .grid import Grid
from .moments import LARGEST, Floats
from .ols import ALL_STATISTICS
from .series import Opening, Table, fill_by_blocks, take
from .slab import WindowSlab

_FIELDS: Final = (
    "beta",
    "alpha",
    "std_error",
    "t_stat",
    "r_squared",
    "residual_std",
    "alpha_std_error",
    "correlation",
)
"""The statistics by the names of `Estimates`, in the order of `ols`."""


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
    n_eff: Floats
    """Effective number of pairs; ``n_obs`` where all have the same weight."""


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
    n_assets = asset_returns.shape[1]
    windows = WindowSlab(n_assets, lookback_length, min_observations)
    openings = (
        [Opening(bar, float(benchmark_return))]
        for bar, benchmark_return in enumerate(benchmark_returns.tolist())
    )
    return over_series(windows, asset_returns, openings)


def over_series(
    windows: Grid, asset_returns: Floats, openings: Iterable[Sequence[Opening]]
) -> Estimates:
    """Run windows over whole series, and note the estimate at every row.

    Parameters
    ----------
    windows
        Empty ones or not, of as many rows as there are assets.
    asset_returns
        Shape (n_bars, n_assets); not finite or above `LARGEST` = missing.
    openings
        For each row the bars that it opens: its own last, after those that the grid
        has before it. A row without any leaves the windows as they are.
    """
    shape = asset_returns.shape
    returns = np.where(np.abs(asset_returns) <= LARGEST, asset_returns, np.nan)
    table = Table(np.empty((ALL_STATISTICS, *shape)), np.empty(shape))
    if isinstance(windows, WindowSlab):
        n_eff = table.n
        fill_by_blocks(windows, returns, openings, table)
    else:
        n_eff = np.empty(shape)
        for at, opened in enumerate(openings):
            take(windows, returns[at], opened)
            n, statistics = windows.estimate(full=True)
            table.n[at] = n
            table.statistics[:, at] = statistics
            effective = windows.effective()
            n_eff[at] = n if effective is None else effective
    columns = {name: table.statistics[i] for i, name in enumerate(_FIELDS)}
    return Estimates(n_obs=table.n.astype(np.int64), n_eff=n_eff, **columns)
