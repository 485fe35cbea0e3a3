"""What a sink is doing, and what became of a strategy's observations."""

import enum
from collections.abc import Callable
from typing import NamedTuple


class SinkState(enum.StrEnum):
    """What a sink is doing."""

    IDLE = "idle"
    """Nothing was observed yet; there is no thread and no connection."""
    CONNECTING = "connecting"
    LIVE = "live"
    CLOSED = "closed"


class SinkStatistics(NamedTuple):
    """What became of a sink's observations."""

    state: SinkState
    is_connected: bool
    n_observed: int
    """Observations that nodes handed over."""
    n_sent: int
    """Observations written to a connection."""
    n_acknowledged: int
    """Observations that the sidecar has taken in."""
    n_pending: int
    """Observations in the buffer."""
    n_frames: int
    """Messages published."""
    n_connections: int
    n_gaps: int
    """Stretches of observations that were given up."""
    dropped: dict[str, int]
    """Observations given up, by reason."""


Report = Callable[[SinkStatistics], None]
