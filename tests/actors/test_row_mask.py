"""Marked rows: asking whether there are any always has the right answer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.row_mask import RowMask


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
def test_some_are_marked_exactly_while_one_is(steps: list[tuple[int, bool]]) -> None:
    mask = RowMask(5)
    wanted = np.zeros(5, dtype=np.bool_)
    for row, is_marked in steps:
        mask.mark(row, is_marked=is_marked)
        wanted[row] = is_marked
        assert (mask.some is None) == (not wanted.any())
        if mask.some is not None:
            assert mask.some.tolist() == wanted.tolist()


def test_all_can_be_marked_and_each_taken_out_again() -> None:
    mask = RowMask(3)
    mask.mark(1)
    mask.mark_all()
    assert mask.some is not None
    assert mask.some.all()
    for row in range(3):
        mask.mark(row, is_marked=False)
    assert mask.some is None


def test_no_rows_are_none() -> None:
    mask = RowMask(0)
    mask.mark_all()
    assert mask.some is None
