"""Sets of pairs: both forms of each operation agree, and agree with exact sums."""

import random
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from beta_factory.estimators.moments import (
    CXX,
    CXY,
    FIELDS,
    PX,
    PY,
    Joined,
    Scratch,
    add_pair,
    add_pairs,
    cells_of,
    join_one,
    merge_sets,
    recentre,
)
from strategies import FloatArray, examples

Pair = tuple[float, float]

EPSILON = 2.0**-52
UNDERFLOW = 1e-320
"""What products of the smallest data lose to the end of the number range."""

# Returns and prices of any scale that is promised to work, zero and repeats included.
nasty = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 1.0, 0.1, -0.1, 1e8, 1e8 + 1e-8, 1e-150, -1e-150, 1e100]
    ),
    st.floats(1e-150, 1e100),
    st.floats(-1e100, -1e-150),
    st.floats(-1, 1).filter(lambda value: value == 0 or abs(value) >= 1e-150),
)
pairs = st.lists(st.tuples(nasty, nasty), max_size=8)
some_pairs = st.lists(st.tuples(nasty, nasty), min_size=1, max_size=8)


def bits(values: npt.ArrayLike) -> bytes:
    """Tell 0 from -0, and one NaN from another."""
    return np.asarray(values, dtype=np.float64).tobytes()


def a_set(content: Sequence[Pair]) -> FloatArray:
    """Return one set of pairs, shape (FIELDS, 1), added by `add_pairs`."""
    lanes = np.zeros((1, FIELDS, 1))
    scratch = Scratch(1, 1)
    for x, y in content:
        add_pairs(lanes, x, np.array([y]), np.ones(1), scratch)
    one: FloatArray = lanes[0]
    return one


class Exact(NamedTuple):
    """What a set stands for, without rounding."""

    n: int
    mean_x: Fraction
    mean_y: Fraction
    cxx: Fraction
    cxy: Fraction
    cyy: Fraction


def exact(content: Sequence[Pair]) -> Exact:
    n = len(content)
    xs = [Fraction(x) for x, _ in content]
    ys = [Fraction(y) for _, y in content]
    mean_x, mean_y = sum(xs, Fraction()) / n, sum(ys, Fraction()) / n
    return Exact(
        n,
        mean_x,
        mean_y,
        sum(((x - mean_x) ** 2 for x in xs), Fraction()),
        sum(
            ((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)),
            Fraction(),
        ),
        sum(((y - mean_y) ** 2 for y in ys), Fraction()),
    )


def assert_close(ours: Sequence[float], content: Sequence[Pair]) -> None:
    """Compare (n, mean x, mean y, cxx, cxy, cyy) with the bound that is promised."""
    true = exact(content)
    n, mean_x, mean_y, cxx, cxy, cyy = ours
    share = 8 * EPSILON * true.n
    assert n == true.n
    for mean, truth, side in ((mean_x, true.mean_x, 0), (mean_y, true.mean_y, 1)):
        largest = max(abs(pair[side]) for pair in content)
        assert abs(mean - truth) <= share * largest + UNDERFLOW
    assert abs(cxx - true.cxx) <= share * float(true.cxx) + UNDERFLOW
    assert abs(cyy - true.cyy) <= share * float(true.cyy) + UNDERFLOW
    scale = float(true.cxx) ** 0.5 * float(true.cyy) ** 0.5
    assert abs(cxy - true.cxy) <= share * scale + UNDERFLOW


def as_sums(one: FloatArray) -> tuple[float, ...]:
    """Return what a set stands for: (n, mean x, mean y, cxx, cxy, cyy)."""
    return join_one([0.0] * FIELDS, one[:, 0].tolist())


class TestAddPairs:
    """Welford's step."""

    @examples(53)
    @given(
        st.lists(
            st.tuples(nasty, st.lists(st.none() | nasty, min_size=3, max_size=3)),
            max_size=10,
        ),
        st.integers(1, 2),
    )
    def test_adding_over_arrays_and_over_floats_gives_the_same_bits(
        self, bars: list[tuple[float, list[float | None]]], n_lanes: int
    ) -> None:
        n_sets = 3
        by_arrays = np.zeros((n_lanes, FIELDS, n_sets))
        by_floats = np.zeros((n_lanes, FIELDS, n_sets))
        cells = cells_of(by_floats)
        scratch = Scratch(n_sets, n_lanes)
        for x, returns in bars:
            y = np.array([0.0 if value is None else value for value in returns])
            present = np.array([float(value is not None) for value in returns])
            add_pairs(by_arrays, x, y, present, scratch)
            for row, value in enumerate(returns):
                if value is not None:
                    for lane in range(n_lanes):
                        at = lane * FIELDS * n_sets + row
                        add_pair(cells, at, n_sets, x, value)
            assert bits(by_arrays) == bits(by_floats)

    @examples(40)
    @given(pairs, st.tuples(nasty, nasty), st.booleans())
    def test_adding_into_another_set_equals_adding_in_place(
        self, content: list[Pair], pair: Pair, present: bool
    ) -> None:
        before = a_set(content)[None]
        kept = before.copy()
        out = np.full((1, FIELDS, 1), np.nan)
        y, there = np.array([pair[1]]), np.array([float(present)])
        add_pairs(before, pair[0], y, there, Scratch(1), out=out)
        assert bits(before) == bits(kept)
        add_pairs(before, pair[0], y, there, Scratch(1))
        assert bits(out) == bits(before)

    @examples(40)
    @given(pairs, st.tuples(nasty, nasty))
    def test_an_absent_pair_changes_nothing(
        self, content: list[Pair], pair: Pair
    ) -> None:
        lanes = a_set(content)[None]
        before = lanes.copy()
        add_pairs(lanes, pair[0], np.array([pair[1]]), np.zeros(1), Scratch(1))
        assert bits(lanes) == bits(before)

    @examples(53)
    @given(some_pairs)
    def test_sums_are_those_of_exact_arithmetic(self, content: list[Pair]) -> None:
        assert_close(as_sums(a_set(content)), content)

    @examples(40)
    @given(some_pairs, st.randoms(use_true_random=False))
    def test_the_order_of_adding_shows_in_the_last_digits_alone(
        self, content: list[Pair], rng: random.Random
    ) -> None:
        shuffled = list(content)
        rng.shuffle(shuffled)
        assert_close(as_sums(a_set(shuffled)), content)

    @examples(40)
    @given(nasty, st.lists(nasty, min_size=1, max_size=8))
    def test_equal_benchmark_values_have_no_variance_at_all(
        self, x: float, returns: list[float]
    ) -> None:
        flat = a_set([(x, y) for y in returns])
        assert flat[CXX, 0] == 0.0
        assert flat[CXY, 0] == 0.0

    def test_one_unit_in_the_last_place_is_a_variance(self) -> None:
        x = 1e8
        quiet = a_set([(x, 0.0), (x, 1.0), (float(np.nextafter(x, 2 * x)), 2.0)])
        assert quiet[CXX, 0] > 0.0

    def test_the_pivot_is_the_first_pair(self) -> None:
        one = a_set([(3.0, 4.0), (5.0, 6.0)])
        assert one[[PX, PY], 0].tolist() == [3.0, 4.0]
        assert as_sums(one) == (2.0, 4.0, 5.0, 2.0, 2.0, 2.0)

    def test_only_the_buffers_it_needs_are_used(self) -> None:
        large, exact_fit = Scratch(50), Scratch(1)
        one, other = a_set([(1.0, 2.0)])[None], a_set([(1.0, 2.0)])[None]
        for scratch, lanes in ((large, one), (exact_fit, other)):
            add_pairs(lanes, 3.0, np.array([5.0]), np.ones(1), scratch)
        assert bits(one) == bits(other)


class TestRecentre:
    """A pivot moved to the mean."""

    @examples(40)
    @given(some_pairs, pairs)
    def test_a_set_stands_for_the_same_pairs_about_another_pivot(
        self, content: list[Pair], more: list[Pair]
    ) -> None:
        lanes = a_set(content)[None]
        recentre(lanes[0])
        assert_close(as_sums(lanes[0]), content)
        for x, y in more:
            add_pairs(lanes, x, np.array([y]), np.ones(1), Scratch(1))
        assert_close(as_sums(lanes[0]), [*content, *more])

    @examples(40)
    @given(nasty, st.lists(nasty, min_size=1, max_size=5), st.lists(nasty, max_size=5))
    def test_equal_benchmark_values_still_have_no_variance_at_all(
        self, x: float, returns: list[float], more: list[float]
    ) -> None:
        lanes = a_set([(x, y) for y in returns])[None]
        recentre(lanes[0])
        assert lanes[0, PX, 0] == as_sums(lanes[0])[1] == x
        for y in more:
            add_pairs(lanes, x, np.array([y]), np.ones(1), Scratch(1))
        assert lanes[0, [CXX, CXY], 0].tolist() == [0.0, 0.0]

    def test_an_empty_set_stays_empty(self) -> None:
        nothing = np.zeros((FIELDS, 2))
        recentre(nothing)
        assert bits(nothing) == bits(np.zeros((FIELDS, 2)))

    def test_a_bad_print_that_came_first_is_no_pivot_afterwards(self) -> None:
        content = [(1e8, 1e8), *[(float(i), float(-i)) for i in range(99)]]
        one = a_set(content)
        recentre(one)
        assert abs(one[PX, 0] - exact(content).mean_x) < 100
        assert_close(as_sums(one), content)


def merged(*contents: Sequence[Pair]) -> FloatArray:
    """Merge sets from left to right."""
    target = a_set(contents[0]).copy()
    for content in contents[1:]:
        merge_sets(target, a_set(content))
    return target


class TestMergeSets:
    """Chan's merge."""

    @examples(53)
    @given(pairs, pairs)
    def test_a_merge_stands_for_all_the_pairs(
        self, one: list[Pair], other: list[Pair]
    ) -> None:
        assume(one or other)
        assert_close(as_sums(merged(one, other)), [*one, *other])

    @examples(40)
    @given(pairs, pairs, pairs)
    def test_it_does_not_matter_which_two_are_merged_first(
        self, one: list[Pair], two: list[Pair], three: list[Pair]
    ) -> None:
        content = [*one, *two, *three]
        assume(content)
        left = merged(one, two, three)
        right = a_set(one).copy()
        merge_sets(right, merged(two, three))
        assert_close(as_sums(left), content)
        assert_close(as_sums(right), content)
        assert_close(as_sums(merged(three, two, one)), content)

    @examples(40)
    @given(pairs)
    def test_an_empty_set_adds_nothing(self, content: list[Pair]) -> None:
        assert bits(merged(content, [])) == bits(a_set(content))
        assert bits(merged([], content)) == bits(a_set(content))

    @examples(40)
    @given(nasty, st.lists(nasty, max_size=5), st.lists(nasty, max_size=5))
    def test_equal_benchmark_values_have_no_variance_after_a_merge(
        self, x: float, one: list[float], other: list[float]
    ) -> None:
        flat = merged([(x, y) for y in one], [(x, y) for y in other])
        assert flat[CXX, 0] == 0.0
        assert flat[CXY, 0] == 0.0

    def test_the_pivot_stays_one_of_the_sets_own_pairs(self) -> None:
        assert merged([], [(7.0, 8.0), (1.0, 1.0)])[[PX, PY], 0].tolist() == [7, 8]
        assert merged([(1.0, 2.0)], [(7.0, 8.0)])[[PX, PY], 0].tolist() == [1, 2]

    def test_the_other_set_is_left_alone(self) -> None:
        other = a_set([(1.0, 2.0), (3.0, 5.0)])
        before = other.copy()
        merge_sets(a_set([(2.0, 2.0)]), other)
        assert bits(other) == bits(before)


class TestJoined:
    """The union from which statistics are computed."""

    @examples(53)
    @given(st.lists(st.tuples(pairs, pairs), min_size=1, max_size=4))
    def test_joining_arrays_and_joining_floats_gives_the_same_bits(
        self, rows: list[tuple[list[Pair], list[Pair]]]
    ) -> None:
        front = np.concatenate([a_set(one) for one, _ in rows], axis=1)
        back = np.concatenate([a_set(two) for _, two in rows], axis=1)
        n, mean, centred = Joined(len(rows) + 2).join(front, back)
        assert (n.shape, mean.shape, centred.shape) == (
            (len(rows),),
            (2, len(rows)),
            (3, len(rows)),
        )
        for row in range(len(rows)):
            scalars = join_one(front[:, row].tolist(), back[:, row].tolist())
            assert bits(scalars) == bits([n[row], *mean[:, row], *centred[:, row]])

    @examples(53)
    @given(pairs, pairs)
    def test_a_join_stands_for_all_the_pairs(
        self, front: list[Pair], back: list[Pair]
    ) -> None:
        assume(front or back)
        joined = join_one(a_set(front)[:, 0].tolist(), a_set(back)[:, 0].tolist())
        assert_close(joined, [*front, *back])

    @examples(40)
    @given(nasty, st.lists(nasty, max_size=5), st.lists(nasty, max_size=5))
    def test_equal_benchmark_values_have_no_variance_when_joined(
        self, x: float, front: list[float], back: list[float]
    ) -> None:
        sets = [a_set([(x, y) for y in side])[:, 0].tolist() for side in (front, back)]
        _, mean_x, _, cxx, cxy, _ = join_one(sets[0], sets[1])
        assert (cxx, cxy) == (0.0, 0.0)
        if front or back:
            assert abs(mean_x - x) <= 2 * EPSILON * abs(x)

    def test_neither_side_is_changed(self) -> None:
        front, back = a_set([(1.0, 2.0)]), a_set([(3.0, 5.0), (4.0, 4.0)])
        before = bits(front), bits(back)
        Joined(1).join(front, back)
        assert (bits(front), bits(back)) == before

    def test_two_empty_sets_join_to_nothing(self) -> None:
        n, mean, centred = Joined(1).join(a_set([]), a_set([]))
        assert [*n, *mean[:, 0], *centred[:, 0]] == pytest.approx([0.0] * 6, abs=0)
