"""Where rows stand: what was seen to be so for all of them is so for each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaFactory, BetaUpdated
from beta_factory.actors.config import MarketBetaConfig
from beta_factory.actors.snapshot import pack_state, unpack_state
from beta_factory.actors.standing import Standing
from beta_factory.messages import Reason, Status
from strategies import BENCHMARK, asset, bench, examples, seeds

N_ROWS = 6
SECOND = 10**9
NOW = 1_700_000_000 * SECOND
BY_CLOCK = MarketBetaConfig(20, 3, stale_after="30s")


@given(seeds, st.integers(3, 9))
@examples(53)
def test_each_silence_is_found_at_the_bar_that_makes_it_too_long(
    seed: int, stale_after: int
) -> None:
    rng = np.random.default_rng(seed)
    model = MarketBetaConfig(20, 3, stale_after=stale_after)
    standing = Standing(N_ROWS, model)
    last = [-1] * N_ROWS
    overridden = [False] * N_ROWS
    newest = -1
    for _ in range(60):
        newest += 1
        kind = rng.choice(
            ["all", "some", "one", "none", "late", "forget", "halt", "insert"]
        )
        row = int(rng.integers(N_ROWS))
        if kind == "all":
            standing.paired(None, newest)
            last = [newest] * N_ROWS
        elif kind == "some":
            rows = rng.permutation(N_ROWS)[: int(rng.integers(1, N_ROWS))]
            standing.paired(rows, newest)
            for each in rows.tolist():
                last[each] = newest
        elif kind == "one":
            standing.paired_worth(row, 5.0, 0.1, newest)
            last[row] = newest
        elif kind == "late":
            bar = max(newest - 2, 0)
            standing.amended(np.array([row]), bar, is_correction=False)
            last[row] = max(last[row], bar)
        elif kind == "forget":
            standing.forget(row)
            last[row] = -1
        elif kind == "halt":
            overridden[row] = not overridden[row]
            status = Status.HALTED if overridden[row] else None
            standing.override(row, status, Reason.HALTED_BY_OPERATOR)
        elif kind == "insert":
            # Bars that come late end at once those of older pairs that they follow.
            first, n_bars = max(newest - 2, 0), int(rng.integers(1, 4))
            ended = [newest - 1 - bar for bar in last]
            for bar in range(first, first + n_bars):
                standing.inserted(bar)
            last = [bar + n_bars if bar >= first else bar for bar in last]
            newest += n_bars
            fell = standing.fallen_silent_late(first, n_bars, newest)
            assert fell.tolist() == [
                row
                for row in range(N_ROWS)
                if last[row] >= 0
                and ended[row] < stale_after <= newest - 1 - last[row]
                and not overridden[row]
            ]
        if rng.random() < 0.1:  # goes on elsewhere
            moved = Standing(N_ROWS, model)
            moved.restore(unpack_state(pack_state(standing.state())))
            halted = np.flatnonzero(overridden)  # which their actors keep
            moved.override(halted, Status.HALTED, Reason.HALTED_BY_OPERATOR)
            standing = moved
        fell = standing.fallen_silent(newest)
        assert fell.tolist() == [
            row
            for row in range(N_ROWS)
            if last[row] >= 0
            and newest - last[row] == stale_after
            and not overridden[row]
        ]


@given(seeds)
@examples(53)
def test_rows_that_are_all_well_say_what_they_would_say_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = MarketBetaConfig(20, 3, stale_after=4)
    together, alone = Standing(N_ROWS, model), Standing(N_ROWS, model)
    for newest in range(12):
        n = rng.integers(0, 7, N_ROWS).astype(float)
        beta = np.where(n < 3, np.nan, 0.5)
        if rng.random() < 0.6:
            n, beta = n + 3.0, np.full(N_ROWS, 0.5)
        rows = np.arange(N_ROWS)
        if rng.random() < 0.3:
            rows = np.sort(rng.permutation(N_ROWS)[:4])
        if rng.random() < 0.2:
            for each in (together, alone):
                each.forget(1)
        if rng.random() < 0.2:
            for each in (together, alone):
                each.amended(rows[:2], newest, is_correction=True)
        is_whole = len(rows) == N_ROWS
        together.paired(None if is_whole else rows, newest)
        status, reason = together.worth(
            rows, n[rows], beta[rows], newest, is_fresh=True
        )
        expected = [
            alone.paired_worth(row, n[row], beta[row], newest) for row in rows.tolist()
        ]
        assert list(zip(status.tolist(), reason.tolist(), strict=True)) == expected
        if rng.random() < 0.3:
            for each in (together, alone):
                each.amended(rows[:1], newest, is_correction=True)
        assert together.revisions(None).tolist() == alone.revision.tolist()
        assert together.revisions(rows).tolist() == alone.revision[rows].tolist()


def fed_by_the_second(factory: BetaFactory, first: int, n: int) -> list[BetaUpdated]:
    updates: list[BetaUpdated] = []
    for second in range(first, first + n):
        ts = NOW + second * SECOND
        updates += factory.receive(bench(ts, 0.01 * (second % 7)))
        updates += factory.receive(asset("AAPL", ts, 0.01 * (second % 5)))
    return updates


def statuses(updates: list[BetaUpdated]) -> list[tuple[Status, Reason]]:
    return [(update.status, update.reason) for update in updates]


def test_nobody_is_late_at_the_first_look_at_the_clock() -> None:
    factory = BetaFactory(["AAPL"], benchmark=BENCHMARK, config=BY_CLOCK)
    fed_by_the_second(factory, 0, 5)
    assert factory.advance_clock(NOW + 5 * SECOND) == []
    assert factory.advance_clock(NOW + 34 * SECOND) == []
    late = factory.advance_clock(NOW + 35 * SECOND)
    assert statuses(late) == [(Status.STALE, Reason.NO_RECENT_PAIR)]


def test_a_pair_after_a_pause_counts_as_of_the_look_after_the_pause() -> None:
    guarded = MarketBetaConfig(20, 3, stale_after="30s", feed_timeout="30s")
    factory = BetaFactory(["AAPL"], benchmark=BENCHMARK, config=guarded)
    factory.advance_clock(NOW)
    fed_by_the_second(factory, 0, 5)
    factory.advance_clock(NOW + 5 * SECOND)
    after = BetaFactory(["AAPL"], benchmark=BENCHMARK, config=guarded)
    after.restore(factory.snapshot())
    paused = after.advance_clock(NOW + 3600 * SECOND)
    assert statuses(paused) == [(Status.STALE, Reason.FEED_SILENT)]
    back = fed_by_the_second(after, 3600, 1)
    assert statuses(back)[-1] == (Status.OK, Reason.NONE)
    assert after.advance_clock(NOW + 3601 * SECOND) == []
