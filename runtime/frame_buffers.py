"""Long frames, encoded into memory that is used again.

Rule: whoever holds a frame holds its memory. It is encoded into anew when nobody does
any more, never before.

A columnar frame of 5,000 symbols takes 300 kB. Made as any other frame it is written
three times: by the encoder, as it grows its own buffer, and behind its length. Here it
is written once, where the last one has left the caches warm. Whether a frame is still
held, by a transport that has not sent it yet for instance, is what `bytearray` knows
itself: while a view of it exists it refuses to be resized.
"""

import struct
from typing import Any, Final

from ..messages import Message, encode_into
from .framing import HEADER_BYTES

MAX_BUFFERS: Final = 4
"""Frames that may be held while later ones are still encoded into memory of these."""

_ROOM: Final = bytes(64)
"""The encoder grows a buffer that it fills to the last byte; growing takes a copy."""

_pack_length: Final = struct.Struct(">I").pack_into


class FrameBuffers:
    """A few buffers that take turns."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []

    def frame(self, message: Message) -> bytes:
        """Return a message as a frame: a read-only view that is hashed by nobody.

        Where it is kept, what it keeps is the memory of the largest frame so far.
        """
        buffer = self._free()
        encode_into(message, buffer, HEADER_BYTES)
        _pack_length(buffer, 0, len(buffer) - HEADER_BYTES)
        view: Any = memoryview(buffer).toreadonly()
        as_bytes: bytes = view  # to everybody who writes, joins, cuts or measures it
        return as_bytes

    def _free(self) -> bytearray:
        buffers = self._buffers
        for buffer in buffers:
            try:
                buffer.extend(_ROOM)
            except BufferError:  # somebody holds a view of it
                continue
            return buffer
        made = bytearray(_ROOM)
        if len(buffers) < MAX_BUFFERS:
            buffers.append(made)
        return made
