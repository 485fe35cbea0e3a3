"""Which rows of a column have a return, and which have none.

Rule: where no row lacks one, nothing is made: it is all rows, and `NO_ROWS`.
"""

import numpy as np
from numpy.typing import NDArray

from ..estimators import NO_ROWS, Rows

Split = tuple[Rows, Rows]
"""The rows with a return, and those without one, both in order."""


def split(returns: NDArray[np.float64], all_rows: Rows) -> Split:
    """Return which of all rows have a return, and which have none (NaN)."""
    is_absent = np.isnan(returns)
    (absent,) = is_absent.nonzero()
    if not len(absent):
        return all_rows, NO_ROWS
    (present,) = np.logical_not(is_absent, is_absent).nonzero()
    return present, absent
