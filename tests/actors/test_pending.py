"""What waits for its benchmark is bounded, and what gives way is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.pending import PendingBar, PendingBars
from beta_factory.actors.tally import Drop, Tally
from strategies import examples


def some_bars(n_rows: int, max_bars: int) -> tuple[PendingBars, Tally]:
    tally = Tally()
    return PendingBars(n_rows, max_bars, tally), tally


def unpaired(tally: Tally) -> int:
    assert set(tally.dropped) <= {Drop.UNPAIRED}
    return tally.dropped[Drop.UNPAIRED]


def put(bars: PendingBars, ts: int, row: int, value: float = 0.5) -> bool:
    """Write one return; return whether there was room."""
    bar = bars.bar(ts)
    if bar is None:
        return False
    bar.cells[row] = value
    return True


def as_list(bar: PendingBar | None) -> list[float] | None:
    return None if bar is None else np.nan_to_num(bar.column, nan=-1.0).tolist()


def test_a_bar_holds_its_returns_until_it_is_opened() -> None:
    bars, tally = some_bars(3, 2)
    put(bars, 10, 2, 0.5)
    put(bars, 20, 0, 0.7)
    put(bars, 10, 0, 0.6)
    assert as_list(bars.open(10)) == [0.6, -1.0, 0.5]
    assert bars.open(10) is None
    assert as_list(bars.open(20)) == [0.7, -1.0, -1.0]
    assert (len(bars), unpaired(tally)) == (0, 0)


def test_a_bar_nobody_waits_for_opens_empty() -> None:
    bars, _ = some_bars(1, 2)
    assert bars.open(10) is None
    put(bars, 30, 0)
    assert bars.open(20) is None
    assert len(bars) == 1


def test_a_row_that_is_forgotten_waits_no_more_and_is_counted() -> None:
    bars, tally = some_bars(3, 3)
    put(bars, 10, 2, 0.5)
    put(bars, 10, 1, 0.6)
    put(bars, 20, 2, 0.7)
    put(bars, 30, 0, 0.8)
    bars.forget(2)
    assert (len(bars), unpaired(tally)) == (2, 2)
    assert as_list(bars.open(10)) == [-1.0, 0.6, -1.0]
    assert as_list(bars.open(30)) == [0.8, -1.0, -1.0]
    assert unpaired(tally) == 2


def test_column_and_cells_are_the_same_memory() -> None:
    bar = some_bars(3, 1)[0].bar(10)
    assert bar is not None
    bar.cells[1] = 0.5
    bar.column[2] = 0.6
    assert as_list(bar) == [-1.0, 0.5, 0.6]
    assert bar.cells[2] == 0.6


def test_older_bars_expire_when_a_later_one_opens() -> None:
    bars, tally = some_bars(3, 9)
    for ts, row in ((10, 0), (10, 1), (20, 0), (30, 2), (40, 1)):
        put(bars, ts, row)
    assert as_list(bars.open(30)) == [-1.0, -1.0, 0.5]
    assert (len(bars), unpaired(tally)) == (1, 3)


@pytest.mark.parametrize(
    ("stamps", "kept", "refused", "expired"),
    [
        ([10, 20, 30], [10, 20], [30], 0),
        ([30, 20, 10], [10, 20], [], 1),
        ([20, 30, 10], [10, 20], [], 1),
        ([99, 98, 10, 20], [10, 20], [], 2),
        ([10, 20, 30, 30, 20], [10, 20], [30, 30], 0),
    ],
)
def test_without_room_the_bar_furthest_ahead_gives_way(
    stamps: list[int], kept: list[int], refused: list[int], expired: int
) -> None:
    bars, tally = some_bars(1, 2)
    assert [ts for ts in stamps if not put(bars, ts, 0)] == refused
    assert unpaired(tally) == expired
    assert [ts for ts in range(100) if bars.open(ts) is not None] == kept


@examples(67)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 2)), max_size=40
    ),
)
def test_every_return_is_taken_out_refused_or_counted(
    max_bars: int, steps: list[tuple[bool, int, int]]
) -> None:
    bars, tally = some_bars(3, max_bars)
    written: set[tuple[int, int]] = set()
    n_written = n_opened = 0
    newest = -1
    for is_opening, ts, row in [*steps, (True, 21, 0)]:
        if is_opening and ts > newest:
            newest = ts
            bar = bars.open(ts)
            if bar is not None:
                n_opened += int(np.count_nonzero(~np.isnan(bar.column)))
        is_new = not is_opening and ts > newest and (ts, row) not in written
        if is_new and put(bars, ts, row):
            written.add((ts, row))
            n_written += 1
        assert len(bars) <= max_bars
    assert len(bars) == 0
    assert n_opened + unpaired(tally) == n_written


def test_a_bar_without_a_return_gives_way_uncounted() -> None:
    bars, tally = some_bars(2, 1)
    bars.bar(20)
    put(bars, 10, 1)
    assert as_list(bars.open(10)) == [-1.0, 0.5]
    assert unpaired(tally) == 0
