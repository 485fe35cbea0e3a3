"""The board's one writer: a turn's betas into shared memory.

Rule: writing costs the same whatever the number of readers, for the writer does not
know them. `runtime.board_layout` says what lies where and how readers are kept from
seeing half a turn.

A board is made complete under another name and then renamed into place, so nobody
opens half a file. The writer holds a lock on its file, which ends with the process
however it ends: a file that nobody holds is left over and is replaced, one that
somebody holds is a mistake in a configuration.
"""

import errno
import fcntl
import mmap
import os
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..actors import BetaColumns, BetaFactory, BetaRows
from ..messages import BoardFormatError, ConfigError
from .board_layout import (
    COLUMNS,
    HEARTBEAT,
    N_NUMBERS,
    PAGE_HEAD_BYTES,
    STATE,
    TURN,
    WHOLE_SEQ,
    WHOLE_TS_EVENT,
    WHOLE_TS_INIT,
    WHOLE_WINDOW_START,
    Directory,
    State,
    build,
    columns_of,
    numbers_of,
    page_bytes,
    read_head,
    spans_of,
)
from .clock import Clock
from .fence import fence

MODE: Final = 0o600
"""Only the user who runs the sidecar may read, and nobody else may write."""


_NOTHING: Final[tuple[NDArray[Any], ...]] = (np.zeros(0),) * 4


class BoardWriter:
    """A board and its only writer.

    Parameters
    ----------
    path
        Where the board will be; best in a tmpfs, such as ``/dev/shm``.
    factory
        Says which symbols and factors it holds.
    instance
        Name of this run.
    clock
        Gives the heartbeats.
    heartbeat_bound_s
        How long it may be silent before readers take it for dead, in seconds.

    Raises
    ------
    ConfigError
        When the file cannot be made there, is no board, or has a live writer.
    """

    def __init__(
        self,
        path: str,
        factory: BetaFactory,
        *,
        instance: str,
        clock: Clock,
        heartbeat_bound_s: float = 1.0,
    ) -> None:
        self.path = path
        self._clock = clock
        factors = tuple((f.name, f.benchmark) for f in factory.factors)
        directory = Directory(instance, factory.symbols, factors)
        content = build(directory, clock.monotonic(), heartbeat_bound_s)
        try:
            with _replacing(path):
                self._file, name = _create(path, content)
                Path(name).replace(path)
        except OSError as error:
            reason = f"{path}: {error.strerror or error}"
            raise ConfigError([("board.path", reason)]) from error
        self._map = mmap.mmap(self._file, len(content))
        view = memoryview(self._map)
        self._heartbeat = view[HEARTBEAT].cast("d")
        self._state = view[STATE].cast("q")
        size = page_bytes(len(factory.symbols))
        first = len(content) - size * len(factors)
        self._pages = {
            factor: _Page(self._map, first + i * size, len(factory.symbols))
            for i, (factor, _) in enumerate(factors)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, turn: Iterable[BetaColumns | BetaRows]) -> None:
        """Write a turn's published updates."""
        for updates in turn:
            self._pages[updates.factor].write(updates)

    def beat(self) -> None:
        """Tell the readers that the writer lives."""
        self._heartbeat[0] = self._clock.monotonic()

    def close(self) -> None:
        """Tell the readers that no more will come, and take the board away."""
        if not self._pages:
            return
        self._pages = {}
        self._state[0] = State.CLOSED
        fence()
        self._heartbeat[0] = -inf
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file), Path(self.path).stat()):
                Path(self.path).unlink()
        os.close(self._file)


class _Page:
    # One factor's page.
    def __init__(self, mapped: mmap.mmap, offset: int, n_symbols: int) -> None:
        memory = memoryview(mapped)[offset:][: page_bytes(n_symbols)]
        self._head = memory[:PAGE_HEAD_BYTES].cast("q")
        self._turn = 0
        columns: dict[str, NDArray[Any]] = {**columns_of(memory, n_symbols)}
        self._numbers = numbers_of(memory, n_symbols)
        self._n_obs = columns["n_obs"]
        self._status = columns["status"]
        self._reason = columns["reason"]
        self._revision = columns["revision"]
        self._seq = columns["seq"]
        self._ts_event = columns["ts_event"]
        self._window_start = columns["window_start"]
        self._ts_init = columns["ts_init"]
        self._cells: dict[str, memoryview[Any]] = {
            name: column.data for name, column in columns.items()
        }
        self._number_cells = [self._cells[name] for name in tuple(COLUMNS)[:N_NUMBERS]]
        self._all_rows = np.arange(n_symbols)
        self._known_whole: NDArray[np.intp] | None = None
        self._written = _NOTHING
        """What stands in the columns that mostly stay as they are, while it does."""
        self._mapped: Any = mapped  # arrays count as buffers from Python 3.12 on
        spans = spans_of(n_symbols, offset)
        self._steady_spans = [
            spans[name] for name in ("n_obs", "status", "reason", "revision")
        ]
        numbers = slice(spans["beta"].start, spans["residual_std"].stop)
        are_joined = numbers.stop - numbers.start == self._numbers.nbytes
        self._numbers_span = numbers if are_joined else None

    def write(self, updates: BetaColumns | BetaRows) -> None:
        head = self._head
        turn = self._turn
        self._turn = turn + 2
        head[TURN] = turn + 1
        fence()
        if isinstance(updates, BetaRows):
            self._write_rows(updates)
        elif self._is_whole(updates):
            self._write_whole(updates)
        else:
            self._write_some(updates)
        fence()
        head[TURN] = turn + 2

    def _is_whole(self, updates: BetaColumns) -> bool:
        # Every row in order, and one stamp of each kind for all of them. A cohort's
        # whole bars share one array of rows, so it is compared once.
        rows = updates.rows
        if len(updates.window_start) != 1 or len(updates.ts_init) != 1:
            return False
        if rows is not self._known_whole:
            if not np.array_equal(rows, self._all_rows):
                return False
            self._known_whole = rows
        return updates.seqs is None

    def _write_whole(self, updates: BetaColumns) -> None:
        # What ``self._n_obs[:] = updates.n_obs`` does, without numpy's look at shapes
        # and types: a span of the mapping takes a column's bytes in one copy. The six
        # columns of numbers are one span where no padding parts them.
        mapped = self._mapped
        if self._numbers_span is None:
            self._numbers[:] = updates.numbers
        else:
            numbers = updates.numbers
            if not numbers.flags.c_contiguous:
                numbers = np.ascontiguousarray(numbers)
            mapped[self._numbers_span] = numbers
        # Of a usual turn these are the read-only arrays of the turn before.
        steady = updates.n_obs, updates.status, updates.reason, updates.revision
        for span, column, written in zip(
            self._steady_spans, steady, self._written, strict=True
        ):
            if column is not written or column.flags.writeable:
                mapped[span] = column
        self._written = steady
        head = self._head
        head[WHOLE_SEQ] = updates.last_seq
        head[WHOLE_TS_EVENT] = updates.ts_event
        head[WHOLE_WINDOW_START] = updates.window_start.item()
        head[WHOLE_TS_INIT] = updates.ts_init.item()

    def _write_some(self, updates: BetaColumns) -> None:
        self._written = _NOTHING
        rows = updates.rows
        for column, values in zip(self._numbers, updates.numbers, strict=True):
            column[rows] = values
        self._n_obs[rows] = updates.n_obs
        self._status[rows] = updates.status
        self._reason[rows] = updates.reason
        self._revision[rows] = updates.revision
        self._seq[rows] = updates.seq
        self._ts_event[rows] = updates.ts_event
        self._window_start[rows] = updates.window_start
        self._ts_init[rows] = updates.ts_init

    def _write_rows(self, updates: BetaRows) -> None:
        self._written = _NOTHING
        cells = self._cells
        seq = updates.first_seq
        for update in updates.updates:
            row = update.row
            for column, number in zip(self._number_cells, update.numbers, strict=True):
                column[row] = number
            cells["n_obs"][row] = update.n_obs
            cells["status"][row] = update.status
            cells["reason"][row] = update.reason
            cells["revision"][row] = update.revision
            cells["seq"][row] = seq
            cells["ts_event"][row] = updates.ts_event
            cells["window_start"][row] = update.window_start
            cells["ts_init"][row] = update.ts_init
            seq += 1


def _create(path: str, content: bytes) -> tuple[int, str]:
    # A new file beside the path, ours alone; its descriptor and name.
    name = f"{path}.{secrets.token_hex(8)}"
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        with open(file, "wb", closefd=False) as stream:
            stream.write(content)
    except OSError:
        os.close(file)
        Path(name).unlink()
        raise
    return file, name


@contextmanager
def _replacing(path: str) -> Generator[None]:
    # What is at the path may be replaced; its readers are told once it has been.
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, "another live sidecar writes it") from error
        old = _map_board(path, file)
        yield
        old[STATE].cast("q")[0] = State.REPLACED
        fence()
        old[HEARTBEAT].cast("d")[0] = -inf
    finally:
        os.close(file)


def _map_board(path: str, file: int) -> memoryview:
    # Only a board is replaced: anything else was put there by somebody for something.
    try:
        old = memoryview(mmap.mmap(file, 0))
        read_head(path, old)
    except (ValueError, BoardFormatError) as error:
        raise OSError(errno.EEXIST, "exists and is not a board") from error
    return old
