"""However bars come, few additions lie behind a term of a window of time."""

import numpy as np
import pytest

from beta_factory.estimators import AmendableSlab
from beta_factory.estimators.extent import Extent, TimeExtent
from beta_factory.estimators.sums import error_of


def slab_of(extent: Extent | int) -> AmendableSlab:
    return AmendableSlab(1, extent, 3)


def go_on(slab: AmendableSlab, n_bars: int, step: int) -> float:
    """Take some bars; return the largest error bound on the way."""
    rng = np.random.default_rng(n_bars)
    stamp = slab.stamp(slab.newest) if slab.newest >= 0 else 0
    largest = 0.0
    for _ in range(n_bars):
        stamp += step
        slab.advance(stamp, float(rng.normal()))
        slab.fill(rng.normal(size=1))
        largest = max(largest, slab.basis.error)
    return largest


@pytest.mark.parametrize("length", [390, 4_000])
def test_time_is_as_exact_as_bars(length: int) -> None:
    of_time, of_bars = slab_of(TimeExtent(length)), slab_of(length)
    go_on(of_time, length, 1)
    largest = go_on(of_time, length, 1)
    go_on(of_bars, length, 1)
    assert largest <= 1.2 * go_on(of_bars, length, 1)


def test_a_burst_is_forgotten_when_it_has_left() -> None:
    slab = slab_of(TimeExtent(200_000))
    go_on(slab, 250, 1_000)
    before = go_on(slab, 250, 1_000)
    within = go_on(slab, 2_000, 10)
    assert within <= error_of(6 * 47)  # the square root of 2,200 bars is 47
    go_on(slab, 250, 1_000)
    assert go_on(slab, 250, 1_000) <= 1.5 * before


def test_a_rate_that_stays_is_followed() -> None:
    slab = slab_of(TimeExtent(200_000))
    go_on(slab, 250, 1_000)
    go_on(slab, 4_000, 50)
    assert go_on(slab, 4_000, 50) <= error_of(6 * 64)
