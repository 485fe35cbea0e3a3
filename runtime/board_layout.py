"""The board's memory: what lies where, for any program that can map a file.

Rule: the layout follows from the symbols and the factors alone. Numbers are in the
machine's byte order, for the file never leaves it; a layout that changes gets another
`VERSION`.

The file
--------
::

    0     8   magic, b"BETABRD" and a zero
    8     4   uint32 VERSION
    12    4   uint32 length of the directory
    16    8   float64 heartbeat: the monotonic clock of the host when the writer last
              said that it lives, in seconds; -inf once it has ended
    24    8   float64 heartbeat bound: a writer silent for longer is dead, in seconds
    32    8   int64 `State`
    40    24  zero
    64    ..  the directory, msgpack: `Directory` as an array

then one page per factor, in the directory's order, each at a multiple of 4,096::

    0     8   int64 turn: the seqlock. Odd while a turn is being written
    8     8   int64 whole_seq: seq of the last row of the newest whole turn; 0 = none
    16    8   int64 whole_ts_event
    24    8   int64 whole_window_start
    32    8   int64 whole_ts_init
    40    24  zero
    64    ..  the columns in the order of `COLUMNS`, each at a multiple of 64, one value
              per symbol in the directory's order

A turn that updates every symbol says once what is the same for all of them: a row whose
own ``seq`` is not above ``whole_seq`` takes its stamps from the page's head, and its
``seq`` is ``whole_seq`` minus the rows after it. That is a third of the memory that
such a turn would otherwise touch. A row was never updated while its ``seq`` and
``whole_seq`` are 0; its numbers are NaN.

The seqlock
-----------
The writer makes ``turn`` odd, stores, and makes it even. A reader that finds the same
even ``turn`` before and after its loads has seen no half of a turn; any other tries
again. Nobody waits for a reader. `runtime.fence` says what the order of loads and
stores rests on.
"""

import enum
import struct
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..messages import BoardFormatError

MAGIC: Final = b"BETABRD\0"
VERSION: Final = 1
HEAD: Final = struct.Struct("=8sIIddq24x")
"""magic, version, length of the directory, heartbeat, heartbeat bound, state."""
HEARTBEAT: Final = slice(16, 24)
STATE: Final = slice(32, 40)

PAGE_BYTES: Final = 4096
PAGE_HEAD_BYTES: Final = 64
LINE_BYTES: Final = 64
"""A cache line: two columns share none."""

N_NUMBERS: Final = 6

COLUMNS: Final[dict[str, np.dtype[Any]]] = {
    "beta": np.dtype(np.float64),
    "alpha": np.dtype(np.float64),
    "std_error": np.dtype(np.float64),
    "t_stat": np.dtype(np.float64),
    "r_squared": np.dtype(np.float64),
    "residual_std": np.dtype(np.float64),
    "n_obs": np.dtype(np.int32),
    "status": np.dtype(np.uint8),
    "reason": np.dtype(np.uint8),
    "revision": np.dtype(np.int32),
    "seq": np.dtype(np.int64),
    "ts_event": np.dtype(np.int64),
    "window_start": np.dtype(np.int64),
    "ts_init": np.dtype(np.int64),
}
"""Named and typed as in `messages.BetasUpdated`."""

TURN, WHOLE_SEQ, WHOLE_TS_EVENT, WHOLE_WINDOW_START, WHOLE_TS_INIT = range(5)
"""Positions in a page's head, as int64."""


class State(enum.IntEnum):
    """What became of the writer."""

    LIVE = 0
    """It writes, as long as its heart beats."""
    CLOSED = 1
    """It ended in order."""
    REPLACED = 2
    """Another writer has put its own file in this one's place."""


class Directory(msgspec.Struct, frozen=True, array_like=True):
    """What a board holds."""

    instance: str
    """Name of the writer's run."""
    symbols: tuple[str, ...]
    factors: tuple[tuple[str, str], ...]
    """Name and benchmark of each."""


class Head(NamedTuple):
    """The beginning of a file, checked."""

    directory: Directory
    first_page: int
    """Where the pages begin."""
    heartbeat_bound_s: float
    n_bytes: int
    """Of the whole file."""


def page_bytes(n_symbols: int) -> int:
    """Return what one factor's page takes."""
    size = PAGE_HEAD_BYTES
    for dtype in COLUMNS.values():
        size += _round_up(dtype.itemsize * n_symbols, LINE_BYTES)
    return _round_up(size, PAGE_BYTES)


def spans_of(n_symbols: int, offset: int = 0) -> dict[str, slice]:
    """Return where each column's bytes are, of a page that begins at ``offset``."""
    spans: dict[str, slice] = {}
    first = offset + PAGE_HEAD_BYTES
    for name, dtype in COLUMNS.items():
        size = dtype.itemsize * n_symbols
        spans[name] = slice(first, first + size)
        first += _round_up(size, LINE_BYTES)
    return spans


def columns_of(page: memoryview, n_symbols: int) -> dict[str, NDArray[Any]]:
    """Return a page's columns as arrays over its memory, shape (n_symbols,) each."""
    return {
        name: np.frombuffer(page[span], COLUMNS[name])
        for name, span in spans_of(n_symbols).items()
    }


def numbers_of(page: memoryview, n_symbols: int) -> NDArray[np.float64]:
    """Return the columns from beta to residual_std as one array, (6, n_symbols)."""
    pitch = _round_up(8 * n_symbols, LINE_BYTES)
    shape, strides = (N_NUMBERS, n_symbols), (pitch, 8)
    return np.ndarray(shape, np.float64, page, PAGE_HEAD_BYTES, strides)


def build(directory: Directory, heartbeat: float, bound_s: float) -> bytes:
    """Return a new board, complete, with no update in it.

    Parameters
    ----------
    directory
        What it will hold.
    heartbeat
        The monotonic clock now, in seconds.
    bound_s
        How long the writer may be silent, in seconds.
    """
    listing = msgspec.msgpack.encode(directory)
    head = HEAD.pack(MAGIC, VERSION, len(listing), heartbeat, bound_s, State.LIVE)
    first_page = _round_up(HEAD.size + len(listing), PAGE_BYTES)
    n_symbols = len(directory.symbols)
    page = bytearray(page_bytes(n_symbols))
    numbers_of(memoryview(page), n_symbols).fill(np.nan)
    pages = bytes(page) * len(directory.factors)
    return (head + listing).ljust(first_page, b"\0") + pages


def read_head(path: str, content: memoryview) -> Head:
    """Read and check the beginning of a board.

    Parameters
    ----------
    path
        Where it is, for the error.
    content
        The whole file.

    Raises
    ------
    BoardFormatError
        When this is no board, or one of another version.
    """
    if len(content) < HEAD.size or bytes(content[: len(MAGIC)]) != MAGIC:
        raise BoardFormatError(path, "is not a board")
    _, version, n_listing, _, bound_s, _ = HEAD.unpack_from(content)
    if version != VERSION:
        reason = f"layout version must be {VERSION}, was {version}"
        raise BoardFormatError(path, reason)
    try:
        listing = content[HEAD.size : HEAD.size + n_listing]
        directory = msgspec.msgpack.decode(listing, type=Directory)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BoardFormatError(path, f"directory: {error}") from error
    first_page = _round_up(HEAD.size + n_listing, PAGE_BYTES)
    size = page_bytes(len(directory.symbols)) * len(directory.factors) + first_page
    if len(content) != size:
        raise BoardFormatError(path, f"must have {size} bytes, had {len(content)}")
    return Head(directory, first_page, bound_s, size)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
