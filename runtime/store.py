"""The store: one SQLite file with the journal and the snapshots.

Rule: one object belongs to one thread. What was handed to `append` is in the file
when it returns, as far as its policy promises, and what is read is what was written:
every byte stands under a checksum that the reader of the entries checks.

Theory of operation
-------------------
A row of the journal is one group commit: the entries of consecutive turns in a row. So
a commit is three calls into SQLite, however many turns it holds; each call gives up the
interpreter's lock and has to win it back from a busy loop.

Beside the file stands ``<path>.promised``: the position up to which feeds have been
told that they may forget. SQLite drops the tail of a damaged write-ahead log in
silence; a journal that ends before the promise shows it. The sidecar holds a lock on
that file, so that no two write one store.
"""

import errno
import os
import sqlite3
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ..messages import ConfigError, StoreError
from .durability import Durability

APPLICATION_ID: Final = 0x42465354
"""What `file` and SQLite's tools see: ``BFST``."""

VERSION: Final = 1

BUSY_TIMEOUT_S: Final = 30.0
"""How long a writer waits for another one: a snapshot of 100 MB takes a second."""

ROWS_PER_READ: Final = 16
"""A reader that holds a transaction open keeps the write-ahead log from being reused;
it reads this many rows and lets go."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    ts_first INTEGER NOT NULL,
    ts_last INTEGER NOT NULL,
    entries BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS snapshots (
    position INTEGER PRIMARY KEY,
    ts INTEGER NOT NULL,
    content BLOB NOT NULL
);
"""

_SQLITE: Final = b"SQLite format 3\0"

_SYNCHRONOUS: Final = {Durability.OS: "NORMAL", Durability.FSYNC: "FULL"}


class Chunk(NamedTuple):
    """One row of the journal."""

    first: int
    last: int
    ts_first: int
    ts_last: int
    entries: bytes


class SnapshotRow(NamedTuple):
    """One snapshot, without its content."""

    position: int
    ts: int
    n_bytes: int


class Store:
    """An open store.

    Parameters
    ----------
    path
        The file.
    durability
        What `append` promises; ``None`` opens the file for reading only.

    Raises
    ------
    sqlite3.Error
        When it cannot be opened, as from every method.
    StoreError
        When it is a database of something else, or of another version.
    """

    def __init__(self, path: str, durability: Durability | None = None) -> None:
        self.path = path
        mode = "ro" if durability is None else "rwc"
        uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
        self._db = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
        )
        try:
            self._prepare(durability)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, durability: Durability | None) -> None:
        execute = self._db.execute
        application = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        is_empty = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and not is_empty:
            raise StoreError(self.path, "is a database of something else")
        if version != VERSION and not is_empty:
            raise StoreError(self.path, f"has version {version}, not {VERSION}")
        if durability is None:
            return
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
        if is_empty:
            execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {VERSION}")
            execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def append(self, chunk: Chunk) -> None:
        """Write a row; writing the same one again changes nothing.

        Raises
        ------
        StoreError
            When another row stands there.
        """
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, ?)", tuple(chunk)
        )
        if not cursor.rowcount and next(self.chunks(chunk.first)) != chunk:
            raise StoreError(self.path, "is written by somebody else", chunk.first)

    def chunks(self, first: int) -> Iterator[Chunk]:
        """Give the rows from the one that holds ``first`` on, in order."""
        while True:
            rows = self._db.execute(
                "SELECT first, last, ts_first, ts_last, entries FROM journal "
                "WHERE last >= ? ORDER BY first LIMIT ?",
                (first, ROWS_PER_READ),
            ).fetchall()
            yield from map(Chunk._make, rows)
            if len(rows) < ROWS_PER_READ:
                return
            first = rows[-1][1] + 1

    def snapshots(self) -> list[SnapshotRow]:
        """Return what snapshots there are, newest first."""
        rows = self._db.execute(
            "SELECT position, ts, length(content) FROM snapshots ORDER BY position DESC"
        )
        return [SnapshotRow._make(row) for row in rows]

    def snapshot(self, position: int) -> bytes:
        """Return the content of a snapshot."""
        row = self._db.execute(
            "SELECT content FROM snapshots WHERE position = ?", (position,)
        ).fetchone()
        return bytes(row[0])

    def add_snapshot(self, position: int, ts: int, content: bytes) -> None:
        """Write a snapshot of the state after turn ``position``."""
        self._db.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (position, ts, content)
        )

    def remove_snapshot(self, position: int) -> None:
        """Remove a snapshot."""
        self._db.execute("DELETE FROM snapshots WHERE position = ?", (position,))

    def remove_before(self, position: int, limit: int = 64) -> int:
        """Remove up to ``limit`` rows that end before ``position``; return how many."""
        cursor = self._db.execute(
            "DELETE FROM journal WHERE first IN (SELECT first FROM journal "
            "WHERE last < ? ORDER BY first LIMIT ?)",
            (position, limit),
        )
        return cursor.rowcount

    def journal_bytes(self, first: int) -> int:
        """Return the bytes of the entries from turn ``first`` on."""
        row = self._db.execute(
            "SELECT total(length(entries)) FROM journal WHERE last >= ?", (first,)
        ).fetchone()
        return int(row[0])


@contextmanager
def reading(path: str) -> Generator[Store]:
    """Open a store for reading.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    StoreError
        When it is none, or cannot be read where the block reads it.
    """
    if not Path(path).exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    try:
        store = Store(path)
        try:
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        raise StoreError(path, str(error)) from error


def is_store(path: str | Path) -> bool:
    """Return whether a file begins as every SQLite file does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


class Promise:
    """The file that says up to where feeds may forget; its lock is the store's.

    Parameters
    ----------
    path
        The store's.

    Raises
    ------
    OSError
        When it cannot be written.
    ConfigError
        When another live sidecar writes this store.
    """

    def __init__(self, path: str) -> None:
        import fcntl  # noqa: PLC0415 - POSIX, as is whoever writes a store

        self._path = promise_path(path)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            reason = f"{path} is written by another sidecar"
            raise ConfigError([("store.path", reason)]) from None

    def write(self, position: int) -> None:
        """Say that turns up to ``position`` are promised.

        Raises
        ------
        OSError
            When it cannot be written, or not all of it.
        """
        content = _checked(position)
        try:
            n_written = os.pwrite(self._file, content, 0)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error
        if n_written < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)

    def close(self) -> None:
        """Let another sidecar have the store."""
        os.close(self._file)


def promise_path(path: str) -> str:
    """Return where a store's promise is kept."""
    return f"{path}.promised"


def promised(path: str) -> int:
    """Return up to which turn feeds may have forgotten; 0 = none was promised.

    Raises
    ------
    StoreError
        When it was written down and cannot be read any more.
    """
    try:
        content = Path(promise_path(path)).read_bytes()
    except FileNotFoundError:
        return 0
    position = int.from_bytes(content[:8], "little")
    if content and content != _checked(position):
        raise StoreError(path, "the record of what was promised is damaged")
    return position


def _checked(position: int) -> bytes:
    number = position.to_bytes(8, "little")
    return number + zlib.crc32(number).to_bytes(4, "little")
