"""Finds groups of single returns in the bytes of a read.

Rule: a group is made only of frames whose every byte is accounted for here; a frame
with anything unusual about it is left to the decoder of messages, which knows all the
rules.

Theory of operation
-------------------
A feed that sends each return in a frame of its own sends the same few markers with
other numbers between them::

    length  6 fields  tag     symbol      ts_event    period_return  seq       ts_init
    4 bytes 0x96      0xa1 R  0xa. ....   0xcf .....  0xcb ........  uint      uint

All places in a read where such a frame may begin are found in one pass over its bytes,
and each field is gathered from all of them in one step. A place is a frame only if its
fields end where its length says; places are one group as long as each begins where the
one before ends and has the same stamp. Whether the first of them is the beginning of a
frame at all is for whoever cuts the stream to say.

A feed mostly sends the same symbols in the same order, bar after bar. So places are
first looked for where they were in the last read (`GroupFinder`); the checks are the
same, and say whether they are there again.

Each field that is read of all frames at once costs a fixed microsecond and about a
nanosecond per frame, so below a hundred frames this is not worth it.
"""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .groups import Places, ReturnGroup, Words

Octets = NDArray[np.uint8]

SMALLEST_GROUP: Final = 96
"""Below this many messages, a group's numpy calls cost more than their objects."""

FEWEST_BYTES: Final = SMALLEST_GROUP * 24
"""So many messages take at least this."""

SMALLEST_FRAME: Final = 24
"""Bytes of a frame that could be in a group, at least."""

_ONE_GROUP: Final = 2
"""Parts of a read that is one group: where it begins and ends."""

_HEADER: Final = 4
"""Bytes of a length."""

MARK: Final = b"\x96\xa1R"
"""How the payload of a `ReturnObserved` with all its fields begins."""

_WORD: Final = 8
_NAME_WORDS: Final = 4

LONGEST_NAME: Final = 31
"""Characters of a name whose length is part of its marker."""

LONGEST_PAYLOAD: Final = len(MARK) + 1 + LONGEST_NAME + 4 * 9
"""Of a message in a group."""

_NAME_AT: Final = 8
"""Where the name begins, after the length, the mark and the name's own marker."""

# A header that announces less than 128 bytes, the mark, and a short string's marker.
_HEAD_BITS: Final = np.uint64(0xFFFFFF80_FFFFFFE0)
_HEAD: Final = np.uint64(0x00000000_96A152A0)
_LENGTH_BITS: Final = np.uint64(LONGEST_NAME)
_LENGTH_TWICE: Final = np.uint64(1 << 32 | 1)
"""A name's length is part of its marker, and of the length in the header."""

_NOT_ASCII: Final = np.uint64(0x80808080_80808080)
_FLOAT64: Final = 0xCB
_WIDTHS: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
"""Bytes that follow the marker of an unsigned integer; below 0x80 it is its value."""

_PADDING: Final = bytes(_NAME_AT + _WORD * _NAME_WORDS + 4 * 9)
"""The fields of a place that is no frame may seem to reach this far behind the end."""

# What is kept of a word of which so many characters are a name's.
_KEPT: Final = np.array([2**64 - 2 ** (64 - 8 * n) for n in range(9)], dtype=np.uint64)


class _Read:
    """What may be single returns in the bytes of a read, field by field.

    Parameters
    ----------
    data
        Bytes of a stream.
    first
        Where to begin in them.
    starts
        Where frames may begin; by default where their mark is.
    """

    def __init__(self, data: bytes, first: int, starts: Places | None = None) -> None:
        self.data = data
        padded = data + _PADDING
        self.parts: list[int] = []
        """Where groups begin, and the last one ends."""
        if starts is None:
            starts = _marked(padded, first, len(data))
        heads = _taken(padded, starts, _NAME_AT + _WORD * _NAME_WORDS)
        head = _words_at(heads, 0)
        is_head = head & _HEAD_BITS == _HEAD
        if not _are_all(
            is_head
        ):  # the name R and its marker look like the tag and its own
            starts, heads, head = starts[is_head], heads[is_head], head[is_head]
        self.starts = starts
        if len(starts) < SMALLEST_GROUP:
            return
        lengths = head & _LENGTH_BITS
        self.lengths = lengths.view(np.intp)
        layout = _layout_of(padded, starts)
        # The length in the header is that of the name and of what stands around it.
        is_fit = head == lengths * _LENGTH_TWICE + layout.head
        self.names = _names(heads, self.lengths, is_fit)
        tails_at = starts + self.lengths
        tails_at += _NAME_AT
        tails = _taken(padded, tails_at, layout.size)
        is_fit &= tails[:, layout.value] == _FLOAT64
        self.returns = _words_at(tails, layout.value + 1).view(np.float64)
        self.stamps, self.seqs, self.ts_inits = [
            _integers(tails, at, width, is_fit) for at, width in layout.fields
        ]
        self.ends = tails_at + layout.size
        if self.ends[-1] > len(data):
            is_fit &= self.ends <= len(data)
        follows = starts[1:] == self.ends[:-1]
        follows &= self.stamps[1:] == self.stamps[:-1]
        if not _are_all(is_fit):
            follows &= is_fit[1:] & is_fit[:-1]
        self.parts = [0, len(starts)]
        if not _are_all(follows):
            self.parts[1:1] = (np.flatnonzero(~follows) + 1).tolist()

    def group(self, begin: int, end: int) -> ReturnGroup:
        """Return some of the places as a group."""
        return ReturnGroup(
            data=self.data,
            starts=self.starts[begin:end],
            ends=self.ends[begin:end],
            names=[word[begin:end] for word in self.names],
            lengths=self.lengths[begin:end],
            ts_event=int(self.stamps[begin]),
            returns=self.returns[begin:end],
            seqs=self.seqs[begin:end],
            ts_inits=self.ts_inits[begin:end],
        )


class _Layout:
    """Where the fields behind the name are, in the frame at some place.

    A feed's stamps and numbers keep their widths for long; a frame with others is left
    to the decoder of messages.
    """

    def __init__(self, octets: bytes, start: int) -> None:
        at = first = start + _NAME_AT + (octets[start + 7] & LONGEST_NAME)
        self.stamp = 0, _WIDTHS.get(octets[at], 0)
        at += 1 + self.stamp[1]
        self.value = at - first
        at += 9
        self.seq = at - first, _WIDTHS.get(octets[at], 0)
        at += 1 + self.seq[1]
        self.ts_init = at - first, _WIDTHS.get(octets[at], 0)
        self.fields = self.stamp, self.seq, self.ts_init
        """Where the integers' markers are, and how many octets follow each."""
        self.size = at + 1 + self.ts_init[1] - first
        self.head = _HEAD + np.uint64((_NAME_AT - 4 + self.size) << 32)
        """The first eight octets of a frame with a name of no length."""
        self._markers = [octets[first + place] for place, _ in self.fields]

    def is_that_of(self, octets: bytes, start: int) -> bool:
        """Return whether the frame at another place has this layout, if it is one."""
        first = start + _NAME_AT + (octets[start + 7] & LONGEST_NAME)
        stamp, seq, ts_init = self._markers
        return (
            octets[first] == stamp
            and octets[first + self.seq[0]] == seq
            and octets[first + self.ts_init[0]] == ts_init
        )


def _layout_of(octets: bytes, starts: Places) -> _Layout:
    # That of most places, by three of them.
    first, other, last = [int(starts[at]) for at in (0, len(starts) // 2, -1)]
    layout = _Layout(octets, first)
    if layout.is_that_of(octets, last):
        return layout
    another = _Layout(octets, last)
    return layout if layout.fields == another.fields else _Layout(octets, other)


class GroupFinder:
    """Finds groups in the reads of one stream."""

    def __init__(self) -> None:
        self._last: Places = np.zeros(0, dtype=np.intp)
        """Where frames began in the last read, from the first of them on."""

    def find(self, data: bytes, first: int = 0) -> list[ReturnGroup]:
        """Return what are groups in a read, if their first frames begin where they do.

        Parameters
        ----------
        data
            Bytes of a stream.
        first
            Where to begin in them.
        """
        if len(data) - first < FEWEST_BYTES:
            return []
        read = self._as_before(data, first) or _Read(data, first)
        parts = read.parts
        if len(parts) == _ONE_GROUP:
            self._last = read.starts - read.starts[0]
        return [
            read.group(begin, end)
            for begin, end in pairwise(parts)
            if end - begin >= SMALLEST_GROUP
        ]

    def _as_before(self, data: bytes, first: int) -> _Read | None:
        # The read, if its frames begin where those of the last one did and are all.
        last = self._last
        if not len(last):
            return None
        for place in (0, int(last[len(last) // 2]), int(last[-1])):
            at = first + place + _HEADER
            if data[at : at + len(MARK)] != MARK:
                return None
        read = _Read(data, first, last + first)
        if len(read.parts) != _ONE_GROUP or len(read.starts) != len(last):
            return None
        rest = len(data) - int(read.ends[-1])
        return read if rest < SMALLEST_FRAME else None


def _are_all(mask: NDArray[np.bool_]) -> bool:
    return int(np.count_nonzero(mask)) == len(mask)  # in half the time of `all`


def _marked(padded: bytes, first: int, end: int) -> Places:
    # Where the tag of a return stands where that of a frame would.
    octets = np.frombuffer(padded, dtype=np.uint8)
    tags = octets[first + 5 : end] == MARK[1]
    tags &= octets[first + 6 : end + 1] == MARK[2]
    return np.flatnonzero(tags) + first


def _taken(padded: bytes, at: Places, size: int) -> Octets:
    # So many octets from each place on, shape (k, size).
    n_places = len(padded) - size + 1
    pieces = np.ndarray(n_places, dtype=f"V{size}", buffer=padded, strides=(1,))
    return pieces[at].view(np.uint8).reshape(len(at), size)


def _words_at(octets: Octets, first: int) -> Words:
    # The eight octets from this column on, as one number.
    column = np.ndarray(
        len(octets), ">u8", octets, offset=first, strides=octets.strides[:1]
    )
    return column.astype(np.uint64)


def _names(heads: Octets, lengths: Places, is_fit: NDArray[np.bool_]) -> list[Words]:
    # Each name in words, what is behind its end cut off; all but plain ASCII is unfit.
    names: list[Words] = []
    is_fit &= lengths > 0
    longest = int(np.maximum.reduce(lengths))
    for first in range(0, max(longest, 1), _WORD):
        word = _words_at(heads, _NAME_AT + first)
        is_one_word = longest <= _WORD
        word &= _KEPT[lengths if is_one_word else np.clip(lengths - first, 0, _WORD)]
        other = word & _NOT_ASCII
        if np.count_nonzero(other):
            is_fit &= other == 0
        names.append(word)
    return names


def _integers(
    tails: Octets, at: int, width: int, is_fit: NDArray[np.bool_]
) -> NDArray[np.int64]:
    # The unsigned integers of this column; those of another width are unfit.
    markers = tails[:, at]
    if width == 0:
        is_fit &= markers < 0x80  # noqa: PLR2004 - the first that is none
        return markers.astype(np.int64)
    is_fit &= markers == 0xCB + width.bit_length()
    kind = f">u{width}" if width < _WORD else ">i8"
    column = np.ndarray(
        len(tails), kind, tails, offset=at + 1, strides=tails.strides[:1]
    )
    values = column.astype(np.int64)
    if width == _WORD:
        is_fit &= values >= 0  # up to `MAX_TS_NS`
    return values
