"""A cohort that holds absurd returns back, and watches for sides that have died.

Rule: this is `Cohort` with a look at each return before it is taken; what it holds is
as if it had never come. A return is judged by the limits of its bar, and these are a
function of what was settled when that bar opened (`estimators.robust`). So one that
waits for its benchmark is judged when its bar opens, by the limits by which it would be
judged a moment later, and one that is late by those of its own bar.

A bar is settled once nothing can be amended in it any more: when ``allowed_lateness``
more have opened. A benchmark's return is judged before its bar opens, by the limits
that stood then; while it is held its bar is not there.
"""

from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from ..estimators import Opening, PerRow, State
from ..estimators.robust import Limits, RobustLimits
from ..messages import BenchmarkReturnObserved, ReturnObserved
from . import staging
from .cohort import Cohort
from .columns import Rows
from .config import Factor
from .limits import BarLimits, limits_of
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
        self._robust = limits_of(model, len(symbols))
        self._benchmark_robust = limits_of(model, 1)
        self._settled = -1
        """Index of the newest bar that can no longer be amended."""
        self._session_opener = -1
        """Stamp of the newest bar whose return spans a night."""
        self._ts_init = 0
        self._bars: list[BarLimits] = []
        """Of the bars that may be amended and of the one before, oldest first."""
        self._hold(BarLimits(self._robust.bounds, self._next_benchmark))
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
            low, high = self._newest.limits
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
            low, high = self._newest.limits
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
        self._robust.forget(row)
        self._watch.forget(row)
        for bar in self._bars:
            for limits, bounds in zip(bar.limits, self._robust.bounds, strict=True):
                limits[row] = bounds[row]

    def state(self) -> State:
        """Return what has to be kept to go on later, as it is at the end of a turn."""
        reach = self._robust.reach
        return {
            **super().state(),
            "guard": {
                "keys": self._keys,
                "watch": self._watch.state(),
                "robust": self._robust.state(),
                "benchmark": _of_one(self._benchmark_robust.state()),
                "settled": self._settled,
                "session_opener": self._session_opener,
                "bars": [
                    {
                        "low": PerRow(bar.limits.low, -reach),
                        "high": PerRow(bar.limits.high, reach),
                        "benchmark": list(bar.benchmark),
                    }
                    for bar in self._bars
                ],
            },
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`.

        One of another past, or of a cohort that was not guarded, is gone on from with
        the bars that its windows hold.
        """
        super().restore(state)
        guard = state.get("guard")
        if guard is not None:
            self._watch.restore(guard["watch"])
            self._session_opener = guard["session_opener"]
        if (
            guard is not None
            and self._robust.restore(guard["robust"])
            and self._benchmark_robust.restore(guard["benchmark"])
        ):
            self._settled = guard["settled"]
        else:
            self._settle_bars(self._slab.newest - self._lateness)
        if guard is not None and guard["keys"] == self._keys:
            self._bars = [
                BarLimits(Limits(bar["low"], bar["high"]), tuple(bar["benchmark"]))
                for bar in guard["bars"]
            ]
            self._hold_newest()
        elif self.n_bars:
            self._open_limits(spans_night=self.ts_event == self._session_opener)

    def _advance(self, opening: Opening, ts_init: int) -> None:
        slab, watch = self._slab, self._watch
        if slab.newest >= slab.oldest:
            bar = slab.newest
            watch.close_bar(slab.returns_of(bar), slab.benchmark_value(bar))
            self._emit_status(watch.changed())
        self._settle_bars(
            slab.newest if opening.resets else slab.newest - self._lateness
        )
        self._open_limits(spans_night=opening.stamp == self._session_opener)
        watch.benchmark_heard = True
        super()._advance(opening, ts_init)

    def _put_in(self, stamp: int, benchmark_return: float) -> int | None:
        bar = super()._put_in(stamp, benchmark_return)
        if bar is not None:
            # Whatever holds for the bar before it; those after it keep theirs.
            n_after = self._slab.newest - bar
            at = max(len(self._bars) - n_after, 0)
            before = self._bars[at - 1] if at else self._unknown
            self._bars.insert(at, before)
            del self._bars[: -(self._lateness + 2)]
        return bar

    def _open_pending(self, stamp: int) -> PendingBar | None:
        waiting = super()._open_pending(stamp)
        bar = self._slab.bar_of(stamp)
        makes_pairs = self._lateness or stamp == self._paired_stamp
        if waiting is None or bar is None or not makes_pairs:
            return waiting
        column = waiting.column
        low, high = self._limits_at(bar).limits
        for row in np.flatnonzero((column < low) | (column > high)).tolist():
            message = ReturnObserved(
                symbol=self.symbols[row],
                ts_event=stamp,
                period_return=float(column[row]),
                ts_init=self._ts_init,
            )
            refusal = self._refusal(self._robust, row, message)
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
        return self._refusal(self._robust, row, message)

    def _judge_late(
        self, row: int, ts_event: int, period_return: float
    ) -> Refusal | None:
        slab = self._slab
        bar = slab.bar_of(ts_event)
        if bar is None or slab.n_bars_after(ts_event) > self._lateness:
            return None
        limits = self._limits_at(bar)
        if limits.low_cells[row] <= period_return <= limits.high_cells[row]:
            return None
        return self._judge(row, bar, period_return)

    def _judge_benchmark(
        self, ts_event: int, benchmark_return: float
    ) -> Refusal | None:
        slab = self._slab
        if ts_event > self.ts_event:
            low, high = self._next_benchmark
            if ts_event == self._session_opener:
                low, high = -self._robust.reach, self._robust.reach
        else:
            n_after = slab.n_bars_after(ts_event)
            bar = slab.bar_of(ts_event)
            if n_after > self._lateness or not self._lateness:
                return None
            if bar is not None and slab.benchmark_value(bar) == benchmark_return:
                return None
            if ts_event in self._openings.withheld:
                return None
            before = slab.newest - n_after - (bar is not None)
            low, high = self._limits_at(before).benchmark
        if isnan(benchmark_return) or low <= benchmark_return <= high:
            return None
        message = BenchmarkReturnObserved(
            benchmark=self.factor.benchmark,
            ts_event=ts_event,
            period_return=benchmark_return,
        )
        return self._refusal(self._benchmark_robust, 0, message)

    def _refusal(self, robust: RobustLimits, row: int, message: Return) -> Refusal:
        if not self._tally.held.is_new(self.factor.name, message):
            return Drop.DUPLICATE
        value = message.period_return
        z = robust.z_of(row, value)
        if self._max_z is None or abs(value) > robust.reach:
            return Absurd(self.factor.name, "max_abs_return", robust.reach, z)
        return Absurd(self.factor.name, "max_robust_z", self._max_z, z)

    def _settle_bars(self, newest: int) -> None:
        # What the bars up to this one hold can no longer change.
        slab = self._slab
        for bar in range(max(self._settled + 1, slab.oldest), newest + 1):
            benchmark_return = slab.benchmark_value(bar)
            if not isnan(benchmark_return):
                self._robust.settle(slab.returns_of(bar))
                self._benchmark_robust.settle(np.array([benchmark_return]))
        self._settled = max(self._settled, newest)

    def _open_limits(self, *, spans_night: bool = False) -> None:
        # The limits of the next bar.
        limits = self._robust.bounds if spans_night else self._robust.limits
        if self._lateness:
            limits = limits.copy()  # those of this bar, when others have come to hold
        self._bars.append(BarLimits(limits, self._next_benchmark))
        del self._bars[: -(self._lateness + 2) if self._lateness else -1]
        self._hold(self._bars[-1])

    def _hold(self, newest: BarLimits) -> None:
        # What single returns for the open bar are held against.
        self._newest = newest
        self._low_cells, self._high_cells = newest.low_cells, newest.high_cells

    def _hold_newest(self) -> None:
        # Without lateness a bar has the limits themselves, or the bounds, not a copy.
        if self._bars and not self._lateness:
            is_night = self.ts_event == self._session_opener
            limits = self._robust.bounds if is_night else self._robust.limits
            self._bars = [BarLimits(limits, self._next_benchmark)]
        if self._bars:
            self._hold(self._bars[-1])

    def _limits_at(self, bar: int) -> BarLimits:
        n_after = self._slab.newest - bar
        if n_after < len(self._bars):
            return self._bars[-1 - n_after]
        return self._unknown

    @property
    def _keys(self) -> list[float | int | None]:
        # What the limits of a bar follow from, besides its past.
        model = self.factor.model
        return [
            model.max_abs_return,
            model.max_robust_z,
            model.robust_bars,
            model.robust_min_observations,
        ]

    @property
    def _unknown(self) -> BarLimits:
        reach = self._robust.reach
        return BarLimits(self._robust.bounds, (-reach, reach))

    @property
    def _next_benchmark(self) -> tuple[float, float]:
        low, high = self._benchmark_robust.limits
        return float(low[0]), float(high[0])


def _of_one(state: State) -> State:
    # Its only row is not one of the symbols.
    return {
        key: part.values if isinstance(part, PerRow) else part
        for key, part in state.items()
    }
