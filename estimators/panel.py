"""Windows of bars at every bar of many columns: a slab's numbers without its steps.

Rule: the bits of a `WindowSlab` that is fed bar by bar, for the price of the
arithmetic. Columns are taken in blocks that fit a cache: `panel_sums` makes the sums of
a block's windows, `panel_solve` the statistics, and what doubles cannot answer is
computed from the pairs, as ever.

What depends on the values is the pivot. Sums are about 0 here; a slab looks for a
better pivot where a segment ends, by the very sums that are at hand here. So the
columns of which it would find one are known, and left to it; and so is everything, if
it is the benchmark's.

A block in which no column lacks a bar shares the benchmark's side, three numbers a bar;
in any other block each column has its own. Blocks know nothing of each other, so that
threads take one after another: numpy gives the interpreter away while it computes.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .doubt import TINY, doubtful, largest_spread
from .moments import LARGEST, Floats
from .ols import ALL_STATISTICS
from .panel_benchmark import Benchmark, Unit
from .panel_solve import Solver, solve_any
from .panel_sums import Part, Segments, Walk
from .recalc import batches, recalculate
from .sums import FEWEST, SIDE, XX, XY, YY, N, X, Y, is_odd

_MOST_WORKERS: Final = 4
"""Threads that compute blocks: they take turns at the interpreter for a tenth of their
time, and share the memory's bandwidth."""


_PIECE_BYTES: Final = 30_000_000
"""Most memory in one piece, unless a block has more: as much as the C library keeps for
the next batch, if it is told to, and many large pages."""


class Column(NamedTuple):
    """What is known of an asset's windows, bar by bar."""

    n: Floats
    """Complete pairs, shape (n_bars,). Columns of blocks without a gap have it in
    common: then it cannot be written to."""
    statistics: Floats
    """Shape (ALL_STATISTICS, n_bars); NaN = undefined. Neighbours share the memory."""


class Panel:
    """Aligned returns of a benchmark and of assets, and windows of bars over them.

    Parameters
    ----------
    columns
        Returns of each asset, shape (n_bars,), at least one bar; not finite or above
        `LARGEST` = missing.
    benchmark_returns
        Shape (n_bars,), likewise.
    lookback_length
        Window length, in bars, at least 2.
    min_observations
        Complete pairs below which a value is undefined.
    """

    def __init__(
        self,
        columns: Sequence[Floats],
        benchmark_returns: Floats,
        *,
        lookback_length: int,
        min_observations: int,
    ) -> None:
        self.columns = columns
        self.min_observations = min_observations
        n_bars = len(benchmark_returns)
        self.segments = Segments(lookback_length, n_bars, len(columns))
        self.benchmark = Benchmark(benchmark_returns, self.segments, min_observations)

    def estimate(self) -> list[Column | None] | None:
        """Return the estimates of every column's windows.

        ``None`` for a column of which a slab would take another pivot; and instead of
        all of them if it is the benchmark's, or if what one column needs could be seen
        in another.
        """
        if self.benchmark.is_odd:
            return None
        columns: list[Column | None] = [None] * len(self.columns)
        firsts = range(0, len(columns), self.segments.n_columns)
        blocks = list(zip(firsts, self._memory(), strict=True))
        left = iter(blocks)  # of a list: two threads may ask it at once

        def work(block: _Block) -> None:
            for first, memory in left:
                columns[first : first + memory.shape[1]] = block.estimate(first, memory)

        n_workers = min(_n_processors(), _MOST_WORKERS, len(blocks) // 2)
        if n_workers > 1:
            with ThreadPoolExecutor(n_workers) as pool:
                list(pool.map(work, [_Block(self) for _ in range(n_workers)]))
        else:
            work(_Block(self))
        if None in columns and self.tiny_before[-1]:  # all rows of a slab look at that
            return None
        return columns

    def _memory(self) -> list[Floats]:
        # For the statistics of each block; some blocks have a piece in common.
        step, n_columns = self.segments.n_columns, len(self.columns)
        n_bars = len(self.benchmark.returns)
        block_bytes = ALL_STATISTICS * step * n_bars * np.float64().itemsize
        n_kept = max(1, _PIECE_BYTES // block_bytes) * step
        memory: list[Floats] = []
        for first in range(0, n_columns, n_kept):
            piece = np.empty((ALL_STATISTICS, min(n_kept, n_columns - first), n_bars))
            starts = range(0, piece.shape[1], step)
            memory += [piece[:, start : start + step] for start in starts]
        return memory

    @cached_property
    def tiny_before(self) -> NDArray[np.int64]:
        """Bars with a tiny value before each bar, see `has_tiny`.

        Shape (n_bars + 1,).
        """
        returns = np.abs(self.benchmark.returns)
        is_tiny = (returns > 0.0) & (returns < TINY)
        for column in self.columns:
            returns = np.abs(column)
            is_tiny |= (returns > 0.0) & (returns < TINY) & self.benchmark.is_there
        return np.append(0, np.cumsum(is_tiny))


class _Block:
    # Some neighbouring columns at a time, in memory that is there.

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        segments = panel.segments
        self._usual_spread = 0.4 * largest_spread(segments.error)
        """Of sums about a pivot that is not odd, with something to spare."""
        self._width = width = segments.n_columns
        self._values = np.zeros((width, segments.n_places))
        self._present = np.zeros((0, 0))
        self._solver = Solver(
            width * segments.longest * segments.n_kept, segments.error
        )
        self._walks: dict[int, Walk] = {}
        """By how many sums a window has."""

    def estimate(self, first: int, statistics: Floats) -> list[Column | None]:
        """Return the estimates of the block that begins with a column.

        Parameters
        ----------
        first
            The column.
        statistics
            Where they go, shape (ALL_STATISTICS, n_columns, n_bars).
        """
        panel = self._panel
        columns = panel.columns[first : first + self._width]
        segments, benchmark = panel.segments, panel.benchmark
        n_columns, n_bars = len(columns), len(benchmark.returns)
        values = self._values[:, segments.before : segments.before + n_bars]
        for position, column in enumerate(columns):
            np.copyto(values[position], column)
        values[n_columns:] = 0.0
        if len(benchmark.absent):
            values[:, benchmark.absent] = 0.0
        least, most = values.min(), values.max()  # NaN if any is
        n: Floats | None = None
        if not (least >= -LARGEST and most <= LARGEST):
            self._take_out_gaps(values)
            n = np.empty((n_columns, n_bars))
        odd = np.zeros(n_columns, dtype=np.bool_)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for at, part in enumerate(segments.parts):
                walk = self._walked(part, benchmark.planes[at], is_complete=n is None)
                sums = walk.sums(part)[:, :n_columns]
                if n is not None:
                    n[:, part.bars] = sums[SIDE + N]
                ends = walk.ends(part)[:, :n_columns]
                odd[self._odd_of(ends, benchmark.ends_n[at])] = True
                for unit in benchmark.units[at]:
                    out = statistics[..., unit.bars]
                    doubts = self._solve(unit, sums[..., unit.within], out)
                    if len(doubts):
                        self._recalculate(columns, odd, unit, doubts, out)
        return [
            None
            if is_odd
            else Column(benchmark.n if n is None else n[i], statistics[:, i])
            for i, is_odd in enumerate(odd.tolist())
        ]

    def _take_out_gaps(self, values: Floats) -> None:
        segments, benchmark = self._panel.segments, self._panel.benchmark
        if not self._present.size:
            self._present = np.zeros_like(self._values)
        is_there = np.abs(values) <= LARGEST
        is_there &= benchmark.is_there
        np.copyto(values, 0.0, where=~is_there)
        self._present[:, segments.before :][:, : values.shape[1]] = is_there

    def _walked(self, part: Part, x: Floats, *, is_complete: bool) -> Walk:
        # The sums of the windows of a part, which are made of the terms of its pairs.
        segments = self._panel.segments
        n_sums = SIDE if is_complete else 2 * SIDE
        walk = self._walks.get(n_sums)
        if walk is None:
            walk = self._walks[n_sums] = Walk(segments, n_sums, self._width)
        terms = walk.terms(part)
        y = terms[:, Y]
        segments.place(self._values, part, y)
        np.multiply(y, x, out=terms[:, XY])
        np.multiply(y, y, out=terms[:, YY])
        if not is_complete:
            own = terms[:, SIDE:]
            segments.place(self._present, part, own[:, N])
            np.multiply(own[:, N], x, out=own[:, X])
            np.multiply(own[:, X], x, out=own[:, XX])
        walk.add_up(part)
        return walk

    def _odd_of(self, ends: Floats, shared_n: Floats) -> Rows:
        # The columns of which a slab would move the pivot, where segments end.
        n = shared_n if len(ends) == SIDE else ends[SIDE + N]
        y, yy = ends[Y], ends[YY]
        centred = yy - y * (y / np.maximum(n, 1.0))
        if (yy <= self._usual_spread * centred).all():
            return np.empty(0, dtype=np.intp)
        odd = is_odd(n, y, yy, np.zeros(1), self._panel.segments.error)
        return np.flatnonzero((odd & (n >= FEWEST)).any(axis=1))

    def _solve(self, unit: Unit, sums: Floats, out: Floats) -> Rows:
        # Fill in the statistics of windows; return which of them are doubtful.
        benchmark, fewest = self._panel.benchmark, self._panel.min_observations
        is_shared = len(sums) == SIDE
        if is_shared and unit.side is not None:
            moments, may_be_doubtful = self._solver.solve(sums, unit.side, out)
            if not may_be_doubtful:
                return np.empty(0, dtype=np.intp)
        else:
            own = benchmark.sums[:, None, unit.bars] if is_shared else sums[SIDE:]
            is_flat = benchmark.is_flat[unit.bars]
            moments = solve_any(sums[:SIDE], own, is_flat, fewest, out)
        error = self._panel.segments.error
        doubts = doubtful(moments, out, fewest, error, tiny=True)
        if not len(doubts):
            return doubts
        # Some are so only where there is a tiny value in the window.
        bars = doubts % out.shape[2] + unit.bars.start
        oldest = np.maximum(bars - self._panel.segments.lookback_length + 1, 0)
        before = self._panel.tiny_before
        has_tiny = before[bars + 1] > before[oldest]
        if has_tiny.all():
            return doubts
        others = doubtful(moments, out, fewest, error, tiny=False)
        return np.union1d(doubts[has_tiny], others)

    def _recalculate(
        self,
        columns: Sequence[Floats],
        odd: NDArray[np.bool_],
        unit: Unit,
        doubts: Rows,
        out: Floats,
    ) -> None:
        # From the pairs, by column; windows of one length together.
        panel = self._panel
        positions, places = np.divmod(doubts, out.shape[2])
        some_columns: list[int] = np.unique(positions[~odd[positions]]).tolist()
        for position in some_columns:
            bars = places[positions == position] + unit.bars.start
            n_bars = np.minimum(bars + 1, panel.segments.lookback_length)
            lengths: list[int] = np.unique(n_bars).tolist()
            for length in lengths:
                for some in batches(bars[n_bars == length], length):
                    window: Rows = some - np.arange(length)[::-1, None]
                    x, y = panel.benchmark.returns[window], columns[position][window]
                    y[~(np.abs(y) <= LARGEST)] = np.nan
                    exact = recalculate(x, y, panel.min_observations)
                    out[:, position, some - unit.bars.start] = exact


def _n_processors() -> int:
    # Those that this process may use.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
