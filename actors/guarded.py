"""A cohort that holds absurd returns back, and watches for sides that have died.

Rule: this is `Cohort` with a look at each return before it is taken; what it holds is
as if it had never come. A return is judged by the limits of its bar, and these are a
function of what was settled when that bar opened (`estimators.robust`). So one that
waits for its benchmark is judged when its bar opens, by the limits by which it would be
judged a moment later, and one that is late by those of its own bar.

A benchmark's return is judged before its bar opens, by the limits that stood then;
while it is held its bar is not there. Which limits those are is the business of
`LimitHistory`.
"""

from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from ..estimators import Opening, Rows, State
from ..estimators.robust import RobustLimits
from ..messages import BenchmarkReturnObserved, ReturnObserved
from . import staging
from .cohort import Cohort
from .config import Factor
from .limit_history import LimitHistory
from .pending import PendingBar
from .quarantine import Absurd, Return
from .tally import Drop, Refusal, Tally
from .watch import Watch

_SIGNS_OF_LIFE = (None, Drop.UNPAIRED, Drop.OVERNIGHT)
"""What becomes of a return whose side is alive."""


class GuardedCohort(Cohort):
    """The symbol actors of one benchmark, stepped together; see `Lockstep`."""

    def __init__(
        self,
        factor: Factor,
        symbols: tuple[str, ...],
        tally: Tally,
        *,
        max_pending_bars: int = staging.MAX_PENDING_BARS,
    ) -> None:
        super().__init__(factor, symbols, tally, max_pending_bars=max_pending_bars)
        model = factor.model
        self._max_z = model.max_robust_z
        self._watch = self._standing.watch = Watch(len(symbols), model)
        self._heard = self._watch.heard_cells
        self._limits = LimitHistory(model, len(symbols))
        self._hold_newest()
        self._session_opener = -1
        """Stamp of the newest bar whose return spans a night."""
        self._ts_init = 0
        self._takes_groups = True  # `stage_rows` has looked at each

    def open_bar(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Refusal | None:
        """Take the benchmark's return of a bar, unless it is absurd."""
        is_next = ts_event > self.ts_event
        if is_next and self._openings.begins(self.ts_event, ts_event) is not None:
            self._session_opener = ts_event
        refusal = self._judge_benchmark(ts_event, benchmark_return)
        if refusal is not None:
            return refusal
        return self.release_bar(ts_event, benchmark_return, ts_init)

    def release_bar(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Refusal | None:
        """Take the benchmark's return of a bar, however absurd."""
        self._ts_init = ts_init
        refusal = super().release_bar(ts_event, benchmark_return, ts_init)
        if refusal is None:
            self._watch.benchmark_heard = True
        return refusal

    def stage(
        self, row: int, ts_event: int, period_return: float, ts_init: int
    ) -> Refusal | None:
        """Take one symbol's return, unless it is absurd."""
        if ts_event == self._paired_stamp:
            cell = self._cells[row]
            if (
                cell != cell  # noqa: PLR0124 - NaN: no return for this bar yet
                and self._low_cells[row] <= period_return <= self._high_cells[row]
            ):
                # `Staging.stage`, written out.
                self._cells[row] = period_return
                self._staged.append(row)
                self._staged_ts_init.append(ts_init)
                self._heard[row] = True
                return None
        return self._stage_other(row, ts_event, period_return, ts_init)

    def _stage_other(
        self, row: int, ts_event: int, period_return: float, ts_init: int
    ) -> Refusal | None:
        if ts_event == self.ts_event:
            low, high = self._low_cells[row], self._high_cells[row]
            if not low <= period_return <= high:
                refusal = self._judge(row, self._slab.newest, period_return)
                if refusal is not None:
                    return refusal
        elif ts_event < self.ts_event and self._lateness:
            refusal = self._judge_late(row, ts_event, period_return)
            if refusal is not None:
                return refusal
        heard = self._heard
        was_heard = heard[row]
        heard[row] = True  # before it is taken, for an update may follow at once
        refusal = self.release(row, ts_event, period_return, ts_init)
        if refusal not in _SIGNS_OF_LIFE:
            heard[row] = was_heard
        return refusal

    def stage_column(
        self,
        rows: Rows,
        ts_event: int,
        returns: NDArray[np.float64],
        ts_init: int,
        *,
        is_complete: bool = False,
    ) -> list[tuple[int, Refusal]]:
        """Take one bar's returns of many symbols, but for those that are absurd."""
        if len(rows) <= staging.SMALL_FRAME or ts_event < self.ts_event:
            return super().stage_column(
                rows, ts_event, returns, ts_init, is_complete=is_complete
            )
        refused: list[tuple[int, Refusal]] = []
        is_whole = len(rows) == len(self.symbols) and np.array_equal(
            rows, self._all_rows
        )
        if ts_event == self.ts_event:
            low, high = self._limits.newest.limits
            if not is_whole:
                low, high = low[rows], high[rows]
            beyond = returns < low
            beyond |= returns > high
            if beyond.any():
                # None of them makes an update, so the order of the others stays.
                for position in np.flatnonzero(beyond).tolist():
                    row, value = int(rows[position]), float(returns[position])
                    refusal = self.stage(row, ts_event, value, ts_init)
                    if refusal is not None:
                        refused.append((position, refusal))
                returns = np.where(beyond, nan, returns)
                is_complete = False
        heard = self._watch.heard
        was_heard = heard.copy()
        if is_whole:
            heard |= ~np.isnan(returns)
        else:
            heard[rows[~np.isnan(returns)]] = True
        others = super().stage_column(
            rows, ts_event, returns, ts_init, is_complete=is_complete
        )
        for position, refusal in others:
            if refusal not in _SIGNS_OF_LIFE:
                heard[rows[position]] = was_heard[rows[position]]
        if not refused:
            return others
        return sorted([*refused, *others], key=lambda entry: entry[0])

    def stage_rows(
        self,
        rows: Rows,
        ts_event: int,
        returns: NDArray[np.float64],
        ts_inits: NDArray[np.int64],
    ) -> list[tuple[int, Refusal]]:
        """Take many single returns of one bar, but for those that are absurd."""
        if ts_event == self.ts_event:
            low, high = self._limits.newest.limits
            beyond = (returns < low[rows]) | (returns > high[rows])
            if beyond.any():
                return self._stage_each(rows, ts_event, returns, ts_inits.tolist())
        refused = super().stage_rows(rows, ts_event, returns, ts_inits)
        if not refused:  # else each has been staged, and has left its own mark
            self._watch.heard[rows] = True
        return refused

    def advance_clock(self, now_ns: int) -> None:
        """Tell the time: rows become stale by their silence, or by that of a side."""
        self.commit()
        self._watch.look_at_clock(now_ns)
        super().advance_clock(now_ns)
        if self.n_bars:
            self._emit_status(self._watch.changed())

    def forget(self, row: int) -> None:
        """Empty one row's window, as if its symbol had never had a return."""
        super().forget(row)
        self._limits.forget(row)
        self._watch.forget(row)

    def state(self) -> State:
        """Return what has to be kept to go on later, as it is at the end of a turn."""
        return {
            **super().state(),
            "guard": {
                **self._limits.state(),
                "watch": self._watch.state(),
                "session_opener": self._session_opener,
            },
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`.

        One of another past, or of a cohort that was not guarded, is gone on from with
        the bars that its windows hold.
        """
        super().restore(state)
        slab, limits = self._slab, self._limits
        guard = state.get("guard")
        if guard is not None:
            self._watch.restore(guard["watch"])
            self._session_opener = guard["session_opener"]
        if guard is None or not limits.restore_past(guard):
            for bar in range(slab.oldest, self._unsettled):
                limits.settle(slab.returns_of(bar), slab.benchmark_value(bar))
        spans_night = self.ts_event == self._session_opener
        has_bars = guard is not None and limits.restore_bars(
            guard, spans_night=spans_night
        )
        if self.n_bars and not has_bars:
            limits.open(spans_night=spans_night)
        self._hold_newest()

    def _advance(self, opening: Opening, ts_init: int) -> None:
        slab, watch = self._slab, self._watch
        if slab.newest >= slab.oldest:
            bar = slab.newest
            watch.close_bar(slab.returns_of(bar), slab.benchmark_value(bar))
            self._emit_status(watch.changed())
        # Before its limits are known; after this `Lockstep` finds nothing to settle.
        self._settle_before(self._unsettled_with(opening))
        self._limits.open(spans_night=opening.stamp == self._session_opener)
        self._hold_newest()
        watch.benchmark_heard = True
        super()._advance(opening, ts_init)

    def _settle(self, bar: int) -> None:
        slab = self._slab
        self._limits.settle(slab.returns_of(bar), slab.benchmark_value(bar))
        if self._lateness:
            super()._settle(bar)

    def _put_in(self, stamp: int, benchmark_return: float) -> int | None:
        bar = super()._put_in(stamp, benchmark_return)
        if bar is not None:
            self._limits.insert(self._slab.newest - bar)
        return bar

    def _open_pending(self, stamp: int) -> PendingBar | None:
        waiting = super()._open_pending(stamp)
        bar = self._slab.bar_of(stamp)
        makes_pairs = self._lateness or stamp == self._paired_stamp
        if waiting is None or bar is None or not makes_pairs:
            return waiting
        column = waiting.column
        low, high = self._limits.at(self._slab.newest - bar).limits
        for row in np.flatnonzero((column < low) | (column > high)).tolist():
            message = ReturnObserved(
                symbol=self.symbols[row],
                ts_event=stamp,
                period_return=float(column[row]),
                ts_init=self._ts_init,
            )
            refusal = self._refusal(self._limits.robust, row, message)
            with self._tally.told_by(waiting.source_cells[row]):
                self._tally.drop(refusal, message, is_as_sent=False)
            column[row] = nan
            waiting.split = None
        return waiting

    def _judge(self, row: int, bar: int, period_return: float) -> Refusal | None:
        # Of one beyond the limits of its bar; None = it would not be taken anyway.
        slab = self._slab
        present = slab.value(row, bar)
        stamp = slab.stamp(bar)
        if self._lateness:
            if present == period_return:
                return None
        elif not isnan(present) or stamp != self._paired_stamp:
            return None
        message = ReturnObserved(
            symbol=self.symbols[row], ts_event=stamp, period_return=period_return
        )
        return self._refusal(self._limits.robust, row, message)

    def _judge_late(
        self, row: int, ts_event: int, period_return: float
    ) -> Refusal | None:
        slab = self._slab
        bar = slab.bar_of(ts_event)
        if bar is None or slab.n_bars_after(ts_event) > self._lateness:
            return None
        limits = self._limits.at(self._slab.newest - bar)
        if limits.low_cells[row] <= period_return <= limits.high_cells[row]:
            return None
        return self._judge(row, bar, period_return)

    def _judge_benchmark(
        self, ts_event: int, benchmark_return: float
    ) -> Refusal | None:
        slab = self._slab
        if ts_event > self.ts_event:
            spans_night = ts_event == self._session_opener
            low, high = self._limits.next_benchmark(spans_night=spans_night)
        else:
            n_after = slab.n_bars_after(ts_event)
            bar = slab.bar_of(ts_event)
            if n_after > self._lateness or not self._lateness:
                return None
            if bar is not None and slab.benchmark_value(bar) == benchmark_return:
                return None
            if ts_event in self._openings.withheld:
                return None
            low, high = self._limits.at(n_after + (bar is not None)).benchmark
        if isnan(benchmark_return) or low <= benchmark_return <= high:
            return None
        message = BenchmarkReturnObserved(
            benchmark=self.factor.benchmark,
            ts_event=ts_event,
            period_return=benchmark_return,
        )
        return self._refusal(self._limits.benchmark_robust, 0, message)

    def _refusal(self, robust: RobustLimits, row: int, message: Return) -> Refusal:
        if not self._tally.held.is_new(self.factor.name, message):
            return Drop.DUPLICATE
        value = message.period_return
        z = robust.z_of(row, value)
        if self._max_z is None or abs(value) > robust.reach:
            return Absurd(self.factor.name, "max_abs_return", robust.reach, z)
        return Absurd(self.factor.name, "max_robust_z", self._max_z, z)

    def _hold_newest(self) -> None:
        # What single returns for the open bar are held against.
        newest = self._limits.newest
        self._low_cells, self._high_cells = newest.low_cells, newest.high_cells
