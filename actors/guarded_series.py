"""Whole series through the limits and the watch of the live path.

Rule: bar by bar, what `GuardedCohort` would do if every return came in its bar. There
is no clock in a series, so that nobody is ever silent by it.
"""

from collections import deque
from collections.abc import Iterable
from math import isnan, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..estimators import Floats, Opening
from .config import MarketBetaConfig
from .limit_history import LimitHistory
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


class _Bar(NamedTuple):
    """One that is not settled yet."""

    stamp: int
    benchmark_return: float
    returns: Floats


class Guard:
    """Takes one row after the other.

    Parameters
    ----------
    model
        Its limits.
    openings
        Says when bars leave.
    n_assets
        Columns of the series.
    """

    def __init__(
        self, model: MarketBetaConfig, openings: Openings, n_assets: int
    ) -> None:
        self._lateness = model.allowed_lateness
        self._openings = openings
        self._limits = LimitHistory(model, n_assets)
        self._watch = Watch(n_assets, model)
        self._every = np.arange(n_assets)
        self._nothing = np.full(n_assets, nan)
        self._unsettled: deque[_Bar] = deque()

    def judge_benchmark(self, value: float, *, spans_night: bool) -> bool:
        """Return whether the benchmark's return of the next bar is taken."""
        low, high = self._limits.next_benchmark(spans_night=spans_night)
        return value != value or low <= value <= high  # noqa: PLR0124

    def take(
        self, opened: list[Opening], returns: Floats, *, spans_night: bool
    ) -> Floats:
        """Return what is taken of the row that opens these bars."""
        for opening in opened:
            self._end_bar(opening)
            self._unsettled.append(
                _Bar(opening.stamp, opening.benchmark_return, self._nothing)
            )
        self._limits.open(spans_night=spans_night)
        low, high = self._limits.newest.limits
        taken = np.where((returns < low) | (returns > high), nan, returns)
        newest = self._unsettled[-1]
        if not isnan(newest.benchmark_return) or self._lateness:
            self._unsettled[-1] = newest._replace(returns=taken)
        return taken

    def is_dead(self) -> NDArray[np.bool_]:
        """Return which rows have a frozen side now, shape (n_assets,)."""
        return self._watch.reasons(self._every) > 0

    def _end_bar(self, opening: Opening) -> None:
        # What is due before this one opens.
        unsettled = self._unsettled
        if unsettled:
            self._watch.close_bar(unsettled[-1].returns, unsettled[-1].benchmark_return)
        gone = self._openings.left_by(opening.stamp, resets=opening.resets)
        while unsettled and (
            len(unsettled) > self._lateness or unsettled[0].stamp <= gone
        ):
            _, benchmark_return, returns = unsettled.popleft()
            self._limits.settle(returns, benchmark_return)


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
    guard = Guard(model, openings, n_assets)
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
