"""Where each row stands: its newest pair, its corrections, and what it is worth.

Rule: a row's status follows from its window and its silence, in that order, unless one
of its sides has died (`watch`) or somebody has overridden it. A silence is announced
once: at the end of the bar that makes it too long, or when the clock is looked at,
whichever the model counts by.
"""

from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..estimators import NO_ROWS, PerRow, Rows, State
from ..messages import Reason, Status
from .config import MarketBetaConfig
from .status import classify, classify_one
from .watch import Codes, Watch

_QUIET = (Status.HALTED, Status.REMOVED)
_EVERY_ROW: Final = slice(None)
_FINE: Final = int(Status.OK), int(Reason.NONE)


class Standing:
    """The standing of every row of one cohort.

    Parameters
    ----------
    n_rows
        Rows.
    model
        Says when a window has enough pairs, and when a silence is too long.
    """

    def __init__(self, n_rows: int, model: MarketBetaConfig) -> None:
        self._min_observations = model.min_observations
        self._stale_bars = model.stale_bars
        self._stale_ns = model.stale_ns
        self._now_ns = -1
        """When the clock was last looked at; -1 = never."""
        self.revision = np.zeros(n_rows, dtype=np.int32)
        """Corrections of each row since its newest pair."""
        self._noted_pair = np.full(n_rows, -1, dtype=np.int64)
        """Index of the bar of each row's newest pair, -1 = none yet,"""
        self._all_paired = -1
        """if that is not this bar, of which every row has a pair."""
        self._silent_from = 0
        """No row falls silent before this bar opens."""
        self._was_warm = np.zeros(n_rows, dtype=np.bool_)
        self._all_were_warm = False
        """What a row once was it only loses where it is forgotten."""
        self._has_revisions = False
        # What most updates have in common is made once.
        self._no_revisions = np.zeros(n_rows, dtype=np.int32)
        self._all_ok = np.full(n_rows, Status.OK, dtype=np.uint8)
        self._no_reasons = np.full(n_rows, Reason.NONE, dtype=np.uint8)
        for shared in (self._no_revisions, self._all_ok, self._no_reasons):
            shared.setflags(write=False)
        self._seen_at = np.full(n_rows, -1, dtype=np.int64)
        """When the clock was last looked at before each row's newest pair; -1 = none
        yet, or never."""
        self._is_late = np.zeros(n_rows, dtype=np.bool_)
        """Rows whose silence was too long when the clock was last looked at."""
        self._last_pair_cells = self._noted_pair.data
        self._was_warm_cells = self._was_warm.data
        self._revision_cells = self.revision.data
        self._announced: set[int] = set()
        """Rows whose silence was announced since the newest bar opened."""
        self.watch: Watch | None = None
        """Says which side of a row has died; ``None`` = nobody watches."""
        self._n_overridden = 0
        self._overridden = np.zeros(n_rows, dtype=np.bool_)
        self._override_status = np.zeros(n_rows, dtype=np.uint8)
        self._override_reason = np.zeros(n_rows, dtype=np.uint8)
        self.is_quiet: NDArray[np.bool_] = np.zeros(n_rows, dtype=np.bool_)
        """Rows of which nothing is published but that they are halted or removed."""
        self.has_quiet = False

    @property
    def _last_pair(self) -> NDArray[np.int64]:
        # Index of the bar of each row's newest pair; -1 = none yet.
        if self._all_paired >= 0:
            np.maximum(self._noted_pair, self._all_paired, out=self._noted_pair)
            self._all_paired = -1
        return self._noted_pair

    def paired(self, rows: Rows | None, bar: int, absent: Rows | None = None) -> None:
        """Note a fresh pair of each row at the newest bar.

        Parameters
        ----------
        rows
            Shape (k,); ``None`` = all.
        bar
            Its index.
        absent
            All other rows, where they are known.
        """
        where = _EVERY_ROW if rows is None else rows
        last_pair = self._last_pair
        if absent is None:
            last_pair[where] = bar
        else:
            kept = last_pair.take(absent)
            last_pair.fill(bar)
            last_pair[absent] = kept
        if self._has_revisions:
            self.revision[where] = 0
            self._has_revisions = rows is not None
        if self._stale_ns is not None:
            self._seen_at[where] = self._now_ns
            self._is_late[where] = False

    def all_paired(
        self, bar: int, beta: NDArray[np.float64], *, are_alike: bool
    ) -> tuple[Codes, Codes, NDArray[np.int32]] | None:
        """Note a fresh pair of every row; return status, reason and revision of each.

        What `paired`, `worth` and `revisions` do where every row is what it was,
        `OK`; ``None`` and nothing done where some may be something else.

        Parameters
        ----------
        bar
            Index of the newest bar.
        beta
            Slope of every window, at least one; NaN = undefined.
        are_alike
            Whether it is known that one of them is defined only where all are.
        """
        if (
            self._all_were_warm
            and self._stale_ns is None
            and not (self._has_revisions or self._n_overridden)
            and (self.watch is None or not self.watch.is_active)
            and not isnan(beta.item(0) if are_alike else np.minimum.reduce(beta))
        ):
            self._all_paired = bar
            return self._all_ok, self._no_reasons, self._no_revisions
        return None

    def revisions(self, rows: Rows | None) -> NDArray[np.int32]:
        """Return ``revision`` of some rows, not to be written to; ``None`` = of all."""
        if not self._has_revisions:
            k = len(self._no_revisions) if rows is None else len(rows)
            return self._no_revisions[:k]
        return self.revision.copy() if rows is None else self.revision[rows]

    def amended(self, rows: Rows, bar: int, *, is_correction: bool) -> None:
        """Note that an older bar of each row was filled late, or corrected."""
        self._last_pair[rows] = np.maximum(self._last_pair[rows], bar)
        self._silent_from = 0
        if self._stale_ns is not None and not is_correction:
            self._seen_at[rows] = self._now_ns
            self._is_late[rows] = False
        if is_correction:
            self.revision[rows] += 1
            self._has_revisions = True

    def inserted(self, bar: int) -> None:
        """Note that a bar was put in before ``bar``: what follows has moved by one."""
        self._last_pair[self._last_pair >= bar] += 1

    def override(self, rows: int | Rows, status: Status | None, reason: Reason) -> None:
        """Give rows a status of their own; ``None`` takes it back."""
        self._overridden[rows] = status is not None
        self._n_overridden = int(np.count_nonzero(self._overridden))
        self._override_status[rows] = status or 0
        self._override_reason[rows] = reason
        self._note_quiet()

    def forget(self, row: int) -> None:
        """Forget that a row ever had a pair."""
        self._last_pair[row] = -1
        self._seen_at[row] = -1
        self._is_late[row] = False
        self._was_warm[row] = False
        self._all_were_warm = False
        self.revision[row] = 0
        self._announced.discard(row)

    def state(self) -> State:
        """Return what has to be kept to go on later.

        A status of a row's own is not: it is its actor's, or says that its actor is
        away, which in another process it is not.
        """
        return {
            "now_ns": self._now_ns,
            "announced": PerRow(self._announced_mask(), 0),
            "revision": PerRow(self.revision, 0),
            "last_pair": PerRow(self._last_pair, -1),
            "was_warm": PerRow(self._was_warm, 0),
            "seen_at": PerRow(self._seen_at, -1),
            "is_late": PerRow(self._is_late, 0),
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        self._now_ns = state["now_ns"]
        self._announced = set(np.flatnonzero(state["announced"]).tolist())
        self.revision[:] = state["revision"]
        self._last_pair[:] = state["last_pair"]
        self._was_warm[:] = state["was_warm"]
        self._seen_at[:] = state["seen_at"]
        self._is_late[:] = state["is_late"]
        self._has_revisions = bool(self.revision.any())
        self._all_were_warm = bool(self._was_warm.all())
        self._silent_from = 0

    def _note_quiet(self) -> None:
        self.is_quiet = np.isin(self._override_status, _QUIET) & self._overridden
        self.has_quiet = bool(self.is_quiet.any())

    def _announced_mask(self) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.revision), dtype=np.bool_)
        mask[list(self._announced)] = True
        return mask

    def known(self) -> Rows:
        """Return the rows that ever completed a pair."""
        return np.flatnonzero(self._last_pair >= 0)

    def fallen_silent(self, newest: int) -> Rows:
        """Return the rows whose silence becomes too long with the newest bar."""
        if self._stale_bars is None:
            return NO_ROWS
        if newest < self._silent_from:
            if self._announced:
                self._announced.clear()
            return NO_ROWS
        last_allowed = newest - self._stale_bars
        # The next to fall silent: pairs only become newer, but for what comes late.
        later = self._last_pair > last_allowed
        oldest = int(self._last_pair.min(initial=newest + 1, where=later))
        self._silent_from = oldest + self._stale_bars
        rows = self._unannounced(self._last_pair == last_allowed)
        self._announced.clear()
        return self._alive(rows)

    def fallen_silent_late(self, first: int, n_bars: int, newest: int) -> Rows:
        """Return the rows whose silence has become too long with bars that came late.

        Parameters
        ----------
        first
            Index of the first bar that was put in.
        n_bars
            How many were put in, all between the same two bars.
        newest
            Index of the newest bar, which is open still.
        """
        if self._stale_bars is None:
            return NO_ROWS
        # Each bar that is put in is one more that has ended since an older pair.
        last_allowed = newest - 1 - self._stale_bars
        since = self._last_pair
        fell = (since > last_allowed - n_bars) & (since <= min(last_allowed, first - 1))
        return self._alive(self._unannounced(fell))

    def fallen_silent_by(self, now_ns: int) -> Rows:
        """Set the clock; return the rows whose silence has become too long by it."""
        if self._stale_ns is None:
            return NO_ROWS
        if self._now_ns < 0:  # when those came that came before it, nobody knows
            self._seen_at[self.known()] = now_ns
        self._now_ns = max(self._now_ns, now_ns)
        fell = self._now_ns - self._seen_at >= self._stale_ns
        fell &= self._seen_at >= 0
        fell &= ~self._is_late
        self._is_late |= fell
        return self._alive(np.flatnonzero(fell & ~self._overridden))

    def _unannounced(self, fell: NDArray[np.bool_]) -> Rows:
        # Those that fell, ever had a pair, and have not been said to be stale.
        fell &= self._last_pair >= 0
        fell &= ~self._overridden
        rows = np.flatnonzero(fell)
        if len(rows):
            rows = rows[~np.isin(rows, list(self._announced))]
        return rows

    def _alive(self, rows: Rows) -> Rows:
        # Those that are not stale already, because of a side that has died.
        if self.watch is None or not len(rows):
            return rows
        alive: Rows = rows[self.watch.reasons(rows) == Reason.NONE]
        return alive

    def worth(
        self,
        rows: Rows,
        n: NDArray[np.float64],
        beta: NDArray[np.float64],
        newest: int,
        *,
        is_fresh: bool = False,
    ) -> tuple[Codes, Codes]:
        """Return status and reason of some rows.

        Parameters
        ----------
        rows
            Shape (k,).
        n, beta
            Pairs and slope of their windows, shape (k,); NaN = undefined.
        newest
            Index of the newest bar.
        is_fresh
            Whether each of them has just completed a pair there.
        """
        is_watched = self.watch is not None and self.watch.is_active
        is_plain = is_fresh and not self._n_overridden and not is_watched
        if is_plain and len(beta) and not isnan(beta.item(beta.argmin())):
            if not self._all_were_warm:
                self._was_warm[rows] = True  # what is defined has enough pairs
                self._all_were_warm = bool(self._was_warm.all())
            k = len(rows)
            return self._all_ok[:k], self._no_reasons[:k]
        status, reason = classify(n, beta, self._min_observations, self._was_warm, rows)
        silent = self._silent(rows, newest)
        if silent.any():
            status[silent] = Status.STALE
            reason[silent] = Reason.NO_RECENT_PAIR
            self._announced.update(rows[silent].tolist())
        if self.watch is not None and is_watched:
            dead = self.watch.say(rows)
            is_dead = dead != Reason.NONE
            status[is_dead] = Status.STALE
            reason[is_dead] = dead[is_dead]
        if self._n_overridden:
            overridden = self._overridden[rows]
            status[overridden] = self._override_status[rows][overridden]
            reason[overridden] = self._override_reason[rows][overridden]
        return status, reason

    def _silent(self, rows: Rows, newest: int) -> NDArray[np.bool_]:
        if self._stale_bars is None:
            late: NDArray[np.bool_] = self._is_late[rows]
            return late
        last_pair = self._last_pair[rows]
        silent: NDArray[np.bool_] = newest - last_pair >= self._stale_bars
        silent &= last_pair >= 0
        return silent

    def paired_worth(
        self, row: int, n: float, beta: float, bar: int
    ) -> tuple[int, int]:
        """Note a fresh pair of one row; return its status and reason, over floats."""
        self._last_pair_cells[row] = bar
        if self._has_revisions:
            self._revision_cells[row] = 0
        if self._stale_ns is not None:
            self._seen_at[row] = self._now_ns
            self._is_late[row] = False
        watch = self.watch
        if (
            beta == beta  # noqa: PLR0124 - no NaN: what is defined has enough pairs
            and not self._n_overridden
            and (watch is None or not watch.is_active)
        ):
            self._was_warm_cells[row] = True
            return _FINE
        status, reason = classify_one(
            n, beta, self._min_observations, was_warm=bool(self._was_warm_cells[row])
        )
        if n >= self._min_observations:
            self._was_warm_cells[row] = True
        if self._n_overridden and self._overridden[row]:
            return int(self._override_status[row]), int(self._override_reason[row])
        if watch is not None and watch.is_active:
            dead = watch.say_one(row)
            if dead is not Reason.NONE:
                return int(Status.STALE), int(dead)
        return int(status), int(reason)
