"""Frames on a byte stream: a 4-byte big-endian length, then that many bytes.

Rule: no I/O. Bytes are fed in as they arrive, payloads come out when they are whole.
The announced length is checked before a byte of the payload is kept, so a peer cannot
make us hold more than ``max_frame_bytes`` by announcing it. What was whole before such
a header comes out all the same: first the payloads are taken, then `check` is called.
"""

import struct
from typing import Final

from ..messages import FrameTooLargeError

HEADER_BYTES: Final = 4

DEFAULT_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Room for a columnar frame of 20,000 symbols (2 MB) with a wide margin; a length
above it is a peer that does not speak this protocol."""


_pack_length: Final = struct.Struct(">I").pack
_unpack_length: Final = struct.Struct(">I").unpack_from


def frame(payload: bytes) -> bytes:
    """Return the payload with its length in front."""
    return _pack_length(len(payload)) + payload


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

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the payloads they complete.

        A header that announces more than ``max_frame_bytes`` ends the stream: `check`
        says so, and what is fed after it is not kept.
        """
        if self._announced > self.max_frame_bytes:
            return []
        self._announced = 0
        if self._n_held:
            self._parts.append(data)
            self._n_held += len(data)
            # A large frame comes in many pieces: join them once, not at each.
            if self._n_held < self._n_wanted:
                return []
            data = b"".join(self._parts)
            self._parts.clear()
            self._n_held = 0
        payloads: list[bytes] = []
        n_bytes = len(data)
        at = 0
        limit = self.max_frame_bytes
        wanted = HEADER_BYTES
        take = payloads.append
        last_header = n_bytes - HEADER_BYTES
        while at <= last_header:
            (length,) = _unpack_length(data, at)
            if length > limit:
                self._announced = length
                break
            start = at + HEADER_BYTES
            end = start + length
            if end > n_bytes:
                wanted = HEADER_BYTES + length
                break
            take(data[start:end])
            at = end
        if at < n_bytes:
            self._parts.append(data[at:] if at else data)
            self._n_held = n_bytes - at
            self._n_wanted = wanted
        return payloads

    def check(self) -> None:
        """Raise where the stream cannot be read on.

        Raises
        ------
        FrameTooLargeError
            When a header has announced more than ``max_frame_bytes``.
        """
        if self._announced > self.max_frame_bytes:
            raise FrameTooLargeError(self._announced, self.max_frame_bytes)
