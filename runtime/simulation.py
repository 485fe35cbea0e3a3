"""A seeded simulated market whose betas are known.

Rule: everything here follows from the `MarketSpec`. The same spec gives the same
bits, on every machine with the same NumPy.

Theory of operation
-------------------
Every bar has one benchmark return, and every asset follows the one-factor model::

    r_i(t) = alpha_i + beta_i * r_m(t) + e_i(t)

with constant alpha and beta and independent Gaussian residuals, so that what an
estimator says about its own error can be held against the truth. Three things
happen in this market that happen in real ones: returns are missing at random, one
symbol is halted, and the first bars after the open are wild.

When standard errors are honest
-------------------------------
The opening burst multiplies benchmark and residual volatility by the same scale,
``opening_burst_scale``. Missing returns and the halt are independent of the returns
and do no harm. So residuals have one variance in every window that lies wholly
before or wholly after the end of the burst, and there the textbook standard error
of ordinary least squares is exact: 95 of 100 intervals hold the true beta.

A window across the end of the burst is another matter. The burst's bars weigh most
in the regression and are also the noisiest, which the textbook formula does not
know: with ``k`` burst bars of scale ``s`` in a window of ``n`` it understates the
error by the factor ``sqrt(n * (k * s**4 + n - k)) / (k * s**2 + n - k)``. For the
default burst and a window from the open that is 1.17 for 600 bars and 1.25 for 1800:
only 91 and 88 of 100 intervals hold the true beta. Once the burst has left the
window, 95 do.

Draws come from one independent stream per purpose, so that changing, say, the
missing fraction leaves every return as it was.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from .bars import Bars

BETA_RANGE: Final = (0.2, 2.2)
"""The true betas are spread evenly over this; dimensionless."""

_RESIDUAL_SCALES: Final = (0.5, 1.5)
_ALPHA_SCALE: Final = 0.01

# A dot and a slash come early: they must survive topics in the smallest market.
_NAMES_IN_ORDER: Final = (
    "GME BRK.B BTC/USDT AAPL MSFT NVDA AMZN GOOGL META TSLA AVGO JPM LLY V UNH XOM MA "
    "COST HD PG JNJ WMT NFLX BAC CRM ORCL CVX KO AMD PEP LIN MRK TMO ADBE CSCO SYK MCD "
    "ABT WFC GE IBM QCOM TXN INTU VZ CAT DIS AMGN NOW PFE UBER GS AIG BF.B RTX NEE LOW"
)


class MarketSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to simulate; the defaults are one hour of 50 symbols at one second."""

    n_symbols: int = 50
    """Assets; the benchmark is not one of them."""
    betas: dict[str, float] | None = None
    """The assets and their true betas, one for each of ``n_symbols``; ``None`` = names
    of our own, and betas spread evenly over `BETA_RANGE`."""
    n_bars: int = 3600
    bar_interval_ns: int = 1_000_000_000
    seed: int = 20250602
    start_ts: int = 1_748_871_000_000_000_000
    """When the market opens, in ns since the epoch; the first bar closes one
    interval later. The default is 2 June 2025, 09:30 in New York."""
    benchmark: str = "SPY"
    benchmark_vol: float = 1e-4
    """Standard deviation of the benchmark's return over one bar; dimensionless."""
    residual_vol: float = 2e-4
    """The same for the middle symbol's residual; symbols have 0.5 to 1.5 of it."""
    opening_burst_bars: int = 300
    opening_burst_scale: float = 2.0
    """What both volatilities are multiplied by in the opening burst."""
    missing_fraction: float = 0.05
    """Probability that an asset has no return in a bar, apart from the halt."""
    halted_index: int = 0
    """The halted symbol's position in `SimulatedMarket.symbols`."""
    halted_from_bar: int = 1200
    halted_to_bar: int = 2400
    """The first bar after the halt; the same as ``halted_from_bar`` for no halt."""

    def __post_init__(self) -> None:
        for name in ("n_symbols", "n_bars", "bar_interval_ns"):
            _require(self, name, at_least=1)
        for name in ("seed", "start_ts", "benchmark_vol", "residual_vol"):
            _require(self, name, at_least=0)
        for name in ("opening_burst_bars", "opening_burst_scale", "halted_from_bar"):
            _require(self, name, at_least=0)
        _require(self, "missing_fraction", at_least=0, at_most=1)
        _require(self, "halted_index", at_least=0, at_most=self.n_symbols - 1)
        _require(self, "halted_to_bar", at_least=self.halted_from_bar)
        if self.betas is not None and len(self.betas) != self.n_symbols:
            msg = f"betas must be {self.n_symbols} (n_symbols), was {len(self.betas)}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SimulatedMarket:
    """One simulated session, with the truth about it. The arrays are read-only."""

    spec: MarketSpec
    symbols: tuple[str, ...]
    """The assets, in column order; not sorted."""
    true_betas: NDArray[np.float64]
    """Dimensionless. Shape (n_symbols,)."""
    ts_events: NDArray[np.int64]
    """When each bar closed, in ns since the epoch. Shape (n_bars,)."""
    benchmark_returns: NDArray[np.float64]
    """Simple returns, none missing. Shape (n_bars,)."""
    asset_returns: NDArray[np.float64]
    """Simple returns, NaN = missing; each covers its own bar alone, also after a
    gap. Shape (n_bars, n_symbols)."""
    halted: str
    """The symbol without returns during the halt."""

    @property
    def benchmark(self) -> str:
        """The benchmark's symbol."""
        return self.spec.benchmark


def simulate_market(spec: MarketSpec | None = None) -> SimulatedMarket:
    """Simulate one session.

    A longer session of the same spec begins with the shorter one.

    Parameters
    ----------
    spec
        What to simulate; the default spec if ``None``.

    Examples
    --------
    >>> market = simulate_market(MarketSpec(n_symbols=3, n_bars=10))
    >>> market.symbols, market.halted, market.asset_returns.shape
    (('GME', 'BRK.B', 'BTC/USDT'), 'GME', (10, 3))
    """
    spec = spec or MarketSpec()
    n_bars, n_symbols = spec.n_bars, spec.n_symbols
    for_symbols, for_benchmark, for_residuals, for_missing = (
        np.random.default_rng(seed)
        for seed in np.random.SeedSequence(spec.seed).spawn(4)
    )
    betas = for_symbols.permutation(np.linspace(*BETA_RANGE, n_symbols))
    if spec.betas is not None:
        betas = np.array(list(spec.betas.values()), dtype=np.float64)
    residual_vols = spec.residual_vol * for_symbols.uniform(
        *_RESIDUAL_SCALES, n_symbols
    )
    alphas = spec.benchmark_vol * _ALPHA_SCALE * for_symbols.standard_normal(n_symbols)
    bars = np.arange(n_bars, dtype=np.int64)
    scales = np.where(bars < spec.opening_burst_bars, spec.opening_burst_scale, 1.0)
    benchmark_returns = (
        spec.benchmark_vol * scales * for_benchmark.standard_normal(n_bars)
    )
    # From here on one row per bar and one column per symbol.
    residuals = for_residuals.standard_normal((n_bars, n_symbols))
    residuals *= scales[:, None] * residual_vols
    asset_returns = alphas + np.outer(benchmark_returns, betas) + residuals
    asset_returns[for_missing.random((n_bars, n_symbols)) < spec.missing_fraction] = (
        np.nan
    )
    asset_returns[spec.halted_from_bar : spec.halted_to_bar, spec.halted_index] = np.nan
    ts_events = spec.start_ts + (bars + 1) * spec.bar_interval_ns
    for array in (betas, ts_events, benchmark_returns, asset_returns):
        array.setflags(write=False)
    symbols = _symbol_names(spec)
    return SimulatedMarket(
        spec=spec,
        symbols=symbols,
        true_betas=betas,
        ts_events=ts_events,
        benchmark_returns=benchmark_returns,
        asset_returns=asset_returns,
        halted=symbols[spec.halted_index],
    )


def to_bars(market: SimulatedMarket) -> Bars:
    """Lay a market out as `Bars`, with its benchmark as one more symbol."""
    names = (market.benchmark, *market.symbols)
    by_name = sorted(range(len(names)), key=names.__getitem__)
    grid = np.column_stack((market.benchmark_returns, market.asset_returns))[:, by_name]
    is_there = ~np.isnan(grid)
    offsets = np.zeros(len(grid) + 1, dtype=np.int64)
    np.cumsum(is_there.sum(axis=1), out=offsets[1:])
    return Bars(
        symbols=tuple(names[index] for index in by_name),
        ts_events=market.ts_events,
        offsets=offsets,
        symbol_ids=np.nonzero(is_there)[1].astype(np.int32),
        period_returns=grid[is_there],
        n_source_rows=int(offsets[-1]),
        source=f"simulation with seed {market.spec.seed}",
    )


def _symbol_names(spec: MarketSpec) -> tuple[str, ...]:
    if spec.betas is not None:
        return tuple(spec.betas)
    names = _NAMES_IN_ORDER.split()
    # One more than needed, because one may be the benchmark's.
    names += [f"SIM{number:05}" for number in range(len(names), spec.n_symbols + 1)]
    return tuple(name for name in names if name != spec.benchmark)[: spec.n_symbols]


def _require(
    spec: MarketSpec, name: str, *, at_least: int, at_most: int | None = None
) -> None:
    value = getattr(spec, name)
    if value >= at_least and (at_most is None or value <= at_most):
        return
    upper = "" if at_most is None else f" and at most {at_most}"
    raise ValueError(f"{name} must be at least {at_least}{upper}, was {value}")
