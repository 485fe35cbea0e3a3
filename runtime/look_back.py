"""What a store can tell about the past: replayed, recorded, or as of an instant."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..actors import BetaColumns, BetaRows
from ..messages import BetaUpdated, StoreError, matches, parse_beta_topic
from .checkpoint import unpack
from .durability import Durability
from .journal_entries import DamagedEntryError, PlacedTurn, decode_entries, encode_entry
from .journal_replay import JournalReplay
from .recovery import recover, stored_config
from .replay import Digest
from .store import Chunk, SnapshotRow, Store, reading


class JournalSummary(NamedTuple):
    """What a replay of a store did."""

    first: int
    #: the first turn that was replayed
    last: int
    #: the last one
    digest: str
    #: of all updates published, see `runtime.replay.Digest`
    n_updates: int
    damage: tuple[StoreError, ...]
    #: what could not be replayed


class AsOf(NamedTuple):
    """What the world knew of one topic at an instant."""

    update: BetaUpdated | None
    #: the newest update published by then
    published_ns: int | None
    #: when; None = before the snapshot from which it is known
    position: int
    #: the last turn by then
    instance: str
    #: the run of the sidecar
    subscribers: tuple[tuple[str, str], ...]
    #: who was subscribed to it: names and patterns


def replay_store(path: str) -> JournalSummary:
    """Publish again what the store's journal led to, from its oldest snapshot on.

    Raises
    ------
    FileNotFoundError, StoreError
        As `stored_config` raises them.
    """
    config = stored_config(path)
    digest = Digest()

    def publish(turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            digest.add(updates.as_rows())

    first = _oldest_snapshot(path)
    found = recover(path, config, on_updates=publish, snapshot_until=first)
    return JournalSummary(
        found.snapshot + 1,
        found.replay.position,
        digest.hexdigest(),
        digest.n_updates,
        found.damage,
    )


def as_of(path: str, topic: str, ts: int) -> AsOf:
    """Return what was published of a topic by an instant, and to whom.

    Parameters
    ----------
    path
        The store.
    topic
        ``beta.<factor>.<symbol>``.
    ts
        Nanoseconds since the Unix epoch.

    Raises
    ------
    InvalidTopicError
        When it is no such topic.
    FileNotFoundError
        When there is no such file.
    StoreError
        When it is no store, or does not reach back so far.
    """
    factor, symbol = parse_beta_topic(topic)
    config = stored_config(path)
    with reading(path) as store:
        base = _base_at(store, ts)
    published: list[int] = []
    doing: list[PlacedTurn] = []

    def publish(turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            if updates.factor == factor and any(
                update.symbol == symbol for update in updates.as_rows()
            ):
                published[:] = [doing[0].turn.ts]

    def is_later(placed: PlacedTurn) -> bool:
        doing[:] = [placed]
        return placed.turn.ts > ts

    found = recover(
        path,
        config,
        on_updates=publish,
        snapshot_until=0 if base is None else base.position,
        until=is_later,
    )
    replay = found.replay
    if not replay.position:
        reason = "; ".join(error.reason for error in found.damage)
        raise StoreError(path, reason or "begins after that instant")
    return AsOf(
        replay.factory.latest(topic),
        published[0] if published else None,
        replay.position,
        replay.instance,
        _subscribers(replay, topic),
    )


def record(path: str, out: str, first_ns: int, last_ns: int) -> tuple[int, int]:
    """Copy a part of a store's journal, and the snapshot before it, to a new store.

    Parameters
    ----------
    path, out
        The store, and the file to make.
    first_ns, last_ns
        The part, in nanoseconds since the Unix epoch.

    Returns
    -------
    tuple of int
        Positions of the first and the last turn in the recording.

    Raises
    ------
    FileExistsError
        When ``out`` is there already.
    SnapshotError, StoreError
        When it is no store, does not reach back so far, or the part is damaged.
    """
    with reading(path) as source:
        base = _base_at(source, first_ns)
        Path(out).touch(exist_ok=False)
        target = Store(out, Durability.FSYNC)
        try:
            return _copy(source, target, base, last_ns)
        finally:
            target.close()


def _copy(
    source: Store, target: Store, base: SnapshotRow | None, last_ns: int
) -> tuple[int, int]:
    begin = 1
    if base is not None:
        content = source.snapshot(base.position)
        unpack(content)  # a damaged one is no use to anybody
        target.add_snapshot(base.position, base.ts, content)
        begin = base.position + 1
    last = begin - 1
    try:
        for chunk in _cut(source, begin, last_ns):
            target.append(chunk)
            last = chunk.last
    except DamagedEntryError as error:
        raise StoreError(source.path, error.reason, error.position) from error
    return begin, last


def _cut(source: Store, begin: int, last_ns: int) -> Iterator[Chunk]:
    # Rows with the turns from `begin` on, up to the first that is later.
    for chunk in source.chunks(begin):
        turns = [
            placed
            for placed in decode_entries(chunk.first, chunk.entries)
            if placed.position >= begin
        ]
        kept = [placed for placed in turns if placed.turn.ts <= last_ns]
        if kept:
            entries = b"".join(encode_entry(*placed) for placed in kept)
            first, last = kept[0], kept[-1]
            yield Chunk(
                first.position, last.position, first.turn.ts, last.turn.ts, entries
            )
        if len(kept) < len(turns):
            return


def _oldest_snapshot(path: str) -> int:
    with reading(path) as store:
        if _begins_with_nothing(store):
            return 0
        rows = store.snapshots()
        return rows[-1].position if rows else 0


def _base_at(store: Store, ts: int) -> SnapshotRow | None:
    # The newest one by then; None = the journal begins with nothing, which will do.
    base = next((row for row in store.snapshots() if row.ts <= ts), None)
    if base is None and not _begins_with_nothing(store):
        raise StoreError(store.path, "does not reach back so far")
    return base


def _begins_with_nothing(store: Store) -> bool:
    first = next(iter(store.chunks(1)), None)
    return first is not None and first.first == 1


def _subscribers(replay: JournalReplay, topic: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (peer.name, pattern)
        for peer in replay.peers.values()
        for pattern in peer.patterns.values()
        if matches(pattern, topic)
    )
