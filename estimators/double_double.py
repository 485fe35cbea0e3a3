"""Arithmetic on unevaluated sums of two doubles: some 106 bits.

Rule: a number is a pair ``(high, low)`` of equally shaped arrays with
``|low| <= ulp(high) / 2``; every operation works element by element, so that its bits
depend on nothing beside the element.

`two_sum`, `two_difference` and `two_product` are exact, the others have a relative
error of a few 2**-104. Products want magnitudes below 1e292: factors are split by a
multiplication with 2**27 + 1.

References
----------
T. J. Dekker, "A floating-point technique for extending the available precision",
Numerische Mathematik 18 (1971). D. E. Knuth, "The Art of Computer Programming" vol. 2,
par. 4.2.2.
"""

from typing import Final, NamedTuple

import numpy as np

from .moments import Floats

_SPLITTER: Final = 134_217_729.0  # 2**27 + 1


class Double2(NamedTuple):
    """An unevaluated sum of two doubles."""

    high: Floats
    low: Floats

    def __neg__(self) -> "Double2":
        return Double2(-self.high, -self.low)


def exactly(value: Floats) -> Double2:
    """Return doubles as pairs."""
    return Double2(value, np.zeros_like(value))


def two_sum(a: Floats, b: Floats) -> Double2:
    """Return ``a + b``, exactly."""
    total = a + b
    part = total - a
    return Double2(total, (a - (total - part)) + (b - part))


def two_difference(a: Floats, b: Floats) -> Double2:
    """Return ``a - b``, exactly."""
    return two_sum(a, -b)


def quick_two_sum(a: Floats, b: Floats) -> Double2:
    """Return ``a + b``, exactly where ``|a| >= |b|`` or ``a`` is 0."""
    total = a + b
    return Double2(total, b - (total - a))


def split(a: Floats) -> tuple[Floats, Floats]:
    """Return two halves of 26 bits each whose sum is ``a``."""
    scaled = a * _SPLITTER
    high = scaled - (scaled - a)
    return high, a - high


def two_product(a: Floats, b: Floats) -> Double2:
    """Return ``a * b``, exactly unless the product of the low halves underflows."""
    product = a * b
    a_high, a_low = split(a)
    b_high, b_low = split(b)
    error = a_high * b_high
    error -= product
    error += a_high * b_low
    error += a_low * b_high
    error += a_low * b_low
    return Double2(product, error)


def add(a: Double2, b: Double2) -> Double2:
    """Return ``a + b``; where they cancel, with an error relative to the larger."""
    high, low = two_sum(a.high, b.high)
    tail_high, tail_low = two_sum(a.low, b.low)
    high, low = quick_two_sum(high, low + tail_high)
    return quick_two_sum(high, low + tail_low)


def subtract(a: Double2, b: Double2) -> Double2:
    """Return ``a - b``; where they cancel, with an error relative to the larger."""
    return add(a, -b)


def multiply(a: Double2, b: Double2) -> Double2:
    """Return ``a * b``."""
    product, error = two_product(a.high, b.high)
    return quick_two_sum(product, error + (a.high * b.low + a.low * b.high))


def divide(a: Double2, b: Double2) -> Double2:
    """Return ``a / b``: two steps of long division and a third to round."""
    first = a.high / b.high
    rest = subtract(a, multiply(exactly(first), b))
    second = rest.high / b.high
    rest = subtract(rest, multiply(exactly(second), b))
    third = rest.high / b.high
    return add(quick_two_sum(first, second), exactly(third))


def scaled(a: Double2, factor: Floats) -> Double2:
    """Return ``a * factor`` for powers of two, exactly."""
    return Double2(a.high * factor, a.low * factor)


def total(a: Double2) -> Double2:
    """Return the sum over the last axis but one, by halving it; ``a`` is used up.

    The error is relative to the sum of the magnitudes: the high parts are added
    exactly, what that leaves and the low parts in double precision.
    """
    high, low = a
    while high.shape[-2] > 1:
        half = (high.shape[-2] + 1) // 2
        n = high.shape[-2] - half
        left, right, lost = high[..., :n, :], high[..., half:, :], low[..., :n, :]
        summed = left + right
        part = summed - left
        lost += low[..., half:, :]
        lost += right - part
        np.subtract(summed, part, out=part)
        np.subtract(left, part, out=part)
        lost += part
        left[:] = summed
        high, low = high[..., :half, :], low[..., :half, :]
    return quick_two_sum(high[..., 0, :], low[..., 0, :])


def rough_total(values: Floats) -> Floats:
    """Return the sum over the last axis but one in double precision, by halving it.

    Unlike numpy's it has the same bits for any shape and layout.
    """
    rest = values.copy()
    while rest.shape[-2] > 1:
        half = (rest.shape[-2] + 1) // 2
        rest[..., : rest.shape[-2] - half, :] += rest[..., half:, :]
        rest = rest[..., :half, :]
    result: Floats = rest[..., 0, :]
    return result
