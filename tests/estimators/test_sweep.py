"""A sweep gives the bits of the slab, which is stepped bar by bar as the oracle."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from beta_factory.estimators import LARGEST, Floats, WindowSlab, sweep
from nasty import NASTY, FloatArray
from strategies import examples, seeds

BoolArray = NDArray[np.bool_]


def stepped(y: Floats, x: Floats, length: int, fewest: int) -> tuple[Floats, Floats]:
    """Return (n, statistics) of every window of a slab, by bar and row."""
    slab = WindowSlab(y.shape[1], length, fewest)
    n, statistics = np.empty(y.shape), np.empty((6, *y.shape))
    for bar in range(len(x)):
        slab.advance(bar, float(x[bar]))
        slab.fill(y[bar])
        n[bar], statistics[:, bar] = slab.estimate()
    return n, statistics


def moves_a_pivot(y: Floats, x: Floats, length: int, fewest: int) -> bool:
    """Return whether a slab takes another pivot than 0 at any time."""
    slab = WindowSlab(y.shape[1], length, fewest)
    for bar in range(len(x)):
        slab.advance(bar, float(x[bar]))
        slab.fill(y[bar])
        if slab.basis.pivot_x or slab.basis.pivots is not None:
            return True
    return False


def assert_same_bits(
    y: Floats, x: Floats, wanted: BoolArray, length: int, fewest: int
) -> None:
    """Check every wanted window's bits, and that each comes once, in order."""
    n, statistics = stepped(y, x, length, fewest)
    seen: list[int] = []
    parts = sweep.sweep(y, x, wanted, lookback_length=length, min_observations=fewest)
    for bars, rows, ours_n, ours in parts:
        seen += (bars * y.shape[1] + rows).tolist()
        assert ours_n.tobytes() == n[bars, rows].tobytes()
        assert ours.tobytes() == statistics[:, bars, rows].tobytes()
    assert seen == np.flatnonzero(wanted).tolist()


def gappy(y: FloatArray, x: FloatArray, missing: float, seed: int) -> None:
    """Take out cells of the assets, and a third as many bars of the benchmark."""
    rng = np.random.default_rng(seed)
    y[rng.random(y.shape) < missing] = np.nan
    x[rng.random(x.shape) < missing / 3] = np.nan


@pytest.mark.parametrize("name", NASTY)
def test_every_nasty_series_has_the_bits_of_the_slab(name: str) -> None:
    # The caller takes out what is no return.
    x, y = (np.where(np.abs(v) <= LARGEST, v, np.nan) for v in NASTY[name](250))
    kept = sweep.keeps_pivots(y, x, 40)
    assert kept != moves_a_pivot(y, x, 40, 3)
    if kept:
        assert_same_bits(y, x, np.ones(y.shape, dtype=np.bool_), 40, 3)


@examples(20)
@given(
    length=st.integers(3, 50),
    n_bars=st.integers(0, 200),
    n_rows=st.integers(1, 15),
    missing=st.sampled_from([0.0, 0.2, 0.9]),
    digits=st.sampled_from([0, 1, 17]),
    scale=st.sampled_from([1e-150, 1e-3, 1e5]),
    seed=seeds,
)
def test_any_length_and_any_gaps_have_the_bits_of_the_slab(
    *,
    length: int,
    n_bars: int,
    n_rows: int,
    missing: float,
    digits: int,
    scale: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_bars).round(digits)
    y = x[:, None] * rng.normal(size=n_rows) + rng.normal(size=(n_bars, n_rows))
    y = y.round(digits) * scale
    gappy(y, x, missing, seed)
    assume(sweep.keeps_pivots(y, x, length))
    wanted = rng.random(y.shape) < rng.random()
    assert_same_bits(y, x, wanted, length, 3)


def test_parts_of_a_recording_go_on_where_the_last_one_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "_BLOCK", 64)
    x, y = (values.copy() for values in NASTY[next(iter(NASTY))](700))
    gappy(y, x, 0.2, 1)
    assert_same_bits(y, x, np.ones(y.shape, dtype=np.bool_), 40, 3)
