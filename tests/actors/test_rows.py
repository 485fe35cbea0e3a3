"""A few updates as scalars: the same as columns, field by field."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.publisher import BetaPublisher
from beta_factory.actors.rows import BetaRow, BetaRows
from beta_factory.estimators import Statistics
from beta_factory.messages import BetaUpdated, Reason, Status, encode
from strategies import (
    GATHERED,
    MIXED,
    ONE_BY_ONE,
    Market,
    Paths,
    arrivals,
    drive,
    examples,
    markets,
    wire,
)

SYMBOLS = ("AAPL", "BAC", "IBM")
DEFINED: Statistics = (1.0, 2.0, 3.0, 4.0, 0.5, 6.0)
LINE: Statistics = (-1.0, 0.0, 0.0, -inf, 1.0, 0.0)
CONSTANT: Statistics = (0.0, 2.0, 0.0, nan, nan, 0.0)
UNDEFINED: Statistics = (nan, nan, nan, nan, nan, nan)

rows = st.lists(
    st.builds(
        BetaRow,
        row=st.integers(0, 2),
        n_obs=st.integers(0, 2**31 - 1),
        numbers=st.sampled_from([DEFINED, LINE, CONSTANT, UNDEFINED]),
        status=st.sampled_from(list(Status)).map(int),
        reason=st.sampled_from(list(Reason)).map(int),
        revision=st.integers(0, 9),
        ts_init=st.integers(0, 2**63 - 1),
        window_start=st.integers(0, 2**63 - 1),
    ),
    min_size=1,
    unique_by=lambda update: update.row,
)


def a_few(updates: list[BetaRow]) -> BetaRows:
    return BetaRows(
        factor="market",
        benchmark="SPY",
        symbols=SYMBOLS,
        ts_event=1000,
        updates=updates,
    )


def one(numbers: Statistics) -> BetaRow:
    return BetaRow(1, 30, numbers, Status.OK, Reason.NONE, 0, 1001, 500)


@examples(33)
@given(rows)
def test_rows_and_their_columns_are_the_same_updates(updates: list[BetaRow]) -> None:
    few = a_few(updates)
    few.first_seq = 7
    assert len(few) == len(updates)
    assert wire(few.to_columns().as_rows()) == wire(few.as_rows())


@examples(33)
@given(rows)
def test_rows_made_without_messages_have_the_same_bytes(updates: list[BetaRow]) -> None:
    few = a_few(updates)
    few.first_seq = 7
    assert [encode(array) for array in few.as_arrays()] == [
        encode(row) for row in few.as_rows()
    ]


@examples(33)
@given(rows)
def test_columns_made_without_arrays_have_the_same_bytes(
    updates: list[BetaRow],
) -> None:
    few = a_few(updates)
    few.first_seq = 7
    assert encode(few.as_columns(3)) == encode(few.to_columns().as_columns(3))


@examples(40)
@given(st.lists(rows, max_size=5))
def test_a_publisher_takes_rows_for_what_columns_of_them_would_be(
    turns: list[list[BetaRow]],
) -> None:
    by_rows, by_columns = (BetaPublisher("market", "SPY", SYMBOLS) for _ in range(2))
    for turn, updates in enumerate(turns):
        few, many = a_few(updates), a_few(updates).to_columns()
        few.ts_event = many.ts_event = 1000 + turn
        by_rows.publish(few)
        by_columns.publish(many)
        assert wire(few.as_rows()) == wire(many.as_rows())
    snapshots = [
        wire(u for part in publisher.last_values(np.arange(3)) for u in part.as_rows())
        for publisher in (by_rows, by_columns)
    ]
    assert snapshots[0] == snapshots[1]
    assert by_rows.last_seq == by_columns.last_seq
    assert by_rows.seq.tolist() == by_columns.seq.tolist()
    assert by_rows.n_updates.tolist() == by_columns.n_updates.tolist()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (DEFINED, [1.0, 2.0, 3.0, 4.0, 0.5, 6.0]),
        (LINE, [-1.0, 0.0, 0.0, -inf, 1.0, 0.0]),
        (CONSTANT, [0.0, 2.0, 0.0, None, None, 0.0]),
        (UNDEFINED, [None] * 6),
    ],
    ids=["defined", "exact line", "constant asset", "undefined"],
)
def test_an_undefined_number_is_none(
    numbers: Statistics, expected: list[float | None]
) -> None:
    (update,) = a_few([one(numbers)]).as_rows()
    assert [
        update.beta,
        update.alpha,
        update.std_error,
        update.t_stat,
        update.r_squared,
        update.residual_std,
    ] == expected


def test_a_row_says_all_that_an_update_says() -> None:
    few = a_few([one(DEFINED)])
    few.first_seq = 9
    assert few.as_rows() == [
        BetaUpdated(
            factor="market",
            symbol="BAC",
            benchmark="SPY",
            ts_event=1000,
            beta=1.0,
            alpha=2.0,
            std_error=3.0,
            t_stat=4.0,
            r_squared=0.5,
            residual_std=6.0,
            n_obs=30,
            window_start=500,
            status=Status.OK,
            reason=Reason.NONE,
            revision=0,
            seq=9,
            ts_init=1001,
        )
    ]


@examples(27)
@given(st.data(), markets(), st.sampled_from([GATHERED, MIXED]))
def test_a_market_in_rows_is_the_market_in_columns(
    data: st.DataObject, market: Market, taken: Paths
) -> None:
    with ONE_BY_ONE.taken():
        by_rows = drive(market.factory(), data.draw(arrivals(market)))
    with taken.taken():
        by_columns = drive(market.factory(), data.draw(arrivals(market)))
    assert wire(by_rows) == wire(by_columns)
