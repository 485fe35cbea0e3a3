"""Robust limits against the definition, value by value, in plain Python."""

import statistics
from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.estimators import Floats
from beta_factory.estimators.robust import RobustLimits, robust_scale
from strategies import examples

values = st.sampled_from([nan, 0.0, 0.0, 1e-3, -2e-3, 7.0, -1e6]) | st.floats(-1, 1)


def by_definition(past: list[float], fewest: int) -> tuple[float, float]:
    """Median and 1.4826 MAD of what moved."""
    present = [value for value in past if not isnan(value)]
    if not present:
        return nan, nan
    centre = statistics.median(present)
    moved = [abs(v - centre) for v in present if v != centre]
    if len(moved) < fewest:
        return nan, nan
    return centre, 1.4826 * statistics.median(moved)


def limits(
    n_rows: int = 1,
    *,
    bound: float | None = None,
    max_z: float | None = 5.0,
    length: int = 8,
    fewest: int = 5,
) -> RobustLimits:
    return RobustLimits(
        n_rows, bound=bound, max_z=max_z, length=length, min_observations=fewest
    )


@examples(40)
@given(
    st.integers(1, 5), st.lists(st.lists(values, min_size=3, max_size=3), min_size=1)
)
def test_scale_is_that_of_the_definition(
    fewest: int, columns: list[list[float]]
) -> None:
    table: Floats = np.array(columns).T
    centre, scale = robust_scale(np.ascontiguousarray(table), fewest)
    for row in range(3):
        wanted = by_definition(table[row].tolist(), fewest)
        np.testing.assert_allclose((centre[row], scale[row]), wanted, rtol=1e-15)


def test_scale_is_a_standard_deviation_where_values_are_normal() -> None:
    drawn = np.random.default_rng(3).normal(0.5, 2.0, size=(1, 100_001))
    centre, scale = robust_scale(drawn, 30)
    assert centre[0] == pytest.approx(0.5, abs=0.02)
    assert scale[0] == pytest.approx(2.0, rel=0.01)


def test_prices_that_do_not_change_leave_the_scale_alone() -> None:
    # Three bars in four are without a trade: by the plain MAD the scale would be 0,
    # and every trade infinitely far away.
    trades = np.random.default_rng(5).normal(0.0, 1e-3, size=100)
    mostly_still = np.concatenate([np.zeros(300), trades])[None, :]
    _, scale = robust_scale(mostly_still, 30)
    _, traded = robust_scale(trades[None, :], 30)
    assert scale[0] == pytest.approx(traded[0], rel=0.1)


def test_values_that_are_all_equal_have_no_scale_and_no_limit_but_the_bound() -> None:
    guard = limits(bound=0.5)
    for _ in range(20):
        guard.settle(np.array([0.25]))
    assert guard.z_of(0, 0.3) is None
    assert guard.limits.low.tolist() == [-0.5]
    assert guard.limits.high.tolist() == [0.5]


@examples(27)
@given(st.lists(st.lists(values, min_size=4, max_size=4), max_size=60))
def test_each_row_is_renewed_once_per_half_a_window(columns: list[list[float]]) -> None:
    length, fewest = 8, 5
    guard = limits(4, length=length, fewest=fewest)
    for n_settled, column in enumerate(columns, start=1):
        guard.settle(np.array(column))
        # As of one of the newest columns: half a past, and what is left of a row.
        reach = max(min(n_settled, length) // 2, 1) + 1
        for row in range(4):
            held = guard.limits.low[row], guard.limits.high[row]
            known: list[tuple[float, float]] = []
            for end in range(max(n_settled - reach, 0), n_settled + 1):
                past = [c[row] for c in columns[max(end - length, 0) : end]]
                centre, scale = by_definition(past, fewest)
                known.append(
                    (-inf, inf)
                    if isnan(scale)
                    else (centre - 5.0 * scale, centre + 5.0 * scale)
                )
            assert any(
                held == one or np.allclose(held, one, rtol=1e-14, atol=0.0)
                for one in known
            )


def test_limits_are_the_narrower_of_both() -> None:
    guard = limits(2, bound=0.05, max_z=10.0, length=40, fewest=5)
    rng = np.random.default_rng(7)
    for _ in range(40):
        guard.settle(rng.normal(0.0, [1e-3, 1.0]))
    assert 0.005 < guard.limits.high[0] < 0.02
    assert guard.limits.high[1] == 0.05
    assert guard.limits.low[1] == -0.05
    assert guard.bounds.high.tolist() == [0.05, 0.05]


def test_without_a_largest_z_only_the_bound_holds() -> None:
    guard = limits(bound=0.1, max_z=None)
    for value in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06):
        guard.settle(np.array([value]))
    assert (guard.limits.low[0], guard.limits.high[0]) == (-0.1, 0.1)
    assert guard.state()["past"].values.size == 0


def test_a_forgotten_row_has_no_past() -> None:
    guard = limits(2)
    rng = np.random.default_rng(9)
    for _ in range(20):
        guard.settle(rng.normal(size=2))
    guard.forget(0)
    assert (guard.limits.low[0], guard.limits.high[0]) == (-inf, inf)
    assert guard.limits.high[1] < inf
    for _ in range(3):
        guard.settle(rng.normal(size=2))
    assert (guard.limits.low[0], guard.limits.high[0]) == (-inf, inf)


@examples(20)
@given(st.lists(st.lists(values, min_size=3, max_size=3), max_size=30), st.data())
def test_restored_limits_go_on_as_the_others(
    columns: list[list[float]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(columns)))
    whole, before, after = limits(3), limits(3), limits(3)
    for column in columns:
        whole.settle(np.array(column))
    for column in columns[:cut]:
        before.settle(np.array(column))
    state = before.state()
    plain = {k: getattr(part, "values", part) for k, part in state.items()}
    assert after.restore(plain)
    for column in columns[cut:]:
        after.settle(np.array(column))
    for mine, other in zip(after.limits, whole.limits, strict=True):
        assert mine.tolist() == other.tolist()


@pytest.mark.parametrize(
    "other", [limits(length=9), limits(fewest=6), limits(max_z=None)]
)
def test_a_past_of_another_shape_is_not_restored(other: RobustLimits) -> None:
    state = limits().state()
    plain = {k: getattr(part, "values", part) for k, part in state.items()}
    assert not other.restore(plain)
