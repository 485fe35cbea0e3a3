"""What a feed should not send: counted exactly, and without any effect."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from math import inf, isinf, isnan, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from beta_factory import BetaFactory, Factor, MarketBetaConfig
from beta_factory.actors.tally import AT_FAULT, Drop
from beta_factory.messages import (
    BenchmarkReturnObserved,
    Message,
    ReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
)
from strategies import (
    BENCHMARK,
    PATHS,
    SYMBOLS,
    Market,
    Paths,
    arrive,
    asset,
    bench,
    cut,
    drive,
    examples,
    frame,
    markets,
    paths,
    seeds,
    wire,
)


def drops(factory: BetaFactory) -> dict[Drop, int]:
    return {reason: n for reason, n in factory.tally.dropped.items() if n}


class Noise:
    """What a feed should not send, put between what it should.

    Keeps its own books of what a factory must hold, to say for which reason each
    message is dropped.
    """

    def __init__(self, market: Market, rng: random.Random) -> None:
        self.market = market
        self.rng = rng
        self.expected: Counter[Drop] = Counter()
        self.refused = 0
        self.newest = -1
        self.benchmark: float | None = None
        self.held: dict[tuple[str, int], float] = {}
        self.strays: list[int] = []

    def note(self, message: Message) -> None:
        """Follow what a message of the market does."""
        if type(message) is BenchmarkReturnObserved:
            self.newest, self.benchmark = message.ts_event, message.period_return
            self.expected[Drop.UNPAIRED] += sum(
                stamp < self.newest for stamp in self.strays
            )
            self.strays = [stamp for stamp in self.strays if stamp >= self.newest]
        elif type(message) is ReturnObserved:
            self.held[message.symbol, message.ts_event] = message.period_return
        elif type(message) is ReturnsObserved:
            names = message.symbols
            if names == 0:
                names = self.market.symbols
            elif names == 1:
                names = self.market.symbols[::-1]
            assert isinstance(names, tuple)
            values = np.frombuffer(message.period_returns, "<f8").tolist()
            for symbol, value in zip(names, values, strict=True):
                if not isnan(value):
                    self.held[symbol, message.ts_event] = value

    def drop(self, reason: Drop, count: int = 1) -> None:
        self.expected[reason] += count
        self.refused += count * (reason in AT_FAULT)

    def make(self) -> Message | None:
        """Return one message, after noting why it will be dropped."""
        kinds: list[Callable[[], Message | None]] = [
            self.unknown,
            self.no_return,
            self.again,
            self.again,
            self.late,
            self.stray,
            self.benchmark_again,
            self.nothing,
        ]
        return self.rng.choice(kinds)()

    def stamp(self) -> int:
        """Return any stamp up to that of the next bar."""
        stamps = self.market.stamps
        passed = [at for at in stamps if at <= self.newest]
        return self.rng.choice([*stamps[: len(passed) + 1], 0])

    def unknown(self) -> Message:
        if self.rng.random() < 0.3:
            self.drop(Drop.UNKNOWN_BENCHMARK)
            return bench(self.stamp(), 0.1, "DIA")
        self.drop(Drop.UNKNOWN_SYMBOL)
        if self.rng.random() < 0.5:
            return asset("nobody", self.stamp(), 0.1)
        known = self.market.symbols[0]
        return frame(
            self.stamp(), ["nobody", known, "silent"], [self.rng.random(), nan, nan]
        )

    def no_return(self) -> Message:
        symbol, bad = (
            self.rng.choice(self.market.symbols),
            self.rng.choice([inf, -inf, 1e160, -1e300]),
        )
        reason = Drop.NOT_FINITE if isinf(bad) else Drop.OUT_OF_RANGE
        form = self.rng.randrange(5)
        if form == 0:
            self.drop(Drop.NOT_FINITE)
            if self.rng.random() < 0.5:
                return bench(self.stamp(), nan)
            return asset(symbol, self.stamp(), nan)
        if form == 4:
            self.drop(reason, len(self.market.symbols))
            return frame(self.stamp(), 0, [bad] * len(self.market.symbols))
        self.drop(reason)
        if form == 1:
            return asset(symbol, self.stamp(), bad)
        if form == 2:
            return bench(self.stamp(), bad)
        return frame(self.stamp(), [symbol], [bad])

    def again(self) -> Message | None:
        """Return cells that are filled: the same value, another, or too late."""
        if not self.held:
            return None
        _, stamp = self.rng.choice(list(self.held))
        cells = {s: value for (s, at), value in self.held.items() if at == stamp}
        names = self.rng.sample(list(cells), self.rng.randint(1, len(cells)))
        values: list[float] = []
        for name in names:
            same = self.rng.random() < 0.5
            values.append(cells[name] if same else cells[name] * 2 + 1)
            if stamp < self.newest:
                self.drop(Drop.LATE)
            else:
                conflict = values[-1] != cells[name]
                self.drop(Drop.CONFLICT if conflict else Drop.DUPLICATE)
        if len(names) == 1 and self.rng.random() < 0.5:
            return asset(names[0], stamp, values[0])
        return frame(stamp, names, values)

    def late(self) -> Message | None:
        if self.newest <= 0:
            return None
        stamp = self.rng.choice([0, self.newest - 1])
        self.drop(Drop.LATE)
        form = self.rng.randrange(3)
        if form == 0:
            return bench(stamp, 0.1)
        symbol = self.rng.choice(self.market.symbols)
        return asset(symbol, stamp, 0.1) if form == 1 else frame(stamp, [symbol], [0.1])

    def stray(self) -> Message | None:
        """Return a return between two bars, at most one at a time."""
        if self.strays:
            return None
        later = [at for at in self.market.stamps if at > self.newest]
        stamp = (later[0] if later else self.newest + 100) - 1
        self.strays.append(stamp)
        symbol = self.rng.choice(self.market.symbols)
        if self.rng.random() < 0.5:
            return asset(symbol, stamp, 0.1)
        return frame(stamp, [symbol], [0.1])

    def benchmark_again(self) -> Message | None:
        if self.benchmark is None:
            return None
        same = self.rng.random() < 0.5
        self.drop(Drop.DUPLICATE if same else Drop.CONFLICT)
        return bench(self.newest, self.benchmark if same else self.benchmark * 2 + 1)

    def nothing(self) -> Message:
        """Return a frame that holds no return; it is not counted either."""
        return frame(self.stamp(), 0, [nan] * len(self.market.symbols))


def with_noise(market: Market, rng: random.Random) -> tuple[list[Message], Noise]:
    noise = Noise(market, rng)
    messages: list[Message] = []
    for message in arrive(market, rng):
        if type(message) is not SymbolsDeclared:
            while rng.random() < 0.4:
                other = noise.make()
                if other is not None:
                    messages.append(other)
        messages.append(message)
        noise.note(message)
    return messages, noise


@examples(100)
@given(markets(), seeds, paths)
def test_noise_is_counted_exactly_and_changes_nothing_that_is_published(
    market: Market, seed: int, taken: Paths
) -> None:
    messages, noise = with_noise(market, random.Random(seed))
    noisy, clean = market.factory(), market.factory()
    with taken.taken():
        published = drive(noisy, cut(messages, random.Random(seed)))
    undisturbed = drive(clean, [arrive(market, random.Random(seed + 1))])
    assert wire(published) == wire(undisturbed)
    assert drops(noisy) == {r: n for r, n in noise.expected.items() if n}


@examples(27)
@given(markets(), seeds)
def test_what_somebody_did_wrong_is_kept(market: Market, seed: int) -> None:
    messages, noise = with_noise(market, random.Random(seed))
    factory = market.factory()
    drive(factory, cut(messages, random.Random(seed)))
    assert len(factory.tally.refused) < (factory.tally.refused.maxlen or 0)
    known = set(map(repr, messages))
    for reason, message in factory.tally.refused:
        assert reason in AT_FAULT
        if type(message) is BenchmarkReturnObserved:
            assert repr(message) in known
        else:
            assert type(message) is ReturnObserved
    assert len(factory.tally.refused) == noise.refused


DIGEST = """
import hashlib, random, sys
from test_noise import digest
print(digest())
"""


def digest() -> str:
    """Return the digest of what one large and untidy market publishes."""
    rng = np.random.default_rng(11)
    symbols = [f"{name}.{i}" for name in SYMBOLS for i in range(9)]
    random.Random(2).shuffle(symbols)
    returns = rng.normal(0, 1e-3, (40, len(symbols)))
    returns[rng.random(returns.shape) < 0.3] = nan
    factors = [
        Factor(benchmark, name, MarketBetaConfig(7, 3, stale_after=2))
        for benchmark, name in (("QQQ", "tech"), ("SPY", "market"), ("SPY", "again"))
    ]
    market = Market(
        symbols=tuple(sorted(symbols)),
        stamps=tuple(range(1000, 1400, 10)),
        benchmark=rng.normal(0, 1e-3, 40),
        returns=returns,
        early=rng.random(returns.shape) < 0.5,
        config=factors[0].model,
    )
    factory = BetaFactory(set(symbols), factors=factors)  # type: ignore[arg-type]
    messages: list[Message] = []
    for message in with_noise(market, random.Random(3))[0]:
        if type(message) is BenchmarkReturnObserved and message.benchmark == BENCHMARK:
            other = message.period_return * 2
            messages.append(bench(message.ts_event, other, "QQQ"))
        messages.append(message)
    updates = drive(factory, cut(messages, random.Random(4)))
    snapshots = [
        group
        for publisher in factory.publishers
        for group in publisher.last_values(np.arange(len(symbols)))
    ]
    content = wire(updates) + wire(u for group in snapshots for u in group.as_rows())
    content += repr(sorted(factory.tally.dropped.items())).encode()
    content += repr(list(factory.tally.refused)).encode()
    return hashlib.sha256(content).hexdigest()


as_shipped = cache(digest)


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    here = Path(__file__).parent
    places = [str(here), str(here.parent), *filter(None, sys.path)]
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join(places),
            },
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert digests == {as_shipped() + "\n"}


def test_the_same_messages_publish_the_same_bytes_again() -> None:
    assert digest() == as_shipped()


@pytest.mark.parametrize("taken", PATHS[1:])
def test_the_bytes_do_not_depend_on_the_paths_taken(taken: Paths) -> None:
    with taken.taken():
        assert digest() == as_shipped()
