"""The whole factory: what is published does not depend on how it arrived."""

import random
from math import inf, isnan, nan

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory import BetaFactory, Factor, MarketBetaConfig, compute_market_beta
from beta_factory.actors.tables import SymbolTables
from beta_factory.actors.tally import Drop
from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Heartbeat,
    Hello,
    InvalidTopicError,
    MalformedMessageError,
    Message,
    Reason,
    ReturnsObserved,
    Status,
    Subscribe,
    SymbolsDeclared,
    beta_topic,
)
from strategies import (
    BENCHMARK,
    PATHS,
    Market,
    Paths,
    arrivals,
    arrive,
    asset,
    bench,
    cut,
    drive,
    examples,
    frame,
    in_one_turn_each,
    markets,
    paths,
    seeds,
    wide_universe,
    wire,
)

CONFIG = MarketBetaConfig(5, 3)
NUMBERS = ("beta", "alpha", "std_error", "t_stat", "r_squared", "residual_std")


def drops(factory: BetaFactory) -> dict[Drop, int]:
    return {reason: n for reason, n in factory.tally.dropped.items() if n}


class TestArrival:
    """Single or columnar, early or not, in any turns: the same bytes."""

    @examples(27)
    @given(st.data(), markets(), paths)
    def test_every_arrival_of_a_market_publishes_the_same_bytes(
        self, data: st.DataObject, market: Market, taken: Paths
    ) -> None:
        one, other = market.factory(), market.factory()
        published = drive(one, data.draw(arrivals(market)))
        with taken.taken():
            published_otherwise = drive(other, data.draw(arrivals(market)))
        assert wire(published) == wire(published_otherwise)
        assert drops(one) == drops(other) == {}

    @examples(12)
    @given(
        st.data(),
        markets(symbols=wide_universe(150), max_bars=14),
        st.sampled_from(PATHS),
    )
    def test_so_does_every_arrival_of_a_wide_market(
        self, data: st.DataObject, market: Market, taken: Paths
    ) -> None:
        published = drive(market.factory(), data.draw(arrivals(market)))
        with taken.taken():
            published_otherwise = drive(market.factory(), data.draw(arrivals(market)))
        assert wire(published) == wire(published_otherwise)

    @examples(27)
    @given(st.data(), markets())
    def test_receiving_message_by_message_equals_any_turns(
        self, data: st.DataObject, market: Market
    ) -> None:
        turns = data.draw(arrivals(market))
        factory = market.factory()
        received = [
            update
            for turn in turns
            for message in turn
            for update in factory.receive(message)
        ]
        assert wire(received) == wire(drive(market.factory(), turns))

    @examples(27)
    @given(st.data(), markets(), seeds)
    def test_which_side_of_a_pair_comes_first_does_not_show_in_the_numbers(
        self, data: st.DataObject, market: Market, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        other = Market(
            market.symbols,
            market.stamps,
            market.benchmark,
            market.returns,
            rng.random(market.early.shape) < 0.5,
            market.config,
        )

        def by_bar(arrived: Market) -> list[bytes]:
            turns = data.draw(arrivals(arrived))
            return sorted(
                wire([msgspec.structs.replace(update, seq=0, ts_init=0)])
                for update in drive(arrived.factory(), turns)
            )

        assert by_bar(market) == by_bar(other)

    @examples(27)
    @given(st.data(), markets())
    def test_updates_are_numbered_without_gaps_in_the_order_of_their_bars(
        self, data: st.DataObject, market: Market
    ) -> None:
        updates = drive(market.factory(), data.draw(arrivals(market)))
        assert [update.seq for update in updates] == list(range(1, len(updates) + 1))
        stamps = [update.ts_event for update in updates]
        assert stamps == sorted(stamps)


@examples(27)
@given(st.data(), markets(), paths)
def test_streaming_equals_the_batch_at_every_published_bar(
    data: st.DataObject, market: Market, taken: Paths
) -> None:
    returns = dict(zip(market.symbols, market.returns.T, strict=True))
    betas = compute_market_beta(
        returns, market.benchmark, market.config, timestamps=list(market.stamps)
    )
    with taken.taken():
        updates = drive(market.factory(), data.draw(arrivals(market)))
    published: set[tuple[str, int]] = set()
    for update in updates:
        series, bar = betas[update.symbol], market.stamps.index(update.ts_event)
        assert (update.symbol, bar) not in published
        published.add((update.symbol, bar))
        for name in NUMBERS:
            value = float(getattr(series, name)[bar])
            ours = getattr(update, name)
            assert (
                np.float64(nan if ours is None else ours).tobytes()
                == np.float64(value).tobytes()
            )
        assert update.n_obs == series.n_obs[bar]
        assert update.status == series.status[bar]
        oldest = max(0, bar + 1 - market.config.n_bars)
        assert update.window_start == market.stamps[oldest]
        assert update.revision == update.conflated == 0
    expected: set[tuple[str, int]] = set()
    for symbol, series in betas.items():
        stale = series.status == Status.STALE
        for bar in range(market.n_bars):
            falls_stale = stale[bar] and not stale[bar - 1]
            is_closed = bar < market.n_bars - 1
            if not np.isnan(returns[symbol][bar]) or (falls_stale and is_closed):
                expected.add((symbol, bar))
    assert published == expected


def test_a_bar_without_a_benchmark_return_is_none_of_a_stream() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=12), rng.normal(size=12)
    x[6] = nan
    bars = [ts for ts in range(12) if ts != 6]
    series = compute_market_beta({"A": y[bars]}, x[bars], CONFIG)["A"]
    factory = BetaFactory(["A"], benchmark=BENCHMARK, config=CONFIG)
    messages: list[Message] = []
    for ts in range(12):
        messages += [bench(ts, x[ts]), asset("A", ts, y[ts])]
    updates = drive(factory, [messages])
    betas = [series.beta[bars.index(update.ts_event)] for update in updates]
    assert [update.beta or nan for update in updates] == pytest.approx(
        betas, nan_ok=True
    )


class TestRefused:
    """What is no return, or no message for a factory."""

    def test_a_cell_of_a_frame_is_kept_as_the_single_message_it_stands_for(
        self,
    ) -> None:
        factory = BetaFactory(["A", "B"], benchmark=BENCHMARK, config=CONFIG)
        factory.receive(frame(5, ["B", "X", "A"], [inf, 0.5, 0.1], seq=3, ts_init=9))
        factory.receive(frame(5, ["A", "B"], [0.2, 0.1], seq=4, ts_init=9))
        assert list(factory.tally.refused) == [
            (Drop.UNKNOWN_SYMBOL, asset("X", 5, 0.5, seq=3, ts_init=9)),
            (Drop.NOT_FINITE, asset("B", 5, inf, seq=3, ts_init=9)),
            (Drop.CONFLICT, asset("A", 5, 0.2, seq=4, ts_init=9)),
        ]

    @pytest.mark.parametrize("absurd", [1e160, -1e300])
    def test_a_return_too_large_to_square_is_refused(self, absurd: float) -> None:
        factory = BetaFactory(["A"], benchmark=BENCHMARK, config=CONFIG)
        values = [(0.1, 0.2), (0.2, absurd), (0.4, 0.1), (absurd, 0.3), (0.3, 0.9)]
        for ts, (x, y) in enumerate(values):
            factory.receive(bench(ts, x))
            for update in factory.receive(asset("A", ts, y)):
                assert update.status in (Status.WARMING, Status.OK)
                assert update.std_error != 0.0
                assert abs(update.beta or 0.0) < 1e6
        # the third is the asset's return of the bar whose benchmark was refused
        assert drops(factory) == {Drop.OUT_OF_RANGE: 2, Drop.UNPAIRED: 1}

    @pytest.mark.parametrize(
        "message",
        [
            Heartbeat(ts_init=1),
            Hello(),
            Subscribe(subscription=1, pattern="beta.>"),
        ],
    )
    def test_a_message_for_no_actor_is_malformed(self, message: Message) -> None:
        factory = BetaFactory(["A"], benchmark=BENCHMARK, config=CONFIG)
        with pytest.raises(MalformedMessageError, match=type(message).__name__):
            factory.receive(message)

    @pytest.mark.parametrize(
        ("broken", "complaint"),
        [
            (frame(1, ["A", "B"], [0.1]), "2 symbols need 16 bytes .* was 8"),
            (frame(1, ["A"], [0.1, 0.2]), "1 symbols need 8 bytes .* was 16"),
            (
                ReturnsObserved(ts_event=1, symbols=("A",), period_returns=b"123"),
                "1 symbols need 8 bytes .* was 3",
            ),
            (frame(1, 5, [0.1]), "table 5 was never declared"),
            (frame(1, ["A", "A"], [0.1, 0.1]), "'A' stands twice"),
        ],
    )
    def test_a_frame_that_contradicts_itself_is_malformed_and_changes_nothing(
        self, broken: ReturnsObserved, complaint: str
    ) -> None:
        factory = BetaFactory(["A", "B"], benchmark=BENCHMARK, config=CONFIG)
        factory.receive(bench(1, 0.1))
        with pytest.raises(MalformedMessageError, match=complaint):
            factory.receive(broken)
        assert factory.commit() == []
        assert drops(factory) == {}
        assert len(factory.receive(frame(1, ["A", "B"], [0.1, 0.2]))) == 2


class TestMaskedRows:
    """A member that takes nothing right now is passed over, not forgotten."""

    @examples(27)
    @given(markets(), seeds, paths)
    def test_their_returns_come_back_as_messages_and_lose_nothing(
        self, market: Market, seed: int, taken: Paths
    ) -> None:
        rng = np.random.default_rng(seed)
        masked_out, plain = market.factory(), market.factory()
        tables = SymbolTables(masked_out.row_of)
        published: list[BetaUpdated] = []
        expected: list[BetaUpdated] = []
        for bar, stamp in enumerate(market.stamps):
            opening = bench(stamp, float(market.benchmark[bar]))
            names = rng.permutation(market.symbols).tolist()
            returns = [market.returns[bar, market.symbols.index(s)] for s in names]
            message = frame(stamp, names, returns, seq=bar, ts_init=stamp + 1)
            masked = rng.random(len(names)) < 0.5
            masked_out.receive(opening)
            plain.receive(opening)
            with taken.taken():
                held = masked_out.take_columns(message, tables, masked)
            assert [(m.symbol, m.period_return) for m in held] == [
                (name, value)
                for name, value in zip(names, returns, strict=True)
                if masked[market.symbols.index(name)] and not isnan(value)
            ]
            assert {(m.ts_event, m.seq, m.ts_init) for m in held} <= {
                (stamp, bar, stamp + 1)
            }
            taken_now = [u for part in masked_out.commit() for u in part.as_rows()]
            for update in taken_now:
                silent = update.status is Status.STALE
                assert silent or not masked[market.symbols.index(update.symbol)]
            published += taken_now
            for single in held:
                published += masked_out.receive(single)
            expected += plain.receive(message)
        by_bar = [
            sorted(
                wire([msgspec.structs.replace(update, seq=0)])
                for update in updates
                if update.status is not Status.STALE
            )
            for updates in (published, expected)
        ]
        assert by_bar[0] == by_bar[1]
        assert drops(masked_out) == drops(plain) == {}

    def test_no_mask_holds_nothing_back(self) -> None:
        factory = BetaFactory(["A", "B"], benchmark=BENCHMARK, config=CONFIG)
        tables = SymbolTables(factory.row_of)
        factory.receive(bench(1, 0.1))
        nobody = np.zeros(2, dtype=np.bool_)
        assert (
            factory.take_columns(frame(1, ["A", "B"], [0.1, 0.2]), tables, nobody) == []
        )
        assert [len(part) for part in factory.commit()] == [2]

    @pytest.mark.parametrize("bad", [inf, -inf, 1e200])
    def test_what_is_no_return_is_held_back_too(self, bad: float) -> None:
        factory = BetaFactory(["A", "B"], benchmark=BENCHMARK, config=CONFIG)
        tables = SymbolTables(factory.row_of)
        masked = np.array([True, False])
        held = factory.take_columns(frame(1, ["A", "B"], [bad, 0.2]), tables, masked)
        assert held == [asset("A", 1, bad)]
        assert drops(factory) == {}


class TestFactors:
    """Several models side by side, each as if it were alone."""

    @examples(27)
    @given(st.data(), markets(), st.integers(3, 12), paths)
    def test_factors_on_one_benchmark_publish_what_each_alone_does(
        self, data: st.DataObject, market: Market, lookback_length: int, taken: Paths
    ) -> None:
        slow = Factor(BENCHMARK, "slow", market.config)
        fast = Factor(
            BENCHMARK, "fast", MarketBetaConfig(lookback_length, 3, stale_after=1)
        )
        together = BetaFactory(market.symbols, factors=[slow, fast])
        with taken.taken():
            updates = drive(together, data.draw(arrivals(market)))
        for factor in (slow, fast):
            alone = BetaFactory(market.symbols, factors=[factor])
            expected = drive(alone, data.draw(arrivals(market)))
            assert wire(updates, factor.name) == wire(expected)
        assert {update.factor for update in updates} <= {"slow", "fast"}

    @examples(27)
    @given(st.data(), markets(), seeds)
    def test_factors_on_two_benchmarks_publish_what_each_alone_does(
        self, data: st.DataObject, market: Market, seed: int
    ) -> None:
        rng = random.Random(seed)
        messages: list[Message] = []
        for message in arrive(market, rng):
            messages.append(message)
            if type(message) is BenchmarkReturnObserved and rng.random() < 0.8:
                other = bench(
                    message.ts_event, rng.random(), "QQQ", ts_init=message.ts_event
                )
                messages.insert(len(messages) - rng.randrange(2), other)
        factors = [
            Factor(BENCHMARK, "market", market.config),
            Factor("QQQ", "tech", market.config),
        ]
        updates = drive(
            BetaFactory(market.symbols, factors=factors), cut(messages, rng)
        )
        for factor in factors:
            alone = BetaFactory(market.symbols, factors=[factor])
            own = [
                message
                for message in messages
                if type(message) is not BenchmarkReturnObserved
                or message.benchmark == factor.benchmark
            ]
            expected = drive(alone, in_one_turn_each(own))
            assert wire(updates, factor.name) == wire(expected)
            assert {update.benchmark for update in expected} <= {factor.benchmark}

    def test_one_benchmark_may_be_a_symbol_too(self) -> None:
        factory = BetaFactory(["QQQ", "SPY"], benchmark="SPY", config=CONFIG)
        rng = random.Random(1)
        updates: list[BetaUpdated] = []
        for ts in range(4):
            value = rng.random()
            factory.receive(bench(ts, value))
            updates = factory.receive(asset("SPY", ts, value))
        (update,) = updates
        assert (update.symbol, update.beta, update.status) == ("SPY", 1.0, Status.OK)


class TestLatest:
    """The last value of a topic."""

    @examples(27)
    @given(st.data(), markets())
    def test_it_is_the_last_update_that_was_published(
        self, data: st.DataObject, market: Market
    ) -> None:
        factory = market.factory(name="my.model")
        last = {
            update.symbol: update
            for update in drive(factory, data.draw(arrivals(market)))
        }
        for symbol in market.symbols:
            value = factory.latest(beta_topic("my.model", symbol))
            assert wire([value] if value else []) == wire(
                [last[symbol]] if symbol in last else []
            )

    @pytest.mark.parametrize(
        "topic", ["beta.market.nobody", "beta.sector.AAPL", "beta.market.BAC"]
    )
    def test_there_is_none_for_what_was_never_published(self, topic: str) -> None:
        factory = BetaFactory(["AAPL", "BAC"], benchmark=BENCHMARK, config=CONFIG)
        factory.receive(bench(1, 0.1))
        factory.receive(asset("AAPL", 1, 0.1))
        assert factory.latest("beta.market.AAPL") is not None
        assert factory.latest(topic) is None

    @pytest.mark.parametrize(
        "topic",
        ["beta.market", "beta.market.*", "status.AAPL", "", "beta.market.BRK.B"],
    )
    def test_anything_but_one_beta_topic_is_refused(self, topic: str) -> None:
        factory = BetaFactory(["AAPL"], benchmark=BENCHMARK, config=CONFIG)
        with pytest.raises(InvalidTopicError):
            factory.latest(topic)


def test_rows_are_in_sorted_order_and_symbols_stand_once() -> None:
    factory = BetaFactory(["B", "A", "B", "C"], benchmark=BENCHMARK)
    assert factory.symbols == ("A", "B", "C")
    assert list(factory.actors) == ["A", "B", "C"]
    factory.receive(bench(1, 0.1))
    updates = factory.receive(frame(1, ["C", "A", "B"], [0.1, 0.2, 0.3]))
    assert [update.symbol for update in updates] == ["C", "A", "B"]


def test_a_redeclared_table_holds_for_the_frames_after_it() -> None:
    factory = BetaFactory(["A", "B"], benchmark=BENCHMARK, config=CONFIG)
    factory.receive(SymbolsDeclared(table=9, symbols=("A", "B")))
    factory.receive(bench(1, 0.1))
    assert [u.symbol for u in factory.receive(frame(1, 9, [nan, 0.2]))] == ["B"]
    factory.receive(SymbolsDeclared(table=9, symbols=("B", "A")))
    assert [u.symbol for u in factory.receive(frame(1, 9, [nan, 0.2]))] == ["A"]


def test_an_undefined_beta_says_why() -> None:
    factory = BetaFactory(["A"], benchmark=BENCHMARK, config=CONFIG)
    said: list[tuple[bool, Status, Reason]] = []
    for ts, x in enumerate([0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]):
        factory.receive(bench(ts, x))
        (update,) = factory.receive(asset("A", ts, 0.1 * ts))
        said.append((update.beta is None, update.status, update.reason))
    warming = (True, Status.WARMING, Reason.TOO_FEW_PAIRS)
    fine = (False, Status.OK, Reason.NONE)
    flat = (True, Status.ZERO_VARIANCE, Reason.FLAT_BENCHMARK)
    assert said == [warming] * 2 + [fine] * 3 + [flat] * 2
