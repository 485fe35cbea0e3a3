"""Whole series through the limits and the watch of the live path.

Rule: bar by bar, what `GuardedCohort` would do if every return came in its bar. There
is no clock in a series, so that nobody is ever silent by it.
"""

from collections import deque
from collections.abc import Iterable
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..estimators import Floats, Opening
from .config import MarketBetaConfig
from .limits import limits_of
from .openings import Openings
from .watch import Watch


class TakenSeries(NamedTuple):
    """What was taken of some series."""

    opened: list[list[Opening]]
    """The bars that each row opens; none where the benchmark's return is held."""
    returns: Floats
    """Shape (n_bars, n_assets); NaN where a return is held, too."""
    dead: NDArray[np.bool_]
    """Where one of the sides is frozen, shape (n_bars, n_assets)."""


class Guard:
    """Takes one row after the other.

    Parameters
    ----------
    model
        Its limits.
    n_assets
        Columns of the series.
    """

    def __init__(self, model: MarketBetaConfig, n_assets: int) -> None:
        self._lateness = model.allowed_lateness
        self._robust = limits_of(model, n_assets)
        self._benchmark_robust = limits_of(model, 1)
        self._watch = Watch(n_assets, model)
        self._every = np.arange(n_assets)
        self._nothing = np.full(n_assets, nan)
        self._unsettled: deque[tuple[float, Floats]] = deque()

    def judge_benchmark(self, value: float, *, spans_night: bool) -> bool:
        """Return whether the benchmark's return of the next bar is taken."""
        robust = self._benchmark_robust
        low, high = robust.bounds if spans_night else robust.limits
        return value != value or bool(low[0] <= value <= high[0])  # noqa: PLR0124

    def take(
        self, opened: list[Opening], returns: Floats, *, spans_night: bool
    ) -> Floats:
        """Return what is taken of the row that opens these bars."""
        for opening in opened:
            self._end_bar(resets=opening.resets)
            self._unsettled.append((opening.benchmark_return, self._nothing))
        low, high = self._robust.bounds if spans_night else self._robust.limits
        taken = np.where((returns < low) | (returns > high), nan, returns)
        benchmark_return = opened[-1].benchmark_return
        if benchmark_return == benchmark_return or self._lateness:  # noqa: PLR0124
            self._unsettled[-1] = (benchmark_return, taken)
        return taken

    def is_dead(self) -> NDArray[np.bool_]:
        """Return which rows have a frozen side now, shape (n_assets,)."""
        return self._watch.reasons(self._every) > 0

    def _end_bar(self, *, resets: bool) -> None:
        unsettled = self._unsettled
        if unsettled:
            benchmark_return, returns = unsettled[-1]
            self._watch.close_bar(returns, benchmark_return)
        while len(unsettled) > (0 if resets else self._lateness):
            benchmark_return, returns = unsettled.popleft()
            if benchmark_return == benchmark_return:  # noqa: PLR0124 - not missing
                self._robust.settle(returns)
                self._benchmark_robust.settle(np.array([benchmark_return]))


def guarded(
    model: MarketBetaConfig,
    openings: Openings,
    rows: Iterable[tuple[int, float, Floats, list[int]]],
    n_assets: int,
) -> TakenSeries:
    """Take series as the live path would.

    Parameters
    ----------
    model
        Its limits.
    openings
        Says which bars a row opens.
    rows
        For each one the stamp, the benchmark's return, those of the assets (NaN =
        missing) and the stamps at which sessions open before it.
    n_assets
        Columns of the series.
    """
    guard = Guard(model, n_assets)
    opened: list[list[Opening]] = []
    taken: list[Floats] = []
    dead: list[NDArray[np.bool_]] = []
    for stamp, benchmark_return, returns, opens in rows:
        for open_stamp in opens:
            openings.open_session(open_stamp)
        spans_night = openings.begins(openings.newest, stamp) is not None
        if guard.judge_benchmark(benchmark_return, spans_night=spans_night):
            opened.append(openings.next(stamp, benchmark_return))
            taken.append(guard.take(opened[-1], returns, spans_night=spans_night))
        else:
            opened.append([])
            taken.append(np.full(n_assets, nan))
        dead.append(guard.is_dead())
    shape = (len(opened), n_assets)
    return TakenSeries(
        opened,
        np.array(taken).reshape(shape),
        np.array(dead, dtype=np.bool_).reshape(shape),
    )
