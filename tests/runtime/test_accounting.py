"""What is received, used and dropped adds up, by source and by topic."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import BetaFactory, Factor, MarketBetaConfig
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import (
    OBSERVATION_TYPES,
    BenchmarkReturnMissed,
    HaltSymbol,
    MailboxFullError,
    Message,
    ResumeSymbol,
    ReturnsObserved,
)
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.group_reader import GroupReader
from beta_factory.runtime.groups import ReturnGroup, Taken, decode_pieces
from beta_factory.runtime.mailbox import OverflowPolicy
from beta_factory.runtime.system import System
from strategies import asset, bench, examples, frame, wide_universe
from testkit import RESTART_S, SMALL, SYMBOLS, Stage, framed, virtual_loop

SOURCES = ("fast", "slow", "odd")
FIRST_NS = 1_760_000_000 * 10**9


def a_message(rng: random.Random, newest: int) -> Message:
    stamp = max(1, newest + rng.choice([-2, -1, 0, 0, 0, 1, 1, 2, 30]))
    value = rng.choice([0.1, 0.2, -0.3, float("nan")])
    kind = rng.random()
    if kind < 0.25:
        return bench(stamp, value, benchmark=rng.choice(["SPY", "SPY", "QQQ"]))
    if kind < 0.3:
        return BenchmarkReturnMissed(benchmark="SPY", ts_event=stamp)
    if kind < 0.4:
        symbol = rng.choice(SYMBOLS)
        halts = rng.random() < 0.5
        return HaltSymbol(symbol=symbol) if halts else ResumeSymbol(symbol=symbol)
    if kind < 0.55:
        names = tuple(rng.sample([*SYMBOLS, "NOBODY"], rng.randint(1, 4)))
        return frame(stamp, names, [rng.choice([0.1, 0.2, np.nan]) for _ in names])
    return asset(rng.choice([*SYMBOLS, "NOBODY"]), stamp, value)


def observations(message: Message) -> int:
    """Return how many single observations a message is worth."""
    if isinstance(message, ReturnsObserved):
        returns = np.frombuffer(message.period_returns)
        return sum(1 for value in returns.tolist() if value == value)  # noqa: PLR0124
    return int(isinstance(message, OBSERVATION_TYPES))


@pytest.mark.parametrize("lateness", [0, 3])
@examples(40)
@given(st.integers(0, 2**32), st.sampled_from(OverflowPolicy))
def test_sources_and_topics_add_up_to_the_totals(
    lateness: int, seed: int, overflow: OverflowPolicy
) -> None:
    rng = random.Random(seed)
    model = MarketBetaConfig(8, 3, allowed_lateness=lateness)
    sent: Counter[str] = Counter()
    with virtual_loop() as loop:
        stage = Stage(
            loop,
            factors=[Factor("SPY", model=model)],
            mailbox_capacity=2,
            overflow=overflow,
        )
        stage.system.start()
        tables = {name: SymbolTables(stage.factory.row_of, name) for name in SOURCES}
        newest = 1
        for _ in range(80):
            name = rng.choice(SOURCES)
            if rng.random() < 0.1:
                stage.poison(rng.choice(SYMBOLS), newest)
            message = a_message(rng, newest)
            if isinstance(message, ReturnsObserved):
                for flaky in stage.flaky.values():  # halted rows are told directly
                    flaky.poison.clear()
            try:
                stage.system.take(message, tables[name])
            except MailboxFullError:
                pass  # its source keeps it
            else:
                sent[name] += observations(message)
            if isinstance(message, OBSERVATION_TYPES) and rng.random() < 0.3:
                newest = max(newest, min(message.ts_event, newest + 1))
            if rng.random() < 0.5:
                stage.system.end_turn()
            if rng.random() < 0.1:
                loop.advance(RESTART_S)
        stage.system.stop()
        tally = stage.factory.tally
        by_source = dict(zip(tally.sources.names, tally.sources.received, strict=True))
        assert {name: by_source.get(name, 0) for name in SOURCES} == {
            name: sent[name] for name in SOURCES
        }
        totals = {str(reason): n for reason, n in tally.dropped.items() if n}
        by_reason: Counter[str] = Counter()
        for counts in tally.sources.dropped:
            by_reason.update(counts)
        assert dict(by_reason) == totals
        by_topic = Counter(
            {str(reason): int(n.sum()) for reason, n in tally.of_symbol.items()}
        )
        for counts in tally.of_benchmark.values():
            by_topic.update({str(reason): n for reason, n in counts.items()})
        # what was about no symbol and no benchmark of ours has no topic
        missing = Counter(totals) - by_topic
        assert by_topic - Counter(totals) == Counter()
        assert set(missing) <= {"unknown_symbol", "unknown_benchmark"}


@pytest.mark.parametrize("n_factors", [1, 3])
@examples(40)
@given(st.integers(0, 2**32))
def test_what_is_not_dropped_is_in_a_window_or_waits(n_factors: int, seed: int) -> None:
    rng = random.Random(seed)
    factors = [Factor("SPY", f"f{number}", SMALL) for number in range(n_factors)]
    with virtual_loop() as loop:
        stage = Stage(loop, factors=factors, mailbox_capacity=2)
        stage.system.start()
        tables = SymbolTables(stage.factory.row_of, "feed")
        n_returns = n_opened = 0
        for number in range(60):
            stamp = 1 + number // 6 + rng.choice([0, 0, 0, 1])
            if number % 6 == 0 and rng.random() < 0.8:
                message: Message = bench(stamp, 0.1)
                n_opened += 1
            else:
                symbol = rng.choice([*SYMBOLS, "NOBODY"])
                message = asset(symbol, stamp, rng.choice([0.1, 0.2, float("nan")]))
                n_returns += 1
            stage.system.take(message, tables)
            if rng.random() < 0.1:
                stage.poison(rng.choice(SYMBOLS), stamp)
            if rng.random() < 0.5:
                stage.system.end_turn()
        for bar in range(20, 40):  # whatever waits is past its time now
            stage.turn(bench(bar, 0.1))
            loop.advance(RESTART_S)
        for _ in range(3):
            loop.advance(RESTART_S)
            stage.system.end_turn()
        stage.system.stop()
        (feed,) = [
            number
            for number, name in enumerate(stage.factory.tally.sources.names)
            if name == "feed"
        ]
        sources = stage.factory.tally.sources
        n_dropped = sum(sources.dropped[feed].values())
        statistics = stage.system.statistics()
        n_used = statistics.n_pairs + statistics.n_bars - 20 * n_factors
        assert sources.received[feed] == n_returns + n_opened
        assert sources.received[feed] * n_factors - n_dropped == n_used


@examples(40)
@given(st.integers(0, 2**32))
def test_an_actor_has_processed_as_much_in_columns_as_in_single_messages(
    seed: int,
) -> None:
    rng = random.Random(seed)
    seen: list[dict[str, int]] = []
    frames: list[tuple[int, tuple[str, ...], list[float]]] = []
    for ts in range(1, 30):
        names: tuple[str, ...] = SYMBOLS
        if rng.random() < 0.4:
            names = tuple(rng.sample([*SYMBOLS, "NOBODY"], 2))
        values = [rng.choice([0.1 * ts, 0.2, np.nan, np.inf]) for _ in names]
        frames.append((ts, names, values))
    halts = {ts: rng.choice(SYMBOLS) for ts in range(3, 30, 7)}
    with virtual_loop() as loop:
        for in_columns in (True, False):
            stage = Stage(loop)
            stage.system.start()
            for ts, names, values in frames:
                if ts in halts:
                    stage.turn(HaltSymbol(symbol=halts[ts]))
                if ts == 10:
                    stage.poison("BAC", 999)
                    stage.turn(asset("BAC", 999, 0.1))  # away, and its mail waits
                if ts == 15:
                    loop.advance(RESTART_S)
                if in_columns:
                    stage.turn(frame(ts, names, values))
                else:
                    pairs = zip(names, values, strict=True)
                    stage.turn(*(asset(s, ts, v) for s, v in pairs if v == v))  # noqa: PLR0124
            seen.append({s: stage.system.n_processed(stage.cell(s)) for s in SYMBOLS})
    assert seen[0] == seen[1]


class Plain:
    """A system whose actors are the real ones, so that it takes groups."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self.factory = BetaFactory(symbols, benchmark="SPY", config=SMALL)
        self.system = System(
            self.factory,
            ReplayClock(FIRST_NS),
            call_later=lambda _delay, _callback: None,
            call_soon=lambda _callback: None,
            on_updates=lambda _updates: None,
        )
        self.system.start()
        self.tables = SymbolTables(self.factory.row_of, "prices")

    def take(self, messages: list[Taken]) -> None:
        assert self.system.take_all(messages, self.tables) == len(messages)
        self.system.end_turn()


@given(st.integers(0, 2**32))
@examples(12)
def test_a_group_is_counted_as_its_messages_are(seed: int) -> None:
    rng = random.Random(seed)
    symbols = wide_universe(130)
    grouped, single = Plain(symbols), Plain(symbols)
    reader = GroupReader()
    n_groups = n_sent = 0
    for bar in range(1, 16):
        stamp = FIRST_NS + bar + rng.choice([0, 0, 0, 1, -2])
        names = [*symbols, "NOBODY"] if rng.random() < 0.3 else [*symbols]
        values = [rng.choice([0.1, 0.2, 0.3]) for _ in names]
        singles: list[Message] = [
            asset(name, stamp, value) for name, value in zip(names, values, strict=True)
        ]
        if rng.random() < 0.3:
            singles += rng.sample(singles, 5)
        rng.shuffle(singles)
        if rng.random() < 0.8:
            singles.insert(rng.choice([0, len(singles)]), bench(stamp, 0.1))
        pieces = reader.feed_groups(framed(*singles))
        n_groups += sum(isinstance(piece, ReturnGroup) for piece in pieces)
        n_sent += len(singles)
        taken: list[Taken] = []
        decode_pieces(pieces, taken)
        grouped.take(taken)
        single.take([*singles])
    assert n_groups
    for each in (grouped, single):
        assert each.factory.tally.sources.received[-1] == n_sent
    ours, theirs = (each.factory.tally.state() for each in (grouped, single))
    assert ours["sources"] == theirs["sources"]
    assert ours["of_benchmark"] == theirs["of_benchmark"]
    assert {r: c.values.tolist() for r, c in ours["of_symbol"].items()} == {
        r: c.values.tolist() for r, c in theirs["of_symbol"].items()
    }
    waiting = [
        [part["sources"].values.tolist() for part in c.state()["pending"].values()]
        for each in (grouped, single)
        for c in each.factory.cohorts
    ]
    assert waiting[0] == waiting[1]
