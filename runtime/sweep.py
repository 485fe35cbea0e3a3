"""A bar file swept: all of a replay at once, for a file that is short of surprises.

Rule: what comes out is what the `Replayer` makes of the same file, byte for byte, with
the same summary; the tests hold the two against each other. What can be swept is said
here; anything else is replayed.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

import numpy as np

from ..actors import BetaTurns, Drop, Factor
from ..actors.sweep import Recording, Sweep, can_sweep
from ..estimators import LARGEST
from ..messages import Reason
from .bars import Bars
from .clock import Clock
from .observations import asset_symbols
from .replay import Digest, ReplaySummary
from .system_statistics import SystemStatistics

LARGEST_TABLE: Final = 1 << 24
"""Cells (bars times symbols) up to which a file is swept: 128 MB as a table, and twice
that while it is made. Larger files are wide; those lose little when they are replayed
bar by bar."""


def sweep_of(bars: Bars, factor: Factor) -> Sweep | None:
    """Return a file's sweep, ``None`` when it has to be replayed.

    Parameters
    ----------
    bars
        The file; it has the benchmark and other symbols.
    factor
        The one model of the replay.
    """
    is_small = bars.n_bars * len(bars.symbols) <= LARGEST_TABLE
    if not is_small or not can_sweep(factor.model):
        return None
    if bars.n_rows and np.abs(bars.period_returns).max() > LARGEST:
        return None  # a return that an actor refuses
    table = np.full((bars.n_bars, len(bars.symbols)), np.nan)
    at = np.repeat(np.arange(bars.n_bars), np.diff(bars.offsets))
    table[at, bars.symbol_ids] = bars.period_returns
    column = bars.symbols.index(factor.benchmark)
    recording = Recording(
        bars.ts_events, table[:, column].copy(), np.delete(table, column, axis=1)
    )
    sweep = Sweep(factor, asset_symbols(bars, factor.benchmark), recording)
    return sweep if sweep.is_possible else None


def sweep_bars(
    bars: Bars,
    sweep: Sweep,
    clock: Clock,
    *,
    on_turns: Callable[[BetaTurns], None] | None = None,
    on_bar: Callable[[int], None] | None = None,
) -> ReplaySummary:
    """Replay a file at once.

    Parameters
    ----------
    bars
        The file.
    sweep
        What `sweep_of` made of it.
    clock
        Measures how long it takes.
    on_turns
        Called with what is computed, some thousands of updates at a time.
    on_bar
        Called with each stamp after its bar, some thousands at a time.
    """
    started = clock.monotonic()
    digest = Digest()
    n_done = 0

    def tell_bars(end: int) -> None:
        nonlocal n_done
        if on_bar is not None:
            for stamp in bars.ts_events[n_done:end].tolist():
                on_bar(stamp)
        n_done = end

    for turns in sweep.turns():
        digest.add_encoded(turns.encoded(), len(turns))
        if on_turns is not None:
            on_turns(turns)
        newest: int = turns.ts_event[-1].item()
        tell_bars(bisect_right(bars.ts_events, newest))
    tell_bars(bars.n_bars)
    return ReplaySummary(
        n_messages=_n_messages(sweep.recording),
        system=_statistics(sweep, digest.n_updates),
        elapsed_s=clock.monotonic() - started,
        digest=digest.hexdigest(),
    )


def _n_messages(recording: Recording) -> int:
    # What `observe` would have sent: the table of symbols, then one message a bar for
    # the benchmark and one for the assets, where there is anything to say.
    opens = ~np.isnan(recording.benchmark_returns)
    has_assets = ~np.isnan(recording.asset_returns).all(axis=1)
    n_messages = np.count_nonzero(opens) + np.count_nonzero(has_assets)
    return int(n_messages) + bool(len(recording.stamps))


def _statistics(sweep: Sweep, n_updates: int) -> SystemStatistics:
    # Nothing fails where nobody acts.
    dropped: dict[Drop, int] = {
        reason: n for reason, n in sorted(sweep.dropped.items()) if n
    }
    stale: dict[tuple[str, str], int] = {}
    if sweep.n_stale:
        stale[sweep.factor.name, Reason.NO_RECENT_PAIR.name.lower()] = sweep.n_stale
    return SystemStatistics(
        n_bars=sweep.n_bars,
        n_pairs=sweep.n_pairs,
        n_updates=n_updates,
        n_restarts=0,
        n_dead_letters=0,
        n_failures=0,
        n_quarantined=0,
        n_listener_failures=0,
        dropped={str(reason): n for reason, n in dropped.items()},
        stale=stale,
    )
