"""What the sidecar publishes: betas, each with its uncertainty and its status."""

import enum
from typing import Final

import msgspec

from .fields import Count, Name, Symbols, TimestampNs


class Status(enum.IntEnum):
    """What a published beta is worth; one byte per row in columnar frames."""

    WARMING = 0
    """Fewer than ``min_observations`` pairs so far: numbers are undefined."""
    OK = 1
    """The numbers hold for the window that ends at ``ts_event``."""
    STALE = 2
    """No pair completed for longer than the bound; the numbers are old."""
    HALTED = 3
    """The symbol is halted: its silence is expected."""
    ZERO_VARIANCE = 4
    """The benchmark did not move in the window: there is no beta."""
    INSUFFICIENT = 5
    """The window once had enough pairs and now has fewer."""
    DEGRADED = 6
    """The symbol's actor failed, or its benchmark's is quarantined: the numbers are
    those of before."""
    REMOVED = 7
    """The symbol left the universe; this is its last update."""


class Reason(enum.IntEnum):
    """Why the status is what it is."""

    NONE = 0
    TOO_FEW_PAIRS = 1
    FLAT_BENCHMARK = 2
    NO_RECENT_PAIR = 3
    ACTOR_RESTARTED = 4
    ACTOR_QUARANTINED = 5
    FEED_GAP = 6
    """Reserved for a gap in the feed as the cause of `Status.DEGRADED`; never given."""
    OVERLOAD = 7
    """Reserved for an overload as its cause; never given."""
    HALTED_BY_OPERATOR = 8
    REMOVED_BY_OPERATOR = 9
    ASSET_SILENT = 10
    """No return of the symbol came for longer than ``feed_timeout``."""
    BENCHMARK_SILENT = 11
    """No return of the benchmark did, while the symbol's go on."""
    FEED_SILENT = 12
    """Neither did."""
    ASSET_FROZEN = 13
    """The symbol's return was the same one ``frozen_after`` bars in a row."""
    BENCHMARK_FROZEN = 14
    """The benchmark's was."""


BETA_TAG: Final = "U"
"""What the array of a `BetaUpdated` begins with; its fields follow in order."""


class BetaUpdated(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=BETA_TAG, gc=False
):
    """One symbol's beta to one factor, after a pair completed or a status changed.

    Numbers are ``None`` when the window does not define them; never 0, never NaN.
    """

    factor: Name
    """The configured name of the model, e.g. ``market``."""
    symbol: Name
    benchmark: Name
    ts_event: TimestampNs
    """The bar at which the window ends, in nanoseconds since the Unix epoch."""
    beta: float | None
    """Slope of the asset's return on the benchmark's; dimensionless."""
    alpha: float | None
    """Intercept, a return per bar."""
    std_error: float | None
    """Standard error of ``beta``, with ``n_obs - 2`` degrees of freedom."""
    t_stat: float | None
    """``beta / std_error``; infinite on an exact line."""
    r_squared: float | None
    residual_std: float | None
    """Standard deviation of the residuals, a return per bar."""
    n_obs: Count
    """Complete pairs in the window."""
    window_start: TimestampNs
    """Stamp of the oldest bar of the window, or of the oldest pair of one of pairs, in
    nanoseconds since the Unix epoch."""
    status: Status
    reason: Reason
    revision: Count
    """Corrections applied to the symbol's window since its newest pair."""
    seq: Count
    """Position in the factor's sequence of updates, from 1."""
    ts_init: TimestampNs
    """`ts_init` of the observation that caused this update; of an update without one
    (a status that time or an operator changed), its own ``ts_event``."""
    conflated: Count = 0
    """Updates of this topic folded into this one because the subscriber was slow."""
    n_eff: float | None = None
    """Effective number of pairs where they have different weights; ``None`` =
    ``n_obs``."""


def updates_of(arrays: list[tuple[object, ...]]) -> list[BetaUpdated]:
    """Return the messages that have these arrays on the wire.

    Parameters
    ----------
    arrays
        Each `BETA_TAG` and the fields of a `BetaUpdated`, in their order.

    Raises
    ------
    msgspec.ValidationError
        When one of them is no such message.
    """
    if len(arrays) > _FEW:
        return msgspec.convert(arrays, list[BetaUpdated])
    return [msgspec.convert(array, BetaUpdated) for array in arrays]


_FEW: Final = 8
"""Up to so many, one by one is faster: a list's type has to be looked into first."""


class BetasUpdated(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="V", gc=False
):
    """Many symbols' betas to one factor at one bar: the columnar `BetaUpdated`.

    Every ``bytes`` field is one little-endian column with one value per symbol;
    an undefined number is NaN beside a status that says why.
    """

    factor: Name
    benchmark: Name
    ts_event: TimestampNs
    symbols: Count | Symbols
    """The symbols, in column order, or the table of a `SymbolsDeclared`."""
    rows: bytes
    """int32 positions in ``symbols``, in column order; empty = all of them in order."""
    beta: bytes
    """float64, like the five columns after it."""
    alpha: bytes
    std_error: bytes
    t_stat: bytes
    r_squared: bytes
    residual_std: bytes
    n_obs: bytes
    """int32."""
    window_start: bytes
    """int64 nanoseconds, or 8 bytes where one value holds for every row."""
    status: bytes
    """`Status`, one byte each."""
    reason: bytes
    """`Reason`, one byte each."""
    revision: bytes
    """int32."""
    seq: Count
    """`seq` of the last row."""
    seqs: bytes
    """int64, or empty where the rows' seqs run consecutively up to ``seq``."""
    ts_init: bytes
    """int64 nanoseconds, or 8 bytes where one value holds for every row."""
    conflated: bytes = b""
    """int32 updates folded into each row; empty = none."""
    n_eff: bytes = b""
    """float64 effective numbers of pairs; empty = ``n_obs``."""
