"""The outbox of a courier: what is new, what is in flight, and what it settles."""

from beta_factory.messages import (
    BenchmarkReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
)
from beta_factory.runtime.outgoing import Publishable
from beta_factory.runtime.qmtl_bridge.sink_outbox import Outbox

TABLE = SymbolsDeclared(table=1, symbols=("AAPL",))


def market(ts: int) -> BenchmarkReturnObserved:
    return BenchmarkReturnObserved(benchmark="SPY", ts_event=ts, period_return=0.1)


def assets(ts: int) -> ReturnsObserved:
    return ReturnsObserved(ts_event=ts, symbols=1, period_returns=b"")


def outbox_of_two_bars() -> Outbox:
    outbox = Outbox()
    outbox.add_bar([market(1), TABLE, assets(1)], 2)
    outbox.add_bar([market(2), assets(2)], 3)
    return outbox


def test_table_stands_once_before_the_first_that_refers_to_it() -> None:
    outbox = outbox_of_two_bars()

    expected: list[Publishable] = [market(1), TABLE, assets(1), market(2), assets(2)]
    assert outbox.to_publish() == expected
    assert outbox.n_new == 4


def test_observations_count_with_the_last_message_of_their_bar() -> None:
    outbox = outbox_of_two_bars()

    assert [outbox.published(1) for _ in range(4)] == [0, 2, 0, 3]
    assert outbox.n_new == 0
    assert outbox.to_publish() == []
    assert [outbox.settle(n_in_flight) for n_in_flight in (3, 1, 1, 0)] == [0, 2, 0, 3]


def test_new_connection_gets_what_was_not_acknowledged_and_its_table() -> None:
    outbox = outbox_of_two_bars()
    outbox.to_publish()
    outbox.published(4)
    outbox.settle(2)

    outbox.begin_connection()

    assert outbox.to_publish() == [market(2), TABLE, assets(2)]


def test_giving_up_loses_all_that_is_not_acknowledged() -> None:
    outbox = outbox_of_two_bars()
    outbox.published(2)
    outbox.settle(0)

    assert outbox.give_up() == 3
    assert outbox.give_up() == outbox.n_new == 0
