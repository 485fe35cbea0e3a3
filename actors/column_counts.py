"""How many returns of each row came in columnar frames.

Rule: a frame is counted without a look at its cells. Those of one source speak of the
same rows each time, so that a frame is a number that goes up by one; only the rows that
it lacks are looked up, and they are few.
"""

import numpy as np

from ..estimators import Rows


class ColumnCounts:
    """Counts by row.

    Parameters
    ----------
    n_rows
        Number of rows.
    """

    __slots__ = ("_counts", "_n_frames", "_rows")

    def __init__(self, n_rows: int) -> None:
        self._counts = np.zeros(n_rows, dtype=np.int64)
        self._rows: Rows = np.arange(0)
        self._n_frames = 0  # of these rows, not in the counts yet

    def add(self, rows: Rows, absent: Rows | None) -> None:
        """Count a frame.

        Parameters
        ----------
        rows
            Of which it speaks, each once.
        absent
            Those of which it has no return, or none that was taken; ``None`` = no row.
        """
        if rows is not self._rows:
            self._settle()
            self._rows = rows
        self._n_frames += 1
        if absent is not None:
            self._counts[absent] -= 1

    def of(self, row: int) -> int:
        """Return how many returns of a row came."""
        self._settle()
        return int(self._counts[row])

    def _settle(self) -> None:
        self._counts[self._rows] += self._n_frames
        self._n_frames = 0
