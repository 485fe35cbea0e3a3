"""The last value of every topic, and the sequence of the updates."""

from math import nan
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors.columns import BetaColumns
from beta_factory.actors.publisher import BetaPublisher
from beta_factory.actors.rows import BetaRow, BetaRows
from beta_factory.actors.snapshot import pack_state, unpack_state
from beta_factory.actors.tables import SymbolTables
from beta_factory.estimators import NO_ROWS
from beta_factory.messages import (
    BetaUpdated,
    Reason,
    ReturnsObserved,
    Status,
    SymbolsDeclared,
    matches,
    parse_beta_topic,
)
from strategies import (
    MIXED,
    Market,
    arrivals,
    examples,
    markets,
    seeds,
    wide_universe,
    wire,
)

SYMBOLS = wide_universe(5)


def some_columns(
    rows: np.ndarray[tuple[int], np.dtype[np.intp]], ts_event: int, seed: int
) -> BetaColumns:
    """Return updates of some rows that have no number yet."""
    rng = np.random.default_rng(seed)
    k = len(rows)
    numbers = rng.normal(size=(6, k))
    numbers[rng.random((6, k)) < 0.2] = np.nan
    return BetaColumns(
        factor="market",
        benchmark="SPY",
        symbols=SYMBOLS,
        rows=rows,
        ts_event=ts_event,
        numbers=numbers,
        n_obs=rng.integers(0, 99, k).astype(np.int32),
        window_start=rng.integers(0, 99, int(rng.choice([1, k])) if k else 1),
        status=rng.integers(0, len(Status), k).astype(np.uint8),
        reason=rng.integers(0, len(Reason), k).astype(np.uint8),
        revision=rng.integers(0, 9, k).astype(np.int32),
        ts_init=rng.integers(0, 99, int(rng.choice([1, k])) if k else 1),
    )


def newest(updates: list[BetaUpdated]) -> dict[str, BetaUpdated]:
    return {update.symbol: update for update in updates}


def assert_remembers(publisher: BetaPublisher, published: list[BetaUpdated]) -> None:
    """Compare all that a publisher can be asked with what it published."""
    last = newest(published)
    n_rows = len(publisher.symbols)
    for row, symbol in enumerate(publisher.symbols):
        value = publisher.last_value(row)
        expected = last.get(symbol)
        assert (value is None) == (expected is None)
        if value is not None and expected is not None:
            assert wire([value]) == wire([expected])
            assert publisher.seq[row] == expected.seq
    groups = publisher.last_values(np.arange(n_rows))
    in_order = sorted(last.values(), key=lambda update: (update.ts_event, update.seq))
    assert wire(update for group in groups for update in group.as_rows()) == wire(
        in_order
    )
    stamps = [group.ts_event for group in groups]
    assert stamps == sorted(set(stamps))
    counts = [
        sum(u.symbol == symbol for u in published) for symbol in publisher.symbols
    ]
    assert publisher.n_updates.tolist() == counts
    assert publisher.last_seq == len(published)


@examples(53)
@given(seeds, st.integers(1, 12))
def test_last_values_are_the_newest_updates(seed: int, n_turns: int) -> None:
    rng = np.random.default_rng(seed)
    publisher = BetaPublisher("market", "SPY", SYMBOLS)
    published: list[BetaUpdated] = []
    ts_event = 0
    for turn in range(n_turns):
        ts_event += int(rng.integers(2))
        rows = rng.permutation(len(SYMBOLS))[: rng.integers(len(SYMBOLS) + 1)]
        if rng.random() < 0.3:
            rows = np.arange(len(SYMBOLS))
        columns = some_columns(rows, ts_event, seed + turn)
        publisher.publish(columns)
        published += columns.as_rows()
        assert_remembers(publisher, published)


@examples(53)
@given(
    seeds,
    st.integers(1, 40),
    st.sampled_from(
        [["whole", "some", "known", "few"], ["known"], ["known", "known", "few"]]
    ),
)
def test_updates_are_remembered_whenever_somebody_asks(
    seed: int, n_turns: int, kinds: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    publisher = BetaPublisher("market", "SPY", SYMBOLS)
    published: list[BetaUpdated] = []
    with mock.patch.multiple(
        "beta_factory.actors.publisher",
        MAX_UNSTORED=6,
        MAX_UNSTORED_ROUNDS=2,
        MAX_WAITING=1,
    ):
        for turn in range(n_turns):
            updates: BetaColumns | BetaRows
            kind = rng.choice(kinds)
            if kind == "few":
                updates = BetaRows("market", "SPY", SYMBOLS, turn, [
                    BetaRow(
                        int(row), 5, (0.1, 0.2, nan, 0.4, 0.5, 0.6), 1, 0, 2, turn, 3
                    )
                    for row in rng.permutation(len(SYMBOLS))[: rng.integers(1, 3)]
                ])  # fmt: skip
            else:
                rows = np.arange(len(SYMBOLS))
                absent = None
                if kind == "some":
                    rows = rng.permutation(rows)[:-1]
                elif kind == "known":
                    is_absent = rng.random(len(rows)) < 0.4
                    rows, absent = rows[~is_absent], rows[is_absent]
                else:
                    absent = NO_ROWS
                updates = some_columns(rows, turn, seed + turn)
                updates.absent = absent
            publisher.publish(updates)
            published += updates.as_rows()
            assert publisher.last_seq == len(published)
            if rng.random() < 0.3:
                assert_remembers(publisher, published)
    assert_remembers(publisher, published)
    again = BetaPublisher("market", "SPY", SYMBOLS)
    again.restore(unpack_state(pack_state(publisher.state()), np.arange(len(SYMBOLS))))
    assert_remembers(again, published)


@examples(27)
@given(st.data(), markets())
def test_last_values_are_the_newest_of_a_whole_market(
    data: st.DataObject, market: Market
) -> None:
    factory = market.factory()
    (publisher,) = factory.publishers
    published: list[BetaUpdated] = []
    tables = SymbolTables(factory.row_of)
    with MIXED.taken():
        for turn in data.draw(arrivals(market)):
            for message in turn:
                if type(message) is ReturnsObserved:
                    factory.take_columns(message, tables)
                elif type(message) is SymbolsDeclared:
                    tables.declare(message)
                elif (behavior := factory.route(message)) is not None:
                    behavior.receive(message)
            for columns in factory.commit():
                published += columns.as_rows()
    assert [update.seq for update in published] == list(range(1, len(published) + 1))
    assert_remembers(publisher, published)


def test_updates_are_numbered_from_one_in_the_order_of_their_rows() -> None:
    publisher = BetaPublisher("market", "SPY", SYMBOLS)
    for rows, seqs in (([3, 0], [1, 2]), ([], []), ([4, 3, 1], [3, 4, 5])):
        columns = some_columns(np.array(rows, dtype=np.intp), 1, 0)
        publisher.publish(columns)
        assert columns.seq.tolist() == seqs
    assert publisher.seq.tolist() == [2, 5, 0, 4, 3]


def test_before_the_first_update_there_is_no_last_value() -> None:
    publisher = BetaPublisher("market", "SPY", SYMBOLS)
    assert publisher.last_value(0) is None
    assert publisher.last_values(np.arange(5)) == []
    assert publisher.last_seq == 0


def test_only_the_rows_that_were_asked_for_are_returned() -> None:
    publisher = BetaPublisher("market", "SPY", SYMBOLS)
    publisher.publish(some_columns(np.array([0, 1, 2, 3]), 10, 1))
    publisher.publish(some_columns(np.array([2, 0]), 20, 2))
    groups = publisher.last_values(np.array([4, 2, 3, 0]))
    found = [(group.ts_event, group.rows.tolist()) for group in groups]
    assert found == [(10, [3]), (20, [2, 0])]
    assert publisher.last_values(np.array([], dtype=np.intp)) == []


def test_what_was_handed_out_does_not_change_with_the_next_update() -> None:
    publisher = BetaPublisher("market", "SPY", SYMBOLS)
    publisher.publish(some_columns(np.arange(5), 10, 1))
    (snapshot,) = publisher.last_values(np.arange(5))
    before = wire(snapshot.as_rows())
    publisher.publish(some_columns(np.arange(5), 20, 2))
    assert wire(snapshot.as_rows()) == before


@pytest.mark.parametrize("factor", ["market", "sector.tech", "all >"])
def test_each_row_has_the_topic_of_its_symbol(factor: str) -> None:
    symbols = ("BRK.B", "BTC/USDT", "Z Z", "a*")
    publisher = BetaPublisher(factor, "SPY", symbols)
    names = [parse_beta_topic(topic) for topic in publisher.topics]
    assert names == [(factor, symbol) for symbol in symbols]
    assert all(matches("beta.*.*", topic) for topic in publisher.topics)
