"""Late, out-of-order and corrected returns lead where in-order arrival leads."""

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beta_factory import (
    BenchmarkReturnMissed,
    BenchmarkReturnObserved,
    BetaFactory,
    BetaUpdated,
    MarketBetaConfig,
    ReturnObserved,
    SessionOpened,
    Status,
)
from beta_factory.actors import Drop
from beta_factory.messages import AddSymbol, Message, RemoveSymbol

SYMBOLS = ("A", "B", "C")
LATENESS = 4


def bench(ts: int, value: float) -> BenchmarkReturnObserved:
    return BenchmarkReturnObserved(benchmark="SPY", ts_event=ts, period_return=value)


def asset(symbol: str, ts: int, value: float) -> ReturnObserved:
    return ReturnObserved(symbol=symbol, ts_event=ts, period_return=value)


def a_factory(
    lookback_length: int = 7, allowed_lateness: int = LATENESS
) -> BetaFactory:
    config = MarketBetaConfig(
        lookback_length, 3, stale_after=100, allowed_lateness=allowed_lateness
    )
    return BetaFactory(SYMBOLS, benchmark="SPY", config=config)


def final_state(factory: BetaFactory, ts: int) -> list[BetaUpdated]:
    """Return what one more complete bar publishes: all of the windows shows in it."""
    factory.receive(bench(ts, 0.5))
    return [factory.receive(asset(symbol, ts, 0.25))[0] for symbol in SYMBOLS]


def assert_same(left: list[BetaUpdated], right: list[BetaUpdated]) -> None:
    for a, b in zip(left, right, strict=True):
        assert (a.symbol, a.n_obs, a.status, a.window_start) == (
            b.symbol,
            b.n_obs,
            b.status,
            b.window_start,
        )
        for name in ("beta", "alpha", "r_squared"):
            one, two = getattr(a, name), getattr(b, name)
            if one is None or two is None:
                assert one is two
            else:
                assert math.isclose(one, two, rel_tol=1e-11, abs_tol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.integers(0, 2**32),
    st.integers(5, 60),
    st.sampled_from([5, 7, 12, 40]),
)
def test_shuffled_within_the_lateness_ends_as_in_order(
    seed: int, n_bars: int, lookback_length: int
) -> None:
    rng = random.Random(seed)
    in_order: list[tuple[int, Message]] = []
    shuffled: list[tuple[float, Message]] = []
    for bar in range(1, n_bars):
        messages: list[Message] = [bench(bar, rng.gauss(0, 1))]
        messages += [
            asset(symbol, bar, rng.gauss(0, 1))
            for symbol in SYMBOLS
            if rng.random() < 0.8
        ]
        for message in messages:
            in_order.append((bar, message))
            # up to LATENESS bars late, and in any order among the others
            shuffled.append((bar + rng.uniform(0, LATENESS), message))
            if rng.random() < 0.1 and isinstance(message, ReturnObserved):
                wrong = asset(message.symbol, bar, 99.0)
                shuffled.append((bar - 0.5, wrong))  # corrected by the true one
    punctual, late = a_factory(lookback_length), a_factory(lookback_length)
    for _, message in in_order:
        punctual.receive(message)
    for _, message in sorted(shuffled, key=lambda entry: entry[0]):
        late.receive(message)
    assert set(late.tally.dropped) <= {Drop.DUPLICATE}
    assert_same(final_state(late, n_bars), final_state(punctual, n_bars))


def test_a_late_return_is_published_at_once_for_the_open_bar() -> None:
    factory = a_factory()
    for ts in range(1, 6):
        factory.receive(bench(ts, 0.1 * (-1) ** ts))
        factory.receive(asset("A", ts, 0.2 * (-1) ** ts))
    (update,) = factory.receive(asset("B", 3, 0.3))
    assert (update.symbol, update.ts_event, update.n_obs) == ("B", 5, 1)
    assert update.revision == 0


def test_a_correction_replaces_and_raises_the_revision() -> None:
    factory = a_factory()
    for ts in range(1, 6):
        factory.receive(bench(ts, 0.1 * (-1) ** ts))
        factory.receive(asset("A", ts, 0.2 * (-1) ** ts))
    before = factory.latest("beta.market.A")
    assert before is not None
    (once,) = factory.receive(asset("A", 4, 0.9))
    (back,) = factory.receive(asset("A", 4, 0.2))
    assert (before.revision, once.revision, back.revision) == (0, 1, 2)
    assert once.n_obs == back.n_obs == before.n_obs
    assert once.beta != before.beta
    assert back.beta == pytest.approx(before.beta, rel=1e-14)
    factory.receive(bench(6, 0.1))
    (fresh,) = factory.receive(asset("A", 6, 0.1))
    assert fresh.revision == 0


def test_a_correction_of_the_benchmark_corrects_everyone() -> None:
    factory, clean = a_factory(), a_factory()
    for ts in range(1, 6):
        x = 0.1 * (-1) ** ts
        for target, value in ((factory, 9.0 if ts == 4 else x), (clean, x)):
            target.receive(bench(ts, value))
            for symbol in SYMBOLS:
                target.receive(asset(symbol, ts, x * ts))
    updates = factory.receive(bench(4, 0.1))
    assert [update.symbol for update in updates] == list(SYMBOLS)
    assert {update.revision for update in updates} == {1}
    assert_same(final_state(factory, 6), final_state(clean, 6))


def test_a_benchmark_that_comes_late_pairs_what_waited_for_it() -> None:
    factory, clean = a_factory(), a_factory()
    for ts in range(1, 7):
        clean.receive(bench(ts, 0.1 * (-1) ** ts))
        if ts != 4:
            factory.receive(bench(ts, 0.1 * (-1) ** ts))
        for target in (factory, clean):
            for symbol in SYMBOLS:
                target.receive(asset(symbol, ts, 0.3 * (-1) ** ts + 0.01 * ts))
    updates = factory.receive(bench(4, 0.1))
    assert [(u.symbol, u.ts_event, u.n_obs) for u in updates] == [
        (symbol, 6, 6) for symbol in SYMBOLS
    ]
    assert_same(final_state(factory, 7), final_state(clean, 7))
    assert not factory.tally.dropped


@pytest.mark.parametrize("stamps", [(60, 70, 75, 80, 90), (60, 70, 80, 75, 90)])
def test_a_silence_is_announced_though_a_bar_of_it_came_late(
    stamps: tuple[int, ...],
) -> None:
    factory = BetaFactory(
        ["A", "Z"],
        benchmark="SPY",
        config=MarketBetaConfig(20, 3, allowed_lateness=3, stale_after=3),
    )
    said: list[str] = []
    for ts in (10, 20, 30, 40, 50, *stamps):
        factory.receive(bench(ts, 0.1 * (-1) ** (ts // 10)))
        for symbol in ("A", "Z") if ts <= 50 else ("A",):
            said += [
                f"{update.symbol} {update.status.name}"
                for update in factory.receive(asset(symbol, ts, 0.01 * ts))
            ]
    latest = factory.latest("beta.market.Z")
    assert latest is not None
    assert latest.status is Status.STALE
    assert "Z STALE" not in said  # it had no pair to say so with


class TestWhatWaitsInABar:
    """A return whose benchmark may yet come is counted when it no longer may."""

    CONFIG = MarketBetaConfig(8, 3, allowed_lateness=2)

    @staticmethod
    def told(
        config: MarketBetaConfig, *messages: Message
    ) -> tuple[int, dict[str, int]]:
        """Return the pairs, and what of one symbol was dropped, by reason."""
        factory = BetaFactory(["A"], benchmark="SPY", config=config)
        n_returns = 0
        for message in messages:
            factory.receive(message)
            n_returns += isinstance(message, ReturnObserved)
        dropped = {str(r): int(n.sum()) for r, n in factory.tally.of_symbol.items()}
        n_pairs = factory.cohorts[0].n_pairs
        assert n_pairs + sum(dropped.values()) == n_returns
        return n_pairs, dropped

    @staticmethod
    def bar(ts: int) -> list[Message]:
        return [bench(ts, 0.01 * ts), asset("A", ts, 0.02 * ts)]

    @staticmethod
    def missed(ts: int) -> list[Message]:
        missed = BenchmarkReturnMissed(benchmark="SPY", ts_event=ts)
        return [missed, asset("A", ts, 0.02 * ts)]

    def bars(self, *stamps: int) -> list[Message]:
        return [message for ts in stamps for message in self.bar(ts)]

    def test_a_bar_that_came_late_may_be_the_one_too_many(self) -> None:
        told = self.told(
            self.CONFIG,
            *self.missed(110),
            *self.bars(120, 130, 125, 140, 150, 160),
        )
        assert told == (6, {"unpaired": 1})

    def test_it_leaves_with_a_session(self) -> None:
        config = msgspec.structs.replace(self.CONFIG, window="session")
        opens = SessionOpened(benchmark="SPY", ts_event=125)
        told = self.told(
            config,
            *self.bars(100, 110),
            *self.missed(120),
            opens,
            *self.bars(130, 140, 150, 160),
        )
        assert told == (5, {"unpaired": 1, "overnight": 1})

    def test_it_leaves_with_what_a_gap_pushes_out(self) -> None:
        config = MarketBetaConfig("50ns", 3, window="time", allowed_lateness=3)
        told = self.told(config, *self.bars(100), *self.missed(110), *self.bars(170))
        assert told == (2, {"unpaired": 1})

    def test_it_leaves_with_a_session_that_turns_out_to_have_begun(self) -> None:
        config = msgspec.structs.replace(self.CONFIG, window="session")
        opens = SessionOpened(benchmark="SPY", ts_event=115)
        told = self.told(
            config,
            *self.missed(110),
            *self.bars(120),
            opens,
            *self.bars(130, 140, 150),
        )
        assert told == (3, {"unpaired": 1, "overnight": 1})

    def test_a_pair_of_a_night_is_taken_back_before_it_is_dropped(self) -> None:
        config = msgspec.structs.replace(self.CONFIG, window="session")
        opens = SessionOpened(benchmark="SPY", ts_event=115)
        told = self.told(
            config, *self.bars(100, 110, 120), opens, *self.bars(130, 140, 150)
        )
        assert told == (5, {"overnight": 1})

    @pytest.mark.parametrize("lateness", [0, 2])
    def test_a_symbol_that_comes_back_begins_with_nothing(self, lateness: int) -> None:
        config = msgspec.structs.replace(self.CONFIG, allowed_lateness=lateness)
        told = self.told(
            config,
            *self.bars(100),
            *self.missed(110),
            asset("A", 120, 0.5),
            RemoveSymbol(symbol="A"),
            AddSymbol(symbol="A"),
            bench(120, 0.1),
            *self.bars(130, 140, 150, 160),
        )
        assert told == (5, {"unpaired": 2})


def test_beyond_the_lateness_it_is_dropped_and_counted() -> None:
    factory = a_factory()
    for ts in range(1, 8):
        factory.receive(bench(ts, 0.1))
    assert factory.receive(asset("A", 7 - LATENESS, 0.1))
    assert factory.receive(asset("A", 6 - LATENESS, 0.1)) == []
    assert factory.receive(bench(6 - LATENESS, 0.7)) == []
    assert factory.tally.dropped == {Drop.LATE: 2}


def test_the_same_late_return_again_is_a_duplicate() -> None:
    factory = a_factory()
    for ts in range(1, 5):
        factory.receive(bench(ts, 0.1))
    assert factory.receive(asset("A", 3, 0.1))
    assert factory.receive(asset("A", 3, 0.1)) == []
    assert factory.tally.dropped == {Drop.DUPLICATE: 1}


def test_a_late_columnar_frame_is_worth_its_single_messages() -> None:
    from beta_factory import ReturnsObserved  # noqa: PLC0415 - used here alone

    single, columnar = a_factory(), a_factory()
    for ts in range(1, 6):
        for target in (single, columnar):
            target.receive(bench(ts, 0.1 * (-1) ** ts))
    values = np.array([0.1, np.nan, 0.3])
    frame = ReturnsObserved(
        ts_event=3, symbols=SYMBOLS, period_returns=values.tobytes()
    )
    got = columnar.receive(frame)
    expected = single.receive(asset("A", 3, 0.1)) + single.receive(asset("C", 3, 0.3))
    assert got == expected
