"""One turn's updates as bytes, for however many subscribers.

Rule: what is sent to several is encoded once. Subscribers of the same symbols in the
same form share their bytes, and rows are shared by whoever takes them.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from ..actors import BetaColumns, BetaRows
from ..messages import Encoding, encode
from .frame_buffers import FrameBuffers
from .framing import frame, frames
from .selection import Mask, Selection

MANY_ROWS: Final = 256
"""From so many on, a frame is encoded into a buffer that is used again."""

_ROWS: Final = Encoding.ROWS


class EncodedUpdates(msgspec.Struct):
    """One turn's updates of one factor and their encodings, each made at most once.

    Parameters
    ----------
    updates
        What was computed.
    table
        Number of the symbol table of its factor, the same on every connection.
    buffers
        Where frames of many rows are encoded.
    """

    updates: BetaColumns | BetaRows
    table: int
    buffers: FrameBuffers | None = None
    _columns: BetaColumns | None = None
    _payloads: list[bytes] | None = None
    _row: bytes | None = None
    _whole: bytes | None = None
    _frames: dict[tuple[bool, bytes], bytes] | None = None

    def encoded(self, encoding: Encoding, selection: Selection | None) -> bytes:
        """Return the frames for a subscriber.

        Parameters
        ----------
        encoding
            What it asked for.
        selection
            The symbols it takes; ``None`` = all of them.
        """
        updates = self.updates
        if encoding is _ROWS and type(updates) is BetaRows:
            rows = updates.updates
            if len(rows) == 1 and (selection is None or selection.cells[rows[0].row]):
                if self._row is None:
                    self._row = frame(
                        encode(updates.array_of(rows[0], updates.first_seq))
                    )
                return self._row
        if selection is None and encoding is not _ROWS:  # for most of all frames
            if self._whole is None:
                self._whole = self._encode(encoding, None)
            return self._whole
        # b"" = all rows; an encoding itself would be slow to look up
        key = encoding is _ROWS, b"" if selection is None else selection.key
        if self._frames is None:
            self._frames = {}
        data = self._frames.get(key)
        if data is None:
            data = self._frames[key] = self._encode(encoding, selection)
        return data

    def _encode(self, encoding: Encoding, selection: Selection | None) -> bytes:
        if selection is not None:
            wanted = self._wanted(selection.mask)
            if not wanted:
                return b""
            if len(wanted) < len(self.updates):
                return self._encode_part(encoding, selection.mask, wanted)
            return self.encoded(encoding, None)
        if encoding is _ROWS:
            return frames(self._row_payloads())
        message = self.updates.as_columns(self.table)
        if self.buffers is not None and len(self.updates) >= MANY_ROWS:
            return self.buffers.frame(message)
        return frame(encode(message))

    def _encode_part(
        self, encoding: Encoding, mask: Mask, wanted: Sequence[int]
    ) -> bytes:
        if encoding is Encoding.ROWS:
            payloads = self._row_payloads()
            return frames([payloads[i] for i in wanted])
        columns = self._as_columns().select(mask)
        return frame(encode(columns.as_columns(self.table)))

    def _wanted(self, mask: Mask) -> Sequence[int]:
        updates = self.updates
        if isinstance(updates, BetaRows):
            return [i for i, u in enumerate(updates.updates) if mask[u.row]]
        taken = mask[updates.rows]
        if taken.all():
            return range(len(updates))
        wanted: list[int] = np.flatnonzero(taken).tolist()
        return wanted

    def _as_columns(self) -> BetaColumns:
        if self._columns is None:
            updates = self.updates
            self._columns = (
                updates.to_columns() if isinstance(updates, BetaRows) else updates
            )
        return self._columns

    def _row_payloads(self) -> list[bytes]:
        if self._payloads is None:
            self._payloads = list(map(encode, self.updates.as_arrays()))
        return self._payloads
