"""The factors by which exponential weights fall, as double-doubles.

Rule: a factor is right to the last digits of a double-double, whatever its age. Ages
are stamps' distances, which need never repeat, so a new one must not cost more than the
row that waits for it.

Theory of operation
-------------------
``age / half_life`` is a fraction of integers, for a double is one. Its whole part only
moves the binary point. Of the rest, each byte is the index of a table of powers of
``2**-(256**-k)``; their product, of integers with the binary point before the last 160
bits, is the factor, to some 2**-127 of itself.
"""

from math import isqrt, ldexp
from typing import Final

import numpy as np
from numpy.typing import NDArray

from . import double_double as dd

_BITS: Final = 160
"""Of the fixed-point numbers, behind the point."""
_BYTES: Final = 16
"""Of the fraction of a half-life: the error of what follows them is 2**-128."""
_FORGOTTEN: Final = 1100
"""Half-lives after which a weight of 1 is not a double any more."""
_MOST_FACTORS: Final = 1 << 12


def _tables() -> list[list[int]]:
    # For each byte of a fraction of a half-life, the factor of each of its values.
    root = 1 << (_BITS - 1)  # a half
    tables: list[list[int]] = []
    for _ in range(_BYTES):
        for _ in range(8):
            root = isqrt(root << _BITS)
        powers = [1 << _BITS]
        for _ in range(255):
            powers.append(powers[-1] * root >> _BITS)
        tables.append(powers)
    return tables


_TABLES: Final = _tables()


class Decay:
    """The factors by which weights fall.

    Parameters
    ----------
    half_life
        The age at which a weight is a half, above 0, in units of the ages.
    """

    def __init__(self, half_life: float) -> None:
        self._dividend, self._divisor = half_life.as_integer_ratio()
        self._known: dict[int, tuple[float, float]] = {}

    def factor(self, age: int) -> tuple[float, float]:
        """Return ``2**(-age / half_life)``; 0 when it is none of the doubles."""
        known = self._known.get(age)
        if known is None:
            if len(self._known) >= _MOST_FACTORS:
                self._known.clear()
            known = self._known[age] = self._compute(age)
        return known

    def factors(self, ages: NDArray[np.int64]) -> dd.Double2:
        """Return the factors of some ages, shaped like them."""
        if len(ages) and (ages == ages[0]).all():
            high, low = self.factor(int(ages[0]))
            return dd.Double2(np.full(len(ages), high), np.full(len(ages), low))
        distinct, where = np.unique(ages, return_inverse=True)
        table = np.array([self.factor(age) for age in distinct.tolist()]).reshape(-1, 2)
        return dd.Double2(table[where, 0], table[where, 1])

    def _compute(self, age: int) -> tuple[float, float]:
        half_lives, rest = divmod(age * self._divisor, self._dividend)
        if half_lives > _FORGOTTEN:
            return 0.0, 0.0
        fraction = (rest << 8 * _BYTES) // self._dividend
        power = 1 << _BITS
        for byte, powers in zip(fraction.to_bytes(_BYTES), _TABLES, strict=True):
            power = power * powers[byte] >> _BITS
        # Divisions of integers are rounded once, where doubles end, too.
        bits = _BITS + half_lives
        one = 1 << bits
        high = power / one
        return high, (power - int(ldexp(high, bits))) / one
