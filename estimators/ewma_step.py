"""One pair into the exponentially weighted sums of one row, in Python's floats.

Rule: it has the bits of `EwmaSums.add`, which does the same for columns of rows. A tick
is one row, and there numpy's fixed cost is most of the time.
"""

from typing import Final

from .double_scalars import Pair, add, divide, multiply, subtract

LARGE: Final = 1e290
"""A factor above this cannot be split."""
SMALLER: Final = 2.0**-40
"""By this it can."""

_ONE: Final = (1.0, 0.0)
_N_ONCE: Final = 4


def decayed(sums: list[Pair], factor: Pair) -> list[Pair]:
    """Return sums with weights as they are when the next pair comes.

    Parameters
    ----------
    sums
        In the order of `EwmaSums`: four of the weights, three of their squares.
    factor
        For the age that has passed.
    """
    squared = multiply(factor, factor)
    return [
        _scaled_down(each, factor if i < _N_ONCE else squared)
        for i, each in enumerate(sums)
    ]


def _scaled_down(number: Pair, factor: Pair) -> Pair:
    high, low = number
    if abs(high) <= LARGE:
        return multiply(number, factor)
    high, low = multiply((high * SMALLER, low * SMALLER), factor)
    return high / SMALLER, low / SMALLER


def step(
    sums: list[Pair], mean: list[Pair], x: float, y: float
) -> tuple[list[Pair], list[Pair]]:
    """Return sums that have decayed, and means, with one pair more (West's step)."""
    w, cxx, cxy, cyy, v, e, d = sums
    mean_x, mean_y = mean
    dx, dy = subtract((x, 0.0), mean_x), subtract((y, 0.0), mean_y)
    weight = add(w, _ONE)
    step_x, step_y = divide(dx, weight), divide(dy, weight)
    share = divide(w, weight)
    # the new pair's deviation from the new mean
    rest_x, rest_y = multiply(dx, share), multiply(dy, share)
    # the old ones' squared weights, about the new mean
    shifted = subtract(e, multiply(step_x, v))
    d = subtract(d, multiply(step_x, add(e, shifted)))
    return (
        [
            weight,
            add(cxx, multiply(rest_x, dx)),
            add(cxy, multiply(rest_x, dy)),
            add(cyy, multiply(rest_y, dy)),
            add(v, _ONE),
            add(shifted, rest_x),
            add(d, multiply(rest_x, rest_x)),
        ],
        [add(mean_x, step_x), add(mean_y, step_y)],
    )
