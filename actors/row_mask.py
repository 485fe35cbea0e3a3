"""Some of all rows, and whether there are any.

Rule: asking costs nothing. With every message somebody asks whether some row is an
exception, and mostly none is.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class RowMask:
    """Rows that are marked.

    Parameters
    ----------
    n_rows
        Number of rows.
    """

    __slots__ = ("_marks", "_n_marked", "some")

    def __init__(self, n_rows: int) -> None:
        self._marks: Mask = np.zeros(n_rows, dtype=np.bool_)
        self._n_marked = 0
        self.some: Mask | None = None
        """Which rows are, shape (n_rows,), not to be written to; ``None`` = no row."""

    def mark(self, row: int, *, is_marked: bool = True) -> None:
        """Mark a row, or take its mark away."""
        self._n_marked += is_marked - int(self._marks[row])
        self._marks[row] = is_marked
        self.some = self._marks if self._n_marked else None

    def mark_all(self) -> None:
        """Mark every row."""
        self._marks[:] = True
        self._n_marked = len(self._marks)
        self.some = self._marks if self._n_marked else None
