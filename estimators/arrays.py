"""The types that estimators share: one name for each thing that is passed around."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
"""Numbers of rows, shape (k,)."""

Statistics = tuple[float, float, float, float, float, float]
"""beta, alpha, std_error, t_stat, r_squared, residual_std; NaN = undefined."""
