"""Generated markets, and the many ways in which one and the same market arrives.

Rule: a `Market` is data, and `Market.early` fixes the one thing about the arrival that
shows in the output: which returns come before their benchmark. All else (single or
columnar messages, named or by table, how early, in which order what waits, where the
turns are cut) is drawn per arrival and must not matter.
"""

import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st

from beta_factory.actors import (
    BetaColumns,
    BetaFactory,
    BetaRows,
    Factor,
    MarketBetaConfig,
    commits,
    staging,
)
from beta_factory.actors.publisher import BetaPublisher
from beta_factory.actors.tables import SymbolTables
from beta_factory.estimators import WindowSlab, slab
from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Message,
    ReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
    encode,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Turns = list[list[Message]]

SYMBOLS = ("AAPL", "AIG", "BAC", "BRK.B", "BTC/USDT", "IBM", "MSFT", "SPY", "Z Z")
BENCHMARK = "SPY"
OPEN_NS = 1_700_000_000_000_000_000
MAX_LEAD = 3
"""Bars by which a return may come early."""

seeds = st.integers(0, 2**32 - 1)
characters = st.characters(exclude_categories=["Cs"])
"""All that can be encoded, as in `st.text`, which takes a second to find out which."""


def examples(count: int) -> settings:
    """Return settings for ``count`` examples, the same ones in every run.

    The profile "thorough" looks at twenty times as many, and at others in each run.
    """
    if settings.get_current_profile_name() == "thorough":
        return settings(max_examples=20 * count, deadline=None)
    return settings(max_examples=count, derandomize=True, deadline=None)


# Messages in the fewest letters


def asset(
    symbol: str, ts: int, period_return: float, *, seq: int = 0, ts_init: int = 0
) -> ReturnObserved:
    """Return one symbol's return."""
    return ReturnObserved(
        symbol=symbol,
        ts_event=ts,
        period_return=period_return,
        seq=seq,
        ts_init=ts_init,
    )


def bench(
    ts: int, period_return: float, benchmark: str = BENCHMARK, *, ts_init: int = 0
) -> BenchmarkReturnObserved:
    """Return a benchmark's return."""
    return BenchmarkReturnObserved(
        benchmark=benchmark, ts_event=ts, period_return=period_return, ts_init=ts_init
    )


def frame(
    ts: int,
    symbols: int | Sequence[str],
    returns: npt.ArrayLike,
    *,
    seq: int = 0,
    ts_init: int = 0,
) -> ReturnsObserved:
    """Return a columnar message."""
    return ReturnsObserved(
        ts_event=ts,
        symbols=symbols if isinstance(symbols, int) else tuple(symbols),
        period_returns=np.asarray(returns, dtype="<f8").tobytes(),
        seq=seq,
        ts_init=ts_init,
    )


# Markets


@dataclass(frozen=True, eq=False)
class Market:
    """Returns of some symbols on the grid of one benchmark."""

    symbols: tuple[str, ...]
    """In row order."""
    stamps: tuple[int, ...]
    """Shape (n_bars,), at least 10 ns apart."""
    benchmark: FloatArray
    """Shape (n_bars,), finite."""
    returns: FloatArray
    """Shape (n_bars, n_symbols), NaN = none."""
    early: BoolArray
    """Which returns come before their benchmark, shape (n_bars, n_symbols)."""
    config: MarketBetaConfig

    @property
    def n_bars(self) -> int:
        return len(self.stamps)

    def factory(
        self, *, name: str = "market", benchmark: str = BENCHMARK
    ) -> BetaFactory:
        """Return a factory that has seen nothing yet."""
        return BetaFactory(self.symbols, factors=[Factor(benchmark, name, self.config)])


def wide_universe(n_symbols: int) -> tuple[str, ...]:
    """Return as many symbols as that, in row order."""
    return tuple(f"S{i:03d}" for i in range(n_symbols))


def _prices(
    rng: np.random.Generator, n_bars: int, n_symbols: int, flavour: str
) -> tuple[FloatArray, FloatArray]:
    x = rng.normal(0, 1e-3, n_bars)
    y = rng.normal(0, 1e-3, (n_bars, n_symbols)) + 0.8 * x[:, None]
    start = int(rng.integers(n_bars)) // 2
    if flavour == "flat benchmark":
        x[start:] = rng.choice([0.0, 0.1, -1e-3])
    elif flavour == "flat asset":
        y[start:, int(rng.integers(n_symbols))] = 0.3
    elif flavour == "spike":
        x[start] += rng.choice([0.0, 1e8])
        y[start] -= 1e8
    elif flavour == "level":
        x, y = x + 1e6, y + 1e8
    elif flavour == "tick":
        x, y = np.round(x, 3), np.round(y, 3)
    elif flavour == "line":
        y = np.repeat(2 * x[:, None], n_symbols, axis=1)
    return x, y


FLAVOURS = (
    "plain",
    "flat benchmark",
    "flat asset",
    "spike",
    "level",
    "tick",
    "line",
)


@st.composite
def markets(
    draw: st.DrawFn, *, symbols: tuple[str, ...] | None = None, max_bars: int = 30
) -> Market:
    """A market of any shape, with gaps, silences and late starts."""
    if symbols is None:
        symbols = SYMBOLS[: draw(st.integers(1, len(SYMBOLS)))]
    n_bars, n_symbols = draw(st.integers(1, max_bars)), len(symbols)
    lookback_length = draw(st.integers(3, 12))
    config = MarketBetaConfig(
        lookback_length=lookback_length,
        min_observations=draw(st.integers(3, lookback_length)),
        stale_after=draw(st.none() | st.integers(1, 6)),
    )
    flavour = draw(st.sampled_from(FLAVOURS))
    missing = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]))
    share_early = draw(st.sampled_from([0.0, 0.5, 1.0]))
    rng = np.random.default_rng(draw(seeds))
    x, y = _prices(rng, n_bars, n_symbols, flavour)
    y[rng.random(y.shape) < missing] = np.nan
    y[: rng.integers(n_bars), rng.integers(n_symbols)] = np.nan  # a late start
    silence = int(rng.integers(n_bars))
    y[silence : silence + rng.integers(8), rng.integers(n_symbols)] = np.nan
    y[rng.integers(n_bars)] = np.nan  # a bar of the benchmark alone
    gaps = rng.integers(10, 10**9, n_bars)
    return Market(
        symbols=symbols,
        stamps=tuple((OPEN_NS + np.cumsum(gaps)).tolist()),
        benchmark=x,
        returns=y,
        early=rng.random(y.shape) < share_early,
        config=config,
    )


# Arrivals

IN_ROW_ORDER, IN_REVERSE = 0, 1
"""The tables that every arrival declares."""


def declarations(market: Market) -> list[Message]:
    """Return the tables to which arrivals refer."""
    return [
        SymbolsDeclared(table=IN_ROW_ORDER, symbols=market.symbols),
        SymbolsDeclared(table=IN_REVERSE, symbols=market.symbols[::-1]),
    ]


def _forms(
    market: Market, bar: int, rows: list[int], rng: random.Random, *, in_order: bool
) -> Iterator[Message]:
    # The returns of some rows as messages; in row order if that shows.
    stamp, returns = market.stamps[bar], market.returns[bar]
    ts_init = stamp + 2
    if not in_order:
        rng.shuffle(rows)
    while rows:
        size = rng.choice([1, len(rows), rng.randint(1, len(rows))])
        chunk, rows = rows[:size], rows[size:]
        if rng.random() < 0.4:
            for row in chunk:
                value = float(returns[row])
                yield asset(market.symbols[row], stamp, value, ts_init=ts_init)
            continue
        values = np.full(len(returns), np.nan)
        values[chunk] = returns[chunk]
        form = rng.choice(["named", "named with others", "table"])
        if form == "named":
            names = [market.symbols[row] for row in chunk]
            yield frame(stamp, names, values[chunk], ts_init=ts_init)
        elif form == "named with others":
            yield frame(stamp, market.symbols, values, ts_init=ts_init)
        elif in_order or rng.random() < 0.5:
            yield frame(stamp, IN_ROW_ORDER, values, ts_init=ts_init)
        else:
            yield frame(stamp, IN_REVERSE, values[::-1], ts_init=ts_init)


def _mixed(
    ordered: list[Message], others: list[Message], rng: random.Random
) -> list[Message]:
    # `ordered` in its order, `others` anywhere between
    mixed = list(ordered)
    for other in others:
        mixed.insert(rng.randint(0, len(mixed)), other)
    return mixed


def arrive(market: Market, rng: random.Random) -> list[Message]:
    """Return the market's messages in one of the forms that must not matter."""
    n_bars = market.n_bars
    before: list[list[Message]] = [[] for _ in range(n_bars)]
    meanwhile: list[list[Message]] = [[] for _ in range(n_bars)]
    present = ~np.isnan(market.returns)
    for bar in range(n_bars):
        early = np.flatnonzero(present[bar] & market.early[bar]).tolist()
        for message in _forms(market, bar, early, rng, in_order=False):
            lead = rng.randint(0, min(bar, MAX_LEAD))
            place = before if lead == 0 or rng.random() < 0.5 else meanwhile
            place[bar - lead].append(message)
    messages = declarations(market)
    for bar, stamp in enumerate(market.stamps):
        rng.shuffle(before[bar])
        messages += before[bar]
        messages.append(bench(stamp, float(market.benchmark[bar]), ts_init=stamp + 1))
        rows = np.flatnonzero(present[bar] & ~market.early[bar]).tolist()
        late = list(_forms(market, bar, rows, rng, in_order=True))
        messages += _mixed(late, meanwhile[bar], rng)
    return messages


def cut(messages: Sequence[Message], rng: random.Random) -> Turns:
    """Return the same messages, cut into turns."""
    share = rng.choice([0.0, 0.05, 0.3, 1.0])
    turns: Turns = [[]]
    for message in messages:
        turns[-1].append(message)
        if rng.random() < share:
            turns.append([])
    return turns


@st.composite
def arrivals(draw: st.DrawFn, market: Market) -> Turns:
    """One arrival of a market."""
    rng = random.Random(draw(seeds))
    return cut(arrive(market, rng), rng)


# Driving


@dataclass(frozen=True)
class Paths:
    """Which of the paths through a cohort that must not matter are taken."""

    scalar_rows: int = WindowSlab.scalar_rows
    small_frame: int = staging.SMALL_FRAME
    whole_pass_share: int = slab.WHOLE_PASS_SHARE

    @contextmanager
    def taken(self) -> Generator[None, None, None]:
        """Choose them for the time being."""
        frames = mock.patch.object(staging, "SMALL_FRAME", self.small_frame)
        share = self.whole_pass_share
        with (
            frames,
            mock.patch.object(commits, "WHOLE_PASS_SHARE", share),
            mock.patch.object(slab, "WHOLE_PASS_SHARE", share),
            mock.patch.object(WindowSlab, "scalar_rows", self.scalar_rows),
        ):
            yield


AS_SHIPPED = Paths()
ONE_BY_ONE = Paths(scalar_rows=10**6, small_frame=10**6)
GATHERED = Paths(scalar_rows=0, small_frame=0, whole_pass_share=0)
WHOLE_PASSES = Paths(scalar_rows=0, small_frame=0, whole_pass_share=10**6)
MIXED = Paths(scalar_rows=2, small_frame=2, whole_pass_share=2)
PATHS = (AS_SHIPPED, ONE_BY_ONE, GATHERED, WHOLE_PASSES, MIXED)

paths = st.sampled_from(PATHS)


def drive(
    factory: BetaFactory, turns: Iterable[Sequence[Message]]
) -> list[BetaUpdated]:
    """Feed a factory turn by turn, as the sidecar does; return what it publishes."""
    tables = SymbolTables(factory.row_of)
    updates: list[BetaUpdated] = []
    for turn in turns:
        for message in turn:
            if type(message) is ReturnsObserved:
                assert factory.take_columns(message, tables) == []
            elif type(message) is SymbolsDeclared:
                tables.declare(message)
            else:
                behavior = factory.route(message)
                if behavior is not None:
                    assert list(behavior.receive(message)) == []
        for columns in factory.commit():
            updates += columns.as_rows()
    return updates


def numbered(
    symbols: tuple[str, ...], computed: Iterable[BetaColumns | BetaRows]
) -> list[BetaUpdated]:
    """Return what a cohort computed as messages, numbered from 1."""
    publisher = BetaPublisher("market", BENCHMARK, symbols)
    updates: list[BetaUpdated] = []
    for part in computed:
        publisher.publish(part)
        updates += part.as_rows()
    return updates


def in_one_turn_each(messages: Iterable[Message]) -> Turns:
    """Return every message as a turn of its own."""
    return [[message] for message in messages]


def wire(updates: Iterable[BetaUpdated], factor: str | None = None) -> bytes:
    """Return the bytes of all updates, or of one factor's."""
    return b"".join(
        encode(update) for update in updates if factor in (None, update.factor)
    )
