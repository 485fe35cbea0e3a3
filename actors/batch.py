"""Market betas of whole series at once: the live windows over aligned arrays."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..estimators import (
    FIELDS,
    LARGEST,
    Opening,
    Series,
    each_of,
    over_bars,
    over_series,
)
from ..messages import InvalidReturnsError, Status
from .batch_status import Statuses, mark_silence, statuses_of
from .config import MarketBetaConfig
from .guarded_series import TakenSeries, guarded
from .openings import Openings
from .windows import windows_of


@dataclass(frozen=True, slots=True)
class BetaSeries:
    """One asset's rolling betas; every array has shape (n_bars,), NaN = undefined.

    All assets have the same ``timestamps``. Of assets that lack no bar ``n_obs``,
    ``n_eff`` and ``status`` may be the same, too, and then cannot be written to.
    """

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
    n_eff: NDArray[np.float64]
    """Effective number of pairs; ``n_obs`` where all have the same weight."""
    status: NDArray[np.uint8]
    """`Status` codes."""

    def __len__(self) -> int:
        return len(self.beta)


def compute_market_beta(
    asset_returns_by_symbol: Mapping[str, ArrayLike],
    benchmark_returns: ArrayLike,
    config: MarketBetaConfig | None = None,
    timestamps: ArrayLike | None = None,
    *,
    session_opens: ArrayLike = (),
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
        Windows of time, sessions and a ``bar_interval`` go by them.
    session_opens
        Stamps at which a session opens, where no calendar says so; in any order.

    Returns
    -------
    dict of str to BetaSeries
        In the order of ``asset_returns_by_symbol``. The value at a bar uses the window
        that ends there, and equals what the live path publishes for that bar.

    Raises
    ------
    InvalidReturnsError
        When an array is not 1-D numbers or its length differs from the benchmark's; or
        when the model goes by stamps and there are no ``timestamps``.

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
    if timestamps is None and _goes_by_stamps(config):
        raise InvalidReturnsError(
            "timestamps",
            "are needed by this window, bar_interval, calendar or stale_after",
        )
    opens = _stamps_of_opens(session_opens)
    if _takes_rows_as_bars(config):
        found = _over_bars(config, benchmark, columns, stamps)
    else:
        found = _over_openings(config, benchmark, columns, stamps, opens)
    series: dict[str, BetaSeries] = {}
    for symbol, (estimates, status) in zip(asset_returns_by_symbol, found, strict=True):
        statistics = dict(zip(FIELDS, estimates.statistics, strict=True))
        n_obs, n_eff = estimates.n_obs, estimates.n_eff
        series[symbol] = BetaSeries(
            timestamps=stamps, n_obs=n_obs, n_eff=n_eff, status=status, **statistics
        )
    return series


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


def _goes_by_stamps(config: MarketBetaConfig) -> bool:
    return (
        config.window in ("time", "session")
        or config.bar_interval is not None
        or config.calendar is not None
        or config.stale_ns is not None
    )


def _taken(
    config: MarketBetaConfig,
    benchmark: NDArray[np.float64],
    assets: NDArray[np.float64],
    stamps: NDArray[np.int64],
    session_opens: list[int],
) -> TakenSeries:
    # The bars that each row opens, and what is taken of it, by the live rules.
    openings = Openings(config)
    usable = np.where(np.abs(benchmark) <= LARGEST, benchmark, np.nan)
    opens = deque(session_opens)
    before: list[list[int]] = []
    for stamp in stamps.tolist():
        before.append([])
        while opens and opens[0] < stamp:
            before[-1].append(opens.popleft())
    if config.is_guarded:
        rows = zip(stamps.tolist(), usable.tolist(), assets, before, strict=True)
        return guarded(config, openings, rows, assets.shape[1])
    opened: list[list[Opening]] = []
    columns = zip(stamps.tolist(), usable.tolist(), before, strict=True)
    for stamp, benchmark_return, earlier in columns:
        for open_stamp in earlier:
            openings.open_session(open_stamp)
        opened.append(openings.next(stamp, benchmark_return))
    return TakenSeries(opened, assets, np.zeros(assets.shape, dtype=np.bool_))


def _stamps_of_opens(session_opens: ArrayLike) -> list[int]:
    array = np.asarray(session_opens)
    if array.dtype.kind == "M":
        array = array.astype("datetime64[ns]")
    if array.size and (array.ndim != 1 or array.dtype.kind not in "iuM"):
        raise InvalidReturnsError(
            "session_opens", f"must be 1-D integers or datetime64, were {array.dtype}"
        )
    stamps: list[int] = np.sort(array.astype(np.int64)).tolist()
    return stamps


def _takes_rows_as_bars(config: MarketBetaConfig) -> bool:
    # Whether each row opens its bar and no other, of windows that count bars.
    return (
        config.window == "bars"
        and config.decay is None
        and config.interval_ns is None
        and not config.is_guarded
    )


def _over_bars(
    config: MarketBetaConfig,
    benchmark: NDArray[np.float64],
    columns: Sequence[NDArray[np.float64]],
    stamps: NDArray[np.int64],
) -> Iterator[tuple[Series, Statuses]]:
    found = over_bars(
        columns,
        benchmark,
        lookback_length=config.n_bars,
        min_observations=config.min_observations,
    )
    is_there = np.abs(benchmark) <= LARGEST
    bars = np.arange(1, len(benchmark) + 1)
    # Assets with one `n_obs` lack no bar; mostly they have one status, too.
    known: tuple[NDArray[np.int64], NDArray[np.bool_], Statuses] | None = None
    for column, series in zip(columns, found, strict=True):
        n_obs, undefined = series.n_obs, np.isnan(series.statistics[0])
        if (
            known is not None
            and n_obs is known[0]
            and np.array_equal(undefined, known[1])
        ):
            yield series, known[2]
            continue
        status = statuses_of(n_obs, undefined, config.min_observations)
        paired = is_there & (np.abs(column) <= LARGEST)
        _mark_silence(config, status, paired, bars, stamps)
        if not n_obs.flags.writeable:
            status.flags.writeable = False
            known = n_obs, undefined, status
        yield series, status


def _over_openings(
    config: MarketBetaConfig,
    benchmark: NDArray[np.float64],
    columns: Sequence[NDArray[np.float64]],
    stamps: NDArray[np.int64],
    session_opens: list[int],
) -> Iterator[tuple[Series, Statuses]]:
    n_bars = len(benchmark)
    assets = np.column_stack(columns) if columns else np.empty((n_bars, 0))
    assets = np.where(np.abs(assets) <= LARGEST, assets, np.nan)
    opened, assets, dead = _taken(config, benchmark, assets, stamps, session_opens)
    if config.window == "bars" and config.decay is None and any(opened):
        found = _over_grid(config, opened, assets)
    else:
        windows = windows_of(config, assets.shape[1])
        found = each_of(over_series(windows, assets, opened))
    present = [bool(row) and isfinite(row[-1].benchmark_return) for row in opened]
    paired = ~np.isnan(assets) & np.array(present, dtype=np.bool_)[:, None]
    bars = np.cumsum([len(row) for row in opened])
    for i, series in enumerate(found):
        undefined = np.isnan(series.statistics[0])
        status = statuses_of(series.n_obs, undefined, config.min_observations)
        _mark_silence(config, status, paired[:, i], bars, stamps)
        status[dead[:, i]] = Status.STALE
        yield series, status


def _over_grid(
    config: MarketBetaConfig,
    opened: Sequence[Sequence[Opening]],
    assets: NDArray[np.float64],
) -> list[Series]:
    # Over all bars that are opened, of which each row sees the newest.
    grid = [opening.benchmark_return for row in opened for opening in row]
    n_opened = np.array([len(row) for row in opened])
    newest = np.cumsum(n_opened) - 1
    takes = n_opened > 0
    columns = np.full((assets.shape[1], len(grid)), np.nan)
    columns[:, newest[takes]] = assets[takes].T
    found = over_bars(
        list(columns),
        np.array(grid),
        lookback_length=config.n_bars,
        min_observations=config.min_observations,
    )
    if (n_opened == 1).all():
        return found
    return [_seen(series, newest) for series in found]


def _seen(series: Series, newest: NDArray[np.int64]) -> Series:
    # What windows say that end with these bars; -1 = there is none yet.
    n_obs, n_eff = series.n_obs[newest], series.n_eff[newest]
    statistics = [values[newest] for values in series.statistics]
    nothing = newest < 0
    n_obs[nothing] = n_eff[nothing] = 0
    for values in statistics:
        values[nothing] = np.nan
    return Series(statistics, n_obs, n_eff)


def _mark_silence(
    config: MarketBetaConfig,
    status: Statuses,
    paired: NDArray[np.bool_],
    bars: NDArray[np.int64],
    stamps: NDArray[np.int64],
) -> None:
    # In bars of the grid, or in time.
    bound = config.stale_bars or config.stale_ns
    if bound is not None:
        clock = bars if config.stale_bars is not None else stamps
        mark_silence(status, paired, clock, bound)
