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
four such sums 52. Four slices of x, four of y and a row of ones, multiplied with each
other over the bars, are all the sums that a regression needs. What the four leave of a
value is below 2**(e - 80).

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


def totals(pairs: Floats, exponents: NDArray[np.int64]) -> dd.Double2:
    """Return the sums of x, y, xx, xy and yy of some rows.

    Parameters
    ----------
    pairs
        x and y, shape (k, 2, n) with n up to `LONGEST`; 0 where a pair is missing.
    exponents
        Of the largest magnitude of each, as of `numpy.frexp`, shape (k, 2); at most
        `LARGEST_EXPONENT` in size.

    Returns
    -------
    Double2
        Shape (5, k).
    """
    n_rows, _, n_pairs = pairs.shape
    cut = np.empty((n_rows, _N_FACTORS, n_pairs))
    cut[:, _ONE], cut[:, _ZERO] = 1.0, 0.0
    slices = cut[:, :_ONE].reshape(n_rows, _N_SLICES, 2, n_pairs)
    rest = pairs.copy()
    top = np.ldexp(_TOP, exponents + 1)[:, :, None]
    for at in range(_N_SLICES):
        top *= 2.0**-_BITS
        part = np.add(rest, top, out=slices[:, at])
        part -= top
        rest -= part
    products = np.matmul(cut, cut.transpose(0, 2, 1)).reshape(n_rows, -1)
    levels = np.add.reduce(products[:, _MEMBERS], axis=-1).transpose(2, 1, 0)
    first, second, third, fourth = levels
    high, low = dd.two_sum(first, second)
    low += third + fourth
    return dd.quick_two_sum(high, low)


_ONE: Final = 2 * _N_SLICES
_ZERO: Final = _ONE + 1
_N_FACTORS: Final = _ONE + 2
"""Four slices of x and y in turn, a row of ones and one of zeros."""


def _members() -> NDArray[np.intp]:
    # Which products each level of each sum is made of, shape (5, levels, slices).
    x = [2 * i for i in range(_N_SLICES)]
    y = [factor + 1 for factor in x]
    members = np.full((5, _N_SLICES, _N_SLICES), _ZERO * _N_FACTORS + _ZERO)
    for total, (one, other) in enumerate(
        [(None, x), (None, y), (x, x), (x, y), (y, y)]
    ):
        for level in range(_N_SLICES):
            if one is None:
                members[total, level, 0] = _ONE * _N_FACTORS + other[level]
                continue
            for i in range(level + 1):
                members[total, level, i] = one[i] * _N_FACTORS + other[level - i]
    return members


_MEMBERS: Final = _members()
