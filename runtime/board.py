"""The newest beta of every symbol, out of the memory that a sidecar shares.

Rule: what a reader returns was true of one moment, and its writer lived then, within
the heartbeat bound. Everything else is a `StaleBoardError`. A reader cannot write, and
nobody waits for it.

`runtime.board_layout` has the layout and the theory of operation. A lookup costs a
fraction of a microsecond and no system call, which is what the board is for; whoever
must see *every* update subscribes instead.
"""

import mmap
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..messages import (
    BetaUpdated,
    BoardFormatError,
    NotOnBoardError,
    Reason,
    StaleBoardError,
    Status,
)
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
    State,
    columns_of,
    page_bytes,
    read_head,
)
from .clock import Clock, LiveClock
from .fence import IS_ORDERED, fence

T = TypeVar("T")

TRIES: Final = 64
"""Attempts at a quiet moment between two looks at the clock."""

_STAMPS: Final = {
    "ts_event": WHOLE_TS_EVENT,
    "window_start": WHOLE_WINDOW_START,
    "ts_init": WHOLE_TS_INIT,
}


@dataclass(frozen=True, slots=True)
class BoardColumns:
    """All rows of one factor at one moment, shape (n_symbols,) each.

    A symbol without an update has ``seq`` 0 and NaN; a number that its window does not
    define is NaN beside a ``status`` that says why.
    """

    symbols: tuple[str, ...]
    beta: NDArray[np.float64]
    alpha: NDArray[np.float64]
    std_error: NDArray[np.float64]
    t_stat: NDArray[np.float64]
    r_squared: NDArray[np.float64]
    residual_std: NDArray[np.float64]
    n_obs: NDArray[np.int32]
    status: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    revision: NDArray[np.int32]
    seq: NDArray[np.int64]
    ts_event: NDArray[np.int64]
    window_start: NDArray[np.int64]
    ts_init: NDArray[np.int64]


class Board:
    """A sidecar's latest-value board, open for reading.

    Parameters
    ----------
    path
        As ``[board] path`` of the sidecar's configuration.
    clock
        The machine's by default.

    Raises
    ------
    FileNotFoundError
        When no board is there.
    BoardFormatError
        When the file is no board, or has another layout.

    Examples
    --------
    ::

        with Board("/dev/shm/beta-factory.board") as board:
            hedge = position * board["AAPL"]
            update = board.read("AAPL")
            newest = board.reader("AAPL")  # for a loop: hedge = position * newest()
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Clock | None = None
    ) -> None:
        self.path = os.fspath(path)
        self._heartbeat = _still()
        self._monotonic = (clock or LiveClock()).monotonic
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, symbol: str) -> float:
        """Return the newest beta to the first factor; see `beta`."""
        # `beta` written out for speed: one quiet moment is nearly always there. What it
        # needs is one tuple, for each attribute of ours would cost another look-up.
        row_of, betas, turn, heartbeat, bound_s, monotonic = self._lookup
        before = turn[0]
        try:
            beta = betas[row_of[symbol]]
        except KeyError:
            raise NotOnBoardError(self.path, "symbol", symbol) from None
        if (
            turn[0] == before
            and not before & 1
            and monotonic() - heartbeat[0] <= bound_s
        ):
            return beta
        return self.beta(symbol)

    def reader(self, symbol: str, factor: str | None = None) -> Callable[[], float]:
        """Return a function that returns what `beta` would, for one symbol, faster.

        It goes on with the new board after `reopen`.

        Parameters and errors are those of `beta`, of the function as well.
        """

        def bind() -> "tuple[memoryview[float], int, memoryview[int]]":
            row = self._row(symbol)
            page = self._page(factor)
            return page.betas, row, page.head

        betas, row, turn = bind()
        heartbeat, bound_s = self._heartbeat, self._quick_bound_s
        monotonic = self._monotonic

        def read() -> float:
            nonlocal betas, row, turn, heartbeat, bound_s
            before = turn[0]
            beta = betas[row]
            try:
                if (
                    turn[0] == before
                    and not before & 1
                    and monotonic() - heartbeat[0] <= bound_s
                ):
                    return beta
            except ValueError:  # released: the board was closed, or opened again
                betas, row, turn = bind()
                heartbeat, bound_s = self._heartbeat, self._quick_bound_s
            return self.beta(symbol, factor)

        return read

    def beta(self, symbol: str, factor: str | None = None) -> float:
        """Return a symbol's newest beta; NaN where there is none.

        Parameters
        ----------
        symbol
            One of ``symbols``.
        factor
            One of ``factors``; by default the first.

        Raises
        ------
        NotOnBoardError
            When the board does not hold the symbol or the factor.
        StaleBoardError
            When the writer is dead, has ended, or was replaced.
        """
        row = self._row(symbol)
        betas = self._page(factor).betas
        return self._consistent(factor, lambda: betas[row])

    def read(self, symbol: str, factor: str | None = None) -> BetaUpdated | None:
        """Return a symbol's newest update, ``None`` before the first.

        Parameters and errors are those of `beta`.
        """
        row = self._row(symbol)
        page = self._page(factor)
        values, head = self._consistent(
            factor, lambda: ([cell[row] for cell in page.cells], page.head.tolist())
        )
        update: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
        whole_seq = head[WHOLE_SEQ]
        if update["seq"] <= whole_seq:
            update["seq"] = whole_seq - (len(self.symbols) - 1 - row) * bool(whole_seq)
            update |= {name: head[position] for name, position in _STAMPS.items()}
        if not update["seq"]:
            return None
        for name in tuple(COLUMNS)[:N_NUMBERS]:
            update[name] = None if isnan(update[name]) else update[name]
        update["status"] = Status(update["status"])
        update["reason"] = Reason(update["reason"])
        return BetaUpdated(
            factor=page.factor, symbol=symbol, benchmark=page.benchmark, **update
        )

    def columns(self, factor: str | None = None) -> BoardColumns:
        """Return a copy of all rows of a factor, of one moment.

        Parameters and errors are those of `beta`.
        """
        page = self._page(factor)
        n_symbols = len(self.symbols)
        memory = self._consistent(factor, page.memory.copy)
        head = memory[:PAGE_HEAD_BYTES].view(np.int64)
        columns = columns_of(memory.data, n_symbols)
        seq = columns["seq"]
        if whole_seq := int(head[WHOLE_SEQ]):
            in_whole = seq <= whole_seq
            for name, position in _STAMPS.items():
                np.copyto(columns[name], head[position], where=in_whole)
            seqs = np.arange(whole_seq - n_symbols + 1, whole_seq + 1)
            np.copyto(seq, seqs, where=in_whole)
        return BoardColumns(self.symbols, **columns)

    def column(self, name: str, factor: str | None = None) -> NDArray[Any]:
        """Return a copy of one column of `columns`, shape (n_symbols,).

        Raises
        ------
        NotOnBoardError
            When there is no such column; and as `beta`.
        """
        if name not in COLUMNS:
            raise NotOnBoardError(self.path, "column", name)
        if name in _STAMPS or name == "seq":
            return cast("NDArray[Any]", getattr(self.columns(factor), name))
        return self._consistent(factor, self._page(factor).columns[name].copy)

    @property
    def is_alive(self) -> bool:
        """Whether the writer lives, within the heartbeat bound."""
        return self.heartbeat_age_s <= self.heartbeat_bound_s

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the writer's last sign of life; infinite once it has ended."""
        return self._monotonic() - self._heartbeat[0]

    def reopen(self) -> None:
        """Open what is at the path now: after a `StaleBoardError`, a new sidecar's.

        Errors are those of the constructor; the board stays as it was then.
        """
        self._open()

    def close(self) -> None:
        """Let go of the memory. Reading raises `StaleBoardError` from now on."""
        self._is_closed = True
        self._listen_to(_still())

    def _open(self) -> None:
        with open(self.path, "rb") as file:  # noqa: PTH123 - a descriptor to map
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:  # an empty file cannot be mapped
                raise BoardFormatError(self.path, "is not a board") from error
            self._stat = os.fstat(file.fileno())
        view = memoryview(mapped)
        head = read_head(self.path, view)
        directory = head.directory
        size = page_bytes(len(directory.symbols))
        self.instance = directory.instance
        """Name of the writer's run."""
        self.symbols = directory.symbols
        """In the order of the columns."""
        self.factors = tuple(factor for factor, _ in directory.factors)
        self.heartbeat_bound_s = head.heartbeat_bound_s
        self._is_closed = False
        self._state = view[STATE].cast("q")
        self._row_of = {symbol: row for row, symbol in enumerate(directory.symbols)}
        self._pages = {
            factor: _Page(
                factor,
                benchmark,
                view[head.first_page + i * size :][:size],
                len(directory.symbols),
            )
            for i, (factor, benchmark) in enumerate(directory.factors)
        }
        self._listen_to(view[HEARTBEAT].cast("d"))

    def _listen_to(self, heartbeat: "memoryview[float]") -> None:
        # From now on; a `reader` notices by the release of the one before.
        before, self._heartbeat = self._heartbeat, heartbeat
        before.release()
        # Where loads need fences, no look is so quick that it could do without.
        self._quick_bound_s = self.heartbeat_bound_s if IS_ORDERED else -inf
        first = self._pages[self.factors[0]]
        self._lookup = (
            self._row_of,
            first.betas,
            first.head,
            heartbeat,
            self._quick_bound_s,
            self._monotonic,
        )

    def _row(self, symbol: str) -> int:
        row = self._row_of.get(symbol)
        if row is None:
            raise NotOnBoardError(self.path, "symbol", symbol)
        return row

    def _page(self, factor: str | None) -> "_Page":
        page = self._pages.get(self.factors[0] if factor is None else factor)
        if page is None:
            raise NotOnBoardError(self.path, "factor", str(factor))
        return page

    def _consistent(self, factor: str | None, take: Callable[[], T]) -> T:
        # What `take` returns between two looks at one even turn of a live writer.
        turn = self._page(factor).head
        until = self._monotonic() + self.heartbeat_bound_s
        while True:
            for _ in range(TRIES):
                before = turn[TURN]
                if before & 1:
                    continue
                fence()
                taken = take()
                fence()
                if turn[TURN] == before:
                    if not self.is_alive:
                        break
                    return taken
            self._check_alive()
            if self._monotonic() > until:
                age_s = self.heartbeat_age_s
                raise StaleBoardError(self.path, "was never quiet", age_s)
            os.sched_yield()

    def _check_alive(self) -> None:
        age_s = self.heartbeat_age_s
        if age_s <= self.heartbeat_bound_s:
            return
        if self._is_closed:
            reason = "was closed by its reader"
        elif self._state[0] == State.CLOSED:
            reason = "was closed by its writer"
        elif self._state[0] == State.REPLACED or self._is_replaced():
            reason = "was replaced by another writer's"
        else:
            bound_s = self.heartbeat_bound_s
            reason = f"has a dead writer, silent for more than {bound_s:g} s"
        raise StaleBoardError(self.path, reason, age_s)

    def _is_replaced(self) -> bool:
        try:
            return not os.path.samestat(self._stat, Path(self.path).stat())
        except FileNotFoundError:
            return False


def _still() -> "memoryview[float]":
    # The heartbeat of nobody.
    return memoryview(array("d", [-inf])).cast("B").cast("d")


class _Page:
    # One factor's page, mapped.
    def __init__(
        self, factor: str, benchmark: str, memory: memoryview, n_symbols: int
    ) -> None:
        self.factor = factor
        self.benchmark = benchmark
        self.memory = np.frombuffer(memory, np.uint8)
        self.head = memory[:PAGE_HEAD_BYTES].cast("q")
        self.columns = columns_of(memory, n_symbols)
        self.cells = [column.data for column in self.columns.values()]
        self.betas = cast("memoryview[float]", self.cells[0])
