"""A panel has the bits of the slab, which is stepped bar by bar as the oracle."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import (
    LARGEST,
    Floats,
    WindowSlab,
    over_bars,
    panel,
    panel_sums,
)
from beta_factory.estimators.doubt import doubtful
from beta_factory.estimators.ols import ALL_STATISTICS
from beta_factory.estimators.panel_solve import (
    Solver,
    side_of,
    solve_any,
)
from nasty import NASTY, FloatArray
from strategies import examples, seeds


class Stepped(NamedTuple):
    """What a slab said, by row and bar, and which pivots it moved."""

    n: Floats
    statistics: Floats
    moved: set[int]
    moved_benchmark: bool


def stepped(y: Floats, x: Floats, length: int, fewest: int) -> Stepped:
    n_bars, n_rows = y.shape
    slab = WindowSlab(n_rows, length, fewest)
    n, statistics = np.empty((n_rows, n_bars)), np.empty((8, n_rows, n_bars))
    moved: set[int] = set()
    moved_benchmark = False
    returns = np.where(np.abs(y) <= LARGEST, y, np.nan)
    for bar in range(n_bars):
        slab.advance(bar, float(x[bar]))
        slab.fill(returns[bar])
        n[:, bar], statistics[:, :, bar] = slab.estimate(full=True)
        pivots = slab.basis.pivots
        if pivots is not None:
            moved |= set(np.flatnonzero(pivots).tolist())
        moved_benchmark |= bool(slab.basis.pivot_x)
    return Stepped(n, statistics, moved, moved_benchmark)


def assert_same_bits(y: Floats, x: Floats, length: int, fewest: int) -> None:
    """Check every column but those that a slab takes other pivots for."""
    wanted = stepped(y, x, length, fewest)
    found = panel.Panel(
        list(y.T), x, lookback_length=length, min_observations=fewest
    ).estimate()
    if found is None:
        assert wanted.moved_benchmark or wanted.moved
        return
    assert not wanted.moved_benchmark
    for row, column in enumerate(found):
        if column is None:
            continue
        assert row not in wanted.moved
        assert column.n.tobytes() == wanted.n[row].tobytes()
        assert column.statistics.tobytes() == wanted.statistics[:, row].tobytes()


def gappy(y: FloatArray, x: FloatArray, missing: float, seed: int) -> None:
    """Take out cells of the assets, and a third as many bars of the benchmark."""
    rng = np.random.default_rng(seed)
    y[rng.random(y.shape) < missing] = np.nan
    x[rng.random(x.shape) < missing / 3] = np.nan


@pytest.mark.parametrize(("length", "fewest"), [(3, 2), (30, 3), (41, 5)])
@pytest.mark.parametrize("name", NASTY)
def test_every_nasty_series_has_the_bits_of_the_slab(
    name: str, length: int, fewest: int
) -> None:
    x, y = NASTY[name](85)
    assert_same_bits(y, x, length, fewest)


@examples(40)
@given(
    length=st.integers(2, 50),
    n_bars=st.integers(1, 160),
    n_rows=st.integers(1, 9),
    fewest=st.integers(2, 12),
    missing=st.sampled_from([0.0, 0.0, 0.2, 0.9]),
    digits=st.sampled_from([0, 1, 17]),
    scale=st.sampled_from([1e-150, 1e-3, 1e5]),
    slope=st.sampled_from([0.0, 1.0]),
    block=st.sampled_from([30, 300, 80_000]),
    seed=seeds,
)
def test_any_length_any_gaps_and_any_blocks_have_the_bits_of_the_slab(
    *,
    length: int,
    n_bars: int,
    n_rows: int,
    fewest: int,
    missing: float,
    digits: int,
    scale: float,
    slope: float,
    block: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_bars).round(digits)
    y = slope * x[:, None] * rng.normal(size=n_rows) + rng.normal(size=(n_bars, n_rows))
    y = y.round(digits) * scale
    y[:, rng.random(n_rows) < 0.1] = -0.0
    gappy(y[:, :: 2 if missing < 0.5 else 1], x, missing, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panel_sums, "_BLOCK", block)
        assert_same_bits(y, x, length, fewest)


@examples(27)
@given(
    seed=seeds,
    noise=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e5]),
    digits=st.sampled_from([1, 17]),
    offset=st.sampled_from([0.0, 0.1, 3.0, 1e4]),
)
def test_the_solver_of_complete_columns_is_centre_and_solve(
    seed: int, noise: float, digits: int, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 60)).round(digits) * 1e-3
    y = rng.normal() * x + noise * rng.normal(size=(3, 40, 60)).round(digits) + offset
    benchmark = np.stack((np.full(40, 60.0), x.sum(axis=1), (x * x).sum(axis=1)))
    asset = np.stack((y.sum(axis=2), (x * y).sum(axis=2), (y * y).sum(axis=2)))
    still = np.zeros(40, dtype=np.bool_)
    wanted = np.empty((ALL_STATISTICS, 3, 40))
    found = np.empty_like(wanted)
    error = 80 * 2.0**-53
    solver = Solver(120, error)
    with np.errstate(all="ignore"):
        theirs = solve_any(asset, benchmark[:, None], still, 3, wanted)
        side = side_of(benchmark, still)
        assert side is not None
        ours, may_be_doubtful = solver.solve(asset, side, found)
    assert found.tobytes() == wanted.tobytes()
    for one, other in zip(ours, theirs, strict=True):
        assert np.broadcast_to(one, (3, 40)).tobytes() == (
            np.broadcast_to(other, (3, 40)).tobytes()
        )
    if len(doubtful(theirs, wanted, 3, error)):
        assert may_be_doubtful


def test_ordinary_windows_are_not_asked_one_by_one() -> None:
    x, y = NASTY["clean"](1_000)
    asked: list[bool] = []

    class Listening(Solver):
        def solve(self, *args: object) -> object:  # type: ignore[override]
            moments, may_be_doubtful = super().solve(*args)  # type: ignore[arg-type]
            asked.append(may_be_doubtful)
            return moments, may_be_doubtful

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panel, "Solver", Listening)
        patch.setattr(panel_sums, "_BLOCK", 1)
        over_bars(list(y.T[:2]), x, lookback_length=390, min_observations=60)
    assert asked
    assert not any(asked)


def test_columns_with_other_pivots_are_left_to_the_slab() -> None:
    x, clean = NASTY["clean"](200)
    _, level = NASTY["offset_1e8_assets"](200)
    y = np.column_stack((clean[:, :2], level[:, 0], clean[:, 2]))
    found = panel.Panel(list(y.T), x, lookback_length=40, min_observations=3).estimate()
    assert found is not None
    assert [column is None for column in found] == [False, False, True, False]
    wanted = stepped(y, x, 40, 3)
    series = over_bars(list(y.T), x, lookback_length=40, min_observations=3)
    for row, ours in enumerate(series):
        theirs = wanted.statistics[:, row]
        assert np.array(ours.statistics).tobytes() == theirs.tobytes()
        assert ours.n_obs.tolist() == ours.n_eff.tolist() == wanted.n[row].tolist()


def test_columns_that_lack_no_bar_share_how_many_pairs_they_have() -> None:
    x, y = NASTY["clean"](50)
    one, other, _ = over_bars(list(y.T), x, lookback_length=20, min_observations=3)
    assert one.n_obs is other.n_obs
    assert not one.n_obs.flags.writeable
    assert one.n_obs.tolist() == [min(bar, 20) for bar in range(1, 51)]
    gaps = y.copy()
    gaps[30, 1] = np.nan
    series = over_bars(list(gaps.T), x, lookback_length=20, min_observations=3)
    assert [each.n_obs[30:].tolist() for each in series] == [
        [20] * 20,
        [19] * 20,
        [20] * 20,
    ]


def test_threads_share_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=70)
    y = x[:, None] + rng.normal(size=(70, 41))
    y[rng.random(y.shape) < 0.001] = np.nan
    monkeypatch.setattr(panel, "_n_processors", lambda: 3)
    monkeypatch.setattr(panel_sums, "_BLOCK", 200)
    assert_same_bits(y, x, 12, 3)
