"""What the edge of a system refuses before any actor sees it."""

from beta_factory import (
    BenchmarkReturnObserved,
    BetaFactory,
    MarketBetaConfig,
    ReturnObserved,
)
from beta_factory.actors import BetaColumns, BetaRows, Drop
from beta_factory.actors.tables import SymbolTables
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.system import System


def test_a_bar_from_the_far_future_does_not_make_the_real_ones_late() -> None:
    published: list[BetaColumns | BetaRows] = []
    factory = BetaFactory(["A"], benchmark="SPY", config=MarketBetaConfig(5, 3))
    system = System(
        factory,
        ReplayClock(10),
        call_later=lambda _delay, _callback: None,
        call_soon=lambda _callback: None,
        on_updates=published.extend,
    )
    system.start()
    tables = SymbolTables(factory.row_of)
    far = BenchmarkReturnObserved(benchmark="SPY", ts_event=2**62, period_return=0.1)
    near = BenchmarkReturnObserved(benchmark="SPY", ts_event=11, period_return=0.1)
    asset = ReturnObserved(symbol="A", ts_event=11, period_return=0.1)
    assert system.take_all([far, near, asset], tables) == 3
    system.end_turn()
    assert factory.tally.dropped == {Drop.FUTURE: 1}
    assert list(factory.tally.refused) == [(Drop.FUTURE, far)]
    assert [len(updates) for updates in published] == [1]
