"""Work done ahead changes no bit: neither of a window, nor of what is kept of it."""

from collections.abc import Callable
from math import nan

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.snapshot import pack_state, unpack_state
from beta_factory.estimators import AmendableSlab, EwmaWindows, PairWindows
from beta_factory.estimators.extent import TimeExtent
from beta_factory.estimators.grid import AmendableGrid
from strategies import examples, seeds

N_ROWS = 3

KINDS: dict[str, Callable[[], AmendableGrid]] = {
    "bars": lambda: AmendableSlab(N_ROWS, 9, 3),
    "many bars": lambda: AmendableSlab(N_ROWS, 40, 3),
    "time": lambda: AmendableSlab(N_ROWS, TimeExtent(30), 3),
    "pairs": lambda: PairWindows(N_ROWS, 9, 3, lateness=4),
    "ewma": lambda: EwmaWindows(N_ROWS, 5.0, 3, clock="bars", lateness=4),
}


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


class Pair:
    """Windows of the same bars; one of them is told whenever there is time."""

    def __init__(self, make: Callable[[], AmendableGrid]) -> None:
        self.make = make
        self.ahead, self.never = make(), make()

    def both(self, act: Callable[[AmendableGrid], object]) -> None:
        act(self.ahead)
        act(self.never)

    def compare(self) -> None:
        for mine, other in zip(
            self.ahead.estimate(full=True), self.never.estimate(full=True), strict=True
        ):
            assert bits(mine) == bits(other)

    def go_on_from_a_state(self) -> None:
        """Compare what is kept, and go on with windows made of it."""
        kept = pack_state(self.ahead.state())
        assert kept == pack_state(self.never.state())
        self.ahead = self.make()
        self.ahead.restore(unpack_state(kept, np.arange(N_ROWS)))


@pytest.mark.parametrize("kind", KINDS)
@examples(20)
@given(seeds, st.sampled_from([0.0, 0.15]), st.sampled_from([0.3, 1.0]))
def test_nothing_depends_on_what_was_done_ahead(
    kind: str, seed: int, strange: float, often: float
) -> None:
    rng = np.random.default_rng(seed)
    pair = Pair(KINDS[kind])
    stamp = 0
    for _ in range(70):
        stamp += 2 * int(rng.choice([1, 1, 1, 1, 1, 4, 11]))
        x = nan if rng.random() < strange / 3 else float(rng.normal(0, 1e-3))
        column = rng.normal(0, 1e-3, N_ROWS)
        column[rng.random(N_ROWS) < rng.choice([0.0, 0.3])] = nan
        for _ in range(int(rng.integers(3))):
            if rng.random() < often:
                pair.ahead.prepare()
        at = stamp
        pair.both(lambda window: window.advance(at, x))  # noqa: B023 - called at once
        if rng.random() < often:
            pair.ahead.prepare()
        assert np.isnan(pair.ahead.column).all()
        pair.both(lambda window: window.fill(column))  # noqa: B023
        if rng.random() < often:
            pair.ahead.prepare()
        if rng.random() < strange:
            disturb(pair, stamp, rng)
        if rng.random() < 0.3:
            pair.compare()
    pair.compare()
    pair.go_on_from_a_state()


def disturb(pair: Pair, stamp: int, rng: np.random.Generator) -> None:
    """Do to both what may come between two bars."""
    oldest, newest = pair.never.oldest, pair.never.newest
    bar = int(rng.integers(max(oldest, newest - 3), newest + 1))
    row, value = int(rng.integers(N_ROWS)), float(rng.normal(0, 1e-3))
    match int(rng.integers(5)):
        case 0:
            pair.both(lambda window: window.amend(row, bar, value))
        case 1:
            pair.both(lambda window: window.amend_benchmark(bar, value))
        case 2 if newest > oldest:
            between = stamp - 1
            pair.both(lambda window: window.insert(between, value))
        case 3:
            pair.both(lambda window: window.restart(bar))
        case _:
            pair.go_on_from_a_state()
