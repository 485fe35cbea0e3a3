"""Which bars a benchmark's return opens: sessions, the regular grid, the night.

Rule: a bar belongs to the grid when its benchmark return was observed or declared
missing, or when the grid is regular (``bar_interval``) and it lies between two others
of one session, or between one of them and the session's end. The same rule opens the
bars of a batch and of the live path.

::

    bar_interval = "1min"       session                    night      session
    benchmark     o  o  .  .  o  o  .  .  |        |  .  o  o
    grid          x  x  -  -  x  x  -  -  |        |  -  n  x
                                    `--.--'           '
                           with a calendar only: to the close, and from the open

    o = observed   . = never came   x = a bar   - = a bar without a pair
    n = the first bar of a session: its return spans the night (``overnight``)

A session is known by its calendar; else by `SessionOpened`, or on an intraday grid by a
gap of more than `OVERNIGHT_GAP_NS`. The first bar that ever comes has none before it:
it is its session's first where one was said to open before it, or where a calendar and
the interval leave no room for another bar since the open.
"""

import math
from math import nan
from typing import Final

from ..estimators import Opening, State
from .calendars import Calendar
from .config import MarketBetaConfig
from .durations import DAY_NS

OVERNIGHT_GAP_NS: Final = 4 * 3600 * 10**9
"""Two bars further apart than this have a night between them.

Longer than every lunch break (Shanghai's 90 minutes) and than the hour in which
futures pause; shorter than the shortest night, the eight hours between New York's
post-market and the next pre-market.
"""

_REMEMBERED: Final = 16
"""Opens, and first bars of sessions, that are remembered: a late bar may yet show that
one of those was the second."""

_DECAYED: Final = 64
"""After so many half-lives nothing of a weight is left in a double."""


class Openings:
    """The grid of one factor, as far as stamps go.

    Parameters
    ----------
    model
        Says how sessions are known and what they do.
    """

    def __init__(self, model: MarketBetaConfig) -> None:
        self._interval = model.interval_ns
        self._calendar = model.sessions
        self._by_gap = self._calendar is None and model.is_intraday
        self._is_plain = (
            self._calendar is None and self._interval is None and not self._by_gap
        )
        self._withholds = model.overnight == "exclude" and model.is_intraday
        self._resets = model.window == "session"
        self._reach = _reach_of(model)
        self._length_ns = (
            model.length_ns if model.window == "time" and model.decay is None else None
        )
        self.newest = -1
        """Stamp of the newest bar; -1 before the first."""
        self.floor = -1
        """Stamps up to here belong to earlier sessions."""
        self.withheld: dict[int, float] = {}
        """Benchmark returns of first bars of sessions, by stamp, newest last."""
        self._opens: list[int] = []  # stamps of the newest SessionOpened, increasing

    @property
    def by_calendar(self) -> bool:
        """Whether a calendar says where sessions begin, and nobody else."""
        return self._calendar is not None

    @property
    def withholds_nights(self) -> bool:
        """Whether the first bar of a session stays out of the windows."""
        return self._withholds

    @property
    def resets(self) -> bool:
        """Whether a window begins anew with each session."""
        return self._resets

    def left_by(self, stamp: int, *, resets: bool = False) -> int:
        """Return up to which stamp bars have left for good once a bar is the newest.

        Bars that leave because there are too many are not meant: those are so old that
        nothing in them could be amended any more.

        Parameters
        ----------
        stamp
            The newest bar's.
        resets
            Whether the window begins with it.

        Returns
        -------
        int
            -1 = none is.
        """
        if resets:
            return stamp - 1
        return -1 if self._length_ns is None else stamp - self._length_ns

    def open_session(self, stamp: int) -> None:
        """Note that a session opens; bars with a later stamp belong to it."""
        self._opens = sorted({*self._opens, stamp})[-_REMEMBERED:]

    def begins(self, before: int, stamp: int) -> int | None:
        """Return where a session begins between two neighbouring bars.

        Parameters
        ----------
        before
            The earlier bar's stamp; -1 when there is none.
        stamp
            The later bar's.

        Returns
        -------
        int or None
            Stamps up to here belong to the session before; ``None`` when both bars
            belong to one session.
        """
        if self._calendar is not None:
            session = self._calendar.session(self._calendar.number_at(stamp))
            if before < 0 and self._interval is not None:
                # where the grid has it, which need not be kept to more than by half
                before = stamp - self._interval - self._interval // 2
            is_first = session is not None and 0 <= before <= session.opens
            return session.opens if session and is_first else None
        opens = [opened for opened in self._opens if before <= opened < stamp]
        if opens:
            return opens[-1]
        if self._by_gap and 0 <= before < stamp - OVERNIGHT_GAP_NS:
            return before + OVERNIGHT_GAP_NS
        return None

    def skipped(self, before: int, stamp: int) -> list[int]:
        """Return the bars of the regular grid between two neighbours, in order."""
        interval = self._interval
        if interval is None or interval > DAY_NS:
            return []
        if self._calendar is not None:
            return self._skipped_by_calendar(self._calendar, before, stamp, interval)
        if interval == DAY_NS or self.begins(before, stamp) is not None:
            return []
        return self._between(before, stamp - interval // 2, interval)

    def next(self, stamp: int, benchmark_return: float) -> list[Opening]:
        """Return the bars that a benchmark return opens, its own last.

        Parameters
        ----------
        stamp
            Above `newest`.
        benchmark_return
            NaN = declared missing.
        """
        if self._is_plain and not self._opens:  # one return, one bar
            self.newest = stamp
            return [Opening(stamp, benchmark_return)]
        floor = self.begins(self.newest, stamp)
        is_first = floor is not None
        skipped = self.skipped(self.newest, stamp) if self.newest >= 0 else []
        openings = [Opening(missing, nan) for missing in skipped]
        if floor is not None:
            self.floor = floor
            if self._withholds:
                self.withhold(stamp, benchmark_return)
                benchmark_return = nan
        openings.append(Opening(stamp, benchmark_return))
        if is_first and self._resets:
            first = next(i for i, o in enumerate(openings) if o.stamp > self.floor)
            openings[first] = openings[first]._replace(resets=True)
        self.newest = stamp
        return openings

    def withhold(self, stamp: int, benchmark_return: float) -> None:
        """Keep the return of a session's first bar out of the windows."""
        self.withheld[stamp] = benchmark_return
        while len(self.withheld) > _REMEMBERED:
            del self.withheld[min(self.withheld)]

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        return {
            "newest": self.newest,
            "floor": self.floor,
            "withheld": list(self.withheld.items()),
            "opens": list(self._opens),
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self.newest = state["newest"]
        self.floor = state["floor"]
        self.withheld = dict(state["withheld"])
        self._opens = list(state["opens"])

    def _skipped_by_calendar(
        self, calendar: Calendar, before: int, stamp: int, interval: int
    ) -> list[int]:
        first, last = calendar.number_at(before), calendar.number_at(stamp)
        known = calendar.session(first)
        since_open = before - known.opens if known else 0
        sessions: list[list[int]] = []  # newest first
        n_skipped = 0
        for number in range(last, first - 1, -1):
            session = calendar.session(number)
            if session is None:
                continue
            if interval == DAY_NS:
                # One bar a session, as far from its open as the bar before.
                bar = session.opens + since_open
                bars = [bar] if number < last and before < bar < stamp else []
            else:
                after = max(before, session.opens)
                end = min(stamp - interval // 2, session.closes + 1)
                bars = self._between(after, end, interval)
            sessions.append(bars)
            n_skipped += len(bars)
            if n_skipped >= self._reach:
                break
        skipped = [bar for bars in reversed(sessions) for bar in bars]
        return skipped[-self._reach :]

    def _between(self, after: int, before: int, interval: int) -> list[int]:
        # Stamps of the grid in (after, before); of a long gap its end is enough.
        n_skipped = max(0, -(-(before - after) // interval) - 1)
        first = max(0, n_skipped - self._reach)
        return [after + interval * (i + 1) for i in range(first, n_skipped)]


def _reach_of(model: MarketBetaConfig) -> int:
    # How many bars without a pair, one behind the other, make a difference: until the
    # window is empty, a row is stale, or nothing can come to the bar before them.
    decay = model.decay
    if model.window == "time":  # where stamps count, but for what a window begins with
        interval = model.interval_ns
        bars = model.length_ns // interval + 1 if interval and decay is None else 1
    else:
        bars = model.n_bars if decay is None else math.ceil(_DECAYED * decay)
    return max(bars, model.stale_bars or 0, model.allowed_lateness)
