"""A pair that comes alone: its row's statistics, before it is in any set.

Rule: the bits are those of `add_one` and `estimate_one`, which everything that is
unusual about a bar or a row still goes through.

Theory of operation
-------------------
A return that comes alone is waited for, and most of what its statistics need is known
when its bar opens: where the sums of its row lie, and all that is said of the
benchmark, the same for every row that lacks no bar. `prepare` puts that together
(`_Bar`), so that the row itself costs three sums, one root and four comparisons. Those
are the coarse step of `doubt`, for one row whose pivot is 0: by Cauchy's inequality its
mean is then within bounds where its sum of squares is.

The pair is added to the row's sums in passing and not in place: it goes into the sets
together with all others that came alone, when the bar is settled or somebody looks at
more than one row (`GrowingSets._take_in`). So the sets that all rows share need not be
split for one row that is early.
"""

from abc import abstractmethod
from math import sqrt
from typing import Final, NamedTuple

from .arrays import Statistics
from .doubt import TINY, UNDERFLOW, USUAL_SPREAD, usual_limits
from .growing import BACK
from .ols import DOF
from .remade import RemadeSets
from .sums import NOTHING, SIDE, Shared, X

_TINY_SQUARE: Final = TINY * TINY
_LEAST_YY: Final = 2.0 * USUAL_SPREAD * UNDERFLOW
_MOST_R_SQUARED: Final = 1.0 - 1e-6
"""Next to an exact line a residual may be 0, or a rounding below it."""


_Side = tuple[float, float, float, float, float, float, float, float]
"""What the benchmark adds to the statistics of a usual row: n, its degrees of freedom,
the sum of its deviations, its mean, cxx and the root of that; the most that yy and the
least that r_squared may be."""

_Columns = tuple["memoryview[float]", "memoryview[float]", "memoryview[float]"]
"""The sums of one side of a set, one scalar per row."""


class _Bar(NamedTuple):
    # The open bar: what a pair of it goes with, row by row.
    x: float
    """The benchmark's deviation."""
    side: _Side | None
    """`None`: each row has its own."""
    front_y: "memoryview[float]"
    front_xy: "memoryview[float]"
    front_yy: "memoryview[float]"
    back_y: "memoryview[float]"
    back_xy: "memoryview[float]"
    back_yy: "memoryview[float]"


class _Own(NamedTuple):
    # The benchmark's sums where rows have their own; what all share where not.
    front: Shared
    front_of: _Columns | None
    back: Shared
    back_of: _Columns | None


class LonePairs(RemadeSets):
    """`RemadeSets` that take a pair and tell its row's statistics in one step."""

    def prepare(self) -> None:
        """Do ahead what the next return will need, of this bar or the next."""
        super().prepare()
        if not (self._is_ready or self._is_settled or self._n_added):
            self._get_ready()

    def take_one(self, row: int) -> tuple[float, Statistics]:
        """Add the newest bar's return of one row; return its (n, statistics)."""
        bar = self._bar
        y = self.cells[row]
        square = y * y
        if bar is None or self._pivot_cells[row] or (square < _TINY_SQUARE and y):
            return self._take_long(row)
        x, side, front_y, front_xy, front_yy, back_y, back_xy, back_yy = bar
        if side is None:
            side = self._side_of(row)
            if side is None:
                return self._take_long(row)
        n, dof, sum_x, mean_x, cxx, root_x, most_yy, least_r_squared = side
        sum_y = front_y[row] + (back_y[row] + y)
        yy = front_yy[row] + (back_yy[row] + square)
        mean_y = sum_y / n
        cyy = yy - sum_y * mean_y
        if _LEAST_YY <= yy <= most_yy and yy <= USUAL_SPREAD * cyy:
            cxy = front_xy[row] + (back_xy[row] + y * x) - sum_x * mean_y
            beta = cxy / cxx
            explained = beta * cxy
            r_squared = explained / cyy
            if least_r_squared <= r_squared <= _MOST_R_SQUARED:
                self._alone.append(row)
                residual_std = sqrt((cyy - explained) / dof)
                std_error = residual_std / root_x
                alpha, t_stat = mean_y - beta * mean_x, beta / std_error
                return n, (beta, alpha, std_error, t_stat, r_squared, residual_std)
        return self._take_long(row)

    def window_start_of(self, row: int) -> int:
        """Return the stamp of the window's oldest bar."""
        del row
        return self._start if self._is_ready else self.window_start

    @property
    def window_start(self) -> int:
        """Stamp of the window's oldest bar."""
        return int(self.stamps[self.oldest % len(self.stamps)])

    @abstractmethod
    def _estimate_added(self, row: int) -> tuple[float, Statistics]:
        # `estimate_one` of a row whose pair is in the sets.
        ...

    def _take_long(self, row: int) -> tuple[float, Statistics]:
        if not (self._is_ready or self._is_settled):
            self._get_ready()
            return self.take_one(row)
        self.add_one(row)
        return self._estimate_added(row)

    def _begin(self, bar: int) -> None:
        super()._begin(bar)
        self._start = 0
        self._is_ready = False
        self._bar: _Bar | None = None
        self._own = _Own(NOTHING, None, NOTHING, None)
        self._error = 0.0

    def _settle(self) -> None:
        super()._settle()
        self._is_ready = False
        self._bar = None

    def _get_ready(self) -> None:
        self._is_ready = True
        self._start = self.window_start
        if self._flat_since <= self.oldest:
            return  # there is no slope
        sets, at = self._front()
        growing = self._growing
        self._error = self.basis.error
        self._own = _Own(
            sets.shared[at],
            _columns(sets.own_cells, at, sets.n_rows) if sets.is_own[at] else None,
            growing.shared[BACK],
            _columns(growing.own_cells, BACK, growing.n_rows)
            if growing.is_own[BACK]
            else None,
        )
        side = None
        if not (sets.is_own[at] or growing.is_own[BACK]):
            side = self._side_of(0)
            if side is None:
                return
        self._bar = _Bar(
            self._terms.shared[X],
            side,
            *_columns(sets.cells, at, sets.n_rows),
            *_columns(growing.cells, BACK, growing.n_rows),
        )

    def _side_of(self, row: int) -> _Side | None:
        # With the newest bar; `None` where the row cannot be usual.
        (n, x, xx), front, (back_n, back_x, back_xx), back = self._own
        if front is not None:
            front_n, front_x, front_xx = front
            n, x, xx = front_n[row], front_x[row], front_xx[row]
        if back is not None:
            n_of, x_of, xx_of = back
            back_n, back_x, back_xx = n_of[row], x_of[row], xx_of[row]
        one, deviation, square = self._terms.shared
        n += back_n + one
        x += back_x + deviation
        xx += back_xx + square
        if n < self.min_observations or n <= DOF:
            return None
        mean_x = x / n
        cxx = xx - x * mean_x
        if cxx <= 0.0:
            return None
        mean_x += self._pivot_x
        most_yy, least_r_squared = usual_limits(n, mean_x, cxx, xx, self._error)
        return n, n - DOF, x, mean_x, cxx, sqrt(cxx), most_yy, least_r_squared


def _columns(cells: "memoryview[float]", at: int, n_rows: int) -> _Columns:
    # One side of a set, as one column per sum.
    first = at * SIDE * n_rows
    second, third = first + n_rows, first + 2 * n_rows
    return (
        cells[first:second],
        cells[second:third],
        cells[third : third + n_rows],
    )
