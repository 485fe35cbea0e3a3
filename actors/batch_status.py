"""What the windows of one series are worth, bar by bar.

Rule: `classify`, for all bars of an asset at once; then the silence of an asset without
a pair, which counts in bars of the grid or in time.
"""

import numpy as np
from numpy.typing import NDArray

from ..messages import Status
from .status import classify

Statuses = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def statuses_of(
    n_obs: NDArray[np.int64], undefined: Mask, min_observations: int
) -> Statuses:
    """Return the status of every bar's window, shape (n_bars,).

    Parameters
    ----------
    n_obs
        Pairs of each window, shape (n_bars,).
    undefined
        Which windows have no beta, shape (n_bars,).
    min_observations
        Pairs below which a window is warming, or insufficient if it once had enough.
    """
    status = np.full(len(n_obs), Status.OK, dtype=np.uint8)
    bars = np.flatnonzero(undefined)
    if not len(bars):
        return status
    warm = n_obs >= min_observations
    first_warm = int(warm.argmax()) if warm.any() else len(n_obs)
    status[bars], _ = classify(
        n_obs[bars].astype(np.float64),
        np.full(len(bars), np.nan),
        min_observations,
        bars >= first_warm,
        np.arange(len(bars), dtype=np.intp),
    )
    return status


def mark_silence(
    status: Statuses, paired: Mask, clock: NDArray[np.int64], bound: int
) -> None:
    """Call the bars stale before which there was no pair for too long.

    Parameters
    ----------
    status
        To be changed, shape (n_bars,).
    paired
        Which bars have a pair, shape (n_bars,).
    clock
        What silence is counted by, increasing, shape (n_bars,).
    bound
        From which silence on a bar is stale.
    """
    bars = np.flatnonzero(paired)
    if not len(bars):
        return
    heard = np.take(clock, bars)
    if clock[-1] - heard[-1] < bound and (np.diff(heard) <= bound).all():
        return
    position = np.searchsorted(bars, np.arange(len(clock)), side="right") - 1
    silence = clock - heard[np.maximum(position, 0)]
    status[(position >= 0) & (silence >= bound)] = Status.STALE
