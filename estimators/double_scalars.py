"""The arithmetic of `double_double` on one number: pairs of Python's floats.

Rule: every operation has the bits of its namesake there, for it does the same steps in
the same order. On one number numpy's fixed cost is most of the time, some ten times
that of the arithmetic.
"""

from typing import Final

Pair = tuple[float, float]
"""``(high, low)``, as in `double_double.Double2`."""

_SPLITTER: Final = 134_217_729.0  # 2**27 + 1


def add(a: Pair, b: Pair) -> Pair:
    """Return ``a + b``."""
    a_high, a_low = a
    b_high, b_low = b
    high = a_high + b_high
    part = high - a_high
    low = (a_high - (high - part)) + (b_high - part)
    tail = a_low + b_low
    part = tail - a_low
    tail_low = (a_low - (tail - part)) + (b_low - part)
    low += tail
    total = high + low
    low = low - (total - high) + tail_low
    high = total + low
    return high, low - (high - total)


def subtract(a: Pair, b: Pair) -> Pair:
    """Return ``a - b``."""
    return add(a, (-b[0], -b[1]))


def multiply(a: Pair, b: Pair) -> Pair:
    """Return ``a * b``."""
    a_high, a_low = a
    b_high, b_low = b
    product = a_high * b_high
    scaled = a_high * _SPLITTER
    a_left = scaled - (scaled - a_high)
    a_right = a_high - a_left
    scaled = b_high * _SPLITTER
    b_left = scaled - (scaled - b_high)
    b_right = b_high - b_left
    error = a_left * b_left - product
    error += a_left * b_right
    error += a_right * b_left
    error += a_right * b_right
    error += a_high * b_low + a_low * b_high
    high = product + error
    return high, error - (high - product)


def divide(a: Pair, b: Pair) -> Pair:
    """Return ``a / b`` for a ``b`` that is not 0."""
    divisor = b[0]
    first = a[0] / divisor
    rest = subtract(a, multiply((first, 0.0), b))
    second = rest[0] / divisor
    rest = subtract(rest, multiply((second, 0.0), b))
    third = rest[0] / divisor
    high = first + second
    return add((high, second - (high - first)), (third, 0.0))
