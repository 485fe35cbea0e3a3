"""A factory's whole state as bytes, and back.

Rule: a factory that was restored gives the very bytes that an uninterrupted one would.
Bytes that are not a snapshot, that were changed, or that belong to another model are
refused whole; nothing is restored half.

Layout: magic and version (4 bytes), CRC-32 of the rest (4 bytes), msgpack of the state,
in which an array is a map of its dtype, shape and little-endian memory.
"""

import zlib
from collections.abc import Sequence
from math import prod
from typing import Any, Final, TypeGuard, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..estimators import PerRow, State
from ..messages import SnapshotError

MAGIC: Final = b"BFS\x02"
_HEADER: Final = len(MAGIC) + 4

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder()


def pack_state(state: State) -> bytes:
    """Return a state as the bytes of a snapshot."""
    body = _encoder.encode(_plain(state))
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack_state(content: bytes, sources: NDArray[np.intp] | None = None) -> State:
    """Return the state that a snapshot holds.

    Parameters
    ----------
    content
        As `pack_state` returned it.
    sources
        Rows to read it into, see `PerRow.taken`; by default those it was taken from.

    Raises
    ------
    SnapshotError
        When these are not the bytes of a snapshot, or not all of them.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise SnapshotError("is no snapshot of this version")
    body = content[_HEADER:]
    expected = int.from_bytes(content[len(MAGIC) : _HEADER], "little")
    if zlib.crc32(body) != expected:
        raise SnapshotError(f"is damaged: {len(body)} bytes with another checksum")
    try:
        state = _restored(_decoder.decode(body), sources)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"cannot be read: {error}") from error
    return cast("State", state)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a state
    if isinstance(value, PerRow):
        return {**_plain(value.values), "empty": value.empty}
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        little = array.dtype.newbyteorder("<")
        return {
            "dtype": little.str,
            "shape": list(array.shape),
            "memory": np.ascontiguousarray(array, dtype=little).data,
        }
    if _is_map(value):
        return {key: _plain(part) for key, part in value.items()}
    if _is_list(value):
        return [_plain(part) for part in value]
    return value


def _is_map(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _restored(value: Any, sources: NDArray[np.intp] | None) -> Any:  # noqa: ANN401
    if _is_list(value):
        return [_restored(part, sources) for part in value]
    if not _is_map(value):
        return value
    if "dtype" not in value:
        return {key: _restored(part, sources) for key, part in value.items()}
    shape: tuple[int, ...] = tuple(value["shape"])
    array = np.frombuffer(value["memory"], dtype=value["dtype"])
    if array.size != prod(shape):
        msg = f"an array of {array.size} values, not {shape}"
        raise ValueError(msg)
    array = array.reshape(shape)
    if "empty" not in value:
        return array.copy()
    column = PerRow(array, value["empty"])
    return column.values.copy() if sources is None else column.taken(sources).values
