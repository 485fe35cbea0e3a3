"""The thread that writes the store.

Rule: the loop never waits for the disk. It hands entries over and is called back with
the position up to which they are as durable as was promised. What cannot be written is
kept and tried again; until then nothing is promised, and the state says why. The thread
does not end before it has said why, either.

Theory of operation
-------------------
Group commit: the thread takes all that has come while it was writing, as one row and
one transaction. The slower the disk, the larger the rows, and the cost per turn falls.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from ..messages import BetaFactoryError
from .durability import Durability
from .replacement import Base, replace_store
from .retention import Retention
from .store import Chunk, Promise, Store

logger = logging.getLogger(__name__)

MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Entries of one commit; a longer row only holds up the answer to its first."""

RETRY_S: Final = 1.0
"""Between attempts to write to a store that refuses."""


class Entry(NamedTuple):
    """An encoded turn on its way into the store."""

    position: int
    ts: int
    content: bytes


class StoreWriter:
    """Writes entries in order, in its own thread.

    Parameters
    ----------
    path, durability, retention
        The store, what it promises, and what it keeps.
    on_durable
        Called in the thread with each position that is durable now.
    on_state
        Called in the thread when the store begins to refuse (with the reason), and
        when it takes again (with ``""``).
    promise
        The lock on the store, if it could be had; else it is tried again.
    base
        Moves what stands at ``path`` aside first, and begins a new store with this.
    retry_s
        See `RETRY_S`.
    """

    def __init__(
        self,
        path: str,
        durability: Durability,
        retention: Retention,
        *,
        on_durable: Callable[[int], None],
        on_state: Callable[[str], None],
        promise: Promise | None = None,
        base: Base | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        self._path = path
        self._durability = durability
        self._retention = retention
        self._on_durable = on_durable
        self._on_state = on_state
        self._base = base
        self._retry_s = retry_s
        self._queue: SimpleQueue[Entry | int | None] = SimpleQueue()
        self._store: Store | None = None
        self._promise = promise
        self._closing = threading.Event()
        self._reason = ""
        self._held: Entry | int | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Hand over an entry; the next position is the next number."""
        self._queue.put(entry)

    def prune(self, now_ns: int) -> None:
        """Let the store forget what it need not keep."""
        self._queue.put(now_ns)

    def close(self) -> None:
        """Write what was handed over, if the store takes it, and end the thread."""
        self._closing.set()
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        elif self._promise is not None:
            self._promise.close()

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:
            # A fault of ours: what waits is never written, and that must be said.
            logger.exception("store.thread_ended path=%s", self._path)
            self._say(f"its thread ended with {error!r}: restart the sidecar")
        finally:
            self._close_store()
            if self._promise is not None:
                self._promise.close()

    def _write_all(self) -> None:
        while (item := self._next()) is not None:
            if isinstance(item, int):
                self._attempt(partial(self._retention.apply, now_ns=item))
            elif not self._write(self._chunk(item)):
                return

    def _write(self, chunk: Chunk) -> bool:
        while not self._attempt(partial(self._append, chunk=chunk)):
            if self._closing.wait(self._retry_s):
                logger.error(
                    "store.unwritten path=%s first=%d", self._path, chunk.first
                )
                return False
        self._on_durable(chunk.last)
        return True

    def _append(self, store: Store, chunk: Chunk) -> None:
        # Both or neither is done: where the promise fails, the same row comes again.
        store.append(chunk)
        if self._promise is not None:
            self._promise.write(chunk.last)

    def _next(self) -> Entry | int | None:
        if (item := self._held) is not None:
            self._held = None
            return item
        return self._queue.get()

    def _chunk(self, entry: Entry) -> Chunk:
        entries = [entry]
        n_bytes = len(entry.content)
        while n_bytes < MAX_CHUNK_BYTES:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(item, Entry):
                if item is None:
                    self._queue.put(None)  # nothing comes after it
                else:
                    self._held = item
                break
            entries.append(item)
            n_bytes += len(item.content)
        last = entries[-1]
        content = b"".join([each.content for each in entries])
        return Chunk(entry.position, last.position, entry.ts, last.ts, content)

    def _attempt(self, act: Callable[[Store], None]) -> bool:
        try:
            if self._store is None:
                self._store = self._open()
            act(self._store)
        except (sqlite3.Error, OSError, BetaFactoryError) as error:
            self._close_store()
            self._say(str(error))
            return False
        self._say("")
        return True

    def _open(self) -> Store:
        if self._promise is None:
            self._promise = Promise(self._path)
        if (base := self._base) is not None:
            replace_store(self._path, self._durability, base)
            self._base = None  # once more would move the new store aside
            self._promise.write(base.position)
        return Store(self._path, self._durability)

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):
                store.close()

    def _say(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            self._on_state(reason)
