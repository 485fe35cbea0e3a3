"""Sessions and nights in the windows: by calendar, when told, and over gaps."""

import math
from collections.abc import Sequence
from typing import Literal

import pytest

from beta_factory import (
    BetaFactory,
    MarketBetaConfig,
    SessionOpened,
    Status,
    compute_market_beta,
)
from beta_factory.actors import Drop
from strategies import asset, bench

MINUTE = 60 * 10**9
OPEN = 1_709_631_000 * 10**9  # half past nine on a Tuesday, in UTC


class TestACalendar:
    """Where a calendar says when sessions open, nobody else does."""

    CONFIG = MarketBetaConfig(
        20,
        3,
        window="session",
        allowed_lateness=3,
        bar_interval="1min",
        calendar="09:30-16:00 UTC",
    )

    def told(self, order: Sequence[int], opens: int | None = None) -> BetaFactory:
        """Return a factory told of these minutes, and of an opening after the third."""
        factory = BetaFactory(["A"], benchmark="SPY", config=self.CONFIG)
        for n, minute in enumerate(order):
            if n == 3 and opens is not None:
                factory.receive(SessionOpened(benchmark="SPY", ts_event=opens))
            ts = OPEN + minute * MINUTE
            factory.receive(bench(ts, 0.1 * (-1) ** minute))
            factory.receive(asset("A", ts, 0.01 * minute))
        return factory

    @pytest.mark.parametrize("opens", [OPEN, OPEN + MINUTE + 1, OPEN + 3 * MINUTE])
    def test_being_told_that_a_session_opened_changes_nothing(self, opens: int) -> None:
        factory, untold = self.told(range(1, 8), opens), self.told(range(1, 8))
        assert factory.snapshot() == untold.snapshot()

    @pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (2, 1, 3, 4, 5)])
    def test_the_first_bar_ever_may_span_a_night(self, order: tuple[int, ...]) -> None:
        factory = self.told([*order, 6, 7])
        latest = factory.latest("beta.market.A")
        assert latest is not None
        assert latest.n_obs == factory.cohorts[0].n_pairs == 6
        assert factory.tally.dropped == {Drop.OVERNIGHT: 1}

    def test_a_batch_leaves_it_out_too(self) -> None:
        stamps = [OPEN + minute * MINUTE for minute in range(1, 8)]
        returns = [0.01 * minute for minute in range(1, 8)]
        (series,) = compute_market_beta(
            {"A": returns}, returns[::-1], self.CONFIG, stamps
        ).values()
        assert series.n_obs.tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("window", ["bars", "pairs"])
def test_a_gap_longer_than_the_window_is_long_enough_to_be_stale(
    window: Literal["bars", "pairs"],
) -> None:
    config = MarketBetaConfig(5, 3, window=window, bar_interval="1s", stale_after=20)
    factory = BetaFactory(["A"], benchmark="SPY", config=config)
    stamps = [10**9 * n for n in (1, 2, 3, 4, 40)]
    for ts in stamps[:-1]:
        factory.receive(bench(ts, 0.1))
        factory.receive(asset("A", ts, 0.1))
    factory.receive(bench(stamps[-1], 0.1))
    latest = factory.latest("beta.market.A")
    assert latest is not None
    assert latest.status is Status.STALE
    silent = [0.1, 0.1, 0.1, 0.1, math.nan]
    (series,) = compute_market_beta({"A": silent}, [0.1] * 5, config, stamps).values()
    assert series.status[-1] == Status.STALE
