"""Sums of all windows over some columns at once: the slab's numbers, series long.

Rule: every sum is made of the additions that `WindowSlab` makes, in their order, so
that it has the same bits. `sweep` says why all stretches of a series can be walked
together; this file does it for many columns of many bars, in blocks that fit a cache.

Theory of operation
-------------------
Segments are the vector axis. A block has one *plane* per place in a segment::

    terms[i] = of the i-th bar of every segment, for every sum and column

so that a step of a walk is an addition of whole planes. A plane is flat: what belongs
to the k-th segment before lies k positions before, in the same row of the plane; or, of
the first segments of a row, in the row of the column before. Those would be windows
that begin in another column. Nobody reads them, and to add them up is far cheaper than
to step around them.

Before the first segment there are as many empty ones as a window has, a segment that is
shorter than others ends with bars that are not there, and so does the series. What is
not there adds 0, which leaves the bits of a sum as they are.
"""

from math import prod
from typing import Final, NamedTuple

import numpy as np

from .arrays import Rows
from .extent import BarExtent
from .moments import Floats
from .sums import error_of

_BLOCK: Final = 80_000
"""Windows per block. The terms of three sums take 2 MB then, which a large cache holds;
with fewer windows numpy's fixed cost outweighs the memory."""


class Part(NamedTuple):
    """A run of segments, whose windows are computed at once."""

    first: int
    end: int
    bars: slice
    """Those that lie in them."""
    place_of: Rows | None
    """The place of each of them; ``None`` where places are bars."""


class Segments:
    """How series of one length are cut.

    Parameters
    ----------
    lookback_length
        Window length, in bars, at least 2.
    n_bars
        Of the series, at least 1.
    n_columns
        How many of them there are.
    """

    def __init__(self, lookback_length: int, n_bars: int, n_columns: int) -> None:
        extent = BarExtent(lookback_length)
        self.lookback_length = lookback_length
        self.per_window = per_window = extent.n_segments
        self.longest = longest = extent.longest_segment
        self.error = error_of(2 * longest + per_window)
        """Of the sums, see `error_of`."""
        lap = -(-np.arange(per_window) * lookback_length // per_window)
        laps = np.arange(-(-n_bars // lookback_length)) * lookback_length
        cuts = (laps[:, None] + lap).ravel()
        cuts = np.append(cuts[cuts < n_bars], n_bars)
        self.ends: Rows = cuts[1:] - 1
        """The last bar of each segment."""
        n = len(self.ends)
        self.before = per_window * longest
        """Places of the empty segments before the first."""
        self.n_places = self.before + n * longest
        self.is_even = lookback_length % per_window == 0
        """Whether segments have one length: then places are bars."""
        bars = cuts[:-1, None] + np.arange(longest)
        is_bar = bars < cuts[1:, None]
        self.bar_of: Rows = np.zeros(self.n_places, dtype=np.intp)
        """Where the value of a place stands in a row of values, see `place`."""
        self.bar_of[self.before :] = np.where(is_bar, bars + self.before, 0).ravel()
        self.n_columns = max(1, min(_BLOCK // self.n_places, n_columns))
        """Columns of a block."""
        step = max(per_window, _BLOCK // (self.n_columns * longest))
        self.parts: list[Part] = []
        for first in range(0, n, step):
            end = min(first + step, n)
            place_of = None if self.is_even else np.flatnonzero(is_bar[first:end])
            bars_of = slice(int(cuts[first]), int(cuts[end]))
            self.parts.append(Part(first, end, bars_of, place_of))
        self.n_kept = per_window + min(step, n)
        """Most segments that a block has at once."""

    def place(self, values: Floats, part: Part, out: Floats) -> None:
        """Bring series into planes.

        Parameters
        ----------
        values
            Shape (n_columns, n_places): after those of the empty segments the values,
            0 where there is none.
        part
            Which segments to bring, and those before them.
        out
            Shape (longest, n_columns, n), see `Walk.terms`.
        """
        longest = self.longest
        n = part.end - part.first + self.per_window
        places = slice(part.first * longest, (part.first + n) * longest)
        if self.is_even:
            placed = values[:, places]
        else:
            placed = np.take(values, self.bar_of[places], axis=1, mode="clip")
        np.copyto(out, placed.reshape(len(values), n, longest).transpose(2, 0, 1))


class _Views(NamedTuple):
    # Of the memory of a walk over so many segments: what each step takes.
    planes: Floats
    fronts: list[Floats]
    older: list[Floats]
    """The terms of the stretches' bars,"""
    newer: list[Floats]
    """and of the heads' bars."""
    back: Floats


class Walk:
    """The memory and the steps to compute the sums of some columns' windows.

    Parameters
    ----------
    segments
        How the columns are cut.
    n_sums, n_columns
        Sums of each window, and of how many columns.
    """

    def __init__(self, segments: Segments, n_sums: int, n_columns: int) -> None:
        self._segments = segments
        self._shape = n_sums, n_columns
        width = n_sums * n_columns * segments.n_kept
        longest = segments.longest
        self._terms = np.zeros(longest * width)
        self._fronts = np.zeros(longest * width)
        self._closed = np.zeros(width)
        self._back = np.zeros(width)
        self._by_place = np.zeros(longest * width)
        self._by_bar = np.zeros(0 if segments.is_even else longest * width)
        self._views: dict[int, _Views] = {}

    def terms(self, part: Part) -> Floats:
        """Return the planes of a part, which are to be filled.

        Shape (longest, n_sums, n_columns, n), with n segments: those before the part
        that its windows reach back to, and its own.
        """
        n = part.end - part.first + self._segments.per_window
        shape = self._segments.longest, *self._shape, n
        return _shaped(self._terms, shape)

    def add_up(self, part: Part) -> None:
        """Make the sums of every window that ends in a part, of its terms."""
        terms = self.terms(part)
        n_sums, n_columns, n = terms.shape[1:]
        views = self._views_of(terms)
        planes, fronts, older, newer, back = views
        closed = self._closed[: planes.shape[1]]
        np.add.reduce(planes, axis=0, out=closed)

        # At position k are the windows whose head is the segment at k + per_window.
        per_window, n_heads = self._segments.per_window, len(back)
        front = fronts[-1]
        np.copyto(front, 0.0)
        for between in range(per_window - 2, 0, -1):  # stretch and back
            np.add(front, closed[between : between + n_heads], out=front)
        np.copyto(back, closed[per_window - 1 : -1])
        if not part.first:
            rows = n_sums * n_columns, n
            last = _shaped(self._fronts, terms.shape)[-1]
            backs = _shaped(self._back, closed.shape).reshape(rows)
            self._fill(last.reshape(rows), backs, closed.reshape(rows))
        add = np.add
        for i in range(len(older) - 1, 0, -1):
            add(fronts[i], older[i], fronts[i - 1])
        for front, plane in zip(fronts, newer, strict=True):
            add(back, plane, back)
            add(front, back, front)

    def _views_of(self, terms: Floats) -> "_Views":
        n = terms.shape[3]
        views = self._views.get(n)
        if views is None:
            per_window = self._segments.per_window
            planes = terms.reshape(len(terms), -1)
            n_heads = planes.shape[1] - per_window
            fronts = _shaped(self._fronts, planes.shape)[:, :n_heads]
            older, newer = planes[:, :n_heads], planes[:, per_window:]
            lists = list(fronts), list(older), list(newer)
            views = _Views(planes, *lists, self._back[:n_heads])
            self._views[n] = views
        return views

    def sums(self, part: Part) -> Floats:
        """Return the sums that were made, by bar.

        They are overwritten with the next; shape (n_sums, n_columns, n_bars).
        """
        longest = self._segments.longest
        n_sums, n_columns, n_kept = self.terms(part).shape[1:]
        n = part.end - part.first
        sums = _shaped(self._fronts, (longest, n_sums, n_columns, n_kept))[..., :n]
        by_place = _shaped(self._by_place, (n_sums, n_columns, n, longest))
        np.copyto(by_place, sums.transpose(1, 2, 3, 0))
        by_place = by_place.reshape(n_sums, n_columns, n * longest)
        n_bars = part.bars.stop - part.bars.start
        if part.place_of is None:
            return by_place[..., :n_bars]
        by_bar = _shaped(self._by_bar, (n_sums, n_columns, n_bars))
        np.take(by_place, part.place_of, axis=2, out=by_bar, mode="clip")
        return by_bar

    def ends(self, part: Part) -> Floats:
        """Return those of the windows that end where a segment of the part does.

        Shape (n_sums, n_columns, n_segments).
        """
        terms = self.terms(part)
        n = part.end - part.first
        ends: Floats = _shaped(self._fronts, terms.shape)[-1, ..., :n]
        return ends

    def _fill(self, fronts: Floats, backs: Floats, closed: Floats) -> None:
        # Windows that begin with the series: their front is what is closed so far,
        # oldest first, and their back the head alone. Shape of each (rows, n).
        per_window = self._segments.per_window
        n_filling = min(per_window, closed.shape[1] - per_window)
        backs[:, :n_filling] = 0.0
        fronts[:, 0] = 0.0
        first = closed[:, per_window : per_window + n_filling - 1]
        np.cumsum(first, axis=1, out=fronts[:, 1:n_filling])


def _shaped(memory: Floats, shape: tuple[int, ...]) -> Floats:
    shaped: Floats = memory[: prod(shape)].reshape(shape)
    return shaped
