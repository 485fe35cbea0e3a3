"""Sums over pairs whose every addition is exact.

Rule: a number is cut into slices so short that products of slices, and sums of as many
as a window has, are doubles without rounding. So it does not matter who adds them up,
nor in which order: the matrix product of the linear algebra library gives the same bits
on every machine, for one row or for a hundred.

Theory of operation
-------------------
With e the exponent of the largest value of a row, slice i of a value is the multiple of
2**(e + 1 - 20 i) next to what the slices before have left of it. Each slice has at most
19 bits and a sign; a product of two has 38, the sum of 4,096 of those 50, and that of
four such sums 52. Four slices of x and four of y, multiplied with each other over the
bars, are the sums that a regression needs. What the four leave of a value is below
2**(e - 80).

Of the sums the *levels* are kept: products of slices i and j belong to level i + j, are
multiples of the same power of two, and add up exactly. Levels beyond the fourth are
smaller than what is left out anyway. A sum of the levels in double-double is thus
within 2**-78 of the largest product, times the number of pairs.

References
----------
K. Ozaki, T. Ogita, S. Oishi, S. M. Rump, "Error-free transformations of matrix
multiplication by using fast routines of matrix multiplication and its applications",
Numerical Algorithms 59 (2012).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from . import double_double as dd
from .moments import Floats

LONGEST: Final = 4096
"""Pairs of a row whose sums are exact."""

LARGEST_EXPONENT: Final = 100
"""Of values whose products, and products of those, are well inside a double's range."""

_N_SLICES: Final = 4
_BITS: Final = 20
"""By which one slice's unit is below that of the one before."""
_TOP: Final = 1.5 * 2.0**52
"""What is added to it has its unit in the last place."""


def exponents(values: Floats) -> NDArray[np.int64]:
    """Return the exponent of the largest magnitude of each row, shape (k,).

    As of `numpy.frexp`, but above `LARGEST_EXPONENT` where all values are 0.
    """
    largest = np.maximum.reduce(np.abs(values), axis=1)
    result: NDArray[np.int64] = np.frexp(largest)[1].astype(np.int64)
    result[largest == 0.0] = LARGEST_EXPONENT + 1
    return result


def totals(
    x: Floats, y: Floats, x_exponents: NDArray[np.int64], y_exponents: NDArray[np.int64]
) -> dd.Double2:
    """Return the sums of x, y, xx, xy and yy of some rows.

    Parameters
    ----------
    x
        Shape (k, n) with n up to `LONGEST`, or (1, n) where all rows have the same; 0
        where a pair is missing.
    y
        Shape (k, n).
    x_exponents, y_exponents
        See `exponents`. Rows for which one is beyond `LARGEST_EXPONENT` get nonsense.

    Returns
    -------
    Double2
        Shape (5, k).
    """
    x_slices, y_slices = _cut(x, x_exponents), _cut(y, y_exponents)
    transposed = x_slices.transpose(0, 2, 1), y_slices.transpose(0, 2, 1)
    levels = np.empty((5, len(y), _N_SLICES))
    levels[0] = np.add.reduce(x_slices, axis=2)
    levels[1] = np.add.reduce(y_slices, axis=2)
    levels[2] = _levels(np.matmul(x_slices, transposed[0]))
    levels[3] = _levels(np.matmul(y_slices, transposed[0]))
    levels[4] = _levels(np.matmul(y_slices, transposed[1]))
    high, low = dd.two_sum(levels[..., 0], levels[..., 1])
    low += levels[..., 2] + levels[..., 3]
    return dd.quick_two_sum(high, low)


def _cut(values: Floats, exponents: NDArray[np.int64]) -> Floats:
    # The slices of each row, shape (k, slices, n).
    n_rows, n_values = values.shape
    slices = np.empty((n_rows, _N_SLICES, n_values))
    bounded = np.minimum(np.abs(exponents), LARGEST_EXPONENT) * np.sign(exponents)
    top = np.ldexp(_TOP, bounded + 1)[:, None]
    rest = values
    for at in range(_N_SLICES):
        top *= 2.0**-_BITS
        part = np.add(rest, top, out=slices[:, at])
        part -= top
        rest = rest - part
    return slices


def _levels(products: Floats) -> Floats:
    # Sums of slices' products by level, shape (k, levels).
    by_level = products.reshape(len(products), -1)[:, _BY_LEVEL]
    levels: Floats = np.add.reduceat(by_level, _FIRST_OF_LEVEL, axis=1)
    return levels


_BY_LEVEL: Final = [
    i * _N_SLICES + level - i for level in range(_N_SLICES) for i in range(level + 1)
]
_FIRST_OF_LEVEL: Final = [level * (level + 1) // 2 for level in range(_N_SLICES)]
