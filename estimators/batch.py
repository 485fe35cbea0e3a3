"""Rolling regressions over whole series: the numbers of the live windows.

Rule: a batch has the bits of the live path. Windows of bars over series that are theirs
alone are computed for whole columns, by a `Panel`; whatever else there is runs the very
windows that the live path runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import Grid
from .moments import LARGEST, Floats
from .ols import ALL_STATISTICS
from .panel import Panel
from .series import Opening, Table, fill_by_blocks, take
from .slab import WindowSlab

FIELDS: Final = (
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


class Series(NamedTuple):
    """The same of one asset; every array has shape (n_bars,)."""

    statistics: Sequence[Floats]
    """By the names and in the order of `FIELDS`."""
    n_obs: NDArray[np.int64]
    """Of assets that lack no bar it is often one array, which is read-only."""
    n_eff: Floats
    """Likewise."""


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
    columns: list[Floats] = [asset_returns[:, i] for i in range(asset_returns.shape[1])]
    series = over_bars(
        columns,
        benchmark_returns,
        lookback_length=lookback_length,
        min_observations=min_observations,
    )

    def together(arrays: list[Floats]) -> Floats:
        return np.array(arrays).reshape(len(series), len(benchmark_returns)).T

    fields = {
        name: together([each.statistics[i] for each in series])
        for i, name in enumerate(FIELDS)
    }
    n_eff = together([each.n_eff for each in series])
    return Estimates(n_obs=n_eff.astype(np.int64), n_eff=n_eff, **fields)


def over_bars(
    columns: Sequence[Floats],
    benchmark_returns: Floats,
    *,
    lookback_length: int,
    min_observations: int,
) -> list[Series]:
    """Regress each asset on the benchmark over every window of bars, one by one.

    Parameters
    ----------
    columns
        Returns of each asset, shape (n_bars,).
    benchmark_returns, lookback_length, min_observations
        As for `rolling_ols`.
    """
    n_bars = len(benchmark_returns)

    def stepped(some: Sequence[Floats]) -> list[Series]:
        windows = WindowSlab(len(some), lookback_length, min_observations)
        openings = ([Opening(i, x)] for i, x in enumerate(benchmark_returns.tolist()))
        returns = np.column_stack(some) if some else np.empty((n_bars, 0))
        return each_of(over_series(windows, returns, openings))

    # A panel of windows that never fill would consist of what is not there.
    if n_bars < lookback_length:
        return stepped(columns)
    panel = Panel(
        columns,
        benchmark_returns,
        lookback_length=lookback_length,
        min_observations=min_observations,
    )
    estimated = panel.estimate()
    if estimated is None:
        return stepped(columns)
    odd = [columns[i] for i, each in enumerate(estimated) if each is None]
    others = iter(stepped(odd) if odd else [])
    shared = panel.benchmark.n
    shared_n = shared.astype(np.int64)
    shared_n.flags.writeable = False
    series: list[Series] = []
    for each in estimated:
        if each is None:
            series.append(next(others))
            continue
        n, statistics = each
        n_obs = shared_n if n is shared else n.astype(np.int64)
        series.append(Series(list(statistics), n_obs, n))
    return series


def each_of(estimates: Estimates) -> list[Series]:
    """Return the estimates asset by asset."""
    fields: list[Floats] = [getattr(estimates, name) for name in FIELDS]
    return [
        Series(
            [field[:, i] for field in fields],
            estimates.n_obs[:, i],
            estimates.n_eff[:, i],
        )
        for i in range(estimates.beta.shape[1])
    ]


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
    columns = {name: table.statistics[i] for i, name in enumerate(FIELDS)}
    return Estimates(n_obs=table.n.astype(np.int64), n_eff=n_eff, **columns)
