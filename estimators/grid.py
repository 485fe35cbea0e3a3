"""The grid of bars that every kind of window is filled from.

Rule: a symbol is a row, a bar is a column, a missing return is a missing cell. The grid
keeps the newest bars in a ring, in the order of their stamps, and knows nothing of
sums: what a bar does to a window is the business of the classes that extend it.
"""

from abc import ABC, abstractmethod
from math import nan

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows, Statistics
from .moments import LARGEST, Floats, cells_of
from .state import PerRow, State


class Grid(ABC):
    """Bars of one benchmark and many rows, and the windows that end at the newest.

    Parameters
    ----------
    n_rows
        Number of rows (symbols).
    capacity
        Bars to make room for at first; more come as they are needed.

    Notes
    -----
    A bar is opened by `advance` with the benchmark's return. Then it takes the
    assets' returns: a whole column by `fill`, or single ones, written to `cells` as
    they come and added together by `add` (or by `add_one`, its twin without numpy's
    fixed cost). A row takes at most one return per bar: its cell is NaN until then,
    and the caller looks before it writes.
    """

    scalar_rows: int
    """Up to here rows are cheaper one by one than together."""
    is_weighted = False
    """Whether pairs differ in weight, and there is an `effective` number of them."""

    def __init__(self, n_rows: int, capacity: int) -> None:
        self.n_rows = n_rows
        self.newest = -1
        """Index of the newest bar since the beginning; -1 before the first."""
        self.oldest = 0
        """Index of the oldest bar kept; above ``newest`` while there is none."""
        # A ring of bars, indexed by bar modulo its length.
        self.stamps = np.zeros(capacity, dtype=np.int64)
        self._x = np.full(capacity, nan)
        self._y = np.full((capacity, n_rows), nan)
        self._absent: list[Rows | None] = [None] * capacity
        """Of each bar: the rows without a return; ``None`` = not known."""
        self._cleared = -1
        """A bar that is not there yet, but has no return any more."""
        self._columns = [cells_of(column) for column in self._y]
        self.cells = self._columns[-1]
        """The newest bar's returns, NaN = none yet; write here, then `add`."""
        self.are_alike = False
        """Whether in the last estimate a row is known to be undefined only where all
        are: none of them lacked a bar."""

    @abstractmethod
    def advance(self, stamp: int, benchmark_return: float) -> None:
        """Open the next bar; what the window no longer reaches leaves it.

        Parameters
        ----------
        stamp
            The bar's stamp, int64, above the one before.
        benchmark_return
            The benchmark's return over the bar; not finite or above `LARGEST` =
            missing, so that no pair of this bar is complete.
        """

    @abstractmethod
    def fill(self, returns: Floats, absent: Rows | None = None) -> None:
        """Add the newest bar's returns of all rows.

        Parameters
        ----------
        returns
            Shape (n_rows,); NaN = no return for this row (now).
        absent
            Rows for which there is none, ascending, where the caller knows them.
        """

    @abstractmethod
    def add(self, rows: Rows) -> None:
        """Add the newest bar's returns of some rows, as they stand in `cells`.

        Parameters
        ----------
        rows
            Shape (k,), each row once; their cells are finite.
        """

    @abstractmethod
    def add_one(self, row: int) -> None:
        """Add the newest bar's return of one row: `add` over floats."""

    @abstractmethod
    def estimate(
        self, rows: Rows | None = None, *, full: bool = False
    ) -> tuple[Floats, Floats]:
        """Return (n, statistics) of all or some rows.

        Parameters
        ----------
        rows
            Shape (k,); ``None`` = all.
        full
            Whether to compute the statistics that are not published, too.

        Returns
        -------
        n
            Complete pairs per row, shape (k,).
        statistics
            Shape (STATISTICS, k), or (ALL_STATISTICS, k) when full; see `ols`. NaN =
            undefined. They are the caller's; ``n`` is not to be written to.
        """

    @abstractmethod
    def estimate_one(self, row: int) -> tuple[float, Statistics]:
        """Return (n, statistics) of one row: `estimate` over floats."""

    def take_one(self, row: int) -> tuple[float, Statistics]:
        """Add the newest bar's return of one row; return its (n, statistics)."""
        self.add_one(row)
        return self.estimate_one(row)

    def prepare(self) -> None:
        """Do ahead what the next return will need, of this bar or the next.

        Whoever has nothing else to do may call this, as often as they like: it changes
        no number.
        """
        bar = self.newest + 1
        if self._cleared != bar and bar - self.oldest < len(self.stamps):
            self._y[bar % len(self.stamps)] = nan
            self._cleared = bar

    @abstractmethod
    def window_starts(self, rows: Rows | None = None) -> NDArray[np.int64]:
        """Return the stamp of the oldest bar in each row's window.

        Shape (k,), or (1,) where one value holds for every row.
        """

    @abstractmethod
    def window_start_of(self, row: int) -> int:
        """Return the stamp of the oldest bar in one row's window."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every bar: the next one begins an empty window."""

    def effective(self, rows: Rows | None = None) -> Floats | None:
        """Return the effective number of pairs, shape (k,).

        ``None`` where every pair has the same weight.
        """
        del rows
        return None

    @property
    def benchmark_return(self) -> float:
        """The newest bar's benchmark return; NaN = missing."""
        value: float = self._x.item(self.newest % len(self.stamps))
        return value

    @property
    def is_untouched(self) -> bool:
        """Whether the newest bar is known to have taken no return yet."""
        return False

    @property
    def column(self) -> Floats:
        """`cells` as an array, shape (n_rows,)."""
        column: Floats = self._y[self.newest % len(self.stamps)]
        return column

    def bar_of(self, stamp: int) -> int | None:
        """Return the bar with this stamp, ``None`` when none is kept."""
        at = self._position(stamp)
        if at <= self.newest and int(self.stamps[at % len(self.stamps)]) == stamp:
            return at
        return None

    def n_bars_after(self, stamp: int) -> int:
        """Return how many of the bars that are kept have a later stamp."""
        at = self._position(stamp)
        is_there = self.bar_of(stamp) is not None
        return self.newest + 1 - at - is_there

    def stamp(self, bar: int) -> int:
        """Return the stamp of a bar that is kept."""
        return int(self.stamps[bar % len(self.stamps)])

    def rows_of(self, bar: int) -> Rows:
        """Return the rows with a return in a bar that is kept."""
        return np.flatnonzero(~np.isnan(self._y[bar % len(self.stamps)]))

    def value(self, row: int, bar: int) -> float:
        """Return a cell of a bar that is kept; NaN = missing."""
        return float(self._y[bar % len(self.stamps), row])

    def benchmark_value(self, bar: int) -> float:
        """Return the benchmark's return of a bar that is kept; NaN = missing."""
        return float(self._x[bar % len(self.stamps)])

    def returns_of(self, bar: int) -> Floats:
        """Return every cell of a bar that is kept, shape (n_rows,)."""
        returns: Floats = self._y[bar % len(self.stamps)]
        return returns

    def _open(self, stamp: int, benchmark_return: float) -> None:
        # The next bar, empty; there must be room for it.
        bar = self.newest + 1
        if bar - self.oldest >= len(self.stamps):
            self._make_room()
        slot = bar % len(self.stamps)
        self.newest = bar
        self.stamps[slot] = stamp
        self._x[slot] = usable(benchmark_return)
        if bar != self._cleared:
            self._y[slot] = nan
        self._absent[slot] = None
        self.cells = self._columns[slot]

    def _bars(self) -> State:
        # The bars that are kept.
        slots = np.arange(self.oldest, self.newest + 1) % len(self.stamps)
        return {
            "oldest": self.oldest,
            "newest": self.newest,
            "stamps": self.stamps[slots],
            "x": self._x[slots],
            "y": PerRow(self._y[slots], nan),
        }

    def _restore_bars(self, state: State) -> None:
        oldest, newest = int(state["oldest"]), int(state["newest"])
        self.oldest, self.newest = oldest, newest
        bars = np.arange(oldest, newest + 1)
        capacity = len(self.stamps)
        while capacity < len(bars):
            capacity *= 2
        self.stamps = np.zeros(capacity, dtype=np.int64)
        self._x = np.full(capacity, nan)
        self._y = np.full((capacity, self.n_rows), nan)
        self.stamps[bars % capacity] = state["stamps"]
        self._x[bars % capacity] = state["x"]
        self._y[bars % capacity] = state["y"]
        self._absent = [None] * capacity
        self._columns = [cells_of(column) for column in self._y]
        self.cells = self._columns[newest % capacity]

    def _put_between(self, at: int, stamp: int, benchmark_return: float) -> None:
        # A bar without returns at this index; those from there on move by one.
        if self.newest + 1 - self.oldest >= len(self.stamps):
            self._make_room()
        n_slots = len(self.stamps)
        for bar in range(self.newest, at - 1, -1):
            for ring in (self.stamps, self._x, self._y):
                ring[(bar + 1) % n_slots] = ring[bar % n_slots]
        self._absent = [None] * n_slots
        slot = at % n_slots
        self.stamps[slot] = stamp
        self._x[slot] = usable(benchmark_return)
        self._y[slot] = nan
        self.newest += 1
        self.cells = self._columns[self.newest % n_slots]

    def _position(self, stamp: int) -> int:
        # The first bar that is kept whose stamp is not below this one.
        low, high = self.oldest, self.newest + 1
        stamps, capacity = self.stamps, len(self.stamps)
        while low < high:
            middle = (low + high) // 2
            if int(stamps[middle % capacity]) < stamp:
                low = middle + 1
            else:
                high = middle
        return low

    def _make_room(self) -> None:
        # Twice the bars; each keeps its index, so it moves to another place.
        old = len(self.stamps)
        bars = np.arange(self.oldest, self.newest + 1)
        stamps, x, y = self.stamps, self._x, self._y
        self.stamps = np.zeros(2 * old, dtype=np.int64)
        self._x = np.full(2 * old, nan)
        self._y = np.full((2 * old, self.n_rows), nan)
        self.stamps[bars % (2 * old)] = stamps[bars % old]
        self._x[bars % (2 * old)] = x[bars % old]
        self._y[bars % (2 * old)] = y[bars % old]
        self._absent = [None] * (2 * old)
        self._columns = [cells_of(column) for column in self._y]


class AmendableGrid(Grid):
    """A grid whose bars can be filled late, corrected and inserted."""

    @abstractmethod
    def amend(self, row: int, bar: int, value: float) -> None:
        """Set one cell of a bar that is kept, empty so far or not.

        Parameters
        ----------
        row, bar
            The cell.
        value
            Finite, or NaN to take the return out.
        """

    @abstractmethod
    def amend_column(self, bar: int, returns: Floats) -> None:
        """Set every cell of a bar for which there is a return, NaN = none."""

    @abstractmethod
    def amend_benchmark(self, bar: int, value: float) -> None:
        """Set the benchmark's return of a bar that is kept; not finite = missing."""

    @abstractmethod
    def insert(self, stamp: int, benchmark_return: float) -> int | None:
        """Open a bar between two that are there; return its index.

        The bars after it move by one; the oldest may leave the window. ``None`` when
        the new bar itself is outside the window.
        """

    @abstractmethod
    def state(self) -> State:
        """Return what has to be kept to go on later, as it is at the end of a turn."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Go on from a `state`; these windows are empty."""

    @abstractmethod
    def restart(self, bar: int) -> None:
        """Forget every bar before one that is kept: the window begins with it."""

    @abstractmethod
    def forget(self, row: int) -> None:
        """Take out every return of one row."""


def usable(value: float) -> float:
    """Return a return, or NaN where it is none: not finite, or above `LARGEST`."""
    return value if abs(value) <= LARGEST else nan
