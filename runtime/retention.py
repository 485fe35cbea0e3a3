"""What a store keeps, and what it may forget.

Rule: the newest two snapshots and all turns after the older one always stay: if the
newest turns out to be damaged, the other one and its tail give the same state. Beyond
that a store keeps what its size and age allow, and its journal always begins where a
snapshot stands, so that all that is kept can be replayed.
"""

from dataclasses import dataclass
from typing import Final

from .store import SnapshotRow, Store

MAX_SNAPSHOTS: Final = 12
"""Places from which a replay may begin; the rest of the bytes are for the journal."""

DAY_NS: Final = 24 * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a store keeps.

    Parameters
    ----------
    max_bytes
        Of entries and snapshots; the file has some overhead beyond it.
    max_days
        Age of what may be forgotten.
    """

    max_bytes: int
    max_days: float

    def apply(self, store: Store, now_ns: int) -> None:
        """Remove what need not be kept."""
        rows = thinned(store.snapshots())
        kept = {row.position for row in rows}
        for row in store.snapshots():
            if row.position not in kept:
                store.remove_snapshot(row.position)
        base = self.base(store, rows, now_ns)
        if base is None:
            return
        for row in rows:
            if row.position < base.position:
                store.remove_snapshot(row.position)
        while store.remove_before(base.position + 1):
            pass

    def base(
        self, store: Store, rows: list[SnapshotRow], now_ns: int
    ) -> SnapshotRow | None:
        """Return the snapshot with which the journal may begin; ``None`` = with all.

        Parameters
        ----------
        store
            What holds them.
        rows
            Its snapshots, newest first.
        now_ns
            The time now.
        """
        if len(rows) < 2:  # noqa: PLR2004 - see the rule
            return None
        oldest_ns = now_ns - int(self.max_days * DAY_NS)
        n_snapshot_bytes = sum(row.n_bytes for row in rows)
        base = None
        for place in range(len(rows) - 1, 0, -1):
            n_bytes = n_snapshot_bytes + store.journal_bytes(
                0 if base is None else base.position + 1
            )
            following = rows[place]
            if n_bytes <= self.max_bytes and following.ts > oldest_ns:
                break
            if base is not None:
                n_snapshot_bytes -= base.n_bytes
            base = following
        return base


def thinned(rows: list[SnapshotRow]) -> list[SnapshotRow]:
    """Return at most `MAX_SNAPSHOTS` of them, spread evenly; the newest two stay."""
    rows = list(rows)
    while len(rows) > MAX_SNAPSHOTS:
        gaps = [
            (rows[i - 1].position - rows[i + 1].position, i)
            for i in range(2, len(rows) - 1)
        ]
        del rows[min(gaps)[1]]
    return rows
