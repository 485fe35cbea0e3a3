"""Windows of bars at every bar of a recording: the slab's numbers without its steps.

Rule: every number comes from the operations of `sums` and `ols`, in the order in which
`WindowSlab` does them, so that both give the same bits. Only the loops change
places: the slab takes all rows through one bar, this file takes many bars through one
step.

Theory of operation
-------------------
In a window of W bars, which bars are in which set depends on the number of the newest
bar alone. With S segments the slab's heads are cut at the bars

    c[k] = ceil(k * W / S) for k < S,    c[k + S] = c[k] + W,

and segment k is ``[c[k], c[k + 1])``. While the newest bar t is in segment j + S,

    front   the bars from t - W + 1 on of segment j, walked backward onto the merged
            segments j + S - 2 .. j + 1
    back    segment j + S - 1, and then the bars from c[j + S] to t

So a *stretch* j depends on none of the others' running sums, and all of them are walked
together: a step adds to each stretch's set the pair that is its turn. A set that has no
pair in a step (stretches differ in length by one, returns are missing) adds zeros,
which leaves its bits as they are. Some 4 sqrt(W) steps do for all stretches there are,
where the slab takes a few for each bar. While the window fills, its front is the sum of
the segments that are closed, and its back the head alone.

The one thing that depends on the values is the pivot, which the slab moves where it
turns out to be odd. Returns have their mean next to 0, the pivot at first; a recording
in which any pivot would move, or nearly so, is not swept (`keeps_pivots`).
"""

from collections.abc import Iterator
from itertools import count
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .doubt import TINY, doubtful
from .extent import BarExtent
from .moments import Floats
from .ols import STATISTICS, Moments, solve
from .recalc import batches, recalculate
from .sums import FEWEST, SIDE, centre, error_of, is_odd

Bars = NDArray[np.intp]

_SUMS: Final = 2 * SIDE
"""Numbers per set: those of the asset's side, then those of the benchmark's."""
_BLOCK: Final = 1 << 16
"""Windows of all rows that are computed at once: their sets take 6 MB."""
_NEARLY: Final = 1.0 + 1e-6
"""Sums made in another order differ by less, so no odd pivot escapes."""


class Swept(NamedTuple):
    """Estimates of some windows, by newest bar, then by row."""

    bars: Bars
    """Each window's newest bar, shape (k,)."""
    rows: Rows
    n: Floats
    """Complete pairs."""
    statistics: Floats
    """Shape (STATISTICS, k); NaN = undefined."""


def keeps_pivots(
    asset_returns: Floats, benchmark_returns: Floats, lookback_length: int
) -> bool:
    """Return whether a `WindowSlab` fed with these bars leaves its pivots at 0.

    Parameters are those of `sweep`.
    """
    n_bars, n_rows = asset_returns.shape
    if not n_bars:
        return True
    extent = BarExtent(lookback_length)
    cuts = _cuts(lookback_length, n_bars)
    sides = (benchmark_returns[:, None], asset_returns)
    error = _error(extent) * _NEARLY
    step = max(1, _BLOCK // max(n_rows, 1))
    for values in sides:
        for first in range(0, values.shape[1], step):
            paired = values[:, first : first + step]
            paired = np.where(np.isnan(benchmark_returns)[:, None], np.nan, paired)
            there = ~np.isnan(paired)
            y = np.where(there, paired, 0.0)
            # of each segment, then of the windows that end with one
            starts = cuts[cuts < n_bars]
            n, total, squares = (
                _rolling(np.add.reduceat(part, starts, axis=0), extent.n_segments)
                for part in (there.astype(np.float64), y, y * y)
            )
            odd = is_odd(n, total, squares * _NEARLY, np.zeros(1), error)
            if (odd & (n >= FEWEST)).any():
                return False
    return True


def sweep(
    asset_returns: Floats,
    benchmark_returns: Floats,
    wanted: NDArray[np.bool_],
    *,
    lookback_length: int,
    min_observations: int,
) -> Iterator[Swept]:
    """Yield what a `WindowSlab` estimates when it is fed these bars, in parts.

    Parameters
    ----------
    asset_returns
        Shape (n_bars, n_rows); NaN = missing, finite and within `LARGEST` otherwise.
        It is one that `keeps_pivots`.
    benchmark_returns
        Shape (n_bars,), likewise.
    wanted
        Which windows to estimate, shape (n_bars, n_rows).
    lookback_length
        Window length, in bars, at least 2.
    min_observations
        Complete pairs below which a value is undefined.
    """
    n_bars, n_rows = asset_returns.shape
    if not n_bars or not n_rows:
        return
    pairs = _Pairs(asset_returns, benchmark_returns)
    windows = _Windows(pairs, wanted, lookback_length, min_observations)
    cuts = _cuts(lookback_length, n_bars)
    n_heads = len(cuts) - 1
    n_segments = BarExtent(lookback_length).n_segments
    step = max(1, _BLOCK * n_segments // (lookback_length * n_rows))

    so_far = np.zeros((_SUMS, n_rows))
    for first in range(0, min(n_segments, n_heads), step):
        heads = np.arange(first, min(first + step, n_segments, n_heads))
        back, closed = _walk(pairs, cuts, heads, _nothing(len(heads), n_rows))
        sums = np.concatenate((so_far[:, None], closed), axis=1).cumsum(axis=1)
        front = np.broadcast_to(sums[:, None, :-1], back.shape)
        so_far = sums[:, -1]
        yield windows.of_heads(cuts, heads, front, back)

    # Segments first + 1 .. end + n_segments - 2, which stretches first .. end - 1 need.
    closed = np.empty((_SUMS, 0, n_rows))
    for first in range(0, n_heads - n_segments, step):
        end = min(first + step, n_heads - n_segments)
        kept = closed[:, closed.shape[1] - (n_segments - 2) :] if first else closed
        segments = np.arange(first + 1 + kept.shape[1], end + n_segments - 1)
        _, made = _walk(pairs, cuts, segments, _nothing(len(segments), n_rows))
        closed = np.concatenate((kept, made), axis=1)
        heads = np.arange(first, end) + n_segments
        back, _ = _walk(pairs, cuts, heads, closed[:, -len(heads) :].copy())
        front = _fronts(pairs, cuts, heads - n_segments, closed)
        yield windows.of_heads(cuts, heads, front[:, ::-1], back)


class _Pairs:
    # The recording, as pairs that are present or not.
    def __init__(self, asset_returns: Floats, benchmark_returns: Floats) -> None:
        self.n_bars, self.n_rows = asset_returns.shape
        self.x = benchmark_returns
        self.y = asset_returns
        self.tiny_before = np.append(0, np.cumsum(self._tiny()))
        """Bars with a tiny value before each bar, shape (n_bars + 1,)."""
        there = np.flatnonzero(~np.isnan(benchmark_returns))
        x = benchmark_returns[there]
        moves = np.append(True, x[1:] != x[:-1])[: len(x)]
        changes = np.zeros(self.n_bars, dtype=np.intp)
        changes[there[moves]] = there[moves]
        self.flat_since = np.maximum.accumulate(changes)
        """At each bar since when the benchmark had but one value."""

    def terms(self, bars: Bars, is_in: NDArray[np.bool_]) -> Floats:
        """Return what one bar adds to each set, shape (SUMS, sets, rows)."""
        is_in = is_in & (bars < self.n_bars)  # the newest segment may be cut short
        bars = np.where(is_in, bars, 0)
        y = self.y[bars]
        x = np.broadcast_to(self.x[bars, None], y.shape)
        absent = np.isnan(x) | np.isnan(y) | ~is_in[:, None]
        terms = np.empty((_SUMS, *y.shape))
        terms[0] = np.where(absent, 0.0, y)
        terms[4] = np.where(absent, 0.0, x)
        np.subtract(1.0, absent, out=terms[3])
        np.multiply(terms[0], terms[4], out=terms[1])
        np.multiply(terms[0], terms[0], out=terms[2])
        np.multiply(terms[4], terms[4], out=terms[5])
        return terms

    def _tiny(self) -> NDArray[np.bool_]:
        # Bars with a value of which `has_tiny`.
        x = np.abs(self.x)
        is_tiny = (x > 0.0) & (x < TINY)
        step = max(1, _BLOCK // self.n_rows)
        for first in range(0, self.n_bars, step):
            y = np.abs(self.y[first : first + step])
            paired = ~np.isnan(x[first : first + step])
            small = ((y > 0.0) & (y < TINY)).any(axis=1)
            is_tiny[first : first + step] |= paired & small
        return is_tiny


def _cuts(length: int, n_bars: int) -> Bars:
    # c[0], c[1], ... up to the first that is not before the recording's end, and the
    # whole of the first window's in any case.
    n_segments = BarExtent(length).n_segments
    first = [-(-k * length // n_segments) for k in range(n_segments)]
    cuts: list[int] = []
    for lap in count():
        cuts += [lap * length + cut for cut in first]
        if lap and cuts[-1] >= n_bars:
            break
    wanted = max(int(np.searchsorted(cuts, n_bars)), n_segments)
    return np.array(cuts[: wanted + 1])


def _error(extent: BarExtent) -> float:
    return error_of(2 * extent.longest_segment + extent.n_segments)


def _rolling(segments: Floats, n_segments: int) -> Floats:
    # Sums over up to so many segments, by the last of them.
    sums = segments.copy()
    for older in range(1, min(n_segments, len(segments))):
        sums[older:] += segments[:-older]
    return sums


def _nothing(n_sets: int, n_rows: int) -> Floats:
    return np.zeros((_SUMS, n_sets, n_rows))


def _walk(
    pairs: _Pairs, cuts: Bars, segments: Bars, sets: Floats
) -> tuple[Floats, Floats]:
    # Sets at each bar of some segments, shape (SUMS, longest, segments, rows), and at
    # their ends: what they are before, and the segment's bars.
    first, end = cuts[segments], cuts[segments + 1]
    longest = int((end - first).max())
    states = np.empty((_SUMS, longest, *sets.shape[1:]))
    for i in range(longest):
        sets += pairs.terms(first + i, first + i < end)
        states[:, i] = sets
    return states, sets


def _fronts(pairs: _Pairs, cuts: Bars, stretches: Bars, closed: Floats) -> Floats:
    # The fronts that begin i bars before each stretch's end, shape as of `_walk`: the
    # segments between stretch and back, newest first, and then the stretch's bars.
    n_stretches = len(stretches)
    sets = _nothing(n_stretches, pairs.n_rows)
    for newest in range(closed.shape[1] - n_stretches - 1, -1, -1):
        sets += closed[:, newest : newest + n_stretches]
    first, end = cuts[stretches], cuts[stretches + 1]
    longest = int((end - first).max())
    fronts = np.empty((_SUMS, longest, *sets.shape[1:]))
    fronts[:, 0] = sets
    for i in range(1, longest):
        sets += pairs.terms(end - i, end - i > first)
        fronts[:, i] = sets
    return fronts


class _Windows:
    # From the two sets of a window to its statistics.
    def __init__(
        self,
        pairs: _Pairs,
        wanted: NDArray[np.bool_],
        length: int,
        min_observations: int,
    ) -> None:
        self._pairs = pairs
        self._wanted = wanted
        self._length = length
        self._min_observations = min_observations
        self._error = _error(BarExtent(length))

    def of_heads(self, cuts: Bars, heads: Bars, front: Floats, back: Floats) -> Swept:
        """Return the windows that end in some neighbouring segments.

        The newest bar of a back is the i-th of its segment; that of a front, counted
        from the end, is as far from the last. Both have shape (SUMS, longest, segments,
        rows).
        """
        edges = cuts[int(heads[0]) : int(heads[-1]) + 2]
        first = int(edges[0])
        bars, rows = np.nonzero(self._wanted[first : int(edges[-1])])
        bars += first
        at = np.searchsorted(edges, bars, side="right") - 1
        before = front.shape[1] - (edges[at + 1] - bars)
        sums = front[:, before, at, rows] + back[:, bars - edges[at], at, rows]
        return self._estimate(bars, rows, sums)

    def _estimate(self, bars: Bars, rows: Rows, sums: Floats) -> Swept:
        moments = centre(sums[:SIDE], sums[SIDE:], 0.0, np.zeros(len(bars)))
        oldest = np.maximum(bars - self._length + 1, 0)
        is_flat = self._pairs.flat_since[bars] <= oldest
        cxx, xx = np.where(is_flat, 0.0, moments.cxx), np.where(is_flat, 0.0, sums[5])
        moments = moments._replace(cxx=cxx, xx=xx)
        statistics = np.empty((STATISTICS, len(bars)))
        solve(moments, self._min_observations, statistics)
        tiny_before = self._pairs.tiny_before
        has_tiny = tiny_before[bars + 1] > tiny_before[oldest]
        for tiny in (False, True):
            some = np.flatnonzero(has_tiny == tiny)
            if not len(some):
                continue
            doubts = doubtful(
                Moments(*(np.asarray(part)[some] for part in moments)),
                statistics[:, some],
                self._min_observations,
                self._error,
                tiny=tiny,
            )
            self._recalculate(bars, rows, some[doubts], statistics)
        return Swept(bars, rows, sums[SIDE], statistics)

    def _recalculate(
        self, bars: Bars, rows: Rows, doubts: Rows, statistics: Floats
    ) -> None:
        # Windows of one length together, as the slab has all of its own.
        n_bars = np.minimum(bars[doubts] + 1, self._length)
        lengths: list[int] = np.unique(n_bars).tolist()
        for length in lengths:
            for some in batches(doubts[n_bars == length], length):
                window: Bars = bars[some] - np.arange(length)[::-1, None]
                x, y = self._pairs.x[window], self._pairs.y[window, rows[some]]
                exact = recalculate(x, y, self._min_observations)
                statistics[:, some] = exact[:STATISTICS]
