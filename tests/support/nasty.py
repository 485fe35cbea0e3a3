"""Return series that break careless arithmetic, by name and seed.

The rule of this file: a data set is a pure function of its length and seed, and
returns ``(benchmark, assets)`` of shapes (n_bars,) and (n_bars, n_assets).
``NASTY`` lists them all.  Positions of spikes, steps and blocks scale with the
length, so any window up to a third of the data sees them enter and leave.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

FloatArray = npt.NDArray[np.float64]
Returns = tuple[FloatArray, FloatArray]
Builder = Callable[[int, np.random.Generator], Returns]

N_BARS = 1_200
"""Enough for a window of 390 to fill, slide past an event and be rid of it."""

VOLATILITY = 1e-3
BETAS = np.array([1.3, -0.4, 0.0])


@dataclass(frozen=True)
class DataSet:
    """A named generator; call it for the data."""

    name: str
    build: Builder
    seed: int

    def __call__(self, n_bars: int = N_BARS) -> Returns:
        benchmark, assets = self.build(n_bars, np.random.default_rng(self.seed))
        benchmark.flags.writeable = assets.flags.writeable = False
        return benchmark, assets


NASTY: dict[str, DataSet] = {}


def _named(build: Builder) -> Builder:
    name = build.__name__
    NASTY[name] = DataSet(name, build, seed=zlib.crc32(name.encode()))
    return build


def _factor_model(n_bars: int, rng: np.random.Generator) -> Returns:
    benchmark = rng.normal(0, VOLATILITY, n_bars)
    noise = rng.normal(0, VOLATILITY, (n_bars, len(BETAS)))
    return benchmark, 2e-5 + benchmark[:, None] * BETAS + noise


# --- plain, offset, scale ---------------------------------------------------


@_named
def clean(n_bars: int, rng: np.random.Generator) -> Returns:
    """A one-factor model; if this fails, look for a wrong formula."""
    return _factor_model(n_bars, rng)


@_named
def offset_1e4(n_bars: int, rng: np.random.Generator) -> Returns:
    """Both sides ride on a constant ten million times their variation."""
    x, y = _factor_model(n_bars, rng)
    return x + 1e4, y + 1e4


@_named
def offset_1e8(n_bars: int, rng: np.random.Generator) -> Returns:
    """Both sides ride on a constant 1e11 times their variation."""
    x, y = _factor_model(n_bars, rng)
    return x + 1e8, y + 1e8


@_named
def offset_1e8_benchmark(n_bars: int, rng: np.random.Generator) -> Returns:
    """Only the benchmark is offset."""
    x, y = _factor_model(n_bars, rng)
    return x + 1e8, y


@_named
def offset_1e8_assets(n_bars: int, rng: np.random.Generator) -> Returns:
    """Only the assets are offset."""
    x, y = _factor_model(n_bars, rng)
    return x, y - 1e8


@_named
def scale_1e_minus_150(n_bars: int, rng: np.random.Generator) -> Returns:
    """Squares still fit into a double; products of squares do not."""
    x, y = _factor_model(n_bars, rng)
    return x / VOLATILITY * 1e-150, y / VOLATILITY * 1e-150


@_named
def scales_apart(n_bars: int, rng: np.random.Generator) -> Returns:
    """A benchmark of 1e100 against assets of 1e-100."""
    x, y = _factor_model(n_bars, rng)
    return x * 1e100, y * 1e-100


@_named
def volatility_regimes(n_bars: int, rng: np.random.Generator) -> Returns:
    """1e-2, then 1e-7, then 1e-2: sums must forget ten orders of magnitude."""
    x, y = _factor_model(n_bars, rng)
    scale = np.full(n_bars, 1e-2 / VOLATILITY)
    scale[n_bars // 3 : 2 * n_bars // 3] = 1e-7 / VOLATILITY
    return x * scale, y * scale[:, None]


@_named
def denormal_tails(n_bars: int, rng: np.random.Generator) -> Returns:
    """Some values are denormal or tiny, never two neighbours on one side."""
    x, y = _factor_model(n_bars, rng)
    tiny = rng.choice([5e-324, -3e-320, 2.2e-308, -1e-290, 0.0], n_bars)
    phase = np.arange(n_bars) % 7
    x = np.where(np.isin(phase, [0, 5]), tiny, x)
    y = np.where(np.isin(phase, [3, 5])[:, None], tiny[::-1, None], y)
    return x, y


@_named
def heavy_tails(n_bars: int, rng: np.random.Generator) -> Returns:
    """Student t with 1.2 degrees of freedom on both sides."""
    x = rng.standard_t(1.2, n_bars) * VOLATILITY
    noise = rng.standard_t(1.2, (n_bars, len(BETAS))) * VOLATILITY
    return x, x[:, None] * BETAS + noise


# --- spikes -----------------------------------------------------------------


def _spike_rows(n_bars: int) -> list[int]:
    return [n_bars // 5, n_bars // 5 + n_bars // 3]


@_named
def spike_on_assets(n_bars: int, rng: np.random.Generator) -> Returns:
    """Two bad prints of 1e8 enter and leave."""
    x, y = _factor_model(n_bars, rng)
    y[_spike_rows(n_bars)] = [[1e8], [-1e8]]
    return x, y


@_named
def spike_on_benchmark(n_bars: int, rng: np.random.Generator) -> Returns:
    """Two bad prints of 1e8 enter and leave."""
    x, y = _factor_model(n_bars, rng)
    x[_spike_rows(n_bars)] = [1e8, -1e8]
    return x, y


@_named
def spike_on_both(n_bars: int, rng: np.random.Generator) -> Returns:
    """Bad prints on both sides in the same row: an almost exact line."""
    x, y = _factor_model(n_bars, rng)
    x[_spike_rows(n_bars)] = [1e8, -1e8]
    y[_spike_rows(n_bars)] = [[1.2e8], [0.7e8]]
    return x, y


@_named
def spike_first(n_bars: int, rng: np.random.Generator) -> Returns:
    """The first value, a favourite pivot, is the bad print."""
    x, y = _factor_model(n_bars, rng)
    x[0], y[0] = 1e8, -1e8
    return x, y


@_named
def spike_first_on_assets(n_bars: int, rng: np.random.Generator) -> Returns:
    """The first value of the assets alone is the bad print."""
    x, y = _factor_model(n_bars, rng)
    y[0] = 1e8
    return x, y


@_named
def spikes_repeated(n_bars: int, rng: np.random.Generator) -> Returns:
    """Every eleventh benchmark and seventh asset print is bad, then silence."""
    x, y = _factor_model(n_bars, rng)
    rows = np.arange(n_bars)
    stormy = rows < n_bars // 2
    x[stormy & (rows % 11 == 5)] *= 1e11
    y[stormy & (rows % 7 == 3)] *= 1e11
    return x, y


# --- lines and constants ----------------------------------------------------


@_named
def near_collinear(n_bars: int, rng: np.random.Generator) -> Returns:
    """Residuals of 1e-3, 1e-5 and 1e-6 of the signal."""
    x = rng.normal(0, VOLATILITY, n_bars)
    noise = rng.normal(0, VOLATILITY, (n_bars, 3)) * [1e-3, 1e-5, 1e-6]
    return x, 1e-5 + x[:, None] * [0.8, -1.1, 1.7] + noise


@_named
def exact_line(n_bars: int, rng: np.random.Generator) -> Returns:
    """Dyadic values, so that the line is exact in doubles too."""
    x = rng.integers(-4096, 4096, n_bars).astype(np.float64) * 2.0**-22
    return x, np.column_stack([x, 1.5 * x + 2.0**-10, 2.0**-12 - 0.75 * x])


@_named
def constant_assets(n_bars: int, rng: np.random.Generator) -> Returns:
    """Zero, 0.1 (not dyadic), and a price that stands still after noise."""
    x = rng.normal(0, VOLATILITY, n_bars)
    still = np.where(np.arange(n_bars) < n_bars // 4, x * 2 + 1e-4, -3e-4)
    return x, np.column_stack([np.zeros(n_bars), np.full(n_bars, 0.1), still])


@_named
def constant_after_spike(n_bars: int, rng: np.random.Generator) -> Returns:
    """Both sides stand still once a bad print is over: no residue may remain."""
    x, y = _factor_model(n_bars, rng)
    x[n_bars // 3], y[n_bars // 3] = 1e8, 1e8 / 3
    x[n_bars // 3 + 1 :], y[n_bars // 3 + 1 :, :2] = 1e-3, 0.1
    awake = slice(n_bars - n_bars // 8, n_bars)
    x[awake] = rng.normal(0, VOLATILITY, n_bars // 8)
    return x, y


_RUNS = (2, 3, 4, 29, 30, 31, 32, 60)


def _with_runs(
    values: FloatArray, rng: np.random.Generator, *, long_run: bool = False
) -> FloatArray:
    """Freeze runs of ``values``: short ones of every length, and one of a third."""
    frozen = values.copy()
    row = 5
    for length in rng.permutation(_RUNS):
        frozen[row : row + length] = rng.choice([0.0, 1e-3, 0.1, -1 / 3])
        row += int(length) + int(rng.integers(1, 12))
    if long_run:
        start = max(row, len(values) // 3)
        frozen[start : start + len(values) // 3 + 3] = 1e-3
    return frozen


@_named
def flat_benchmark(n_bars: int, rng: np.random.Generator) -> Returns:
    """The benchmark stands still for runs up to longer than the window."""
    x, y = _factor_model(n_bars, rng)
    return _with_runs(x, rng, long_run=True), y


@_named
def flat_on_both_sides(n_bars: int, rng: np.random.Generator) -> Returns:
    """Runs on both sides, overlapping at random."""
    x, y = _factor_model(n_bars, rng)
    y = np.column_stack([_with_runs(c, rng, long_run=True) for c in y.T])
    return _with_runs(x, rng), y


@_named
def flat_with_offset(n_bars: int, rng: np.random.Generator) -> Returns:
    """Runs of a level that no double represents, 1e8 / 3."""
    x, y = _factor_model(n_bars, rng)
    x, y = _with_runs(x, rng, long_run=True), _with_runs(y[:, :2], rng)
    return x + 1e8 / 3, y + 1e8 / 3


@_named
def tick_lattice(n_bars: int, rng: np.random.Generator) -> Returns:
    """Illiquid: zero or one tick up or down, so ties and exact fits abound."""
    x = rng.choice([-1e-4, 0.0, 1e-4], n_bars)
    return x, rng.choice([-2e-4, 0.0, 2e-4], (n_bars, 3), p=[0.2, 0.6, 0.2])


# --- gaps -------------------------------------------------------------------


def _randomly(
    values: FloatArray, share: float, rng: np.random.Generator, with_: float = np.nan
) -> FloatArray:
    return np.where(rng.random(values.shape) < share, with_, values)


@_named
def gaps_5_percent(n_bars: int, rng: np.random.Generator) -> Returns:
    """Independent gaps in every series."""
    x, y = _factor_model(n_bars, rng)
    return _randomly(x, 0.05, rng), _randomly(y, 0.05, rng)


@_named
def gaps_50_percent(n_bars: int, rng: np.random.Generator) -> Returns:
    """Half of every series is missing, a quarter of the pairs remain."""
    x, y = _factor_model(n_bars, rng)
    return _randomly(x, 0.5, rng), _randomly(y, 0.5, rng)


@_named
def gaps_infinite(n_bars: int, rng: np.random.Generator) -> Returns:
    """Infinities of both signs are missing too."""
    x, y = _factor_model(n_bars, rng)
    x, y = _randomly(x, 0.02, rng, np.inf), _randomly(y, 0.05, rng, -np.inf)
    return _randomly(x, 0.02, rng), _randomly(y, 0.05, rng, np.inf)


@_named
def gaps_in_blocks(n_bars: int, rng: np.random.Generator) -> Returns:
    """Leading, trailing and long blocks; one asset has no value at all."""
    x, y = _factor_model(n_bars, rng)
    y[: n_bars // 10, 0] = np.nan
    y[n_bars // 4 : n_bars // 4 + n_bars // 3, 0] = np.nan
    y[n_bars - n_bars // 10 :, 1] = np.nan
    y[:, 2] = np.nan
    x[n_bars // 2 : n_bars // 2 + 40] = np.nan
    return x, y


@_named
def gaps_in_rows(n_bars: int, rng: np.random.Generator) -> Returns:
    """Whole rows are missing: a halt, single and in blocks."""
    x, y = _factor_model(n_bars, rng)
    halted = rng.random(n_bars) < 0.03
    halted[n_bars // 3 : n_bars // 3 + 45] = True
    return np.where(halted, np.nan, x), np.where(halted[:, None], np.nan, y)


@_named
def gaps_in_benchmark(n_bars: int, rng: np.random.Generator) -> Returns:
    """Only the benchmark has gaps, the first row and a long block included."""
    x, y = _factor_model(n_bars, rng)
    x = _randomly(x, 0.1, rng)
    x[0] = np.nan
    x[n_bars // 5 : n_bars // 5 + n_bars // 3] = np.nan
    return x, y


@_named
def gaps_hide_spikes(n_bars: int, rng: np.random.Generator) -> Returns:
    """Bad prints of one side in rows where the other side is missing."""
    x, y = _factor_model(n_bars, rng)
    for row in (0, *_spike_rows(n_bars)):
        x[row], y[row] = 1e8, np.nan
        x[row + 2], y[row + 2] = np.nan, 1e8
    y[1, 0] = np.nan
    return x, y


# --- levels -----------------------------------------------------------------


@_named
def random_walk_prices(n_bars: int, rng: np.random.Generator) -> Returns:
    """Somebody passes prices instead of returns."""
    x, y = _factor_model(n_bars, rng)
    return 100 * np.exp(np.cumsum(x)), 30 * np.exp(np.cumsum(y, axis=0))


@_named
def linear_trend(n_bars: int, rng: np.random.Generator) -> Returns:
    """The level moves away from any fixed pivot, a volatility a row."""
    x, y = _factor_model(n_bars, rng)
    rows = np.arange(n_bars)
    return x + 1e-3 * rows, y + np.outer(rows, [2e-3, -1e-3, 1.0])


@_named
def level_step_1e6(n_bars: int, rng: np.random.Generator) -> Returns:
    """The level jumps by 1e6 and stays: a first-value pivot is then useless."""
    x, y = _factor_model(n_bars, rng)
    after = np.arange(n_bars) >= n_bars // 4
    return x + 1e6 * after, y + np.outer(after, [1e6, -3e6, 0.0])


@_named
def level_step_down(n_bars: int, rng: np.random.Generator) -> Returns:
    """The data begin at 1e6 and fall to zero, keeping all their digits there."""
    x, y = _factor_model(n_bars, rng)
    before = np.arange(n_bars) < n_bars // 4
    return x + 1e6 * before, y + np.outer(before, [1e6, 0.0, -1e6])


# --- a mix ------------------------------------------------------------------


@st.composite
def _segment(draw: st.DrawFn) -> FloatArray:
    """Some rows of (benchmark, asset), of one kind and scale."""
    length = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(0, 10.0 ** draw(st.integers(-7, -1)), length)
    y = draw(st.sampled_from([-1.5, 0.0, 1.0])) * x
    y += rng.normal(0, 10.0 ** draw(st.integers(-7, -1)), length)
    kind = draw(st.sampled_from(["noise", "spike", "flat", "gap", "level", "line"]))
    level = draw(st.sampled_from([0.0, 0.1, 1.0, -1e4, 1e6, 1e8]))
    on_x, on_y = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    row = rng.integers(length)
    if kind == "spike":
        x[row] += on_x * 1e8
        y[row] -= on_y * 1e8
    elif kind == "flat":
        x = np.full(length, level) if on_x else x
        y = np.full(length, level) if on_y else y
    elif kind == "gap":
        x[row:] = np.nan if on_x else x[row:]
        y[: row + 1] = np.inf if on_y else y[: row + 1]
    elif kind == "level":
        x, y = x + on_x * level, y + on_y * level
    elif kind == "line":
        x = rng.integers(-64, 64, length).astype(np.float64) * 2.0**-10
        y = level * on_y - 0.5 * x
    return np.column_stack([x, y])


@st.composite
def return_series(draw: st.DrawFn) -> Returns:
    """Up to six segments one after the other; one asset."""
    rows = np.concatenate(draw(st.lists(_segment(), min_size=1, max_size=6)))
    return rows[:, 0].copy(), rows[:, 1:].copy()
