"""A guarded cohort: what it holds by every road, and what it is when restored."""

import random
import statistics
from math import isnan, nan
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import (
    BetaFactory,
    BetaUpdated,
    MarketBetaConfig,
    SnapshotError,
    compute_market_beta,
)
from beta_factory.actors import Drop, Factor
from beta_factory.actors.config import Factor as AnyFactor
from beta_factory.messages import (
    BenchmarkReturnMissed,
    HaltSymbol,
    Message,
    NotReleasedError,
    ReturnObserved,
    encode,
)
from stories import GUARD, KINDS, Story, guarded, stories
from strategies import (
    BENCHMARK,
    PATHS,
    SYMBOLS,
    Paths,
    arrivals,
    asset,
    bench,
    drive,
    examples,
    frame,
    markets,
    seeds,
    wide_universe,
    wire,
)

LATENESS = 4
BOUND = MarketBetaConfig(5, 3, max_abs_return=0.5)
every_kind = pytest.mark.parametrize("kind", KINDS)


class Held(NamedTuple):
    """What of a held return does not depend on how it came."""

    factor: str
    name: str
    ts_event: int
    value: float
    key: str


def held(factory: BetaFactory) -> list[Held]:
    return sorted(
        Held(
            one.finding.factor,
            one.name,
            one.message.ts_event,
            one.message.period_return,
            one.finding.key,
        )
        for one in factory.tally.held
    )


def heard(factory: BetaFactory, messages: list[Message]) -> list[BetaUpdated]:
    return [update for message in messages for update in factory.receive(message)]


def a_factory(config: MarketBetaConfig = BOUND, *symbols: str) -> BetaFactory:
    return BetaFactory(symbols or ("AAPL", "BAC"), benchmark=BENCHMARK, config=config)


def windows(factory: BetaFactory) -> tuple[list[float], list[float]]:
    n, numbers = factory.cohorts[0].windows.estimate(full=True)
    return n.tolist(), np.nan_to_num(numbers, nan=-1.0).ravel().tolist()


class TestHolding:
    """A held return is as if it had never come."""

    def test_a_return_beyond_the_bound_is_kept_with_its_message(self) -> None:
        factory = a_factory()
        absurd = asset("AAPL", 1, -0.6, seq=9, ts_init=5)
        heard(factory, [bench(1, 0.1), asset("AAPL", 1, 0.5), asset("BAC", 1, 0.1)])
        heard(factory, [bench(2, 0.1)])
        assert heard(factory, [asset("AAPL", 2, 0.50001)]) == []
        (one,) = factory.tally.held
        assert one.message == asset("AAPL", 2, 0.50001)
        assert one.payload == encode(one.message)
        assert one.is_as_sent
        assert one.finding == ("market", "max_abs_return", 0.5, None)
        assert factory.tally.dropped == {Drop.ABSURD: 1}
        (update,) = heard(factory, [asset("BAC", 2, 0.2)])
        assert (update.symbol, update.n_obs) == ("BAC", 2)
        assert absurd not in [one.message for one in factory.tally.held]

    @pytest.mark.parametrize("value", [0.5, -0.5, 0.0])
    def test_the_bound_itself_may_come(self, value: float) -> None:
        factory = a_factory()
        heard(factory, [bench(1, value)])
        assert len(heard(factory, [asset("AAPL", 1, value)])) == 1

    def test_a_held_return_leaves_room_for_the_right_one(self) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 0.1), asset("AAPL", 1, 50.0)])
        (update,) = heard(factory, [asset("AAPL", 1, 0.5)])
        assert (update.n_obs, update.revision) == (1, 0)

    def test_the_same_return_again_is_a_duplicate(self) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 0.1), *[asset("AAPL", 1, 50.0)] * 3])
        heard(factory, [asset("AAPL", 1, 51.0)])
        assert [one.value for one in held(factory)] == [50.0, 51.0]
        assert factory.tally.dropped == {Drop.ABSURD: 2, Drop.DUPLICATE: 2}

    @pytest.mark.parametrize(
        ("before", "reason"),
        [
            ([bench(5, 0.1), bench(6, 0.1)], Drop.LATE),
            ([bench(5, 0.1), asset("AAPL", 5, 0.1)], Drop.CONFLICT),
            (
                [BenchmarkReturnMissed(benchmark=BENCHMARK, ts_event=5)],
                Drop.UNPAIRED,
            ),
            ([bench(5, 0.1), HaltSymbol(symbol="AAPL")], Drop.HALTED),
        ],
    )
    def test_what_would_not_be_taken_anyway_is_not_held(
        self, before: list[Message], reason: Drop
    ) -> None:
        factory = a_factory()
        heard(factory, [*before, asset("AAPL", 5, 9.0)])
        assert factory.tally.dropped == {reason: 1}
        assert held(factory) == []

    def test_a_return_that_waits_is_judged_when_its_bar_opens(self) -> None:
        factory = a_factory()
        heard(factory, [asset("AAPL", 1, 9.0), asset("BAC", 1, 0.2)])
        assert held(factory) == []
        updates = heard(factory, [bench(1, 0.1, ts_init=77)])
        assert [update.symbol for update in updates] == ["BAC"]
        (one,) = factory.tally.held
        assert (one.message, one.is_as_sent) == (
            asset("AAPL", 1, 9.0, ts_init=77),
            False,
        )

    def test_of_a_whole_column_that_waits_only_the_others_are_heard(self) -> None:
        symbols = wide_universe(70)
        factory = a_factory(BOUND, *symbols)
        values = [0.1] * 70
        updates: list[BetaUpdated] = []
        for stamp in range(1, 5):
            values[7] = 0.1 if stamp < 4 else 9.0
            heard(factory, [frame(stamp, symbols, values)])
            updates = heard(factory, [bench(stamp, 0.01 * stamp)])
        assert [update.symbol for update in updates] == [*symbols[:7], *symbols[8:]]
        assert [(one.name, one.value) for one in held(factory)] == [(symbols[7], 9.0)]

    def test_a_benchmark_that_is_held_opens_no_bar(self) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 0.1), asset("AAPL", 1, 0.1)])
        heard(factory, [bench(2, -7.0, ts_init=3), asset("AAPL", 2, 0.1)])
        assert factory.cohorts[0].n_bars == 1
        (one,) = factory.tally.held
        assert (one.name, one.is_benchmark, one.is_as_sent) == (BENCHMARK, True, True)
        heard(factory, [bench(3, 0.1)])
        assert factory.tally.dropped == {Drop.ABSURD: 1, Drop.UNPAIRED: 1}

    def test_each_factor_has_limits_of_its_own(self) -> None:
        factors = [
            Factor(BENCHMARK, "narrow", BOUND),
            Factor(BENCHMARK, "wide", MarketBetaConfig(5, 3)),
        ]
        factory = BetaFactory(["AAPL"], factors=factors)
        heard(factory, [bench(1, 0.1)])
        updates = heard(factory, [asset("AAPL", 1, 0.9)])
        assert [update.factor for update in updates] == ["wide"]
        assert [one.factor for one in held(factory)] == ["narrow"]

    def test_only_the_newest_thousand_are_kept(self) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 0.1)])
        for n in range(1_003):
            heard(factory, [asset("AAPL", 1, 1.0 + n)])
        quarantine = factory.tally.held
        assert (len(quarantine), quarantine.n_total, quarantine.n_given_up) == (
            1_000,
            1_003,
            3,
        )
        assert [one.number for one in quarantine][:2] == [4, 5]
        heard(factory, [asset("AAPL", 1, 1.0)])  # given up, so that it is held anew
        assert quarantine.n_total == 1_004


class TestScale:
    """A return is held against the past of its own symbol."""

    CONFIG = MarketBetaConfig(
        20, 3, max_robust_z=6.0, robust_window=20, robust_min_observations=10
    )

    def told(
        self,
        factory: BetaFactory,
        n_bars: int,
        *,
        last: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        rng = np.random.default_rng(1)
        for ts in range(1, n_bars + 1):
            heard(factory, [bench(ts, rng.normal())])
            for symbol in factory.symbols:
                heard(factory, [asset(symbol, ts, scale * rng.normal())])

    def test_what_is_far_for_one_is_near_for_another(self) -> None:
        factory = a_factory(self.CONFIG)
        rng = np.random.default_rng(1)
        for ts in range(1, 40):
            heard(factory, [bench(ts, rng.normal())])
            heard(factory, [asset("AAPL", ts, 1e-3 * rng.normal())])
            heard(factory, [asset("BAC", ts, rng.normal())])
        heard(factory, [bench(40, 0.0), asset("AAPL", 40, 0.1), asset("BAC", 40, 0.1)])
        assert [(one.name, one.ts_event, one.key) for one in held(factory)] == [
            ("AAPL", 40, "max_robust_z")
        ]
        (one,) = factory.tally.held
        assert one.finding.z is not None
        assert 50 < one.finding.z < 200

    def test_too_few_returns_have_no_scale(self) -> None:
        factory = a_factory(self.CONFIG)
        self.told(factory, 9)
        heard(factory, [bench(10, 1e6), asset("AAPL", 10, 1e9)])
        assert held(factory) == []

    def test_decisions_are_those_of_a_plain_reading_of_the_rule(self) -> None:
        # One symbol, every number by hand: the past, the median, the turn of renewals.
        rng = np.random.default_rng(11)
        factory = a_factory(self.CONFIG, "AAPL")
        past: list[float] = []
        limits, due, expected = (-np.inf, np.inf), 0.0, list[float]()
        for ts in range(1, 300):
            value = rng.standard_t(2)
            heard(factory, [bench(ts, rng.uniform(-1, 1)), asset("AAPL", ts, value)])
            if not limits[0] <= value <= limits[1]:
                expected.append(value)
                value = nan
            past = [*past, value][-20:]
            due = min(due + 1 / max(len(past) // 2, 1), 1.0)
            if due < 1.0:
                continue
            due = 0.0
            present = [v for v in past if not isnan(v)]
            centre = statistics.median(present)
            moved = [abs(v - centre) for v in present if v != centre]
            limits = (-np.inf, np.inf)
            if len(moved) >= 10:
                reach = 6.0 * 1.4826 * statistics.median(moved)
                limits = (centre - reach, centre + reach)
        found = [one.message.period_return for one in factory.tally.held]
        assert [value for value in found if value in expected] == found
        assert found == expected
        assert len(found) > 5

    def test_bars_that_leave_with_a_gap_are_part_of_the_past(self) -> None:
        config = msgspec.structs.replace(
            self.CONFIG, window="time", lookback_length="100ns", allowed_lateness=3
        )
        # Two bars and a gap, again and again: none ever has three after it.
        stamps = [1000 * n + 10 * k for n in range(1, 21) for k in (0, 1)]
        rng = np.random.default_rng(3)
        x, y = rng.normal(size=(2, len(stamps)))
        y[-1] = 50.0
        factory = a_factory(config, "AAPL")
        for ts, market, value in zip(stamps, x, y, strict=True):
            heard(factory, [bench(ts, market), asset("AAPL", ts, value)])
        assert [(one.ts_event, one.value) for one in held(factory)] == [
            (stamps[-1], 50.0)
        ]
        (series,) = compute_market_beta({"AAPL": y}, x, config, stamps).values()
        assert series.n_obs[-2:].tolist() == [1, 1]

    def test_a_benchmark_is_held_against_its_own_past(self) -> None:
        factory = a_factory(self.CONFIG)
        self.told(factory, 40)
        heard(factory, [bench(41, 50.0)])
        assert [(one.name, one.key) for one in held(factory)] == [
            (BENCHMARK, "max_robust_z")
        ]

    @pytest.mark.parametrize("overnight", ["exclude", "include"])
    def test_a_night_is_only_held_against_the_bound(self, overnight: str) -> None:
        config = msgspec.structs.replace(
            self.CONFIG,
            bar_interval="1s",
            overnight=overnight,
            max_abs_return=100.0,
            allowed_lateness=2,
        )
        factory = a_factory(config, "AAPL")
        rng = np.random.default_rng(2)
        second, night = 10**9, 12 * 3600 * 10**9
        for n in range(1, 60):
            heard(factory, [bench(n * second, rng.normal())])
            heard(factory, [asset("AAPL", n * second, rng.normal())])
        first = 60 * second + night
        heard(factory, [bench(first, 50.0), asset("AAPL", first, 60.0)])
        assert held(factory) == []
        heard(factory, [asset("AAPL", first, 101.0)])
        after = first + second
        heard(factory, [bench(after, 0.5), asset("AAPL", after, 60.0)])
        assert [(one.ts_event, one.key) for one in held(factory)] == [
            (first, "max_abs_return"),
            (after, "max_robust_z"),
        ]

    def test_a_symbol_that_comes_back_begins_without_a_past(self) -> None:
        factory = a_factory(self.CONFIG)
        self.told(factory, 40)
        for cohort in factory.cohorts:
            cohort.forget(0)
        heard(
            factory, [bench(41, 0.0), asset("AAPL", 41, 60.0), asset("BAC", 41, 60.0)]
        )
        assert [one.name for one in held(factory)] == ["BAC"]


class TestReleasing:
    """A released return is as if it came now."""

    def test_in_time_it_makes_its_pair(self) -> None:
        factory, clean = a_factory(), a_factory(MarketBetaConfig(5, 3))
        messages: list[Message] = [bench(1, 0.1), asset("AAPL", 1, 0.9, ts_init=8)]
        heard(factory, messages)
        assert factory.release(1) == heard(clean, messages)
        assert len(factory.tally.held) == 0
        assert factory.tally.held.n_released == 1
        heard(factory, [asset("AAPL", 1, 0.9)])
        assert factory.tally.dropped == {Drop.ABSURD: 1, Drop.DUPLICATE: 1}

    def test_a_benchmark_opens_its_bar_and_completes_what_waits(self) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 9.0), asset("AAPL", 1, 0.1), asset("BAC", 1, 0.2)])
        assert [update.symbol for update in factory.release(1)] == ["AAPL", "BAC"]

    def test_too_late_is_said_and_it_stays(self) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 0.1), asset("AAPL", 1, 0.9), bench(2, 0.1)])
        with pytest.raises(
            NotReleasedError, match="held return 1 is too late"
        ) as error:
            factory.release(1)
        assert (error.value.number, len(factory.tally.held)) == (1, 1)
        assert factory.tally.held.discard(1)
        assert not factory.tally.held.discard(1)
        with pytest.raises(NotReleasedError, match="held return 1 is not held"):
            factory.release(1)

    @pytest.mark.parametrize(
        ("meanwhile", "why"),
        [
            (asset("AAPL", 1, 0.2), "no longer wanted: its bar has another value"),
            (HaltSymbol(symbol="AAPL"), "while its symbol is halted"),
        ],
    )
    def test_what_stands_in_its_way_is_said(self, meanwhile: Message, why: str) -> None:
        factory = a_factory()
        heard(factory, [bench(1, 0.1), asset("AAPL", 1, 0.9), meanwhile])
        with pytest.raises(NotReleasedError, match=why):
            factory.release(1)
        assert len(factory.tally.held) == 1

    def test_within_the_lateness_the_windows_are_those_without_limits(self) -> None:
        late = msgspec.structs.replace(BOUND, allowed_lateness=2)
        factory, clean = a_factory(late), a_factory(MarketBetaConfig(5, 3))
        messages: list[Message] = [
            message
            for ts in range(1, 8)
            for message in (bench(ts, 0.1 * ts % 0.3), asset("AAPL", ts, 0.1 * ts))
        ]
        heard(factory, messages)
        heard(clean, messages)
        assert [one.ts_event for one in held(factory)] == [6, 7]
        for number in (2, 1):
            factory.release(number)
        np.testing.assert_allclose(windows(factory)[1], windows(clean)[1], rtol=1e-11)

    def test_a_late_benchmark_is_put_between(self) -> None:
        late = msgspec.structs.replace(BOUND, allowed_lateness=2)
        factory = a_factory(late)
        for ts, x in ((1, 0.1), (2, 9.0), (3, 0.2)):
            heard(factory, [bench(ts, x), asset("AAPL", ts, 0.1 * ts)])
        assert factory.cohorts[0].n_bars == 2
        (update,) = factory.release(1)
        assert (factory.cohorts[0].n_bars, update.n_obs) == (3, 3)


@examples(20)
@given(st.data())
def test_nothing_depends_on_how_a_market_arrives(data: st.DataObject) -> None:
    market = data.draw(markets())
    rng = np.random.default_rng(data.draw(seeds))
    market.returns[rng.random(market.returns.shape) < 0.05] *= 1e3
    market.benchmark[rng.random(market.n_bars) < 0.05] *= 1e3
    config = msgspec.structs.replace(market.config, **GUARD)
    one, other = (
        BetaFactory(market.symbols, benchmark=BENCHMARK, config=config)
        for _ in range(2)
    )
    first = drive(one, data.draw(arrivals(market)))
    assert wire(first) == wire(drive(other, data.draw(arrivals(market))))
    assert held(one) == held(other)
    assert one.tally.dropped == other.tally.dropped
    assert windows(one) == windows(other)


@every_kind
@examples(8)
@given(st.data())
def test_batch_equals_streaming(kind: str, data: st.DataObject) -> None:
    lateness = data.draw(st.sampled_from([0, LATENESS]))
    story: Story = data.draw(stories(kind, lateness=lateness))
    story = guarded(story, random.Random(data.draw(seeds)))
    if lateness:  # a bar without its benchmark has returns then, which no series has
        story.model = msgspec.structs.replace(story.model, frozen_after=None)
    series = story.batch()
    factory = story.factory()
    rows = [bar.stamp for bar in story.bars if bar.benchmark is not None]
    for message in story.in_order():
        for update in factory.receive(message):
            if type(message) is not ReturnObserved:
                continue  # said at the end of a bar
            row = rows.index(update.ts_event)
            batch = series[update.symbol]
            assert update.n_obs == batch.n_obs[row]
            assert update.status == batch.status[row]
            ours = nan if update.beta is None else update.beta
            assert ours == batch.beta[row] or (isnan(ours) and isnan(batch.beta[row]))
    last = {s: factory.latest(f"beta.market.{s}") for s in series}
    for symbol, batch in series.items():
        latest = last[symbol]
        if latest is not None and latest.ts_event == story.bars[-1].stamp:
            assert latest.n_obs == batch.n_obs[-1]


@every_kind
@pytest.mark.parametrize("lateness", [0, LATENESS])
@examples(4)
@given(st.data())
def test_restored_equals_uninterrupted_bit_for_bit(
    kind: str, lateness: int, data: st.DataObject
) -> None:
    rng = random.Random(data.draw(seeds))
    story: Story = guarded(data.draw(stories(kind, lateness=lateness)), rng)
    messages = story.shuffled(rng) if lateness else story.in_order()
    cut = data.draw(st.integers(0, len(messages)))
    whole, before, after = story.factory(), story.factory(), story.factory()
    said = [encode(update) for update in heard(whole, messages)]
    parts = heard(before, messages[:cut])
    snapshot = before.snapshot()
    after.restore(snapshot)
    assert after.snapshot() == snapshot
    parts += heard(after, messages[cut:])
    assert [encode(update) for update in parts] == said
    assert after.snapshot() == whole.snapshot()


@every_kind
@pytest.mark.parametrize("paths", PATHS[1:])
@examples(2)
@given(st.data())
def test_columns_equal_single_messages_on_every_path_bit_for_bit(
    kind: str, paths: Paths, data: st.DataObject
) -> None:
    lateness = data.draw(st.sampled_from([0, 2]))
    story: Story = data.draw(stories(kind, lateness=lateness))
    story = guarded(story, random.Random(data.draw(seeds)))
    one, other = story.factory(), story.factory()
    singles = heard(one, story.in_order())
    symbols = SYMBOLS[: story.n_symbols]
    with paths.taken():
        columns: list[BetaUpdated] = []
        for bar in story.bars:
            messages = bar.messages()
            is_asset = [type(message) is ReturnObserved for message in messages]
            if any(is_asset):
                messages = messages[: is_asset.index(True)]
                messages.append(frame(bar.stamp, symbols, bar.returns))
            columns += heard(other, messages)
    assert [encode(u) for u in columns] == [encode(u) for u in singles]
    assert held(one) == held(other)


@examples(20)
@given(st.data())
def test_late_returns_are_judged_as_punctual_ones(data: st.DataObject) -> None:
    # The limits of a bar are of bars that nothing can come to any more.
    rng = np.random.default_rng(data.draw(seeds))
    config = MarketBetaConfig(12, 3, allowed_lateness=LATENESS, **GUARD)
    n_bars = data.draw(st.integers(1, 60))
    market = [bench(ts, rng.normal()) for ts in range(1, n_bars + 1)]
    returns = [
        asset(symbol, ts, rng.standard_t(2))
        for ts in range(1, n_bars + 1)
        for symbol in ("AAPL", "BAC", "IBM")
        if rng.random() < 0.9
    ]
    punctual, late = (a_factory(config, "AAPL", "BAC", "IBM") for _ in range(2))
    by_bar = {
        m.ts_event: [r for r in returns if r.ts_event == m.ts_event] for m in market
    }
    for message in market:
        heard(punctual, [message, *by_bar[message.ts_event]])
    timed: list[tuple[float, Message]] = [(m.ts_event, m) for m in market]
    timed += [(r.ts_event + rng.uniform(-1.5, LATENESS + 0.999), r) for r in returns]
    heard(late, [message for _, message in sorted(timed, key=lambda entry: entry[0])])
    assert held(late) == held(punctual)
    np.testing.assert_allclose(windows(late)[1], windows(punctual)[1], atol=1e-11)


class Group:
    """Single returns of one bar, as one read brought them."""

    def __init__(self, messages: list[ReturnObserved]) -> None:
        self._messages = messages
        self.ts_event = messages[0].ts_event
        self.returns = np.array([message.period_return for message in messages])
        self.ts_inits = np.array([message.ts_init for message in messages])

    def message(self, position: int) -> ReturnObserved:
        return self._messages[position]


@examples(20)
@given(st.data())
def test_any_group_is_worth_its_messages(data: st.DataObject) -> None:
    rng = random.Random(data.draw(seeds))
    config = MarketBetaConfig(12, 3, allowed_lateness=rng.choice([0, 2]), **GUARD)
    one, other = (a_factory(config, "AAPL", "BAC", "IBM") for _ in range(2))
    singles: list[BetaUpdated] = []
    together: list[BetaUpdated] = []
    for ts in range(1, 40):
        if rng.random() < 0.9:
            market = bench(ts, rng.gauss(0, 1))
            singles += heard(one, [market])
            together += heard(other, [market])
        said = [
            asset(
                rng.choice(one.symbols),
                max(ts + rng.choice([0, 0, 0, 0, 1, -1]), 1),
                rng.gauss(0, 1) * rng.choice([1, 1, 1, 1, 50]),
                ts_init=rng.randrange(9),
            )
            for _ in range(rng.randint(1, 5))
        ]
        for stamp in dict.fromkeys(message.ts_event for message in said):
            group = [message for message in said if message.ts_event == stamp]
            group += group[: rng.randrange(2)]
            singles += heard(one, list(group))
            rows = np.array([other.row_of[message.symbol] for message in group])
            assert other.take_group(Group(group), rows) == []
            together += [row for part in other.commit() for row in part.as_rows()]
    assert [encode(u) for u in together] == [encode(u) for u in singles]
    assert list(other.tally.held) == list(one.tally.held)
    assert other.tally.dropped == one.tally.dropped


@pytest.mark.parametrize("lateness", [0, 2])
def test_a_group_is_worth_its_messages(lateness: int) -> None:
    config = msgspec.structs.replace(BOUND, allowed_lateness=lateness)
    one, other = a_factory(config), a_factory(config)
    for factory in (one, other):
        heard(factory, [bench(1, 0.1)])
    said = [
        asset("AAPL", 1, 0.9, seq=1),
        asset("BAC", 1, 0.2, seq=2, ts_init=4),
        asset("AAPL", 1, 0.9, seq=3),
        asset("BAC", 1, 7.0, seq=4),
        asset("AAPL", 1, 0.8, seq=5),
    ]
    singles = heard(one, list(said))
    rows = np.array([other.row_of[message.symbol] for message in said])
    assert other.take_group(Group(said), rows) == []
    together = [row for part in other.commit() for row in part.as_rows()]
    assert [encode(u) for u in together] == [encode(u) for u in singles]
    assert list(other.tally.held) == list(one.tally.held)
    assert other.tally.dropped == one.tally.dropped
    assert one.tally.dropped[Drop.DUPLICATE] == 1


class TestRestoring:
    """Limits may change with a restart, and windows go on."""

    def told(self, config: MarketBetaConfig, n_bars: int = 40) -> BetaFactory:
        factory = a_factory(config)
        rng = np.random.default_rng(4)
        for ts in range(1, n_bars + 1):
            heard(factory, [bench(ts, rng.normal())])
            for symbol in factory.symbols:
                heard(factory, [asset(symbol, ts, rng.normal())])
        return factory

    @pytest.mark.parametrize("lateness", [0, 2])
    def test_limits_that_are_new_know_the_windows_past(self, lateness: int) -> None:
        plain = MarketBetaConfig(30, 3, allowed_lateness=lateness)
        old = self.told(plain)
        config = msgspec.structs.replace(plain, **GUARD)
        new = a_factory(config)
        new.restore(old.snapshot())
        assert windows(new) == windows(old)
        heard(new, [bench(41, 0.0), asset("AAPL", 41, 25.0), asset("BAC", 41, 0.1)])
        assert [(one.name, one.key) for one in held(new)] == [("AAPL", "max_robust_z")]

    @pytest.mark.parametrize("lateness", [0, 2])
    def test_limits_that_are_wider_let_more_through(self, lateness: int) -> None:
        keys: dict[str, Any] = {**GUARD, "robust_window": 30, "max_abs_return": 9.0}
        narrow = MarketBetaConfig(30, 3, allowed_lateness=lateness, **keys)
        old = self.told(narrow)
        heard(old, [bench(41, 0.0), asset("AAPL", 41, 10.0)])
        assert [one.key for one in held(old)] == ["max_abs_return"]
        for max_z, key in ((3.0, "max_robust_z"), (30.0, None)):
            wide = msgspec.structs.replace(
                narrow, max_abs_return=None, max_robust_z=max_z
            )
            new = a_factory(wide)
            new.restore(old.snapshot())
            assert windows(new) == windows(old)
            heard(new, [asset("AAPL", 41, 10.5)])
            found = [one.key for one in held(new) if one.value == 10.5]
            assert found == ([] if key is None else [key])
            never = msgspec.structs.replace(narrow, max_robust_z=None)
            without = a_factory(never)
            without.restore(new.snapshot())
            heard(without, [bench(42, 0.0), asset("AAPL", 42, 8.9)])
            assert 8.9 not in [one.value for one in held(without)]

    def test_limits_that_are_gone_leave_what_is_held_to_be_released(self) -> None:
        old = self.told(msgspec.structs.replace(BOUND, max_abs_return=5.0))
        heard(old, [bench(41, 0.1), asset("AAPL", 41, 6.0)])
        new = a_factory(MarketBetaConfig(5, 3))
        new.restore(old.snapshot())
        assert held(new) == held(old)
        (update,) = new.release(1)
        assert update.ts_event == 41

    def test_what_is_held_survives(self) -> None:
        old = self.told(BOUND)
        heard(old, [bench(41, 0.1), asset("AAPL", 41, 6.0, seq=3), bench(42, 9.0)])
        new = a_factory(BOUND)
        new.restore(old.snapshot())
        assert list(new.tally.held) == list(old.tally.held)
        assert new.tally.held.n_total == old.tally.held.n_total
        heard(new, [bench(42, 9.0)])
        assert new.tally.held.n_total == old.tally.held.n_total

    def test_a_snapshot_of_other_windows_is_refused_still(self) -> None:
        old = self.told(BOUND)
        with pytest.raises(SnapshotError, match="is of other factors: market"):
            a_factory(msgspec.structs.replace(BOUND, lookback_length=6)).restore(
                old.snapshot()
            )

    def test_a_factor_without_the_keys_is_the_same_factor(self) -> None:
        guarded_factor = AnyFactor(BENCHMARK, model=BOUND)
        plain = AnyFactor(BENCHMARK, model=MarketBetaConfig(5, 3))
        assert guarded_factor.windows == plain.windows == plain
