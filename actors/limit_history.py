"""Which limits hold for which bar.

Rule: the limits of a bar are fixed when it opens, and are made of the bars that were
settled then, in their order. Whoever settles and opens the same bars gets the same
limits, so batch and live path ask this object. It keeps those of the bars to which
something may yet come.

A benchmark's return is held against the limits that stood before its bar opened. One
that spans a night, and those of the symbols in its bar, only against the bound.
"""

import numpy as np

from ..estimators import Floats, PerRow, State
from ..estimators.robust import Limits
from .config import MarketBetaConfig
from .limits import BarLimits, limits_of


class LimitHistory:
    """The limits of one factor, bar by bar.

    Parameters
    ----------
    model
        Says how far is too far.
    n_rows
        Rows.
    """

    def __init__(self, model: MarketBetaConfig, n_rows: int) -> None:
        self.robust = limits_of(model, n_rows)
        """Of the rows, and"""
        self.benchmark_robust = limits_of(model, 1)
        """of the benchmark, as the settled bars make them."""
        self._lateness = model.allowed_lateness
        # What the limits of a bar follow from, besides its past.
        self._keys: list[float | int | None] = [
            model.max_abs_return,
            model.max_robust_z,
            model.robust_bars,
            model.robust_min_observations,
        ]
        self._bars: list[BarLimits] = []
        """Of the bars that may be amended and of the one before, oldest first."""
        self.newest = BarLimits(self.robust.bounds, self.next_benchmark())
        """What holds for the newest bar."""

    def settle(self, returns: Floats, benchmark_return: float) -> None:
        """Add a bar in which nothing can change any more to everyone's past.

        Parameters
        ----------
        returns
            Shape (n_rows,); NaN = none.
        benchmark_return
            NaN = none, and then nothing is added.
        """
        if benchmark_return == benchmark_return:  # noqa: PLR0124 - not missing
            self.robust.settle(returns)
            self.benchmark_robust.settle(np.array([benchmark_return]))

    def open(self, *, spans_night: bool) -> None:
        """Fix the limits of the next bar."""
        limits = self.robust.bounds if spans_night else self.robust.limits
        if self._lateness:
            limits = limits.copy()  # those of this bar, when others have come to hold
        self.newest = BarLimits(limits, self.next_benchmark())
        self._bars.append(self.newest)
        del self._bars[: -(self._lateness + 2) if self._lateness else -1]

    def insert(self, n_after: int) -> None:
        """Note that a bar was put in: it has whatever holds for the bar before it.

        Parameters
        ----------
        n_after
            How many bars are after it.
        """
        at = max(len(self._bars) - n_after, 0)
        self._bars.insert(at, self._bars[at - 1] if at else self._unknown)
        del self._bars[: -(self._lateness + 2)]

    def at(self, n_after: int) -> BarLimits:
        """Return what holds for the bar with so many after it."""
        if n_after < len(self._bars):
            return self._bars[-1 - n_after]
        return self._unknown

    def next_benchmark(self, *, spans_night: bool = False) -> tuple[float, float]:
        """Return low and high of the benchmark's return of the next bar."""
        robust = self.benchmark_robust
        low, high = robust.bounds if spans_night else robust.limits
        return float(low[0]), float(high[0])

    def forget(self, row: int) -> None:
        """Forget one row's past."""
        self.robust.forget(row)
        for bar in self._bars:
            for limits, bounds in zip(bar.limits, self.robust.bounds, strict=True):
                limits[row] = bounds[row]

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        reach = self.robust.reach
        return {
            "keys": self._keys,
            "robust": self.robust.state(),
            "benchmark": _of_one(self.benchmark_robust.state()),
            "bars": [
                {
                    "low": PerRow(bar.limits.low, -reach),
                    "high": PerRow(bar.limits.high, reach),
                    "benchmark": list(bar.benchmark),
                }
                for bar in self._bars
            ],
        }

    def restore_past(self, state: State) -> bool:
        """Go on from the past of a `state`; return whether it is one of such a past."""
        robust, benchmark = self.robust, self.benchmark_robust
        return robust.restore(state["robust"]) and benchmark.restore(state["benchmark"])

    def restore_bars(self, state: State, *, spans_night: bool) -> bool:
        """Go on with the bars of a `state`; return whether they had such limits.

        Parameters
        ----------
        state
            Its past is restored already.
        spans_night
            Whether the newest of them does.
        """
        if state["keys"] != self._keys:
            return False
        self._bars = [
            BarLimits(Limits(bar["low"], bar["high"]), tuple(bar["benchmark"]))
            for bar in state["bars"]
        ]
        if self._bars and not self._lateness:
            # Without lateness a bar has the limits themselves, or the bounds, no copy.
            self._bars.clear()
            self.open(spans_night=spans_night)
        elif self._bars:
            self.newest = self._bars[-1]
        return True

    @property
    def _unknown(self) -> BarLimits:
        reach = self.robust.reach
        return BarLimits(self.robust.bounds, (-reach, reach))


def _of_one(state: State) -> State:
    # Its only row is not one of the symbols.
    return {
        key: part.values if isinstance(part, PerRow) else part
        for key, part in state.items()
    }
