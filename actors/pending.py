"""Returns that wait for their benchmark to open their bar.

Rule: what waits is bounded, and whatever gives way is counted as unpaired. When there
is no room, the bar furthest ahead gives way, be it the one just asked for: a feed with
a wrong clock must not shut out the bar that comes next.
"""

import numpy as np

from ..estimators import Floats, PerRow, State, cells_of
from .split import Split
from .tally import Drop, SourceNumbers, Tally


class PendingBar:
    """One bar's returns, NaN where none has come."""

    __slots__ = ("cells", "column", "is_new", "source_cells", "sources", "split")

    def __init__(self, n_rows: int) -> None:
        self.column: Floats = np.full(n_rows, np.nan)
        self.cells = cells_of(self.column)
        """``column``, one scalar at a time."""
        self.sources: SourceNumbers = np.zeros(n_rows, dtype=np.uint16)
        """Who sent each return, should it wait in vain."""
        self.source_cells = self.sources.data
        """``sources``, one scalar at a time."""
        self.is_new = True
        """Whether no return has come yet."""
        self.split: Split | None = None
        """Which rows have one, where that is known."""

    def fill(self, returns: Floats, parts: Split, source: int) -> None:
        """Take the first returns, of all rows; NaN where there is none."""
        self.column[:] = returns
        self.sources[:] = source
        self.is_new, self.split = False, parts


class PendingBars:
    """The bars ahead of the newest one.

    Parameters
    ----------
    n_rows
        Rows of every bar.
    max_bars
        How many may wait at once.
    tally
        Where what gives way is counted.
    """

    def __init__(self, n_rows: int, max_bars: int, tally: Tally) -> None:
        self._n_rows = n_rows
        self._max_bars = max_bars
        self._tally = tally
        self._bars: dict[int, PendingBar] = {}

    def __len__(self) -> int:
        return len(self._bars)

    def bar(self, ts_event: int) -> PendingBar | None:
        """Return the bar of a stamp, made if need be; ``None`` when it gives way."""
        bars = self._bars
        bar = bars.get(ts_event)
        if bar is None:
            if len(bars) >= self._max_bars:
                furthest = max(bars)
                if ts_event > furthest:
                    return None
                self._expire(furthest)
            bar = bars[ts_event] = PendingBar(self._n_rows)
        return bar

    def open(self, ts_event: int, oldest_open: int | None = None) -> PendingBar | None:
        """Return a bar that its benchmark has opened, if any returns wait for it.

        Bars older than ``oldest_open`` (by default, than this one) will never be
        opened: they expire.
        """
        bars = self._bars
        if not bars:
            return None
        bar = bars.pop(ts_event, None)
        if not bars:
            return bar
        if oldest_open is None:
            oldest_open = ts_event
        for skipped in [stamp for stamp in bars if stamp < oldest_open]:
            self._expire(skipped)
        return bar

    def forget(self, row: int) -> None:
        """Give up what waits of one row."""
        alone = np.full(self._n_rows, np.nan)
        for stamp, bar in list(self._bars.items()):
            alone[row] = bar.cells[row]
            self._tally.drop_waiting(Drop.UNPAIRED, alone, bar.sources)
            bar.cells[row] = np.nan
            bar.split = None
            if np.isnan(bar.column).all():
                del self._bars[stamp]

    def state(self) -> State:
        """Return what waits, by stamp."""
        return {
            str(stamp): {
                "column": PerRow(bar.column, np.nan),
                "sources": PerRow(bar.sources, 0),
            }
            for stamp, bar in self._bars.items()
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for stamp, part in state.items():
            bar = self._bars[int(stamp)] = PendingBar(self._n_rows)
            bar.is_new = False
            bar.column[:] = part["column"]
            bar.sources[:] = part["sources"]

    def _expire(self, ts_event: int) -> None:
        bar = self._bars.pop(ts_event)
        self._tally.drop_waiting(Drop.UNPAIRED, bar.column, bar.sources)
