"""The cohort: alignment, turns, silence and overrides, on every path through it."""

import random
from collections.abc import Sequence
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import BetaColumns, BetaRows, Factor, MarketBetaConfig
from beta_factory.actors.cohort import Cohort
from beta_factory.actors.publisher import BetaPublisher
from beta_factory.actors.staging import SMALL_FRAME
from beta_factory.actors.tally import Drop, Refusal, Tally
from beta_factory.messages import BetaUpdated, Reason, Status
from strategies import (
    AS_SHIPPED,
    GATHERED,
    ONE_BY_ONE,
    PATHS,
    Paths,
    examples,
    numbered,
    paths,
    seeds,
    wide_universe,
    wire,
)

CONFIG = MarketBetaConfig(5, 3, stale_after=2)


def a_cohort(
    n_rows: int = 3, config: MarketBetaConfig = CONFIG, *, max_pending_bars: int = 16
) -> tuple[Cohort, Tally]:
    tally = Tally()
    factor = Factor("SPY", model=config)
    cohort = Cohort(
        factor, wide_universe(n_rows), tally, max_pending_bars=max_pending_bars
    )
    return cohort, tally


def taken_out(cohort: Cohort) -> list[BetaColumns | BetaRows]:
    """Return what a cohort has computed, and leave it none of it."""
    updates, cohort.updates = cohort.updates, []
    return updates


def end_turn(cohort: Cohort) -> list[BetaUpdated]:
    cohort.commit()
    return numbered(cohort.symbols, taken_out(cohort))


def rows_and_bars(updates: Sequence[BetaUpdated]) -> list[tuple[int, int]]:
    return [(int(update.symbol[1:]), update.ts_event) for update in updates]


def statuses(updates: Sequence[BetaUpdated]) -> list[tuple[int, int, str]]:
    return [
        (int(update.symbol[1:]), update.ts_event, update.status.name)
        for update in updates
    ]


def drops(tally: Tally) -> dict[Drop, int]:
    return {reason: count for reason, count in tally.dropped.items() if count}


def stage_whole(cohort: Cohort, ts: int, *returns: float) -> None:
    """Stage a frame of all rows."""
    assert cohort.stage_column(np.arange(len(returns)), ts, np.array(returns), 0) == []


class TestPairing:
    """A pair is two returns of one bar, in whatever order they come."""

    def test_a_return_after_its_benchmark_is_published_with_its_own_stamp(self) -> None:
        cohort, _ = a_cohort()
        cohort.open_bar(10, 0.1, 11)
        assert cohort.stage(2, 10, 0.2, 12) is None
        assert cohort.stage(0, 10, 0.3, 13) is None
        updates = end_turn(cohort)
        assert rows_and_bars(updates) == [(2, 10), (0, 10)]
        assert [update.ts_init for update in updates] == [12, 13]

    def test_a_return_before_its_benchmark_is_published_with_the_benchmarks(
        self,
    ) -> None:
        cohort, _ = a_cohort()
        cohort.stage(2, 10, 0.2, 12)
        cohort.stage(0, 10, 0.3, 13)
        assert end_turn(cohort) == []
        cohort.open_bar(10, 0.1, 11)
        updates = end_turn(cohort)
        assert rows_and_bars(updates) == [(0, 10), (2, 10)]
        assert [update.ts_init for update in updates] == [11, 11]

    def test_a_bar_without_returns_publishes_nothing(self) -> None:
        cohort, _ = a_cohort()
        cohort.open_bar(10, 0.1, 11)
        cohort.open_bar(20, 0.1, 11)
        assert end_turn(cohort) == []
        assert (cohort.n_bars, cohort.n_pairs, cohort.ts_event) == (2, 0, 20)

    def test_the_first_bar_may_be_the_first_nanosecond(self) -> None:
        cohort, tally = a_cohort()
        cohort.stage(0, 0, 0.2, 0)
        cohort.open_bar(0, 0.1, 0)
        assert rows_and_bars(end_turn(cohort)) == [(0, 0)]
        assert drops(tally) == {}

    def test_pairs_are_counted(self) -> None:
        cohort, _ = a_cohort()
        for ts in range(4):
            cohort.open_bar(ts, 0.1, 0)
            stage_whole(cohort, ts, 0.1, nan, 0.3)
        end_turn(cohort)
        assert (cohort.n_bars, cohort.n_pairs) == (4, 8)

    def test_a_new_bar_commits_what_was_staged_for_the_one_before(self) -> None:
        cohort, _ = a_cohort()
        cohort.open_bar(10, 0.1, 0)
        cohort.stage(1, 10, 0.2, 0)
        cohort.open_bar(20, 0.1, 0)
        assert rows_and_bars(numbered(cohort.symbols, taken_out(cohort))) == [(1, 10)]

    def test_what_was_taken_out_does_not_come_again(self) -> None:
        cohort, _ = a_cohort()
        cohort.open_bar(10, 0.1, 0)
        cohort.stage(1, 10, 0.2, 0)
        assert len(end_turn(cohort)) == 1
        assert end_turn(cohort) == []

    @pytest.mark.parametrize("taken", PATHS)
    def test_published_columns_never_change_afterwards(self, taken: Paths) -> None:
        cohort, _ = a_cohort(config=MarketBetaConfig(3, 3))
        rng = np.random.default_rng(1)
        publisher = BetaPublisher("market", "SPY", cohort.symbols)
        kept: list[tuple[BetaColumns, bytes]] = []
        for ts in range(12):
            cohort.open_bar(ts, rng.normal(), ts)
            with taken.taken():
                stage_whole(cohort, ts, *rng.normal(size=3))
                cohort.commit()
            for part in taken_out(cohort):
                publisher.publish(part)
                columns = part if isinstance(part, BetaColumns) else part.to_columns()
                kept.append((columns, wire(columns.as_rows())))
        assert len(kept) == 12
        for columns, rows in kept:
            assert wire(columns.as_rows()) == rows


class TestPendingBars:
    """What waits for its benchmark is bounded, and never lost in silence."""

    def test_a_bar_that_the_benchmark_skips_is_unpaired(self) -> None:
        cohort, tally = a_cohort()
        for row, ts in ((0, 10), (1, 10), (2, 20), (0, 40)):
            cohort.stage(row, ts, 0.1, 0)
        cohort.open_bar(30, 0.1, 0)
        assert drops(tally) == {Drop.UNPAIRED: 3}
        cohort.open_bar(40, 0.1, 0)
        assert rows_and_bars(end_turn(cohort)) == [(0, 40)]
        assert drops(tally) == {Drop.UNPAIRED: 3}

    @pytest.mark.parametrize("order", [(20, 30, 10), (10, 20, 30), (30, 20, 10)])
    @pytest.mark.parametrize("n_rows", [1, SMALL_FRAME + 1])
    def test_a_return_for_which_there_is_no_room_is_never_lost_in_silence(
        self, order: tuple[int, ...], n_rows: int
    ) -> None:
        cohort, tally = a_cohort(n_rows, max_pending_bars=2)
        n_known = 0
        for ts in order:
            returns = np.full(n_rows, 0.1)
            n_known += len(cohort.stage_column(np.arange(n_rows), ts, returns, 0))
        for ts in (10, 20, 30):
            cohort.open_bar(ts, 0.1, 0)
        n_known += len(end_turn(cohort)) + drops(tally).get(Drop.UNPAIRED, 0)
        assert n_known == 3 * n_rows

    def test_a_frame_without_returns_pushes_nothing_out(self) -> None:
        n_rows = SMALL_FRAME + 1
        cohort, tally = a_cohort(n_rows, max_pending_bars=1)
        cohort.stage(0, 20, 0.1, 0)
        cohort.stage_column(np.arange(n_rows), 10, np.full(n_rows, nan), 0)
        cohort.stage_column(np.arange(n_rows), 30, np.full(n_rows, nan), 0)
        cohort.open_bar(20, 0.1, 0)
        assert rows_and_bars(end_turn(cohort)) == [(0, 20)]
        assert drops(tally) == {}


@pytest.mark.parametrize("max_pending_bars", [1, 2, 16])
@examples(40)
@given(seed=seeds, n_rows=st.integers(1, 9), taken=paths)
def test_a_frame_is_worth_the_sequence_of_its_single_returns(
    seed: int, n_rows: int, max_pending_bars: int, taken: Paths
) -> None:
    rng = np.random.default_rng(seed)
    framed, framed_tally = a_cohort(n_rows, max_pending_bars=max_pending_bars)
    single, single_tally = a_cohort(n_rows, max_pending_bars=max_pending_bars)
    published: list[list[BetaColumns | BetaRows]] = [[], []]
    for _ in range(30):
        ts = int(rng.integers(max(0, framed.ts_event - 1), framed.ts_event + 4))
        action = rng.choice(["open", "frame", "frame", "frame", "commit"])
        if action == "open":
            value = float(rng.integers(4))
            for cohort in (framed, single):
                cohort.open_bar(ts, value, 7)
        elif action == "commit":
            framed.commit()
            published[0] += taken_out(framed)
        else:
            rows = rng.permutation(n_rows)[: rng.integers(n_rows + 1)]
            if rng.random() < 0.5:
                rows = np.sort(rows)
            # few values, so that cells meet duplicates and conflicts
            returns = rng.choice([nan, 1.0, 2.0, 3.0], size=len(rows))
            with taken.taken():
                dropped = framed.stage_column(rows, ts, returns, 8)
            expected: list[tuple[int, Refusal]] = []
            for position, (row, value) in enumerate(
                zip(rows.tolist(), returns.tolist(), strict=True)
            ):
                reason = None if isnan(value) else single.stage(row, ts, value, 8)
                if reason is not None:
                    expected.append((position, reason))
            assert dropped == expected
    with taken.taken():
        framed.commit()
    published[0] += taken_out(framed)
    with ONE_BY_ONE.taken():
        single.commit()
    published[1] += taken_out(single)
    ours, expected_updates = (numbered(framed.symbols, part) for part in published)
    assert wire(ours) == wire(expected_updates)
    assert drops(framed_tally) == drops(single_tally)
    assert framed.n_pairs == single.n_pairs


@pytest.mark.parametrize("taken", PATHS)
def test_a_frame_may_complete_a_bar_that_has_begun(taken: Paths) -> None:
    whole, parts = a_cohort(4)[0], a_cohort(4)[0]
    rng = np.random.default_rng(2)
    for ts in range(8):
        x, y = rng.normal(), rng.normal(size=4)
        for cohort in (whole, parts):
            cohort.open_bar(ts, x, 0)
        whole.stage_column(np.array([2, 0, 1, 3]), ts, y[[2, 0, 1, 3]], 0)
        with taken.taken():
            parts.stage(2, ts, y[2], 0)
            parts.commit()
            y[2] = nan
            parts.stage_column(np.arange(4), ts, y, 0)
    assert wire(end_turn(whole)) == wire(end_turn(parts))


class TestStaleness:
    """A silence is announced once, at the end of the bar that makes it too long."""

    @staticmethod
    def run(
        script: str, config: MarketBetaConfig = CONFIG, *, early: bool = False
    ) -> list[tuple[int, str]]:
        """Play one row: ``x`` is a bar with a pair, ``.`` one without."""
        cohort, _ = a_cohort(1, config)
        rng = random.Random(3)
        updates: list[BetaUpdated] = []
        for ts, mark in enumerate(script):
            if mark == "x" and early:
                cohort.stage(0, ts, rng.random(), 0)
            cohort.open_bar(ts, rng.random(), 0)
            if mark == "x" and not early:
                cohort.stage(0, ts, rng.random(), 0)
            updates += end_turn(cohort)
        return [(ts, status) for _, ts, status in statuses(updates)]

    @pytest.mark.parametrize("early", [False, True])
    @pytest.mark.parametrize(
        ("script", "stale_after", "stale"),
        [
            ("xxxx.....", 2, [5]),
            ("xxxx...", 2, [5]),
            ("xxxx..", 2, []),
            ("xxxx.x.x.x", 2, []),
            ("xxxx..x..x..", 2, [5, 8]),
            ("xxxx.....x.....", 2, [5, 11]),
            ("xxxx.xx.x.", 1, [4, 7]),
            ("x.......", 3, [3]),
            ("........", 1, []),
            ("...x....", 2, [5]),
            ("x" + "." * 30, 20, [20]),
        ],
    )
    def test_a_silence_is_published_once(
        self, script: str, stale_after: int, stale: list[int], early: bool
    ) -> None:
        config = MarketBetaConfig(5, 3, stale_after=stale_after)
        updates = self.run(script, config, early=early)
        assert [ts for ts, status in updates if status == "STALE"] == stale
        pairs = [ts for ts, mark in enumerate(script) if mark == "x"]
        assert sorted(ts for ts, _ in updates) == sorted(pairs + stale)

    def test_a_stale_update_holds_the_window_as_it_stands(self) -> None:
        cohort, _ = a_cohort(2, MarketBetaConfig(5, 3, stale_after=2))
        for ts in range(4):
            cohort.open_bar(ts, 0.1 * ts, 0)
            cohort.stage(1, ts, 0.3 * ts * ts, 0)
        before = end_turn(cohort)[-1]
        for ts in (4, 5, 6):
            cohort.open_bar(ts, 0.5, 99)
        (stale,) = end_turn(cohort)
        assert statuses([stale]) == [(1, 5, "STALE")]
        assert (stale.reason, stale.n_obs) == (Reason.NO_RECENT_PAIR, 3)
        assert (stale.window_start, stale.ts_init) == (1, 5)
        assert before.beta != stale.beta is not None

    def test_a_stale_row_whose_window_ran_empty_has_no_numbers(self) -> None:
        cohort, _ = a_cohort(1, MarketBetaConfig(5, 3, stale_after=4))
        for ts in range(9):
            cohort.open_bar(ts, 0.1 * ts, 0)
            if ts < 4:
                cohort.stage(0, ts, 0.3 * ts * ts, 0)
        stale = end_turn(cohort)[-1]
        assert (stale.status, stale.n_obs, stale.beta) == (Status.STALE, 1, None)

    def test_the_next_pair_ends_it(self) -> None:
        marks = [(5, "STALE"), (9, "OK")]
        config = MarketBetaConfig(20, 3, stale_after=2)
        assert self.run("xxxx.....x", config)[-2:] == marks

    def test_after_a_long_silence_there_are_too_few_pairs(self) -> None:
        updates = self.run("xxxx......xx.xx", MarketBetaConfig(5, 3, stale_after=2))
        assert updates[4:] == [
            (5, "STALE"),
            (10, "INSUFFICIENT"),
            (11, "INSUFFICIENT"),
            (13, "OK"),
            (14, "OK"),
        ]

    def test_each_row_has_its_own_silence(self) -> None:
        cohort, _ = a_cohort(3, MarketBetaConfig(5, 3, stale_after=2))
        for ts in range(8):
            cohort.open_bar(ts, 0.1, 0)
            for row in range(3):
                if ts <= 2 + row or (row == 0 and ts > 5):
                    cohort.stage(row, ts, 0.1, 0)
        stale = [mark for mark in statuses(end_turn(cohort)) if mark[2] == "STALE"]
        assert stale == [(0, 4, "STALE"), (1, 5, "STALE"), (2, 6, "STALE")]


class TestOverride:
    """A status of the row's own hides what the window says, until it is taken back."""

    @staticmethod
    def warm(config: MarketBetaConfig = CONFIG) -> Cohort:
        cohort, _ = a_cohort(3, config)
        for ts in range(3):
            cohort.open_bar(ts, 0.1 * ts, 0)
            for row in range(3):
                cohort.stage(row, ts, 0.3 * ts * ts, 0)
        assert {mark[2] for mark in statuses(end_turn(cohort)[-3:])} == {"OK"}
        return cohort

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (Status.DEGRADED, Reason.ACTOR_RESTARTED),
            (Status.HALTED, Reason.HALTED_BY_OPERATOR),
            (Status.REMOVED, Reason.REMOVED_BY_OPERATOR),
        ],
    )
    def test_it_is_published_at_once_with_the_numbers_of_the_window(
        self, status: Status, reason: Reason
    ) -> None:
        cohort = self.warm()
        cohort.override(1, status, reason)
        (update,) = end_turn(cohort)
        assert (update.symbol, update.ts_event) == ("S001", 2)
        assert (update.status, update.reason) == (status, reason)
        assert update.beta is not None

    @pytest.mark.parametrize("taken", PATHS)
    @pytest.mark.parametrize("early", [False, True])
    def test_pairs_are_published_under_it_until_it_is_taken_back(
        self, taken: Paths, early: bool
    ) -> None:
        cohort = self.warm()
        cohort.override(1, Status.DEGRADED, Reason.FEED_GAP)
        with taken.taken():
            if not early:
                cohort.open_bar(3, 0.5, 0)
            stage_whole(cohort, 3, 0.5, 0.5, 0.5)
            cohort.open_bar(3, 0.5, 0)
            cohort.commit()
        assert statuses(end_turn(cohort)) == [
            (1, 2, "DEGRADED"),
            (0, 3, "OK"),
            (1, 3, "DEGRADED"),
            (2, 3, "OK"),
        ]
        cohort.override(1, None, Reason.NONE)
        (update,) = end_turn(cohort)
        assert (update.status, update.reason) == (Status.OK, Reason.NONE)
        cohort.open_bar(4, 0.7, 0)
        cohort.stage(1, 4, 0.7, 0)
        assert statuses(end_turn(cohort)) == [(1, 4, "OK")]

    def test_it_never_changes_the_windows(self) -> None:
        plain, overridden = self.warm(), self.warm()
        overridden.override(0, Status.DEGRADED, Reason.OVERLOAD)
        overridden.override(0, Status.HALTED, Reason.HALTED_BY_OPERATOR)
        overridden.override(0, None, Reason.NONE)
        end_turn(overridden)
        for cohort in (plain, overridden):
            cohort.open_bar(3, 0.5, 0)
            cohort.stage(0, 3, 0.9, 0)
        assert end_turn(plain) == end_turn(overridden)

    def test_what_is_staged_before_it_is_published_before_it(self) -> None:
        cohort = self.warm()
        cohort.open_bar(3, 0.5, 0)
        cohort.stage(1, 3, 0.5, 0)
        cohort.override(1, Status.HALTED, Reason.HALTED_BY_OPERATOR)
        assert statuses(end_turn(cohort)) == [(1, 3, "OK"), (1, 3, "HALTED")]

    def test_a_halted_row_does_not_fall_stale(self) -> None:
        cohort = self.warm()
        cohort.override(1, Status.HALTED, Reason.HALTED_BY_OPERATOR)
        end_turn(cohort)
        for ts in range(3, 9):
            cohort.open_bar(ts, 0.1, 0)
        assert statuses(end_turn(cohort)) == [(0, 4, "STALE"), (2, 4, "STALE")]

    @pytest.mark.parametrize("halted_at", [3, 8])
    def test_taken_back_from_a_silent_row_it_is_stale(self, halted_at: int) -> None:
        cohort = self.warm(MarketBetaConfig(50, 3, stale_after=2))
        for ts in range(3, 10):
            if ts == halted_at:
                cohort.override(1, Status.HALTED, Reason.HALTED_BY_OPERATOR)
            cohort.open_bar(ts, 0.1, 0)
        end_turn(cohort)
        cohort.override(1, None, Reason.NONE)
        assert statuses(end_turn(cohort)) == [(1, 9, "STALE")]

    @pytest.mark.parametrize("taken_back_at", [3, 4, 5, 8])
    def test_a_silence_is_announced_once_even_if_it_is_taken_back_meanwhile(
        self, taken_back_at: int
    ) -> None:
        cohort = self.warm(MarketBetaConfig(50, 3, stale_after=2))
        cohort.override(1, Status.HALTED, Reason.HALTED_BY_OPERATOR)
        for ts in range(3, 10):
            cohort.open_bar(ts, 0.1, 0)
            if ts == taken_back_at:
                cohort.override(1, None, Reason.NONE)
        marks = statuses(end_turn(cohort))
        stale = [mark for mark in marks if mark[0] == 1 and mark[2] == "STALE"]
        assert stale == [(1, max(4, taken_back_at), "STALE")]

    def test_before_the_first_bar_it_waits_for_the_first_pair(self) -> None:
        cohort, _ = a_cohort()
        cohort.override(1, Status.DEGRADED, Reason.ACTOR_RESTARTED)
        assert end_turn(cohort) == []
        cohort.stage(1, 10, 0.1, 0)
        cohort.open_bar(10, 0.1, 0)
        assert statuses(end_turn(cohort)) == [(1, 10, "DEGRADED")]

    def test_a_row_is_warm_all_the_same_when_it_is_taken_back(self) -> None:
        cohort, _ = a_cohort(1)
        cohort.override(0, Status.DEGRADED, Reason.ACTOR_RESTARTED)
        for ts in range(3):
            cohort.open_bar(ts, 0.1 * ts, 0)
            cohort.stage(0, ts, 0.3 * ts * ts, 0)
        for ts in range(3, 6):
            cohort.open_bar(ts, 0.1 * ts, 0)
        end_turn(cohort)
        cohort.stage(0, 5, 0.3, 0)
        cohort.override(0, None, Reason.NONE)
        assert statuses(end_turn(cohort))[-1] == (0, 5, "OK")


@pytest.mark.parametrize("taken", [AS_SHIPPED, GATHERED])
@pytest.mark.parametrize("n_staged", [1, 12, 13, 30, 64, 65, 100])
def test_any_number_of_rows_has_the_same_bits(n_staged: int, taken: Paths) -> None:
    rng = np.random.default_rng(n_staged)
    chosen, one_by_one = a_cohort(100)[0], a_cohort(100)[0]
    for ts in range(8):
        rows = rng.permutation(100)[:n_staged]
        x, y = rng.normal(), rng.normal(size=n_staged)
        for cohort, ways in ((chosen, taken), (one_by_one, ONE_BY_ONE)):
            with ways.taken():
                cohort.open_bar(ts, x, 0)
                cohort.stage_column(rows, ts, y, 0)
                cohort.commit()
    assert wire(end_turn(chosen)) == wire(end_turn(one_by_one))
