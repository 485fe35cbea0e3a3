"""From a bar file to the messages that a feed would have sent.

Rule: a file's messages are the same for everyone who sends them. The replayer and the
feed both take them from here, so a replay of a file and a sidecar that is fed with it
see the same messages in the same order.

Bar by bar: the benchmark's return first, then the assets' returns in one columnar
message (or one message each). A message is stamped by the recording's clock:
``ts_init`` is the bar's own stamp.
"""

import enum
from collections.abc import Iterator

import numpy as np

from ..messages import (
    BarFileError,
    BenchmarkReturnObserved,
    ReturnObserved,
    ReturnsObserved,
    SymbolsDeclared,
)
from .bars import Bars

Observation = (
    ReturnObserved | BenchmarkReturnObserved | ReturnsObserved | SymbolsDeclared
)
"""What a feed sends."""


class FrameFormat(enum.StrEnum):
    """How a bar's asset returns are sent."""

    COLUMNS = "columns"
    """One `ReturnsObserved` per bar."""
    SINGLE = "single"
    """One `ReturnObserved` per symbol."""


def asset_symbols(bars: Bars, benchmark: str) -> tuple[str, ...]:
    """Return the file's symbols without the benchmark, sorted.

    Raises
    ------
    BarFileError
        When the file does not have the benchmark, or has nothing else.
    """
    if benchmark not in bars.symbols:
        raise BarFileError(
            bars.source,
            f"has no rows of the benchmark {benchmark!r}; "
            f"its symbols are {', '.join(bars.symbols[:10])}",
            column="symbol",
        )
    assets = tuple(symbol for symbol in bars.symbols if symbol != benchmark)
    if not assets:
        raise BarFileError(
            bars.source, f"has no symbol besides {benchmark!r}", column="symbol"
        )
    return assets


def observe(
    bars: Bars,
    benchmark: str,
    *,
    frame_format: FrameFormat = FrameFormat.COLUMNS,
    table: int = 1,
) -> Iterator[tuple[int, list[Observation]]]:
    """Yield (stamp, messages) of every bar, oldest first.

    Parameters
    ----------
    bars
        The file.
    benchmark
        Which of its symbols is the benchmark.
    frame_format
        How the assets' returns are sent.
    table
        Number of the `SymbolsDeclared` that comes with the first bar, for columns.

    Raises
    ------
    BarFileError
        As `asset_symbols`.
    """
    assets = asset_symbols(bars, benchmark)
    benchmark_id = bars.symbols.index(benchmark)
    is_columnar = frame_format is FrameFormat.COLUMNS
    column_of = np.cumsum([symbol != benchmark for symbol in bars.symbols]) - 1
    columns: list[int] = column_of[bars.symbol_ids].tolist()
    is_benchmark = (bars.symbol_ids == benchmark_id).tolist()
    offsets = bars.offsets.tolist()
    values = bars.period_returns.tolist()
    row = np.full(len(assets), np.nan)
    declared = not is_columnar
    for bar, ts_event in enumerate(bars.ts_events.tolist()):
        first, end = offsets[bar], offsets[bar + 1]
        messages: list[Observation] = []
        if not declared:
            declared = True
            messages.append(SymbolsDeclared(table=table, symbols=assets))
        singles: list[Observation] = []
        row[:] = np.nan
        n_assets = 0
        for i in range(first, end):
            if is_benchmark[i]:
                messages.append(
                    BenchmarkReturnObserved(
                        benchmark=benchmark,
                        ts_event=ts_event,
                        period_return=values[i],
                        ts_init=ts_event,
                    )
                )
            elif is_columnar:
                n_assets += 1
                row[columns[i]] = values[i]
            else:
                singles.append(
                    ReturnObserved(
                        symbol=assets[columns[i]],
                        ts_event=ts_event,
                        period_return=values[i],
                        ts_init=ts_event,
                    )
                )
        if n_assets:
            messages.append(
                ReturnsObserved(
                    ts_event=ts_event,
                    symbols=table,
                    period_returns=row.tobytes(),
                    ts_init=ts_event,
                )
            )
        messages.extend(singles)
        if messages:
            yield ts_event, messages
