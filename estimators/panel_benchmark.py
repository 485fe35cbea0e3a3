"""The benchmark's side of a panel's windows: computed once, for every column.

Rule: nothing of an asset is here. What columns that lack no bar have in common is.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .moments import LARGEST, Floats
from .panel_solve import FEWEST_OF_SIDE, Side, side_of
from .panel_sums import Part, Segments, Walk
from .sums import FEWEST, SIDE, XX, N, X, is_odd


class Unit(NamedTuple):
    """Bars of a part whose windows are solved at once."""

    bars: slice
    """Of the series."""
    within: slice
    """The same, counted from the part's first."""
    side: Side | None
    """What complete columns share; ``None`` where some windows have no line, though
    they have enough pairs."""


class Benchmark:
    """A benchmark's windows.

    Parameters
    ----------
    returns
        Shape (n_bars,); not finite or above `LARGEST` = missing.
    segments
        How series are cut.
    min_observations
        Complete pairs below which a value is undefined.
    """

    def __init__(
        self, returns: Floats, segments: Segments, min_observations: int
    ) -> None:
        n_bars = len(returns)
        self.returns = np.where(np.abs(returns) <= LARGEST, returns, np.nan)
        """NaN = missing."""
        self.is_there = ~np.isnan(self.returns)
        self.absent: Rows = np.flatnonzero(~self.is_there)
        """Bars that have no pair."""
        self.is_flat = _is_flat(self.returns, segments.lookback_length)
        """Of which windows it is but one value, shape (n_bars,)."""
        sides = np.zeros((SIDE, segments.n_places))
        side = sides[:, segments.before : segments.before + n_bars]
        side[N] = self.is_there
        np.copyto(side[X], self.returns, where=self.is_there)
        np.multiply(side[X], side[X], out=side[XX])
        self.sums = np.empty((SIDE, n_bars))
        """Its side of every window's sums, shape (SIDE, n_bars)."""
        self.planes: list[Floats] = []
        """By part: its returns for each column of a block, as planes."""
        self.ends_n: list[Floats] = []
        """By part: its pairs where segments end."""
        walk = Walk(segments, SIDE, 1)
        for part in segments.parts:
            terms = walk.terms(part)
            segments.place(sides, part, terms[:, :, 0])
            self.planes.append(np.repeat(terms[:, X], segments.n_columns, axis=1))
            walk.add_up(part)
            self.sums[:, part.bars] = walk.sums(part)[:, 0]
            self.ends_n.append(walk.ends(part)[N, 0].copy())
        self.n = self.sums[N].copy()
        """Pairs of windows that lack none but those, read-only, shape (n_bars,)."""
        self.n.flags.writeable = False
        n, x, xx = self.sums[:, segments.ends]
        odd = is_odd(n, x, xx, np.zeros(1), segments.error)
        self.is_odd = bool((odd & (n >= FEWEST)).any())
        """Whether a slab would find a better pivot for it than 0."""
        self._fewest = min_observations
        self.units = [self._units_of(part) for part in segments.parts]
        """By part."""

    def _units_of(self, part: Part) -> list[Unit]:
        # The bars until all have a line, and those after; what warms up before the
        # first line does not count.
        bars = part.bars
        sums, is_flat = self.sums[:, bars], self.is_flat[bars]
        enough = sums[N] >= self._fewest
        n_warming = _first(enough)
        n_flat = _first(enough & ~is_flat)
        cuts = {0, n_flat, len(enough)} if n_warming < n_flat else {0, len(enough)}
        units: list[Unit] = []
        for first, end in pairwise(sorted(cuts)):
            within, n_few = slice(first, end), 0 if first else min(n_warming, end)
            side = None
            if self._fewest >= FEWEST_OF_SIDE and enough[first + n_few : end].all():
                side = side_of(sums[:, within], is_flat[within], n_few)
            own = slice(bars.start + first, bars.start + end)
            units.append(Unit(own, within, side))
        return units


def _first(where: NDArray[np.bool_]) -> int:
    # The first such bar; where there is none, the end.
    return int(where.argmax()) if where.any() else len(where)


def _is_flat(returns: Floats, lookback_length: int) -> NDArray[np.bool_]:
    # By bar: has the benchmark had but one value since the window began?
    n_bars = len(returns)
    there = np.flatnonzero(~np.isnan(returns))
    x = returns[there]
    moves = np.append(True, x[1:] != x[:-1])[: len(x)]
    changes = np.zeros(n_bars, dtype=np.intp)
    changes[there[moves]] = there[moves]
    since = np.maximum.accumulate(changes)
    oldest = np.arange(n_bars) - lookback_length + 1
    result: NDArray[np.bool_] = since <= np.maximum(oldest, 0)
    return result
