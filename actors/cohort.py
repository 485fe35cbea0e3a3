"""A cohort whose past can change: late, corrected and inserted bars.

Rule: within the lateness, whatever comes late or is said anew leads where in-order
arrival would have led; what is older is refused with a reason. The present is stepped
by `Lockstep`, which hands over what is not for the open bar.

A bar of the past may wait for either side. A return without its benchmark stays in its
bar's cell, where there is such a bar, else among the pending bars; a benchmark return
that comes late completes its bar, or is a bar that goes between two others. It may then
be the first of a session, show that the bar after it was not, or that it was.
"""

from math import isnan, nan

import numpy as np

from ..estimators import NO_ROWS, Rows
from .lockstep import Lockstep
from .tally import Drop


class Cohort(Lockstep):
    """The symbol actors of one benchmark, stepped together; see `Lockstep`."""

    def open_session(self, ts_event: int, ts_init: int) -> Drop | None:
        """Note that a session opens: the bars with a later stamp belong to it.

        Where a calendar says so itself, nothing follows from being told.

        Parameters
        ----------
        ts_event
            When it opens.
        ts_init
            As in `open_bar`.

        Returns
        -------
        Drop or None
            Why it was dropped, if it was.
        """
        slab, openings = self._slab, self._openings
        if openings.by_calendar:
            return None
        self.commit()
        openings.open_session(ts_event)
        n_after = slab.n_bars_after(ts_event)
        if not n_after:
            return None
        if n_after > self._lateness:
            return Drop.LATE
        # Its bars were taken for the session before: the past changes.
        openings.floor = max(openings.floor, ts_event)
        self._begin_session(slab.newest - n_after + 1, ts_init)
        return None

    def _stage_late(
        self, row: int, ts_event: int, period_return: float, ts_init: int
    ) -> Drop | None:
        # A return for a bar that the benchmark has left behind, or did not have.
        slab = self._slab
        is_newest = ts_event == self.ts_event
        if not self._lateness and is_newest:
            withheld = ts_event in self._openings.withheld
            return Drop.OVERNIGHT if withheld else Drop.UNPAIRED
        if not self._lateness or slab.n_bars_after(ts_event) > self._lateness:
            return Drop.LATE
        bar = slab.bar_of(ts_event)
        if bar is not None:
            return self._amend(row, bar, period_return, ts_init)
        if ts_event <= self._openings.floor and self._openings.resets:
            return Drop.LATE
        return self._wait(row, ts_event, period_return)

    def _amend(
        self, row: int, bar: int, period_return: float, ts_init: int
    ) -> Drop | None:
        # A return for a bar that was opened before: late, or another value.
        slab = self._slab
        present = slab.value(row, bar)
        if present == period_return:
            return Drop.DUPLICATE
        is_correction = not isnan(present)
        if is_correction and not self._lateness:
            return Drop.CONFLICT
        self.commit()
        slab.amend(row, bar, period_return)
        if isnan(slab.benchmark_value(bar)):
            # no pair: it waits in its cell
            stamp = slab.stamp(bar)
            sources = self._sources[stamp] = self._sources_of(stamp)
            sources[row] = self._tally.source
            return None
        rows = np.array([row])
        self._standing.amended(rows, bar, is_correction=is_correction)
        self.n_pairs += not is_correction
        self._emit_status(rows, ts_init)
        return None

    def _open_late(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Drop | None:
        # A benchmark return for the open bar or an older one: late, or another value.
        slab, openings = self._slab, self._openings
        if slab.n_bars_after(ts_event) > self._lateness:
            return Drop.LATE
        if openings.resets and ts_event <= openings.floor:
            return Drop.LATE
        bar = slab.bar_of(ts_event)
        withheld = openings.withheld.get(ts_event)
        present = nan if bar is None else slab.benchmark_value(bar)
        if withheld is not None:
            present = withheld
        if present == benchmark_return or (bar is not None and isnan(benchmark_return)):
            return Drop.DUPLICATE
        if not self._lateness:
            return Drop.CONFLICT
        self.commit()
        if withheld is not None:
            openings.withheld[ts_event] = benchmark_return
            return None
        if bar is None:
            return self._insert(ts_event, benchmark_return, ts_init)
        slab.amend_benchmark(bar, benchmark_return)
        rows = self._pair_with(bar, is_correction=not isnan(present))
        self._emit_status(rows, ts_init)
        return None

    def _begin_session(self, first: int, ts_init: int) -> None:
        # A bar that is there turns out to be the first of a session.
        slab, openings = self._slab, self._openings
        if openings.withholds_nights and slab.stamp(first) not in openings.withheld:
            self._withhold(first)
        if openings.resets:
            self._settle_before(first)
            slab.restart(first)
        self._cells = slab.cells
        self._emit_status(self._standing.known(), ts_init)

    def _insert(
        self, ts_event: int, benchmark_return: float, ts_init: int
    ) -> Drop | None:
        # A bar between two that are there, or before all.
        slab, openings = self._slab, self._openings
        newest = slab.newest
        first = newest - slab.n_bars_after(ts_event) + 1
        after = slab.stamp(first)
        floor = openings.begins(ts_event, after)
        if floor is not None and openings.resets:
            if floor > openings.floor:
                openings.floor = floor
                self._begin_session(first, ts_init)
            return Drop.LATE
        if first > slab.oldest:  # what it skipped goes first: it may push that out
            for missing in openings.skipped(slab.stamp(first - 1), ts_event):
                self._put_in(missing, nan)
        is_first = openings.withholds_nights and self._is_first(ts_event, after, floor)
        bar = self._put_in(ts_event, nan if is_first else benchmark_return)
        if bar is None:
            if floor is not None and openings.withholds_nights:
                self._begin_session(first, ts_init)
            return Drop.LATE
        if is_first:
            openings.withhold(ts_event, benchmark_return)
        completed = [self._pair_with(bar, is_correction=False)]
        if openings.withholds_nights:
            was_first = after in openings.withheld
            if floor is not None and not was_first:
                self._withhold(bar + 1)
            elif floor is None and was_first:
                slab.amend_benchmark(bar + 1, openings.withheld.pop(after))
                completed.insert(0, self._pair_with(bar + 1, is_correction=False))
        for missing in openings.skipped(ts_event, after):
            self._put_in(missing, nan)
        silent = self._standing.fallen_silent_late(
            first, slab.newest - newest, slab.newest
        )
        for rows in (*completed, silent):
            self._emit_status(rows, ts_init)
        return None

    def _put_in(self, stamp: int, benchmark_return: float) -> int | None:
        # A bar, with the returns that wait for it; none where no window reaches it.
        slab = self._slab
        if stamp <= self._openings.left_by(self.ts_event):
            return None
        self._settle_before(slab.newest + 1 - self._lateness)  # it may push that out
        bar = slab.insert(stamp, benchmark_return)
        self._cells = slab.cells
        if bar is None:
            return None
        self._standing.inserted(bar)
        waiting = self._open_pending(stamp)
        if waiting is not None:
            slab.amend_column(bar, waiting.column)
            if isnan(benchmark_return):
                self._sources[stamp] = waiting.sources
        return bar

    def _is_first(self, stamp: int, after: int, floor: int | None) -> bool:
        # Whether a bar that comes late is a session's first. What was before the oldest
        # bar is not known, but that it was another session's where that one is first.
        slab, openings = self._slab, self._openings
        bar = slab.newest - slab.n_bars_after(stamp) + 1
        if slab.oldest < bar or not bar:
            before = slab.stamp(bar - 1) if bar else -1
            return openings.begins(before, stamp) is not None
        return floor is None and after in openings.withheld

    def _withhold(self, bar: int) -> None:
        # A bar was taken for one like others, and its return spans a night.
        slab = self._slab
        benchmark_return = slab.benchmark_value(bar)
        self._openings.withhold(slab.stamp(bar), benchmark_return)
        slab.amend_benchmark(bar, nan)
        if bar == slab.newest:
            self._paired_stamp = -1
        if not isnan(benchmark_return):
            self.n_pairs -= len(slab.rows_of(bar))

    def _pair_with(self, bar: int, *, is_correction: bool) -> Rows:
        # A bar's benchmark return has come late, or changed: the rows that it concerns.
        slab = self._slab
        if isnan(slab.benchmark_value(bar)):
            return NO_ROWS
        if bar == slab.newest:
            self._paired_stamp = self.ts_event
        rows = slab.rows_of(bar)
        self._standing.amended(rows, bar, is_correction=is_correction)
        self.n_pairs += 0 if is_correction else len(rows)
        return rows
