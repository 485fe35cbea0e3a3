"""A bar file's messages: the same for everyone who sends them."""

from math import isnan

import numpy as np
import pytest

from beta_factory.messages import (
    BarFileError,
    BenchmarkReturnObserved,
    Message,
    ReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
)
from beta_factory.runtime.bars import Bars
from beta_factory.runtime.observations import FrameFormat, asset_symbols, observe
from strategies import asset, bench, frame

ROWS = [
    (10, "AAPL", 0.01),
    (10, "SPY", 0.02),
    (10, "ZM", 0.03),
    (20, "SPY", 0.04),
    (30, "AAPL", 0.05),
    (40, "SPY", 0.06),
    (40, "ZM", 0.07),
]
"""A whole bar, one of the benchmark alone, one without it, and one with a gap."""


def bars_from(rows: list[tuple[int, str, float]], *more: str) -> Bars:
    """Return bars as `read_bars` would make them."""
    symbols = tuple(sorted({symbol for _, symbol, _ in rows} | set(more)))
    stamps = sorted({ts for ts, _, _ in rows})
    rows = sorted(rows)
    offsets = [sum(ts < stamp for ts, _, _ in rows) for stamp in stamps]
    return Bars(
        symbols=symbols,
        ts_events=np.array(stamps, dtype=np.int64),
        offsets=np.array([*offsets, len(rows)], dtype=np.int64),
        symbol_ids=np.array([symbols.index(s) for _, s, _ in rows], dtype=np.int32),
        period_returns=np.array([value for _, _, value in rows], dtype=np.float64),
        n_source_rows=len(rows),
        source="bars.csv",
    )


def plain(message: Message) -> object:
    """Return what can be compared: NaN is not even equal to itself."""
    if not isinstance(message, ReturnsObserved):
        return message
    values = np.frombuffer(message.period_returns).tolist()
    return (
        message.ts_event,
        message.symbols,
        [None if isnan(value) else value for value in values],
        message.ts_init,
    )


def test_single_messages_are_the_benchmark_and_then_each_asset() -> None:
    bars = observe(bars_from(ROWS), "SPY", frame_format=FrameFormat.SINGLE)
    assert list(bars) == [
        (
            10,
            [
                bench(10, 0.02, ts_init=10),
                asset("AAPL", 10, 0.01, ts_init=10),
                asset("ZM", 10, 0.03, ts_init=10),
            ],
        ),
        (20, [bench(20, 0.04, ts_init=20)]),
        (30, [asset("AAPL", 30, 0.05, ts_init=30)]),
        (40, [bench(40, 0.06, ts_init=40), asset("ZM", 40, 0.07, ts_init=40)]),
    ]


def test_columns_are_a_table_and_then_one_message_per_bar() -> None:
    bars = [
        (ts, [plain(m) for m in messages])
        for ts, messages in observe(bars_from(ROWS), "SPY", table=7)
    ]
    assert bars == [
        (
            10,
            [
                SymbolsDeclared(table=7, symbols=("AAPL", "ZM")),
                bench(10, 0.02, ts_init=10),
                plain(frame(10, 7, [0.01, 0.03], ts_init=10)),
            ],
        ),
        (20, [bench(20, 0.04, ts_init=20)]),
        (30, [plain(frame(30, 7, [0.05, np.nan], ts_init=30))]),
        (
            40,
            [
                bench(40, 0.06, ts_init=40),
                plain(frame(40, 7, [np.nan, 0.07], ts_init=40)),
            ],
        ),
    ]


@pytest.mark.parametrize("benchmark", ["AAPL", "SPY", "ZM"])
@pytest.mark.parametrize("frame_format", FrameFormat)
def test_every_row_is_in_one_message_wherever_the_benchmark_stands(
    benchmark: str, frame_format: FrameFormat
) -> None:
    found: list[tuple[int, str, float]] = []
    assets: tuple[str, ...] = ()
    for _, messages in observe(bars_from(ROWS), benchmark, frame_format=frame_format):
        for message in messages:
            match message:
                case SymbolsDeclared():
                    assets = message.symbols
                case BenchmarkReturnObserved():
                    row = message.ts_event, message.benchmark, message.period_return
                    found.append(row)
                case ReturnObserved():
                    found.append(
                        (message.ts_event, message.symbol, message.period_return)
                    )
                case ReturnsObserved():
                    values = np.frombuffer(message.period_returns).tolist()
                    found += [
                        (message.ts_event, symbol, value)
                        for symbol, value in zip(assets, values, strict=True)
                        if not isnan(value)
                    ]
    assert sorted(found) == sorted(ROWS)


def test_a_frame_does_not_change_when_the_next_one_is_made() -> None:
    first, *_ = [
        m for _, messages in observe(bars_from(ROWS), "SPY") for m in messages[2:]
    ]
    assert plain(first) == plain(frame(10, 1, [0.01, 0.03], ts_init=10))


def test_a_benchmark_that_comes_only_later_is_no_mistake() -> None:
    rows = [(10, "AAPL", 0.01), (20, "SPY", 0.02)]
    stamps = [(ts, len(messages)) for ts, messages in observe(bars_from(rows), "SPY")]
    assert stamps == [(10, 2), (20, 1)]


def test_a_symbol_without_a_row_keeps_its_column() -> None:
    bars = bars_from([(10, "SPY", 0.1), (10, "ZM", 0.2)], "AAPL")
    ((_, messages),) = observe(bars, "SPY")
    assert messages[0] == SymbolsDeclared(table=1, symbols=("AAPL", "ZM"))
    assert plain(messages[-1]) == plain(frame(10, 1, [np.nan, 0.2], ts_init=10))


def test_no_bars_are_no_messages() -> None:
    assert list(observe(bars_from([], "SPY", "ZM"), "SPY")) == []


def test_asset_symbols_are_all_but_the_benchmark() -> None:
    assert asset_symbols(bars_from(ROWS), "SPY") == ("AAPL", "ZM")


def test_an_unknown_benchmark_is_named_with_what_there_is() -> None:
    with pytest.raises(BarFileError) as caught:
        list(observe(bars_from(ROWS), "QQQ"))
    assert str(caught.value) == (
        "bars.csv, column 'symbol': has no rows of the benchmark 'QQQ'; "
        "its symbols are AAPL, SPY, ZM"
    )


def test_a_file_of_the_benchmark_alone_is_refused() -> None:
    with pytest.raises(BarFileError, match="has no symbol besides 'SPY'"):
        asset_symbols(bars_from([(10, "SPY", 0.1)]), "SPY")
