"""Cuts a feed's byte stream into payloads and groups of them.

Rule: no I/O, and the frames of `FrameReader`: what a group holds is what its payloads
would be.
"""

from .framing import DEFAULT_MAX_FRAME_BYTES, FrameReader
from .group_finder import FEWEST_BYTES, LONGEST_PAYLOAD, MARK, GroupFinder
from .groups import Piece


class GroupReader(FrameReader):
    """A reader that finds groups of single returns, too.

    Parameters
    ----------
    max_frame_bytes
        As for `FrameReader`.
    """

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        super().__init__(max_frame_bytes)
        self._finder = GroupFinder()

    def feed_groups(self, data: bytes) -> list[Piece]:
        """Take bytes as `feed` does; return payloads, and groups of them, in order."""
        if len(data) < FEWEST_BYTES:
            few = self.feed(data)
            return [few] if few else []
        pieces: list[Piece] = []
        payloads: list[bytes] = []
        stream = self._joined(data)
        n_bytes = len(stream)
        at = self._cut(stream, 0, n_bytes, payloads, MARK)
        if at == n_bytes:
            return [payloads] if payloads else []
        if self.max_frame_bytes >= LONGEST_PAYLOAD:
            for group in self._finder.find(stream, at):
                # one that does not begin with a frame is part of some other frame
                at = self._cut(stream, at, group.start, payloads)
                if at == group.start:
                    if payloads:
                        pieces.append(payloads)
                        payloads = []
                    pieces.append(group)
                    at = group.end
        at = self._cut(stream, at, n_bytes, payloads)
        self._keep(stream, at)
        if payloads:
            pieces.append(payloads)
        return pieces
