"""Centred sums of one row in integers: exact, and slow.

Rule: nothing is rounded before the last step. Every double is an integer times a power
of two, so a row's pairs become integers on one scale for each side, and their sums and
products are Python's. This is the last resort of `recalc`, for windows in which even
106 bits leave nothing: a covariance of exactly 0, or an alpha that is a difference of
levels of 1e100.
"""

from collections.abc import Sequence
from math import frexp, ldexp
from typing import Final, NamedTuple

_BITS: Final = 53


class CentredSums(NamedTuple):
    """Sums of n pairs about their means, each rounded once.

    In units of ``2**x_scale`` for x and ``2**y_scale`` for y.
    """

    cxx: float
    """``n * sum((x - mean_x)**2)``; the others alike."""
    cxy: float
    cyy: float
    determinant: float
    """``cxx * cyy - cxy**2``."""
    mean_x: float
    alpha: float
    x_scale: int
    y_scale: int


def centred_sums(x: Sequence[float], y: Sequence[float]) -> CentredSums:
    """Return the sums of some pairs.

    Parameters
    ----------
    x, y
        As many of either, finite; x is not constant.
    """
    n = len(x)
    xs, x_scale = _on_one_scale(x)
    ys, y_scale = _on_one_scale(y)
    sum_x, sum_y = sum(xs), sum(ys)
    sum_xx = sum(a * a for a in xs)
    sum_xy = sum(a * b for a, b in zip(xs, ys, strict=True))
    cxx = n * sum_xx - sum_x * sum_x
    cxy = n * sum_xy - sum_x * sum_y
    cyy = n * sum(b * b for b in ys) - sum_y * sum_y
    # units in which the sums are about 1, so that each fits a double
    x_bits, y_bits = cxx.bit_length() // 2, cyy.bit_length() // 2
    both = x_bits + y_bits
    return CentredSums(
        cxx=cxx / (1 << 2 * x_bits),
        cxy=cxy / (1 << both),
        cyy=cyy / (1 << 2 * y_bits),
        determinant=(cxx * cyy - cxy * cxy) / (1 << 2 * both),
        mean_x=sum_x / (n << x_bits),
        alpha=(sum_xx * sum_y - sum_x * sum_xy) / (cxx << y_bits),
        x_scale=x_scale + x_bits,
        y_scale=y_scale + y_bits,
    )


def _on_one_scale(values: Sequence[float]) -> tuple[list[int], int]:
    # (integers, exponent) with value = integer * 2**exponent
    parts = [frexp(value) for value in values]
    scale = min((exponent for digits, exponent in parts if digits), default=0) - _BITS
    return [
        int(ldexp(digits, _BITS)) << (exponent - scale - _BITS) if digits else 0
        for digits, exponent in parts
    ], scale
