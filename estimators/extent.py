"""How far a window reaches back: in bars, or in time.

Rule: an extent holds no state. It is asked whether the oldest bar has left; while the
window fills, how much of it is full; and at any time, how long the head may be.
Everything else about a window is the same for all kinds.
"""

from math import isqrt, sqrt
from typing import Final, Protocol

LONG_HEAD: Final = 32
"""Bars that a head may always have: fewer additions are worth no segment more."""


class Extent(Protocol):
    """What distinguishes one kind of window from another."""

    @property
    def n_segments(self) -> int:
        """Into how many segments a full window is divided, at least 2."""
        ...

    @property
    def capacity(self) -> int:
        """Bars to make room for at first; more come as they are needed."""
        ...

    @property
    def longest_segment(self) -> int:
        """Bars in the longest segment, if that is known beforehand, else 0."""
        ...

    @property
    def counts_bars(self) -> bool:
        """Whether each bar pushes out one other at most."""
        ...

    def has_left(self, bar: int, stamp: int, oldest: int, oldest_stamp: int) -> bool:
        """Return whether the oldest bar is outside a window that ends at ``bar``."""
        ...

    def n_closed(self, n_bars: int, span: int) -> int:
        """Return how many segments a filling window has closed.

        Parameters
        ----------
        n_bars
            Bars since it began to fill.
        span
            Stamps between the first of them and the newest.
        """
        ...

    def bars_left(self, n_bars: int, span: int) -> int:
        """Return in how many bars a filling window will be full; a guess will do."""
        ...

    def longest_head(self, n_bars: int) -> int:
        """Return with how many bars a head is closed, whatever else would close it.

        Parameters
        ----------
        n_bars
            In the window.
        """
        ...


class BarExtent:
    """The last ``length`` bars."""

    counts_bars = True

    def __init__(self, length: int) -> None:
        if length < 2:  # noqa: PLR2004 - one bar has no slope and nothing to slide
            msg = f"a window needs at least 2 bars, was {length}"
            raise ValueError(msg)
        self.length = length
        self.n_segments = max(2, round(0.75 * sqrt(length)))
        self.capacity = length
        self.longest_segment = -(-length // self.n_segments)

    def has_left(self, bar: int, stamp: int, oldest: int, oldest_stamp: int) -> bool:
        """Return whether more than ``length`` bars would be in the window."""
        del stamp, oldest_stamp
        return bar - oldest >= self.length

    def n_closed(self, n_bars: int, span: int) -> int:
        """Return how many equal parts of the window are full."""
        del span
        return n_bars * self.n_segments // self.length

    def bars_left(self, n_bars: int, span: int) -> int:
        """Return the bars missing."""
        del span
        return self.length - n_bars

    def longest_head(self, n_bars: int) -> int:
        """Return the length: the parts of the window are equal."""
        del n_bars
        return self.length


class TimeExtent:
    """The bars with a stamp in ``(newest - length, newest]``.

    Their number is not known beforehand, and a burst may bring most of them. So a
    segment ends with an equal part of the length, or with as many bars as one of equal
    parts of their number would have.
    """

    counts_bars = False

    def __init__(self, length: int) -> None:
        if length < 1:
            msg = f"a window needs a length above 0, was {length}"
            raise ValueError(msg)
        self.length = length
        self.n_segments = 16
        self.capacity = 256
        self.longest_segment = 0

    def has_left(self, bar: int, stamp: int, oldest: int, oldest_stamp: int) -> bool:
        """Return whether the oldest bar is ``length`` or more behind."""
        del bar, oldest
        return oldest_stamp <= stamp - self.length

    def n_closed(self, n_bars: int, span: int) -> int:
        """Return how many equal parts of the length have passed."""
        del n_bars
        return span * self.n_segments // self.length

    def bars_left(self, n_bars: int, span: int) -> int:
        """Return the bars missing if they keep coming as they came."""
        return n_bars * max(self.length - span, 0) // max(span, 1)

    def longest_head(self, n_bars: int) -> int:
        """Return about 4 / 3 * sqrt(n_bars)."""
        return max(LONG_HEAD, isqrt(n_bars * 16 // 9))
