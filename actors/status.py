"""From a window's numbers to what they are worth: one rule, for live and batch."""

from math import isnan

import numpy as np
from numpy.typing import NDArray

from ..messages import Reason, Status


def classify(
    n: NDArray[np.float64],
    beta: NDArray[np.float64],
    min_observations: int,
    was_warm: NDArray[np.bool_],
    rows: NDArray[np.intp],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the status and reason of each row's window.

    Parameters
    ----------
    n, beta
        Pairs and slope per row, shape (k,); NaN = undefined.
    min_observations
        Pairs below which a window is warming, or insufficient if it once had enough.
    was_warm
        Whether a row ever had enough; shape (n_rows,). Updated here.
    rows
        Which rows these are, shape (k,).

    Returns
    -------
    status, reason
        `Status` and `Reason` codes, shape (k,).
    """
    k = len(n)
    status = np.full(k, Status.OK, dtype=np.uint8)
    reason = np.zeros(k, dtype=np.uint8)
    warm = n >= min_observations
    undefined = np.isnan(beta)
    if undefined.any():
        status[undefined] = Status.ZERO_VARIANCE
        reason[undefined] = Reason.FLAT_BENCHMARK
        cold = ~warm
        status[cold] = Status.WARMING
        status[cold & was_warm[rows]] = Status.INSUFFICIENT
        reason[cold] = Reason.TOO_FEW_PAIRS
    was_warm[rows] |= warm
    return status, reason


def classify_one(
    n: float, beta: float, min_observations: int, *, was_warm: bool
) -> tuple[Status, Reason]:
    """Return one row's status and reason: `classify` over floats."""
    if n < min_observations:
        status = Status.INSUFFICIENT if was_warm else Status.WARMING
        return status, Reason.TOO_FEW_PAIRS
    if isnan(beta):
        return Status.ZERO_VARIANCE, Reason.FLAT_BENCHMARK
    return Status.OK, Reason.NONE
