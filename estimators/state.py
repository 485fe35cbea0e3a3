"""What has to be kept of windows to go on with them later, bit for bit.

Rule: a state is plain data: numbers, lists, dictionaries and arrays. An array with one
value per row says so, so that whoever reads it into other rows can.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class PerRow(NamedTuple):
    """An array whose last axis is the rows."""

    values: NDArray[Any]
    """Shape (..., n_rows)."""
    empty: float
    """What a row without a past has."""

    def taken(self, sources: NDArray[np.intp]) -> "PerRow":
        """Return the array of other rows.

        Parameters
        ----------
        sources
            For each new row the old one, or -1 where it has no past.
        """
        shape = (*self.values.shape[:-1], len(sources))
        values = np.full(shape, self.empty, dtype=self.values.dtype)
        known = sources >= 0
        values[..., known] = self.values[..., sources[known]]
        return PerRow(values, self.empty)


State = dict[str, Any]
