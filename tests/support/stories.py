"""Market stories for every kind of window: in order, and as they might have arrived.

A story is a list of bars with everything that can happen to one: the benchmark may be
observed, declared missing or never come, sessions open, symbols skip bars, and values
are corrected. `in_order` tells it as if nobody had been late; `shuffled` lets every
message come up to the model's lateness after its bar.
"""

import random
from dataclasses import dataclass, field
from math import nan
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from beta_factory import (
    BenchmarkReturnMissed,
    BetaFactory,
    BetaSeries,
    MarketBetaConfig,
    SessionOpened,
    compute_market_beta,
)
from beta_factory.messages import Message
from strategies import BENCHMARK, OPEN_NS, SYMBOLS, asset, bench, seeds

SECOND = 10**9
NIGHT = 6 * 3600 * SECOND

KINDS: dict[str, dict[str, Any]] = {
    "bars": {"window": "bars"},
    "bars of a grid": {"window": "bars", "bar_interval": "1s"},
    "bars of a grid with nights": {
        "window": "bars",
        "bar_interval": "1s",
        "overnight": "include",
    },
    "pairs": {"window": "pairs"},
    "time": {"window": "time", "lookback_length": "9s"},
    "time of a grid": {
        "window": "time",
        "lookback_length": "9s",
        "bar_interval": "1s",
    },
    "session": {"window": "session"},
    "session with nights": {"window": "session", "overnight": "include"},
    "half-life in bars": {"window": "bars", "half_life": 3.0},
    "half-life in bars of a grid": {
        "window": "bars",
        "half_life": 2.5,
        "bar_interval": "1s",
    },
    "half-life in pairs": {"window": "pairs", "half_life": 4.0},
    "half-life in seconds": {"window": "time", "half_life": "3s"},
    "half-life in a session": {"window": "session", "half_life": 3.0},
}
"""Every kind of window, by what it is called in a test's name."""


@dataclass
class Bar:
    """One bar of a story."""

    stamp: int
    benchmark: float | None
    """NaN = declared missing, ``None`` = never came."""
    returns: list[float]
    """One per symbol, NaN = none."""
    opens: int | None = None
    """When a session opened that it is the first bar of."""
    wrong: dict[int, float] = field(default_factory=dict[int, float])
    """What was first said of some symbols (-1: of the benchmark), before the truth."""

    def messages(self) -> list[Message]:
        """Return what was observed, in the order of a punctual feed."""
        messages: list[Message] = []
        if self.opens is not None:
            messages.append(SessionOpened(benchmark=BENCHMARK, ts_event=self.opens))
        messages += self.benchmark_messages()
        messages += self.asset_messages()
        return messages

    def benchmark_messages(self) -> list[Message]:
        if self.benchmark is None:
            return []
        if self.benchmark != self.benchmark:
            return [BenchmarkReturnMissed(benchmark=BENCHMARK, ts_event=self.stamp)]
        return [bench(self.stamp, self.benchmark)]

    def asset_messages(self) -> list[Message]:
        pairs = zip(SYMBOLS, self.returns, strict=False)
        return [asset(s, self.stamp, y) for s, y in pairs if y == y]  # noqa: PLR0124

    def first_said(self) -> list[Message]:
        """Return the wrong values, as they came before the true ones."""
        return [
            bench(self.stamp, value)
            if row < 0
            else asset(SYMBOLS[row], self.stamp, value)
            for row, value in self.wrong.items()
        ]


@dataclass
class Story:
    """Bars, and the model that is told of them."""

    model: MarketBetaConfig
    bars: list[Bar]

    @property
    def n_symbols(self) -> int:
        return len(self.bars[0].returns)

    def factory(self) -> BetaFactory:
        """Return a factory that has heard nothing yet."""
        symbols = SYMBOLS[: self.n_symbols]
        return BetaFactory(symbols, benchmark=BENCHMARK, config=self.model)

    def in_order(self) -> list[Message]:
        """Return the messages of a feed that is never late and never wrong."""
        return [message for bar in self.bars for message in bar.messages()]

    def shuffled(self, rng: random.Random) -> list[Message]:
        """Return the same, late by up to the model's lateness and first wrong."""
        lateness = self.model.allowed_lateness
        timed: list[tuple[float, Message]] = []
        at = 0
        before = self.bars[0].stamp
        for bar in self.bars:
            # Bars of the grid make others late, whether they came or not.
            if self.model.bar_interval and bar.stamp - before < NIGHT:
                at += (bar.stamp - before) // SECOND
            else:
                at += bar.benchmark is not None
            before = bar.stamp
            for message in bar.messages():
                # the hour of an open is known beforehand, and is never late
                late = (
                    0.0 if type(message) is SessionOpened else rng.uniform(0, lateness)
                )
                timed.append((at + min(late, lateness - 0.001), message))
            timed += [(at - 0.5, message) for message in bar.first_said()]
        timed.sort(key=lambda entry: entry[0])
        return [message for _, message in timed]

    def never_wrong(self) -> None:
        """Leave out the values that were wrong first."""
        for bar in self.bars:
            bar.wrong.clear()

    def closing(self) -> list[Message]:
        """Return bars of nobody's, after which nothing can come to the others."""
        n_bars = self.model.allowed_lateness + 1
        last = self.bars[-1].stamp
        return [bench(last + SECOND * n, 0.5) for n in range(1, n_bars + 1)]

    def batch(self) -> dict[str, BetaSeries]:
        """Return what `compute_market_beta` makes of the same bars."""
        rows = [bar for bar in self.bars if bar.benchmark is not None]
        returns = np.array([bar.returns for bar in rows]).reshape(len(rows), -1)
        return compute_market_beta(
            dict(zip(SYMBOLS, returns.T, strict=False)),
            [nan if bar.benchmark is None else bar.benchmark for bar in rows],
            self.model,
            [bar.stamp for bar in rows],
            session_opens=[bar.opens for bar in rows if bar.opens is not None],
        )


def model_of(kind: str, lateness: int) -> MarketBetaConfig:
    """Return a small model of a kind."""
    settings: dict[str, Any] = {
        "lookback_length": 8,
        "min_observations": 3,
        "stale_after": 5,
    }
    return MarketBetaConfig(**(settings | KINDS[kind]), allowed_lateness=lateness)


def a_story(
    model: MarketBetaConfig,
    rng: random.Random,
    *,
    n_bars: int,
    n_symbols: int,
    share_missing: float,
    scale: float,
) -> Story:
    """Return a story of everything that can happen to such a model."""
    stamp = OPEN_NS
    bars: list[Bar] = []
    for _ in range(n_bars):
        before = stamp
        stamp += SECOND * rng.choice([1, 1, 1, 1, 2, 3])
        opens = None
        if rng.random() < 0.06:
            stamp += NIGHT
            if model.window == "session" and rng.random() < 0.5:
                opens = rng.randint(before, stamp - 1)
        x = rng.gauss(0, scale)
        returns = [
            1.3 * x + rng.gauss(0, scale) if rng.random() > share_missing else nan
            for _ in range(n_symbols)
        ]
        bar = Bar(stamp, x, returns, opens)
        fate = rng.random()
        if fate < 0.06:
            bar.benchmark = nan
        elif fate < 0.12 and opens is None:
            bar.benchmark = None
        if model.allowed_lateness:
            for row in range(n_symbols):
                if returns[row] == returns[row] and rng.random() < 0.08:
                    bar.wrong[row] = 99.0
            if bar.benchmark == x and rng.random() < 0.05:
                bar.wrong[-1] = -7.0
        bars.append(bar)
    bars[0].benchmark = rng.gauss(0, scale)
    return Story(model, bars)


MAX_BARS = 48
"""Six windows of bars or pairs, one after the other."""
MAX_BARS_DECAYING = 24
"""Some eight half-lives: no bar of them leaves, so more of them are only more."""

GUARD: dict[str, Any] = {
    "max_robust_z": 3.0,
    "max_abs_return": 30.0,
    "robust_window": 10,
    "robust_min_observations": 5,
    "frozen_after": 3,
}
"""Limits so narrow that stories meet them often."""


def guarded(story: Story, rng: random.Random) -> Story:
    """Return the story told to a guarded model, with bad prints and stuck prices."""
    stuck = 0.0
    for bar in story.bars:
        stuck = max(stuck - 0.2, 0.0) if rng.random() > 0.1 else 1.0
        for row, value in enumerate(bar.returns):
            fate = rng.random()
            if fate < 0.04:
                bar.returns[row] = value * 100.0
            elif fate < stuck:
                bar.returns[row] = 0.0
        if bar.benchmark is not None:
            fate = rng.random()
            if fate < 0.04:
                bar.benchmark *= 100.0
            elif fate < stuck:
                bar.benchmark = 0.0
    story.bars[0].benchmark = 0.5
    return Story(msgspec.structs.replace(story.model, **GUARD), story.bars)


@st.composite
def stories(draw: st.DrawFn, kind: str, *, lateness: int = 0) -> Story:
    """A story for a kind of window."""
    max_bars = MAX_BARS_DECAYING if "half_life" in KINDS[kind] else MAX_BARS
    return a_story(
        model_of(kind, lateness),
        random.Random(draw(seeds)),
        n_bars=draw(st.integers(5, max_bars)),
        n_symbols=draw(st.integers(1, 3)),
        share_missing=draw(st.sampled_from([0.0, 0.2, 0.6])),
        scale=draw(st.sampled_from([1.0, 1e-4])),
    )
