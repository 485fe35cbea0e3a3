"""What a feed observes: one return, or one bar's returns of many symbols."""

import msgspec

from .fields import Count, Name, Symbols, TimestampNs

FLOAT64_BYTES = 8
"""Bytes per value in a float64 column."""


class ReturnObserved(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="R", gc=False
):
    """One return of one symbol over one bar."""

    symbol: Name
    ts_event: TimestampNs
    """When the bar closed, in nanoseconds since the Unix epoch."""
    period_return: float
    """Return over the period ending at ``ts_event``; dimensionless."""
    seq: Count = 0
    """Position in the source's own sequence; 0 means that it keeps none."""
    ts_init: TimestampNs = 0
    """When the source built this message, in nanoseconds by the source's clock."""


class BenchmarkReturnObserved(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="B", gc=False
):
    """One return of one benchmark over one bar; it opens the bar for its cohort."""

    benchmark: Name
    ts_event: TimestampNs
    period_return: float
    seq: Count = 0
    ts_init: TimestampNs = 0


class BenchmarkReturnMissed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="M", gc=False
):
    """The benchmark has no return for a bar: the bar is in the grid, without pairs."""

    benchmark: Name
    ts_event: TimestampNs
    seq: Count = 0
    ts_init: TimestampNs = 0


class SessionOpened(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="O", gc=False
):
    """A benchmark's session opens: bars that close later belong to it."""

    benchmark: Name
    ts_event: TimestampNs
    """When it opens, in nanoseconds since the Unix epoch."""
    seq: Count = 0
    ts_init: TimestampNs = 0


class SymbolsDeclared(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="D", gc=False
):
    """A numbered list of symbols, agreed once so that frames need not repeat it."""

    table: Count
    """The number by which later frames of this connection refer to the list."""
    symbols: Symbols


class ReturnsObserved(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="C", gc=False
):
    """One bar's returns of many symbols: the columnar form of `ReturnObserved`."""

    ts_event: TimestampNs
    symbols: Count | Symbols
    """The symbols, in column order, or the table of a `SymbolsDeclared`."""
    period_returns: bytes
    """float64 little-endian, one per symbol; NaN = no return for this symbol."""
    seq: Count = 0
    ts_init: TimestampNs = 0
