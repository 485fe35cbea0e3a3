"""Whole series through windows have the bits of the windows bar by bar."""

from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import AmendableSlab, Opening, over_series, series
from beta_factory.estimators.extent import TimeExtent
from strategies import FloatArray, examples, seeds

LEVELS = {"returns": 0.0, "levels": 1e6, "tiny": 1e-170}


def bits(values: FloatArray) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.ascontiguousarray(values).tobytes()


def a_market(
    rng: np.random.Generator, n_bars: int, level: float
) -> tuple[FloatArray, FloatArray]:
    """Return a market with gaps, prints and stretches in which it stands still."""
    scale = level or 1e-2
    x = level + rng.normal(0, scale, n_bars)
    y = level + 0.8 * x[:, None] + rng.normal(0, scale, (n_bars, 3))
    y[rng.random(y.shape) < rng.choice([0.0, 0.1])] = nan
    y[rng.random(y.shape) < 0.01] *= 1e8
    still = int(rng.integers(n_bars))
    x[still : still + 12] = x[still]
    x[rng.random(n_bars) < 0.05] = nan
    return x, y


def take(windows: AmendableSlab, opened: list[Opening], returns: FloatArray) -> None:
    """Open the bars of a row of the series and fill the last, as a batch does."""
    for opening in opened:
        if opening.resets:
            windows.reset()
        windows.advance(opening.stamp, opening.benchmark_return)
    if opened:
        windows.fill(returns)


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@examples(12)
@given(
    seeds,
    st.sampled_from([3, 10, 24, TimeExtent(15)]),
    st.integers(0, 40),
    st.sampled_from([1, 7, 1 << 14]),
)
def test_a_series_has_the_bits_of_its_bars(
    level: float, seed: int, extent: int | TimeExtent, n_before: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = a_market(rng, 110, level)
    whole, stepped = (AmendableSlab(3, extent, 3) for _ in range(2))
    openings: list[list[Opening]] = []
    stamp = 0
    for value in x.tolist():
        # some rows open no bar, some follow one that the series does not have
        missing = [Opening(stamp + 1, nan)] * (rng.random() < 0.1)
        stamp += int(rng.integers(2, 4))
        own = [Opening(stamp, value, rng.random() < 0.02)]
        openings.append([*missing, *own] if rng.random() < 0.9 else [])
    for row in range(n_before):
        for windows in (whole, stepped):
            take(windows, openings[row], y[row])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "_BLOCK", block)
        found = over_series(whole, y[n_before:], openings[n_before:])
    for row in range(n_before, len(x)):
        take(stepped, openings[row], y[row])
        n, statistics = stepped.estimate(full=True)
        at = row - n_before
        assert found.n_obs[at].tolist() == n.tolist()
        ours = (
            found.beta,
            found.alpha,
            found.std_error,
            found.t_stat,
            found.r_squared,
            found.residual_std,
            found.alpha_std_error,
            found.correlation,
        )
        assert bits(np.array([each[at] for each in ours])) == bits(statistics)
