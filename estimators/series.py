"""A slab's windows over whole series: the sums bar by bar, the statistics in blocks.

Rule: the sums are those of the live windows, which are stepped through the series. Only
the last step, from sums to statistics, is taken for some dozen bars at once: it is the
same for each number by itself, so the bits are the same, and numpy's fixed cost is paid
once a block.

A block ends where the sums are about something else (`Basis`), or where some row begins
or ceases to lack a bar. Rows that doubles cannot answer are computed from the series.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from .arrays import Rows
from .doubt import doubtful
from .grid import Grid
from .moments import LARGEST, Floats
from .ols import ALL_STATISTICS, solve
from .recalc import recalculate
from .slab import WindowSlab
from .sums import SIDE, Basis, moments_of

_BLOCK: Final = 1 << 14
"""Statistics of one kind that are computed at once: some dozen such arrays fit a
cache."""


class Opening(NamedTuple):
    """One bar of the grid, as `Grid.advance` takes it."""

    stamp: int
    benchmark_return: float
    """NaN = missing."""
    resets: bool = False
    """Whether the window begins anew with this bar."""


class Table(NamedTuple):
    """What is noted at every row of a series."""

    statistics: Floats
    """Shape (ALL_STATISTICS, n_bars, n_assets)."""
    n: Floats
    """Complete pairs, shape (n_bars, n_assets)."""


def take(windows: Grid, returns: Floats, opened: Sequence[Opening]) -> None:
    """Open the bars of one row of a series, and fill the last."""
    for opening in opened:
        if opening.resets:
            windows.reset()
        windows.advance(opening.stamp, opening.benchmark_return)
    if opened:
        windows.fill(returns)


def fill_by_blocks(
    windows: WindowSlab,
    returns: Floats,
    openings: Iterable[Sequence[Opening]],
    table: Table,
) -> None:
    """Run windows over series, and fill a table with the estimate at every row.

    Parameters
    ----------
    windows
        Empty ones, or such as have bars.
    returns
        Shape (n_bars, n_assets), NaN = missing.
    openings
        For each row the bars that it opens.
    table
        To be filled.
    """
    n_assets = returns.shape[1]
    length = max(1, _BLOCK // max(n_assets, 1))
    block = _Block(windows, returns, table, length)
    for at, opened in enumerate(openings):
        take(windows, returns[at], opened)
        block.note(at, opened)
    block.finish()


class _Block:
    # Rows of the series whose sums are noted, but not their statistics.

    def __init__(
        self, windows: WindowSlab, returns: Floats, table: Table, length: int
    ) -> None:
        n_assets = returns.shape[1]
        self._windows = windows
        self._returns = returns
        self._table = table
        self._length = length
        self._asset = np.empty((SIDE, length, n_assets))
        self._shared = np.empty((SIDE, length, 1))
        self._own = np.empty((SIDE, length, n_assets))
        self._statistics = np.empty((ALL_STATISTICS, length, n_assets))
        # What the windows hold already, then bar after bar of the series.
        held = range(windows.oldest, windows.newest + 1)
        self._first_bar = windows.oldest
        self._held = np.empty((len(held), n_assets))
        self._bars: list[tuple[float, int]] = []
        """Of each bar the benchmark's return and the row of the series: -1 for none,
        below that of what was held, from the last backward."""
        for position, bar in enumerate(held):
            self._held[position] = windows.returns_of(bar)
            row = position - len(held) - 1
            self._bars.append((windows.benchmark_value(bar), row))
        self._windows_of: list[tuple[int, int]] = []
        """The bars of the window at each row of the block."""
        self._first = 0
        self._basis: Basis | None = None
        self._is_own = False

    def note(self, at: int, opened: Sequence[Opening]) -> None:
        windows = self._windows
        last = len(opened) - 1
        for position, opening in enumerate(opened):
            row = at if position == last else -1
            self._bars.append((opening.benchmark_return, row))
        basis = windows.basis
        place = len(self._windows_of)
        asset, benchmark = windows.sums()
        is_own = isinstance(benchmark, np.ndarray)
        if place == self._length or not self._continues(basis, is_own=is_own):
            self.finish()
            place = 0
        if not place:
            self._first, self._basis, self._is_own = at, basis, is_own
        self._asset[:, place] = asset
        if isinstance(benchmark, np.ndarray):
            self._own[:, place] = benchmark
        else:
            self._shared[:, place, 0] = benchmark
        self._windows_of.append((windows.oldest, windows.newest + 1))

    def finish(self) -> None:
        n_bars = len(self._windows_of)
        if not n_bars or self._basis is None:
            return
        own = self._own if self._is_own else self._shared
        moments = moments_of(self._asset[:, :n_bars], own[:, :n_bars], self._basis)
        rows = slice(self._first, self._first + n_bars)
        statistics = self._statistics[:, :n_bars]
        self._table.n[rows] = moments.n
        fewest = self._windows.min_observations
        solve(moments, fewest, statistics)
        error, tiny = self._basis.error, self._basis.has_tiny
        doubts = doubtful(moments, statistics, fewest, error, tiny=tiny)
        n_assets = self._returns.shape[1]
        bars, assets = np.divmod(doubts, max(n_assets, 1))
        for place in np.unique(bars).tolist():
            some = assets[bars == place]
            statistics[:, place, some] = self._recalculated(place, some)
        self._table.statistics[:, rows] = statistics
        self._windows_of.clear()

    def _continues(self, basis: Basis, *, is_own: bool) -> bool:
        before = self._basis
        return (
            before is not None
            and is_own == self._is_own
            and basis.pivots is before.pivots
            and basis[0] == before[0]
            and basis[2:] == before[2:]
        )

    def _recalculated(self, place: int, assets: Rows) -> Floats:
        first, end = self._windows_of[place]
        bars = self._bars[first - self._first_bar : end - self._first_bar]
        benchmark, rows = zip(*bars, strict=True)
        x = np.array(benchmark)
        x[~(np.abs(x) <= LARGEST)] = np.nan
        at = np.array(rows)
        y = np.full((len(at), len(assets)), np.nan)
        y[at >= 0] = self._returns[at[at >= 0, None], assets]
        y[at < -1] = self._held[at[at < -1, None] + 1, assets]
        return recalculate(x, y, self._windows.min_observations)
