"""Frames on a byte stream: a 4-byte big-endian length, then that many bytes.

Rule: no I/O. Bytes are fed in as they arrive, payloads come out when they are whole.
The announced length is checked before a byte of the payload is kept, so a peer cannot
make us hold more than ``max_frame_bytes`` by announcing it. What was whole before such
a header comes out all the same: first the payloads are taken, then `check` is called.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

from ..messages import FrameTooLargeError

HEADER_BYTES: Final = 4

DEFAULT_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Room for a columnar frame of 20,000 symbols (2 MB) with a wide margin; a length
above it is a peer that does not speak this protocol."""


LONG_PAYLOAD: Final = 4096
"""Bytes from which on a view of a read costs less than a copy of a part of it."""

_pack_length: Final = struct.Struct(">I").pack
_unpack_length: Final = struct.Struct(">I").unpack_from


def frame(payload: bytes) -> bytes:
    """Return the payload with its length in front."""
    return _pack_length(len(payload)) + payload


def frames(payloads: Sequence[bytes]) -> bytes:
    """Return many payloads, each with its length in front."""
    if len(payloads) == 1:
        return frame(payloads[0])
    parts = [b""] * (2 * len(payloads))
    parts[::2] = map(_pack_length, map(len, payloads))
    parts[1::2] = payloads
    return b"".join(parts)


class FrameReader:
    """Cuts a byte stream into payloads.

    Parameters
    ----------
    max_frame_bytes
        Longest payload that is accepted. It may be raised later: the next `feed`, of
        no bytes even, then goes on where a longer one had stopped it.
    """

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._announced = 0
        self._parts: list[bytes] = []
        self._n_held = 0
        self._n_wanted = HEADER_BYTES

    @property
    def n_held(self) -> int:
        """Bytes of an unfinished frame."""
        return self._n_held

    def whole(self, data: bytes) -> bytes | None:
        """Return the payload of a read that is one frame and no more, if it is one.

        So it mostly is of a quiet peer. What is not has to be given to `feed`.
        """
        n_payload = len(data) - HEADER_BYTES
        if (
            not self._n_held  # nor has a header ended the stream: that one is held
            and 0 <= n_payload <= self.max_frame_bytes
            and _unpack_length(data)[0] == n_payload
        ):
            if n_payload < LONG_PAYLOAD:
                return data[HEADER_BYTES:]
            return _view(data, HEADER_BYTES, len(data))
        return None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the payloads they complete.

        A header that announces more than ``max_frame_bytes`` ends the stream: `check`
        says so, and what is fed after it is not kept.
        """
        payload = self.whole(data)
        if payload is not None:
            return [payload]
        payloads: list[bytes] = []
        stream = self._joined(data)
        at = self._cut(stream, 0, len(stream), payloads)
        self._keep(stream, at)
        return payloads

    def _joined(self, data: bytes) -> bytes:
        # What can be cut, with what waited for it.
        if self._announced > self.max_frame_bytes:
            return b""
        self._announced = 0
        if not self._n_held:
            return data
        self._parts.append(data)
        self._n_held += len(data)
        # A large frame comes in many pieces: join them once, not at each.
        if self._n_held < self._n_wanted:
            return b""
        data = b"".join(self._parts)
        self._parts.clear()
        self._n_held = 0
        return data

    def _cut(
        self,
        stream: bytes,
        at: int,
        stop: int,
        payloads: list[bytes],
        mark: bytes | None = None,
    ) -> int:
        # Cut whole frames that begin before `stop`, up to one whose payload begins with
        # the mark; return where the next frame begins.
        limit = self.max_frame_bytes
        take = payloads.append
        n_bytes = len(stream)
        last_header = min(n_bytes - HEADER_BYTES, stop - 1)
        while at <= last_header:
            (length,) = _unpack_length(stream, at)
            if length > limit:
                self._announced = length
                break
            start = at + HEADER_BYTES
            end = start + length
            if end > n_bytes:
                break
            if mark is not None and stream.startswith(mark, start):
                break
            take(
                stream[start:end]
                if length < LONG_PAYLOAD
                else _view(stream, start, end)
            )
            at = end
        return at

    def _keep(self, stream: bytes, at: int) -> None:
        # What is left of a stream waits for the rest of its frame.
        n_left = len(stream) - at
        if n_left:
            self._parts.append(stream[at:] if at else stream)
            self._n_held = n_left
            self._n_wanted = HEADER_BYTES
            if n_left >= HEADER_BYTES and not self._announced:
                self._n_wanted += _unpack_length(stream, at)[0]

    def check(self) -> None:
        """Raise where the stream cannot be read on.

        Raises
        ------
        FrameTooLargeError
            When a header has announced more than ``max_frame_bytes``.
        """
        if self._announced > self.max_frame_bytes:
            raise FrameTooLargeError(self._announced, self.max_frame_bytes)


def _view(data: bytes, start: int, end: int) -> bytes:
    # Bytes to whoever decodes them, which is all that is done to a payload.
    view: Any = memoryview(data)[start:end]
    as_bytes: bytes = view
    return as_bytes
