"""Market betas of whole series at once: the live windows over aligned arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..estimators import LARGEST, rolling_ols
from ..messages import InvalidReturnsError, Status
from .config import MarketBetaConfig
from .status import classify


@dataclass(frozen=True, slots=True)
class BetaSeries:
    """One asset's rolling betas; every array has shape (n_bars,), NaN = undefined."""

    timestamps: NDArray[np.int64]
    """As given, or the bar's index."""
    beta: NDArray[np.float64]
    alpha: NDArray[np.float64]
    std_error: NDArray[np.float64]
    alpha_std_error: NDArray[np.float64]
    t_stat: NDArray[np.float64]
    r_squared: NDArray[np.float64]
    residual_std: NDArray[np.float64]
    correlation: NDArray[np.float64]
    n_obs: NDArray[np.int64]
    status: NDArray[np.uint8]
    """`Status` codes."""

    def __len__(self) -> int:
        return len(self.beta)


def compute_market_beta(
    asset_returns_by_symbol: Mapping[str, ArrayLike],
    benchmark_returns: ArrayLike,
    config: MarketBetaConfig | None = None,
    timestamps: ArrayLike | None = None,
) -> dict[str, BetaSeries]:
    """Compute every asset's rolling market beta over aligned bars.

    Parameters
    ----------
    asset_returns_by_symbol
        One 1-D array per symbol, one value per bar; not finite = missing.
    benchmark_returns
        1-D, one value per bar; not finite = missing. Every row is a bar.
    config
        The window; by default ``MarketBetaConfig()``.
    timestamps
        1-D strictly increasing int64 nanoseconds, or datetime64; by default 0, 1, 2...

    Returns
    -------
    dict of str to BetaSeries
        In the order of ``asset_returns_by_symbol``. The value at a bar uses the window
        that ends there, and equals what the live path publishes for that bar.

    Raises
    ------
    InvalidReturnsError
        When an array is not 1-D numbers or its length differs from the benchmark's.

    Examples
    --------
    >>> series = compute_market_beta(
    ...     {"AAPL": [0.02, -0.02, 0.0, 0.03]},
    ...     [0.01, -0.01, 0.0, 0.01],
    ...     MarketBetaConfig(lookback_length=3, min_observations=3),
    ... )
    >>> series["AAPL"].beta.round(3).tolist()
    [nan, nan, 2.0, 2.5]
    """
    config = config or MarketBetaConfig()
    benchmark = _series("benchmark_returns", benchmark_returns)
    n_bars = len(benchmark)
    stamps = _stamps(timestamps, n_bars)
    columns = [
        _series(symbol, returns, n_bars)
        for symbol, returns in asset_returns_by_symbol.items()
    ]
    assets = np.column_stack(columns) if columns else np.empty((n_bars, 0))
    estimates = rolling_ols(
        assets,
        benchmark,
        lookback_length=config.lookback_length,
        min_observations=config.min_observations,
    )
    paired = (np.abs(assets) <= LARGEST) & (np.abs(benchmark) <= LARGEST)[:, None]
    status = _statuses(estimates.n_obs, estimates.beta, paired, config)
    return {
        symbol: BetaSeries(
            timestamps=stamps,
            beta=estimates.beta[:, i],
            alpha=estimates.alpha[:, i],
            std_error=estimates.std_error[:, i],
            alpha_std_error=estimates.alpha_std_error[:, i],
            t_stat=estimates.t_stat[:, i],
            r_squared=estimates.r_squared[:, i],
            residual_std=estimates.residual_std[:, i],
            correlation=estimates.correlation[:, i],
            n_obs=estimates.n_obs[:, i],
            status=status[:, i],
        )
        for i, symbol in enumerate(asset_returns_by_symbol)
    }


def _series(
    name: str, values: ArrayLike, length: int | None = None
) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidReturnsError(name, f"must be numbers: {error}") from error
    if array.ndim != 1:
        raise InvalidReturnsError(name, f"must be 1-D, was {array.ndim}-D")
    if length is not None and len(array) != length:
        raise InvalidReturnsError(
            name, f"must have the benchmark's {length} bars, was {len(array)}"
        )
    return array


def _stamps(timestamps: ArrayLike | None, n_bars: int) -> NDArray[np.int64]:
    if timestamps is None:
        return np.arange(n_bars, dtype=np.int64)
    array = np.asarray(timestamps)
    if np.issubdtype(array.dtype, np.datetime64):
        array = array.astype("datetime64[ns]")
    if len(array) and array.dtype.kind not in "iuM":
        raise InvalidReturnsError(
            "timestamps", f"must be integers or datetime64, were {array.dtype}"
        )
    stamps = array.astype(np.int64)
    if stamps.shape != (n_bars,):
        raise InvalidReturnsError(
            "timestamps", f"must have shape ({n_bars},), was {stamps.shape}"
        )
    falls = np.flatnonzero(np.diff(stamps) <= 0)
    if len(falls):
        raise InvalidReturnsError(
            "timestamps", f"must increase, do not at row {int(falls[0]) + 1}"
        )
    return stamps


def _statuses(
    n_obs: NDArray[np.int64],
    beta: NDArray[np.float64],
    paired: NDArray[np.bool_],
    config: MarketBetaConfig,
) -> NDArray[np.uint8]:
    # Bar by bar by the live rule, then the silence of rows without a pair.
    n_bars, n_assets = beta.shape
    rows = np.arange(n_assets, dtype=np.intp)
    was_warm = np.zeros(n_assets, dtype=np.bool_)
    last_pair = np.full(n_assets, -1)
    status = np.zeros((n_bars, n_assets), dtype=np.uint8)
    for bar in range(n_bars):
        status[bar], _ = classify(
            n_obs[bar], beta[bar], config.min_observations, was_warm, rows
        )
        last_pair[paired[bar]] = bar
        silent = (last_pair >= 0) & (bar - last_pair >= config.stale_bars)
        status[bar, silent] = Status.STALE
    return status
