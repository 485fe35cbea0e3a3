"""A bar's observations become the messages of a replay, whatever their order."""

import numpy as np

from beta_factory.messages import (
    BenchmarkReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
)
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.qmtl_bridge.bar_frames import BarFrames

SYMBOLS = ["AAPL", "MSFT"]


def frames(clock: ReplayClock | None = None) -> BarFrames:
    return BarFrames([*SYMBOLS], ["SPY"], clock)


def test_a_bar_is_its_benchmark_and_one_column() -> None:
    bar = frames()
    bar.add(60, 1, 0.02)
    bar.add_benchmark(60, 0, 0.01)
    bar.add(60, 0, 0.03)

    assert bar.is_complete
    assert bar.flush() == [
        BenchmarkReturnObserved(
            benchmark="SPY", ts_event=60, period_return=0.01, seq=1, ts_init=60
        ),
        SymbolsDeclared(table=1, symbols=("AAPL", "MSFT")),
        ReturnsObserved(
            ts_event=60,
            symbols=1,
            period_returns=np.array([0.03, 0.02]).tobytes(),
            seq=2,
            ts_init=60,
        ),
    ]
    assert bar.n_open == 0


def test_only_the_open_bars_observations_belong() -> None:
    bar = frames()
    assert bar.belongs(60)
    bar.add(60, 0, 0.01)

    assert bar.belongs(60)
    assert not bar.belongs(120)
    bar.flush()
    assert bar.belongs(0)


def test_missing_returns_are_nan_and_tables_are_declared_once() -> None:
    bar = frames()
    bar.add(60, 1, 0.5)
    _, first = bar.flush()
    bar.add(120, 0, 0.25)
    (second,) = bar.flush()

    assert isinstance(first, ReturnsObserved)
    assert isinstance(second, ReturnsObserved)
    assert np.array_equal(
        np.frombuffer(first.period_returns), [np.nan, 0.5], equal_nan=True
    )
    assert np.array_equal(
        np.frombuffer(second.period_returns), [0.25, np.nan], equal_nan=True
    )


def test_a_symbol_that_comes_later_is_declared_with_the_others() -> None:
    symbols = [*SYMBOLS]
    bar = BarFrames(symbols, ["SPY"])
    bar.add(60, 0, 0.5)
    bar.flush()
    bar.add(120, 0, 0.5)
    symbols.append("NVDA")
    bar.add(120, 2, 0.25)
    declared, column = bar.flush()

    assert declared == SymbolsDeclared(table=2, symbols=("AAPL", "MSFT", "NVDA"))
    assert isinstance(column, ReturnsObserved)
    assert column.symbols == 2
    assert np.array_equal(
        np.frombuffer(column.period_returns), [0.5, np.nan, 0.25], equal_nan=True
    )


def test_columns_and_single_returns_share_a_bar() -> None:
    bar = BarFrames(["A", "B", "C"], ["SPY"])
    bar.add(60, 0, 0.5)
    bar.add_column(60, 1, np.array([np.nan, 0.25]))
    _, column = bar.flush()

    assert isinstance(column, ReturnsObserved)
    assert np.array_equal(
        np.frombuffer(column.period_returns), [0.5, np.nan, 0.25], equal_nan=True
    )


def test_what_was_given_up_leaves_a_hole_in_the_sequence() -> None:
    bar = frames()
    bar.add_benchmark(60, 0, 0.1)
    (first,) = bar.flush()
    bar.skip(7)
    bar.add_benchmark(120, 0, 0.1)
    (second,) = bar.flush()

    assert isinstance(first, BenchmarkReturnObserved)
    assert isinstance(second, BenchmarkReturnObserved)
    assert second.seq - first.seq == 8


def test_a_clock_stamps_the_messages() -> None:
    bar = frames(ReplayClock(77))
    bar.add_benchmark(60, 0, 0.1)
    (message,) = bar.flush()

    assert isinstance(message, BenchmarkReturnObserved)
    assert message.ts_init == 77
