r"""Which side of a pair has died: the symbol, its benchmark, or the feed of both.

Rule: a side is *silent* when none of its returns was taken for ``feed_timeout`` on the
clock, and *frozen* when its return was one and the same for ``frozen_after`` bars. What
a row has to say follows from both of its sides, the silent before the frozen, the
benchmark before the symbol:

::

    symbol \\ benchmark    alive          frozen             silent
    alive                 nothing        benchmark_frozen   benchmark_silent
    frozen                asset_frozen   benchmark_frozen   benchmark_silent
    silent                asset_silent   asset_silent       feed_silent

Silence is found when the clock is looked at, so the hot path only leaves a mark. A mark
counts as of the look before it: a silence is found at the first look after
``feed_timeout``, and at most the time between two looks too early. So whoever begins,
or goes on after a pause, looks at the clock before the first message. Repetition is
found when a bar ends, that is when the next one opens.

What was taken is what counts: held, late and repeated returns are no sign of life. One
that finds no benchmark is, for that is not the symbol's fault.
"""

from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from ..estimators import NO_ROWS, Floats, PerRow, Rows, State
from ..messages import Reason
from .config import MarketBetaConfig

Codes = NDArray[np.uint8]


class Watch:
    """Watches both sides of every row of one cohort.

    Parameters
    ----------
    n_rows
        Rows.
    model
        Says what is too long.
    """

    def __init__(self, n_rows: int, model: MarketBetaConfig) -> None:
        self._timeout_ns = model.feed_timeout_ns
        self._frozen_after = model.frozen_after
        self._now_ns = -1
        self.heard = np.zeros(n_rows, dtype=np.bool_)
        """Rows of which a return was taken since the clock was last looked at."""
        self.heard_cells = self.heard.data
        """``heard``, one scalar at a time."""
        self.benchmark_heard = False
        """The same of the benchmark."""
        self._seen_at = np.full(n_rows, -1, dtype=np.int64)
        self._benchmark_seen_at = -1
        self._is_silent = np.zeros(n_rows, dtype=np.bool_)
        self._benchmark_is_silent = False
        self._value = np.full(n_rows, nan)
        self._run = np.zeros(n_rows, dtype=np.int32)
        self._is_frozen = np.zeros(n_rows, dtype=np.bool_)
        self._benchmark_value = nan
        self._benchmark_run = 0
        self._benchmark_is_frozen = False
        self._said = np.zeros(n_rows, dtype=np.uint8)
        self._every_row: Rows = np.arange(n_rows)
        self.is_active = False
        """Whether some row may have something to say, or to take back."""

    def look_at_clock(self, now_ns: int) -> None:
        """Find out who has been silent for too long."""
        if self._timeout_ns is None:
            return
        last = self._now_ns
        now = self._now_ns = max(last, now_ns)
        if last < 0:  # nobody can have been silent before there was a watch
            self._seen_at[:] = self._benchmark_seen_at = now
        else:
            self._seen_at[self.heard] = last
            if self.benchmark_heard:
                self._benchmark_seen_at = last
        self.heard[:] = False
        self.benchmark_heard = False
        self._is_silent = now - self._seen_at >= self._timeout_ns
        self._benchmark_is_silent = now - self._benchmark_seen_at >= self._timeout_ns
        self._note_activity()

    def close_bar(self, returns: Floats, benchmark_return: float) -> None:
        """Find out whose return is frozen, at the end of a bar.

        Parameters
        ----------
        returns
            Shape (n_rows,); NaN = none, and then nothing is repeated or new.
        benchmark_return
            NaN = none.
        """
        if self._frozen_after is None:
            return
        if not isnan(benchmark_return):
            is_same = benchmark_return == self._benchmark_value
            self._benchmark_run = self._benchmark_run + 1 if is_same else 1
            self._benchmark_value = benchmark_return
            self._benchmark_is_frozen = self._benchmark_run >= self._frozen_after
        is_new = ~np.isnan(returns) & (returns != self._value)
        self._run += ~np.isnan(returns)
        self._run[is_new] = 1
        np.copyto(self._value, returns, where=is_new)
        self._is_frozen = self._run >= self._frozen_after
        self._note_activity()

    def changed(self) -> Rows:
        """Return the rows that have something else to say than they said last."""
        if not self.is_active:
            return NO_ROWS
        codes = self.reasons(self._every_row)
        rows = np.flatnonzero(codes != self._said)
        self._said[:] = codes
        self._note_activity()
        return rows

    def say(self, rows: Rows) -> Codes:
        """Return what rows have to say in an update; it is said then."""
        codes = self.reasons(rows)
        self._said[rows] = codes
        return codes

    def say_one(self, row: int) -> Reason:
        """Return what one row has to say: `say` over scalars."""
        code = self.reason_of(row)
        self._said[row] = code
        return code

    def reasons(self, rows: Rows) -> Codes:
        """Return what is wrong with either side of some rows, shape (k,)."""
        silent = self._is_silent[rows] & ~self.heard[rows]
        codes = np.zeros(len(rows), dtype=np.uint8)
        codes[self._is_frozen[rows]] = Reason.ASSET_FROZEN
        if self._benchmark_is_frozen:
            codes[:] = Reason.BENCHMARK_FROZEN
        codes[silent] = Reason.ASSET_SILENT
        if self._benchmark_is_silent and not self.benchmark_heard:
            codes[:] = Reason.BENCHMARK_SILENT
            codes[silent] = Reason.FEED_SILENT
        return codes

    def reason_of(self, row: int) -> Reason:
        """Return what is wrong with either side of one row: `reasons` over scalars."""
        is_silent = self._is_silent[row] and not self.heard[row]
        if self._benchmark_is_silent and not self.benchmark_heard:
            return Reason.FEED_SILENT if is_silent else Reason.BENCHMARK_SILENT
        if is_silent:
            return Reason.ASSET_SILENT
        if self._benchmark_is_frozen:
            return Reason.BENCHMARK_FROZEN
        return Reason.ASSET_FROZEN if self._is_frozen[row] else Reason.NONE

    def forget(self, row: int) -> None:
        """Forget that a row was ever heard of; its silence begins now."""
        self.heard[row] = False
        self._seen_at[row] = self._now_ns
        self._is_silent[row] = self._is_frozen[row] = False
        self._value[row] = nan
        self._run[row] = self._said[row] = 0

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        return {
            "now_ns": self._now_ns,
            "benchmark_heard": self.benchmark_heard,
            "benchmark_seen_at": self._benchmark_seen_at,
            "benchmark_is_silent": self._benchmark_is_silent,
            "benchmark_value": self._benchmark_value,
            "benchmark_run": self._benchmark_run,
            "benchmark_is_frozen": self._benchmark_is_frozen,
            "seen_at": PerRow(self._seen_at, self._now_ns),
            "value": PerRow(self._value, nan),
            **{name: PerRow(column, 0) for name, column in self._flags().items()},
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self._now_ns = state["now_ns"]
        self.benchmark_heard = state["benchmark_heard"]
        self._benchmark_seen_at = state["benchmark_seen_at"]
        self._benchmark_is_silent = state["benchmark_is_silent"]
        self._benchmark_value = state["benchmark_value"]
        self._benchmark_run = state["benchmark_run"]
        self._benchmark_is_frozen = state["benchmark_is_frozen"]
        self._seen_at[:] = state["seen_at"]
        self._value[:] = state["value"]
        for name, column in self._flags().items():
            column[:] = state[name]
        self._note_activity()

    def _flags(self) -> "dict[str, NDArray[np.generic]]":
        return {
            "heard": self.heard,
            "is_silent": self._is_silent,
            "run": self._run,
            "is_frozen": self._is_frozen,
            "said": self._said,
        }

    def _note_activity(self) -> None:
        self.is_active = (
            self._benchmark_is_silent
            or self._benchmark_is_frozen
            or bool(self._is_silent.any())
            or bool(self._is_frozen.any())
            or bool(self._said.any())
        )
