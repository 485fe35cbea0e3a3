"""Observations of one bar after another, gathered into columnar messages.

Rule: no I/O, no clock but the one given. What leaves is what a bar file's replay sends
(`runtime.observations`): the benchmarks' returns of a bar, then one column of the
assets' returns.

A bar ends when an observation of another stamp comes, or when it is flushed. One that
was flushed and goes on is sent in parts, which the actors do not notice.
"""

import numpy as np
from numpy.typing import NDArray

from ...messages import BenchmarkReturnObserved, ReturnsObserved, SymbolsDeclared
from ..clock import Clock
from ..outgoing import Publishable


class BarFrames:
    """Gathers returns into one bar's messages.

    Parameters
    ----------
    symbols
        The assets, by slot. It may grow; the next bar then declares them anew.
    benchmarks
        The benchmarks, by slot.
    clock
        Stamps the messages; ``None`` = a message is stamped by its own bar.
    """

    def __init__(
        self, symbols: list[str], benchmarks: list[str], clock: Clock | None = None
    ) -> None:
        self._symbols = symbols
        self._benchmarks = benchmarks
        self._clock = clock
        self._table = 0
        self._n_declared = 0
        self._seq = 0
        self._ts_event = -1
        self._row: NDArray[np.float64] = np.empty(0)
        self._market: dict[int, float] = {}
        self._n_assets = 0

    @property
    def n_open(self) -> int:
        """Returns gathered and not sent."""
        return self._n_assets + len(self._market)

    @property
    def is_complete(self) -> bool:
        """Whether every symbol and benchmark has its return of the bar."""
        return self.n_open >= len(self._symbols) + len(self._benchmarks)

    def add(self, ts_event: int, slot: int, value: float) -> None:
        """Take an asset's return; of the open bar, or after `flush`."""
        self._open(ts_event)
        row = self._row
        self._n_assets += bool(np.isnan(row[slot]))
        row[slot] = value

    def add_column(
        self, ts_event: int, first_slot: int, values: NDArray[np.float64]
    ) -> None:
        """Take the returns of consecutive slots; NaN = none. As `add`."""
        self._open(ts_event)
        part = self._row[first_slot : first_slot + len(values)]
        np.copyto(part, values, where=~np.isnan(values))
        self._n_assets = int(np.count_nonzero(~np.isnan(self._row)))

    def add_benchmark(self, ts_event: int, slot: int, value: float) -> None:
        """Take a benchmark's return. As `add`."""
        self._open(ts_event)
        self._market[slot] = value

    def belongs(self, ts_event: int) -> bool:
        """Whether an observation goes into the open bar; else flush first."""
        return not self.n_open or ts_event == self._ts_event

    def skip(self, n_lost: int) -> None:
        """Leave a hole in the sequence: so many observations were given up."""
        self._seq += n_lost

    def flush(self) -> list[Publishable]:
        """Return the open bar's messages, and begin a new bar."""
        messages: list[Publishable] = []
        ts_event = self._ts_event
        ts_init = ts_event if self._clock is None else self._clock.time_ns()
        for slot, value in self._market.items():
            self._seq += 1
            messages.append(
                BenchmarkReturnObserved(
                    benchmark=self._benchmarks[slot],
                    ts_event=ts_event,
                    period_return=value,
                    seq=self._seq,
                    ts_init=ts_init,
                )
            )
        if self._n_assets:
            n_symbols = len(self._row)
            if self._n_declared < n_symbols:
                self._table += 1
                self._n_declared = n_symbols
                symbols = tuple(self._symbols[:n_symbols])
                messages.append(SymbolsDeclared(table=self._table, symbols=symbols))
            self._seq += 1
            messages.append(
                ReturnsObserved(
                    ts_event=ts_event,
                    symbols=self._table,
                    period_returns=self._row.tobytes(),
                    seq=self._seq,
                    ts_init=ts_init,
                )
            )
        self._ts_event = -1
        self._market.clear()
        self._n_assets = 0
        return messages

    def _open(self, ts_event: int) -> None:
        n_symbols = len(self._symbols)
        if not self.n_open:
            self._ts_event = ts_event
            if len(self._row) == n_symbols:
                self._row.fill(np.nan)
            else:
                self._row = np.full(n_symbols, np.nan)
        elif len(self._row) < n_symbols:
            row = np.full(n_symbols, np.nan)
            row[: len(self._row)] = self._row
            self._row = row
