"""What a store holds: the newest good snapshot and the journal's tail.

Rule: the good part is used, the bad part is reported with its position, and nothing
after a bad turn is used: what it was is not known, so what followed from it is not.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..actors import BetaColumns, BetaRows
from ..messages import SnapshotError, StoreError
from .checkpoint import unpack
from .journal_entries import (
    DamagedEntryError,
    PlacedTurn,
    RunStarted,
    decode_entries,
)
from .journal_replay import JournalReplay, RunConfig
from .store import Store, promised, reading

Publish = Callable[[list[BetaColumns | BetaRows]], None]


class Recovery(NamedTuple):
    """What was found in a store."""

    replay: JournalReplay
    """The state after the last good turn."""
    snapshot: int
    """Position of the snapshot that it began with; 0 = none."""
    next_position: int
    """Of the first turn that the store may be given now."""
    damage: tuple[StoreError, ...]
    """What could not be used, and where."""


def recover(
    path: str,
    config: RunConfig,
    *,
    on_updates: Publish | None = None,
    snapshot_until: int | None = None,
    until: Callable[[PlacedTurn], bool] | None = None,
) -> Recovery:
    """Read a store as far as it is good.

    Parameters
    ----------
    path
        The store; one that does not exist is empty.
    config
        What to estimate where the store does not tell.
    on_updates
        Called with what each turn of the tail published.
    snapshot_until
        Begin with a snapshot of this position or before; the newest by default.
    until
        Ends the reading before the first turn for which it returns true.
    """
    reader = _Reader(path, config, on_updates)
    reader.read(snapshot_until, until)
    replay = reader.replay
    damage = list(reader.damage)
    if until is None and reader.promised > replay.position:
        first = replay.position + 1
        detail = f"turns {first} to {reader.promised} were acknowledged and are missing"
        damage.append(StoreError(path, detail, first))
    if replay.diverged_at is not None:
        detail = "published another number of updates than it did live"
        damage.append(StoreError(path, detail, replay.diverged_at))
    return Recovery(
        replay,
        reader.snapshot,
        1 + max(replay.position, reader.promised, reader.last_seen),
        tuple(damage),
    )


def stored_config(path: str) -> RunConfig:
    """Return what the oldest run in a store estimated.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    StoreError
        When it is no store, or nothing in it says so.
    """
    with reading(path) as store:
        return _stored_config(store)


def _stored_config(store: Store) -> RunConfig:
    for row in reversed(store.snapshots()):
        with suppress(SnapshotError):
            return RunConfig.of_json(unpack(store.snapshot(row.position)).config)
    with suppress(DamagedEntryError, SnapshotError):
        for chunk in store.chunks(1):
            for placed in decode_entries(chunk.first, chunk.entries):
                for part in placed.turn.parts:
                    if isinstance(part, RunStarted):
                        return RunConfig.of_json(part.config)
    raise StoreError(store.path, "does not say what was estimated")


class _Reader:
    # Reads one store and keeps what was wrong with it.
    def __init__(self, path: str, config: RunConfig, publish: Publish | None) -> None:
        self.path = path
        self.damage: list[StoreError] = []
        self.snapshot = 0
        self.promised = 0
        self.last_seen = 0
        self._config = config
        self._publish = publish
        self.replay = JournalReplay(config, on_updates=publish)

    def read(
        self,
        snapshot_until: int | None,
        until: Callable[[PlacedTurn], bool] | None,
    ) -> None:
        try:
            self.promised = promised(self.path)  # first: the store may be growing
        except StoreError as error:
            self.damage.append(error)
        except OSError as error:
            self._report(f"cannot be read: {error}", None)
        if not Path(self.path).exists():
            return
        try:
            store = Store(self.path)
        except (sqlite3.Error, StoreError) as error:
            self._report(getattr(error, "reason", str(error)), None)
            return
        try:
            self._restore(store, snapshot_until)
            self._take_tail(store, until)
        finally:
            store.close()

    def _restore(self, store: Store, snapshot_until: int | None) -> None:
        try:
            rows = store.snapshots()
        except sqlite3.Error as error:
            self._report(f"snapshots cannot be read: {error}", None)
            return
        for row in rows:
            if snapshot_until is not None and row.position > snapshot_until:
                continue
            self.last_seen = max(self.last_seen, row.position)
            try:
                checkpoint = unpack(store.snapshot(row.position))
                if checkpoint.position != row.position:
                    found = f"is of turn {checkpoint.position}"
                    raise SnapshotError(found)  # noqa: TRY301 - one way to refuse it
                self.replay.restore(checkpoint)
            except (sqlite3.Error, SnapshotError) as error:
                self._report(str(error), row.position)
                continue
            self.snapshot = row.position
            return

    def _take_tail(
        self, store: Store, until: Callable[[PlacedTurn], bool] | None
    ) -> None:
        try:
            for placed in self._turns(store):
                if until is not None and until(placed):
                    return
                self.replay.take(placed)
        except DamagedEntryError as error:
            self._report(f"{error.reason}; what follows it is not used", error.position)
        except (sqlite3.Error, SnapshotError) as error:
            self._report(f"cannot be read: {error}", self.replay.position + 1)

    def _turns(self, store: Store) -> Iterator[PlacedTurn]:
        expected = self.replay.position + 1
        for chunk in store.chunks(expected):
            self.last_seen = max(self.last_seen, chunk.last)
            if chunk.first > expected:
                detail = f"is missing, as are those up to {chunk.first - 1}"
                if expected > 1:
                    raise DamagedEntryError(expected, detail)
                # All before it is lost, and there is no state that it could spoil.
                self._report(detail, expected)
                expected = chunk.first
            for placed in decode_entries(chunk.first, chunk.entries):
                if placed.position == expected:
                    yield placed
                    expected += 1
            if expected != chunk.last + 1:
                raise DamagedEntryError(expected, "is missing from its row")

    def _report(self, reason: str, position: int | None) -> None:
        self.damage.append(StoreError(self.path, reason, position))
