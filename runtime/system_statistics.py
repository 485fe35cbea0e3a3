"""What passed through a system: the counts of a replay, and of a sidecar's run."""

from typing import NamedTuple


class SystemStatistics(NamedTuple):
    """What passed through a system so far."""

    n_bars: int
    #: benchmark bars opened, over all factors
    n_pairs: int
    #: pairs completed, over all factors
    n_updates: int
    #: updates published
    n_restarts: int
    #: actors restarted
    n_dead_letters: int
    #: messages that no actor took
    n_failures: int
    #: errors that left an actor
    n_quarantined: int
    #: actors that are quarantined now
    n_listener_failures: int
    #: errors that left a callback of this process
    dropped: dict[str, int]
    #: observations not used, by reason
    n_held: int = 0
    #: returns in quarantine now
    stale: dict[tuple[str, str], int] = {}  # noqa: RUF012 - never written to
    #: topics that are stale now, by factor and reason
