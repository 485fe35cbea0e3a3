"""The thread that writes the store: order, refusals, retention, replacement."""

import errno
import os
import sqlite3
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from stores import RUN, LiveRun, add_snapshot, recovered

from beta_factory.messages import ConfigError, StoreError
from beta_factory.runtime.durability import Durability
from beta_factory.runtime.replacement import Base, finish_replacement, replace_store
from beta_factory.runtime.retention import MAX_SNAPSHOTS, Retention, thinned
from beta_factory.runtime.snapshotter import take_snapshot
from beta_factory.runtime.store import Chunk, Promise, SnapshotRow, Store, promised
from beta_factory.runtime.store_writer import Entry, StoreWriter

PATIENCE_S = 30.0


class Written:
    """Collects what a writer reports, and waits for it."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.states: list[str] = []
        self.changed = threading.Condition()

    def durable(self, position: int) -> None:
        with self.changed:
            self.positions.append(position)
            self.changed.notify_all()

    def state(self, reason: str) -> None:
        with self.changed:
            self.states.append(reason)
            self.changed.notify_all()

    def wait_for(self, position: int) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: self.positions and self.positions[-1] >= position, PATIENCE_S
            )

    def wait_for_refusal(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.states, PATIENCE_S)


class StubbornPromise(Promise):
    """A promise that cannot be written so many times."""

    n_refusals = 2
    error: Exception = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, position: int) -> None:
        if self.n_refusals:
            self.n_refusals -= 1
            raise self.error
        super().write(position)


def writer(
    path: Path,
    written: Written,
    *,
    promise: Promise | None = None,
    base: Base | None = None,
) -> StoreWriter:
    return StoreWriter(
        str(path),
        Durability.FSYNC,
        Retention(2**40, 1000.0),
        on_durable=written.durable,
        on_state=written.state,
        promise=promise,
        base=base,
        retry_s=0.01,
    )


def entry(position: int) -> Entry:
    return Entry(position, position * 10, b"%d," % position)


def content(path: Path) -> bytes:
    store = Store(str(path))
    chunks = list(store.chunks(1))
    store.close()
    assert [c.first for c in chunks[1:]] == [c.last + 1 for c in chunks[:-1]]
    return b"".join(chunk.entries for chunk in chunks)


def test_entries_are_written_in_order_and_reported_once_they_are(
    tmp_path: Path,
) -> None:
    path, written = tmp_path / "store", Written()
    writing = writer(path, written)
    writing.start()
    for position in range(1, 2001):
        writing.put(entry(position))
    writing.close()
    assert content(path) == b"".join(b"%d," % n for n in range(1, 2001))
    assert written.positions == sorted(written.positions)
    assert written.positions[-1] == 2000


def test_what_a_store_refuses_is_kept_until_it_takes_it(tmp_path: Path) -> None:
    folder, written = tmp_path / "missing", Written()
    writing = writer(folder / "store", written)
    writing.start()
    for position in range(1, 11):
        writing.put(entry(position))
    written.wait_for_refusal()
    assert written.positions == []
    assert written.states == [
        f"[Errno 2] No such file or directory: '{folder}/store.promised'"
    ]
    folder.mkdir()
    written.wait_for(10)
    writing.close()
    assert written.states[-1] == ""
    assert content(folder / "store") == b"1,2,3,4,5,6,7,8,9,10,"


def test_nothing_is_durable_before_it_is_promised(tmp_path: Path) -> None:
    path, written = tmp_path / "store", Written()
    writing = writer(path, written, promise=StubbornPromise(str(path)))
    writing.start()
    writing.put(entry(1))
    written.wait_for(1)
    writing.put(entry(2))
    written.wait_for(2)
    writing.close()
    assert written.states == ["[Errno 28] No space left on device", ""]
    assert written.positions == [1, 2]
    assert promised(str(path)) == 2
    assert content(path) == b"1,2,"


def test_promise_that_cannot_be_written_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, data: bytes, at: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write_half(file: int, data: bytes, at: int) -> int:
        return os.pwritev(file, [data[:5]], at)

    promise = Promise(str(tmp_path / "store"))
    for pwrite, reason in ((refuse, "Input/output"), (write_half, "No space left")):
        monkeypatch.setattr(os, "pwrite", pwrite)
        with pytest.raises(OSError, match=rf"{reason}.*/store\.promised'$"):
            promise.write(7)
    promise.close()


def test_damaged_store_is_moved_aside_once_however_often_it_is_tried(
    tmp_path: Path,
) -> None:
    path, written = tmp_path / "store", Written()
    path.write_bytes(b"damaged")
    promise = StubbornPromise(str(path))
    writing = writer(path, written, promise=promise, base=Base(5, 0, b"base"))
    writing.start()
    writing.put(entry(6))
    written.wait_for(6)
    writing.close()
    assert Path(f"{path}.damaged-1").read_bytes() == b"damaged"
    assert not Path(f"{path}.damaged-2").exists()


def test_a_thread_that_ends_by_a_fault_says_so(tmp_path: Path) -> None:
    path, written = tmp_path / "store", Written()
    promise = StubbornPromise(str(path))
    promise.error = RuntimeError("nobody foresaw this")
    writing = writer(path, written, promise=promise)
    writing.start()
    writing.put(entry(1))
    written.wait_for_refusal()
    writing.close()
    assert written.positions == []
    assert written.states == [
        "its thread ended with RuntimeError('nobody foresaw this'): restart the sidecar"
    ]
    Promise(str(path)).close()  # the next sidecar gets its lock


def test_writer_ends_although_the_store_refuses(tmp_path: Path) -> None:
    written = Written()
    writing = writer(tmp_path / "missing" / "store", written)
    writing.start()
    writing.put(entry(1))
    written.wait_for_refusal()
    writing.close()
    assert written.positions == []


def test_one_store_has_one_writer(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    promise = Promise(path)
    with pytest.raises(ConfigError, match="is written by another sidecar"):
        Promise(path)
    promise.close()
    Promise(path).close()


def test_row_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), Durability.OS)
    chunk = Chunk(1, 2, 10, 20, b"ours")
    store.append(chunk)
    store.append(chunk)
    with pytest.raises(StoreError, match="turn 1: is written by somebody else"):
        store.append(chunk._replace(entries=b"theirs"))
    store.close()


def test_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="is a database of something else"):
        Store(str(path), Durability.OS)


def test_damaged_store_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for number in (1, 2, 3):
        path.write_bytes(b"damaged %d" % number)
        replace_store(str(path), Durability.OS, Base(number, 0, b"base"))
        store = Store(str(path))
        assert [row.position for row in store.snapshots()] == [number]
        store.close()
        assert Path(f"{path}.damaged-1").read_bytes() == b"damaged %d" % number
    assert Path(f"{path}.damaged-2").read_bytes() == b"damaged 2"
    assert not Path(f"{path}.damaged-3").exists()


def test_replacement_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "store"
    replace_store(str(path), Durability.OS, Base(5, 0, b"base"))
    path.rename(f"{path}.new")  # killed between the two renames
    finish_replacement(str(path))
    assert path.exists()
    finish_replacement(str(path))
    assert path.exists()


def test_thinning_keeps_the_newest_two_and_the_oldest() -> None:
    rows = [SnapshotRow(position, 0, 1) for position in range(100, 0, -1)]
    kept = [row.position for row in thinned(rows)]
    assert len(kept) == MAX_SNAPSHOTS
    assert kept[:2] == [100, 99]
    assert kept[-1] == 1
    gaps = [a - b for a, b in pairwise(kept[1:])]
    assert max(gaps) <= 3 * min(gaps) + 1


@pytest.mark.parametrize(
    ("retention", "first"),
    [
        pytest.param(Retention(2**40, 1000.0), 1, id="keeps all"),
        pytest.param(Retention(1, 1000.0), 3, id="too large"),
        pytest.param(Retention(2**40, 1e-9), 3, id="too old"),
    ],
)
def test_retention_leaves_what_a_recovery_needs(
    tmp_path: Path, retention: Retention, first: int
) -> None:
    path = tmp_path / "store"
    bases: list[int] = []
    for run in range(4):
        LiveRun(path).take(range(run * 10, run * 10 + 10)).end()
        bases.append(add_snapshot(path))
    LiveRun(path).take(range(40, 45)).end()
    before = recovered(path)
    store = Store(str(path), Durability.OS)
    retention.apply(store, before.replay.ts + 10**15)
    kept = store.snapshots()
    begin = next(iter(store.chunks(1))).first
    for row in kept[:1]:  # what is kept is enough, also without the newest
        store.remove_snapshot(row.position)
    store.close()
    assert begin == (1 if first == 1 else bases[2] + 1)
    after = recovered(path)
    assert not after.damage
    assert after.replay.factory.snapshot() == before.replay.factory.snapshot()


def test_snapshot_is_a_recovery_that_worked(tmp_path: Path) -> None:
    path = tmp_path / "store"
    LiveRun(path).take(range(20)).end()
    report = take_snapshot(str(path), RUN)
    assert (report.position, report.n_turns, report.damage) == (21, 21, [])
    assert take_snapshot(str(path), RUN).position == 0  # nothing new
    found = recovered(path)
    assert found.snapshot == 21
    assert found.replay.position == 21
