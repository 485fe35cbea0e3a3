"""The symbol actors of one benchmark, stepped together.

Rule: a row changes only by its own actor's rules; all rows see the same bars.

Theory of operation
-------------------
The newest bar is open from its benchmark return until the next one. Returns for it are
staged (`staging`); `commit` adds all staged rows to their windows in one step and turns
them into one `BetaColumns`, in the order in which they came. So how the messages were
cut into turns changes neither a number nor the order of the updates.

A return for a later bar waits in that bar's pending column until the benchmark opens
it. Pending bars are bounded; one that the benchmark skips, or that is pushed out, is
counted as unpaired.

A bar is *settled* once nothing can change any more in it: when ``allowed_lateness``
more have opened, or when it leaves before, with its session or by its age. What waits
in its cells for a benchmark's return has waited in vain then, and is counted.
"""

from abc import ABC, abstractmethod
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from ..estimators import Opening, PerRow, State
from .config import Factor
from .openings import Openings
from .pending import PendingBar
from .staging import MAX_PENDING_BARS, Staging
from .tally import Drop, Refusal, SourceNumbers, Tally


class Lockstep(Staging, ABC):
    """All rows of one factor: windows, alignment and status.

    Parameters
    ----------
    factor
        The model.
    symbols
        Symbol of each row.
    tally
        Where dropped observations are counted.
    max_pending_bars
        How many bars may wait for their benchmark at once.
    """

    def __init__(
        self,
        factor: Factor,
        symbols: tuple[str, ...],
        tally: Tally,
        *,
        max_pending_bars: int = MAX_PENDING_BARS,
    ) -> None:
        super().__init__(factor, symbols, tally, max_pending_bars=max_pending_bars)
        self._openings = Openings(factor.model)
        # Who sent what stands in a bar that has no benchmark return yet, by stamp.
        self._sources: dict[int, SourceNumbers] = {}
        self._unsettled = 0
        """Index of the oldest bar in which something may still change."""

    def open_bar(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Refusal | None:
        """Take the benchmark's return of a bar, and every pending pair with it.

        Parameters
        ----------
        ts_event
            The bar's stamp.
        benchmark_return
            Finite.
        ts_init
            Stamp of the observation, carried by the updates that it completes.

        Returns
        -------
        Drop, Absurd or None
            Why it was dropped, if it was.
        """
        if ts_event <= self.ts_event:
            return self._open_late(ts_event, benchmark_return, ts_init)
        if self._staged or self._staged_before:
            self.commit()
        for opening in self._openings.next(ts_event, benchmark_return):
            self._advance(opening, ts_init)
        return None

    def release_bar(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Refusal | None:
        """Take a benchmark's return that was held, as `open_bar` takes any other."""
        return Lockstep.open_bar(self, ts_event, benchmark_return, ts_init)

    def advance_clock(self, now_ns: int) -> None:
        """Tell the time: rows without a pair for too long become stale."""
        self.commit()
        self._emit_status(self._standing.fallen_silent_by(now_ns))

    def forget(self, row: int) -> None:
        """Empty one row's window, as if its symbol had never had a return.

        What waits for a benchmark's return is counted as unpaired.
        """
        self.commit()
        self._pending.forget(row)
        slab = self._slab
        alone = np.full(len(self.symbols), nan)
        first = max(slab.newest - self._lateness, slab.oldest)
        for bar in range(first, slab.newest + 1):
            if isnan(slab.benchmark_value(bar)):
                stamp = slab.stamp(bar)
                alone[row] = slab.value(row, bar)
                self._drop_unpaired(stamp, alone, self._sources_of(stamp))
        slab.forget(row)
        self._standing.forget(row)

    def state(self) -> State:
        """Return what has to be kept to go on later, as it is at the end of a turn."""
        self.commit()
        return {
            "ts_event": self.ts_event,
            "n_pairs": self.n_pairs,
            "paired_stamp": self._paired_stamp,
            "windows": self._slab.state(),
            "openings": self._openings.state(),
            "pending": self._pending.state(),
            "sources": {
                str(stamp): PerRow(numbers, 0)
                for stamp, numbers in self._sources.items()
            },
            "standing": self._standing.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self.ts_event = state["ts_event"]
        self.n_pairs = state["n_pairs"]
        self._paired_stamp = state["paired_stamp"]
        self._slab.restore(state["windows"])
        self._openings.restore(state["openings"])
        self._pending.restore(state["pending"])
        self._sources = {int(k): numbers for k, numbers in state["sources"].items()}
        self._standing.restore(state["standing"])
        self._cells = self._slab.cells
        self._unsettled = max(self._slab.newest - self._lateness, self._slab.oldest)

    @abstractmethod
    def _open_late(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Drop | None:
        # A benchmark return for the open bar or an older one: late, or another value.
        ...

    @property
    def _oldest_open(self) -> int:
        # Stamp of the oldest bar that may still be amended; all, while there are few.
        bar = self._slab.newest - self._lateness
        return self._slab.stamp(bar) if bar >= self._slab.oldest else 0

    def _advance(self, opening: Opening, ts_init: int) -> None:
        # The next bar of the grid, and the pairs that wait for it.
        slab = self._slab
        silent = self._standing.fallen_silent(slab.newest)
        if len(silent):
            self._emit_status(silent)
        if self._lateness:
            self._settle_before(self._unsettled_with(opening))
        if opening.resets:
            slab.reset()
        slab.advance(opening.stamp, opening.benchmark_return)
        self._cells = slab.cells
        self.ts_event = opening.stamp
        is_missing = isnan(opening.benchmark_return)
        self._paired_stamp = -1 if is_missing else opening.stamp
        waiting = self._open_pending(opening.stamp)
        if waiting is None:
            return
        if not is_missing:
            self._commit_column(waiting.column, np.array([ts_init]), waiting.split)
        elif self._lateness:
            slab.fill(waiting.column)  # its benchmark may come late
            self._sources[opening.stamp] = waiting.sources
        else:
            self._drop_unpaired(opening.stamp, waiting.column, waiting.sources)

    def _open_pending(self, stamp: int) -> PendingBar | None:
        # The returns that wait for a bar that is there now, if any do.
        if not self._lateness:
            return self._pending.open(stamp)
        return self._pending.open(stamp, self._oldest_open)

    def _unsettled_with(self, opening: Opening) -> int:
        # The oldest bar in which something may still change once this one has opened.
        slab = self._slab
        bar = max(slab.newest + 1 - self._lateness, slab.oldest)
        gone = self._openings.left_by(opening.stamp, resets=opening.resets)
        while bar <= slab.newest and slab.stamp(bar) <= gone:
            bar += 1
        return bar

    def _settle_before(self, end: int) -> None:
        # Nothing can change any more in the bars before this one.
        for bar in range(max(self._unsettled, self._slab.oldest), end):
            self._settle(bar)
        self._unsettled = max(self._unsettled, end)

    def _settle(self, bar: int) -> None:
        # What waits here for its benchmark has waited in vain.
        slab = self._slab
        stamp = slab.stamp(bar)
        if isnan(slab.benchmark_value(bar)):
            self._drop_unpaired(stamp, slab.returns_of(bar), self._sources_of(stamp))
        self._sources.pop(stamp, None)

    def _drop_unpaired(
        self, stamp: int, returns: NDArray[np.float64], sources: SourceNumbers
    ) -> None:
        reason = Drop.UNPAIRED
        if stamp in self._openings.withheld:
            reason = Drop.OVERNIGHT
        self._tally.drop_waiting(reason, returns, sources)

    def _sources_of(self, stamp: int) -> SourceNumbers:
        # What was paired when it came, and lost its benchmark since, is nobody's.
        sources = self._sources.get(stamp)
        if sources is None:
            return np.zeros(len(self.symbols), dtype=np.uint16)
        return sources
