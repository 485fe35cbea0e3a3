"""One turn's updates as bytes, for however many subscribers.

Rule: what is sent to several is encoded once. Who takes all symbols of a factor costs
nothing beyond the first of them; who takes some of its rows gets those of the frames
that all share.
"""

from collections.abc import Sequence

import numpy as np

from ..actors import BetaColumns, BetaRows
from ..messages import Encoding, encode
from .framing import frame, frames
from .selection import Mask


class EncodedUpdates:
    """One turn's updates of one factor and their encodings, each made at most once.

    Parameters
    ----------
    updates
        What was computed.
    table
        Number of the symbol table of its factor, the same on every connection.
    """

    __slots__ = ("_columns", "_frame", "_frames", "_payloads", "_updates", "table")

    def __init__(self, updates: BetaColumns | BetaRows, table: int) -> None:
        self.table = table
        self._updates = updates
        self._columns: BetaColumns | None = None
        self._payloads: list[bytes] | None = None
        self._frames = b""  # of all rows
        self._frame = b""  # of all columns

    def encoded(self, encoding: Encoding, mask: Mask | None) -> bytes:
        """Return the frames for a subscriber.

        Parameters
        ----------
        encoding
            What it asked for.
        mask
            The symbols it takes, shape (n_symbols,); ``None`` = all of them.
        """
        if mask is None:
            return self._whole(encoding)
        wanted = self._wanted(mask)
        if not wanted:
            return b""
        if len(wanted) == len(self._updates):
            return self._whole(encoding)
        if encoding is Encoding.ROWS:
            payloads = self._row_payloads()
            return frames([payloads[i] for i in wanted])
        columns = self._as_columns().select(mask)
        return frame(encode(columns.as_columns(self.table)))

    def _wanted(self, mask: Mask) -> Sequence[int]:
        updates = self._updates
        if isinstance(updates, BetaRows):
            return [i for i, u in enumerate(updates.updates) if mask[u.row]]
        taken = mask[updates.rows]
        if taken.all():
            return range(len(updates))
        wanted: list[int] = np.flatnonzero(taken).tolist()
        return wanted

    def _whole(self, encoding: Encoding) -> bytes:
        if encoding is Encoding.ROWS:
            if not self._frames:
                self._frames = frames(self._row_payloads())
            return self._frames
        if not self._frame:
            self._frame = frame(encode(self._updates.as_columns(self.table)))
        return self._frame

    def _as_columns(self) -> BetaColumns:
        if self._columns is None:
            updates = self._updates
            self._columns = (
                updates.to_columns() if isinstance(updates, BetaRows) else updates
            )
        return self._columns

    def _row_payloads(self) -> list[bytes]:
        if self._payloads is None:
            self._payloads = list(map(encode, self._updates.as_arrays()))
        return self._payloads
