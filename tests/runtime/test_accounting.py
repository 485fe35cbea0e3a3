"""What is received, used and dropped adds up, by source and by topic."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.actors import Factor, MarketBetaConfig
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
from beta_factory.runtime.mailbox import OverflowPolicy
from strategies import asset, bench, examples, frame
from testkit import RESTART_S, SYMBOLS, Stage, virtual_loop

SOURCES = ("fast", "slow", "odd")


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
@examples(60)
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


@examples(60)
@given(st.integers(0, 2**32))
def test_what_is_not_dropped_is_in_a_window_or_waits(seed: int) -> None:
    rng = random.Random(seed)
    with virtual_loop() as loop:
        stage = Stage(loop, mailbox_capacity=2)
        stage.system.start()
        tables = SymbolTables(stage.factory.row_of, "feed")
        n_returns = n_opened = 0
        for number in range(60):
            stamp = 1 + number // 6 + rng.choice([0, 0, 0, 1])
            if number % 6 == 0 and rng.random() < 0.8:
                message: Message = bench(stamp, 0.1)
                n_opened += 1
            else:
                message = asset(rng.choice(SYMBOLS), stamp, rng.choice([0.1, 0.2]))
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
        n_used = statistics.n_pairs + statistics.n_bars - 20
        assert sources.received[feed] == n_returns + n_opened
        assert sources.received[feed] - n_dropped == n_used
