"""A whole recording at once: what a factory would publish of it, bar after bar.

Rule: the same updates as those of `BetaFactory`, byte for byte, and the same counts of
what is dropped. A recording is sorted and complete, so that nothing in it is late,
early or twice; what else may happen to a message or an actor does not happen here. That
leaves four things of the live path: which bars open (`Openings`, the live path's own),
what the windows say (`estimators.sweep`, the bits of `WindowSlab`), what that is worth
(`classify`), and which rows fall silent. Models that need more than that are not swept.

Order of the updates: those of a bar's pairs by row; then, when the next bar opens,
those of the rows whose silence has become too long with this one, by row.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..estimators import Rows
from ..estimators.sweep import Bars, Swept, keeps_pivots, sweep
from ..messages import Reason, Status
from .config import Factor, MarketBetaConfig
from .openings import Openings
from .staging import MAX_PENDING_BARS
from .status import classify
from .tally import Drop
from .turns import BetaTurns

Mask = NDArray[np.bool_]


class Recording(NamedTuple):
    """Returns by bar, sorted by stamp; each of them finite and within `LARGEST`."""

    stamps: NDArray[np.int64]
    """Increasing, shape (n_bars,)."""
    benchmark_returns: NDArray[np.float64]
    """NaN = none, shape (n_bars,)."""
    asset_returns: NDArray[np.float64]
    """NaN = none, shape (n_bars, n_symbols); in the order of the symbols' rows."""


def can_sweep(model: MarketBetaConfig) -> bool:
    """Return whether recordings of a model can be swept."""
    return (
        model.window == "bars"
        and model.decay is None
        and model.stale_ns is None
        and not model.allowed_lateness
        and not model.is_guarded
    )


class Sweep:
    """What a factory of one factor publishes of a recording.

    Parameters
    ----------
    factor
        The model, one that `can_sweep`.
    symbols
        Symbol of each row, sorted.
    recording
        What is swept.
    """

    def __init__(
        self, factor: Factor, symbols: tuple[str, ...], recording: Recording
    ) -> None:
        self.factor = factor
        self._symbols = symbols
        self.recording = recording
        """What is swept."""
        is_open = ~np.isnan(recording.benchmark_returns)
        self._stamps, self._benchmark_returns, at = _grid(
            factor.model, recording, is_open
        )
        self.n_bars = len(self._stamps)
        """Bars that open."""
        returns = np.full((self.n_bars, len(symbols)), np.nan)
        returns[at] = recording.asset_returns[is_open]
        withheld = np.flatnonzero(np.isnan(self._benchmark_returns))
        self.dropped: dict[Drop, int] = {
            Drop.UNPAIRED: _n_unpaired(recording.asset_returns, is_open),
            Drop.OVERNIGHT: int(np.count_nonzero(~np.isnan(returns[withheld]))),
        }
        """Observations that are in no window, by reason."""
        returns[withheld] = np.nan
        self._returns = returns
        self._paired: Mask = ~np.isnan(returns)
        self.n_pairs = int(np.count_nonzero(self._paired))
        """Complete pairs."""
        self._is_stale = np.zeros(len(symbols), dtype=np.bool_)

    @property
    def n_stale(self) -> int:
        """Rows that were stale when `turns` ended."""
        return int(np.count_nonzero(self._is_stale))

    @property
    def is_possible(self) -> bool:
        """Whether the recording's values allow it: see `keeps_pivots`."""
        model = self.factor.model
        return keeps_pivots(self._returns, self._benchmark_returns, model.n_bars)

    def turns(self) -> Iterator[BetaTurns]:
        """Yield all updates in order, some thousands at a time."""
        model = self.factor.model
        silent = _falling_silent(self._paired, model.stale_bars or 0)
        was_warm = np.zeros(len(self._symbols), dtype=np.bool_)
        seq = 1
        for bars, rows, n, statistics in sweep(
            self._returns,
            self._benchmark_returns,
            self._paired | silent,
            lookback_length=model.n_bars,
            min_observations=model.min_observations,
        ):
            is_silent = silent[bars, rows]
            order = np.argsort(bars * 2 + is_silent, kind="stable")
            part = Swept(bars[order], rows[order], n[order], statistics[:, order])
            if len(order):
                turns = self._turns_of(part, is_silent[order], was_warm, seq)
                seq += len(turns)
                yield turns

    def _turns_of(
        self, part: Swept, is_silent: Mask, was_warm: Mask, seq: int
    ) -> BetaTurns:
        bars, rows, n, numbers = part
        fewest = self.factor.model.min_observations
        status, reason = classify(
            n,
            numbers[0],
            fewest,
            _warm_before(rows, n >= fewest, was_warm),
            np.arange(len(rows)),
        )
        self._is_stale[rows] = is_silent  # the last update of a row holds
        status[is_silent] = Status.STALE
        reason[is_silent] = Reason.NO_RECENT_PAIR
        oldest = np.maximum(bars - self.factor.model.n_bars + 1, 0)
        return BetaTurns(
            factor=self.factor.name,
            benchmark=self.factor.benchmark,
            symbols=self._symbols,
            rows=rows,
            ts_event=self._stamps[bars],
            numbers=numbers,
            n_obs=n.astype(np.int64),
            window_start=self._stamps[oldest],
            status=status,
            reason=reason,
            first_seq=seq,
        )


def _grid(
    model: MarketBetaConfig, recording: Recording, is_open: Mask
) -> tuple[NDArray[np.int64], NDArray[np.float64], Bars]:
    # Stamps and benchmark returns of the bars that open, and which of them are those of
    # the recording's own.
    stamps = recording.stamps[is_open]
    returns = recording.benchmark_returns[is_open]
    if model.interval_ns is None:  # no regular grid, and no nights: see `Openings`
        return stamps, returns, np.arange(len(stamps))
    openings = Openings(model)
    grid: list[tuple[int, float]] = []
    at: list[int] = []
    for stamp, value in zip(stamps.tolist(), returns.tolist(), strict=True):
        opened = openings.next(stamp, value)
        grid += [(opening.stamp, opening.benchmark_return) for opening in opened]
        at.append(len(grid) - 1)
    return (
        np.array([stamp for stamp, _ in grid], dtype=np.int64),
        np.array([value for _, value in grid], dtype=np.float64),
        np.array(at, dtype=np.intp),
    )


def _n_unpaired(asset_returns: NDArray[np.float64], is_open: Mask) -> int:
    # What waits when the recording ends has not been given up, as far as there is room.
    opened = np.flatnonzero(is_open)
    first = int(opened[-1]) + 1 if len(opened) else 0
    given_up = ~is_open
    given_up[first : first + MAX_PENDING_BARS] = False
    return int(np.count_nonzero(~np.isnan(asset_returns[given_up])))


def _falling_silent(paired: Mask, stale_bars: int) -> Mask:
    # Where a row has had no pair for so many bars, and another bar opens to say so.
    n_bars, n_rows = paired.shape
    rows, bars = np.nonzero(paired.T)
    falls = bars + stale_bars
    following = np.full(len(bars), n_bars + stale_bars)
    same_row = rows[1:] == rows[:-1]
    following[:-1][same_row] = bars[1:][same_row]
    fell = (following > falls) & (falls + 1 < n_bars)
    silent = np.zeros((n_bars, n_rows), dtype=np.bool_)
    silent[falls[fell], rows[fell]] = True
    return silent


def _warm_before(rows: Rows, is_warm: Mask, was_warm: Mask) -> Mask:
    # Whether each update's row had enough pairs in any update before; `was_warm` is
    # that of each row before these updates, and is brought to where they end.
    k = len(rows)
    first_warm = np.full(len(was_warm), k)
    at = np.flatnonzero(is_warm)
    np.minimum.at(first_warm, rows[at], at)
    before: Mask = was_warm[rows] | (np.arange(k) > first_warm[rows])
    was_warm |= first_warm < k
    return before
