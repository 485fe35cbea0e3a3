"""From the sums of a block's windows to their statistics: `centre` and `solve` in one.

Rule: the operations of `sums.centre` and `ols.solve`, in their order, so that the bits
are theirs. The readable form is those two; `solve_any` calls them, for windows that
lack a bar, or of which some have no line. `Solver` does the same for all others, with
every intermediate written into memory that is there, and with what depends on the
benchmark alone (`side_of`) computed once for all columns. Of some twenty passes over
the windows each counts here.

Whether a window is doubtful is asked of all windows of a unit together. The bounds of
`doubt` grow with some of what they are made of and fall with the rest, so if the worst
of each, put together, is not doubtful, none is. Else each window is asked.
"""

from math import nan, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .doubt import is_doubtful
from .moments import Floats
from .ols import ALL_STATISTICS, DOF, Moments, solve
from .sums import SIDE, centre

_MARGIN: Final = 1.01
"""On the bound of a rounding error, for that of the bounds themselves."""
_CLEARLY_BELOW_1: Final = 1.0 - 1e-9
FEWEST_OF_SIDE: Final = 3
"""Pairs from which on there is a side: with fewer there are windows without residuals,
which `solve` knows about."""


class Side(NamedTuple):
    """The benchmark's part of windows that lack no bar, and what follows from it alone.

    Arrays have shape (n_bars,).
    """

    n: Floats | float
    """A number where it holds for all windows."""
    x: Floats
    """Sum of its returns."""
    mean_x: Floats
    cxx: Floats
    xx: Floats
    root_x: Floats
    of_alpha: Floats
    """A factor for the residual deviation, which makes the error of alpha."""
    n_few: int
    """Bars at the beginning whose windows have too few pairs."""
    worst: tuple[float, float, float, float]
    """Of all others the fewest pairs, largest mean, smallest cxx, largest xx."""


def still(moments: Moments, is_flat: NDArray[np.bool_]) -> Moments:
    """Return moments whose benchmark side is 0 where it stands still."""
    if not is_flat.any():
        return moments
    cxx, xx = (np.where(is_flat, 0.0, part) for part in (moments.cxx, moments.xx))
    return moments._replace(cxx=cxx, xx=xx)


def side_of(sums: Floats, is_flat: NDArray[np.bool_], n_few: int = 0) -> Side | None:
    """Return the benchmark's part of windows; ``None`` if it has no variance in some.

    Parameters
    ----------
    sums
        Its sums, shape (SIDE, n_bars).
    is_flat
        Where it stands still, shape (n_bars,).
    n_few
        Bars at the beginning whose windows have too few pairs.
    """
    n, x, _ = sums
    moments = still(centre(np.zeros_like(sums), sums, 0.0, None), is_flat)
    mean_x, cxx, xx = (np.asarray(moments[i]) for i in (1, 3, 6))
    with np.errstate(divide="ignore", invalid="ignore"):
        root_x = np.sqrt(cxx)
        leverage = mean_x / root_x
        of_alpha = np.sqrt(1.0 / n + leverage * leverage)
    worst = [_least(each[n_few:]) for each in (n, -np.abs(mean_x), cxx, -xx)]
    if not worst[2] > 0.0:
        return None
    same = float(n[0])
    return Side(
        same if (n == same).all() else n,
        x,
        mean_x,
        cxx,
        xx,
        root_x,
        of_alpha,
        n_few,
        (worst[0], -worst[1], worst[2], -worst[3]),
    )


def solve_any(
    asset: Floats, own: Floats, is_flat: NDArray[np.bool_], fewest: int, out: Floats
) -> Moments:
    """Compute the statistics of windows that lack bars or not.

    Parameters
    ----------
    asset, own
        Their sums, shape (SIDE, n_columns, n_bars).
    is_flat
        Where the benchmark stands still, shape (n_bars,).
    fewest
        Complete pairs below which a value is undefined.
    out
        Shape (ALL_STATISTICS, n_columns, n_bars).
    """
    moments = still(centre(asset, own, 0.0, None), is_flat)
    solve(moments, fewest, out)
    return moments


class Solver:
    """The memory to solve windows in that lack no bar.

    Parameters
    ----------
    n_windows
        How many at most.
    error
        Bound of the relative error of a sum, see `sums.error_of`.
    """

    def __init__(self, n_windows: int, error: float) -> None:
        self._memory = np.empty((3, n_windows))
        self._error = error * _MARGIN

    def solve(self, asset: Floats, side: Side, out: Floats) -> tuple[Moments, bool]:
        """Compute the statistics of windows that lack no bar.

        Parameters
        ----------
        asset
            Their sums, shape (SIDE, n_columns, n_bars).
        side
            The benchmark's part.
        out
            Filled with all statistics, shape (ALL_STATISTICS, n_columns, n_bars).

        Returns
        -------
        moments, may_be_doubtful
            Of the windows, overwritten with the next call; and whether `doubtful` might
            find one among them.
        """
        y, xy, yy = asset
        n, x, mean_x, cxx, xx, root_x, of_alpha, n_few, _ = side
        mean_y, cxy, cyy = self._memory[:, : y.size].reshape(SIDE, *y.shape)
        beta, alpha, std_error, t_stat, r_squared, residual_std = out[:6]
        alpha_std_error, correlation = out[6:ALL_STATISTICS]
        np.divide(y, n, out=mean_y)
        np.multiply(x, mean_y, out=cxy)
        np.subtract(xy, cxy, out=cxy)
        np.multiply(y, mean_y, out=cyy)
        np.subtract(yy, cyy, out=cyy)

        np.divide(cxy, cxx, out=beta)
        np.multiply(beta, mean_x, out=alpha)
        np.subtract(mean_y, alpha, out=alpha)
        explained = np.multiply(beta, cxy, out=r_squared)
        np.subtract(cyy, explained, out=residual_std)
        np.divide(explained, cyy, out=r_squared)
        most_explained = _most(r_squared[:, n_few:])
        if not most_explained < 1.0:
            np.maximum(residual_std, 0.0, out=residual_std)
            np.minimum(r_squared, 1.0, out=r_squared)
        np.divide(residual_std, n - DOF, out=residual_std)
        np.sqrt(residual_std, out=residual_std)
        np.divide(residual_std, root_x, out=std_error)
        np.divide(beta, std_error, out=t_stat)
        np.multiply(residual_std, of_alpha, out=alpha_std_error)
        np.sqrt(cyy, out=correlation)
        np.multiply(root_x, correlation, out=correlation)
        np.divide(cxy, correlation, out=correlation)
        if not most_explained < _CLEARLY_BELOW_1:  # or its root is, too
            np.clip(correlation, -1.0, 1.0, out=correlation)

        moments = Moments(n, mean_x, mean_y, cxx, cxy, cyy, xx, yy)
        if n_few:
            out[..., :n_few] = nan
            cyy, yy, r_squared = (part[:, n_few:] for part in (cyy, yy, r_squared))
        if not yy.size:
            return moments, False
        least_cyy = _least(cyy)
        if least_cyy > 0.0:
            worst = least_cyy, _most(yy), _least(r_squared)
            return moments, self._may_be_doubtful(side, *worst)
        flat = cyy == 0.0
        for undefined in (t_stat, r_squared, correlation):
            np.copyto(undefined[:, -flat.shape[1] :], nan, where=flat)
        return moments, True

    def _may_be_doubtful(
        self, side: Side, cyy: float, yy: float, r_squared: float
    ) -> bool:
        n, mean_x, cxx, xx = side.worst
        mean_y = sqrt(yy / n)  # at most
        # Beta is given away most easily where it is 1, alpha where beta is largest.
        steepest = sqrt(yy / cxx)
        worst = n, mean_x, mean_y, cxx, 0.0, cyy, xx, yy
        return any(
            is_doubtful(worst, (beta, 0.0, 0.0, 0.0, r_squared, 0.0), 0, self._error)
            for beta in (1.0, steepest)
        )


def _least(values: Floats) -> float:
    least: float = np.minimum.reduce(values, axis=None, initial=np.inf).item()
    return least


def _most(values: Floats) -> float:
    most: float = np.maximum.reduce(values, axis=None, initial=-np.inf).item()
    return most
