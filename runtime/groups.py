"""Groups: many single returns of one bar that came in one read, decoded together.

Rule: a group is worth exactly the sequence of its messages. It is made only of frames
whose every byte is accounted for here; a frame with anything unusual about it is left
to the decoder of messages, which knows all the rules.

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

Names are compared as 64-bit words, eight characters each, all at once.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from ..messages import (
    OBSERVATION_TYPES,
    Message,
    Observation,
    ReturnObserved,
    decode,
    decode_payloads,
)

Octets = NDArray[np.uint8]
Words = NDArray[np.uint64]
Places = NDArray[np.intp]

SMALLEST_GROUP: Final = 64
"""Below this many messages, the numpy calls of a group cost more than its objects."""

FEWEST_BYTES: Final = SMALLEST_GROUP * 24
"""What so many messages with names of one letter take."""

MARK: Final = b"\x96\xa1R"
"""How the payload of a `ReturnObserved` with all its fields begins."""

_WORD: Final = 8
_NAME_WORDS: Final = 4
_LONGEST_NAME: Final = 31
"""Characters of a name whose length is part of its marker."""

LONGEST_PAYLOAD: Final = len(MARK) + 1 + _LONGEST_NAME + 4 * 9
"""Of a message in a group."""

_NAME_AT: Final = 8
"""Where the name begins, after the length, the mark and the name's own marker."""

# A header that announces less than 128 bytes, the mark, and a short string's marker.
_HEAD_BITS: Final = np.uint64(0xFFFFFF80_FFFFFFE0)
_HEAD: Final = np.uint64(0x00000000_96A152A0)
_LENGTH_BITS: Final = np.uint64(_LONGEST_NAME)
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

_SPREAD: Final = 0x9E3779B97F4A7C15
"""An odd number whose multiples lie far apart."""

_LAST_SALT: Final = 64


class ReturnGroup:
    """`ReturnObserved` messages of one stamp, each field a column of shape (k,)."""

    __slots__ = (
        "_data",
        "_ends",
        "_starts",
        "end",
        "lengths",
        "names",
        "returns",
        "seqs",
        "start",
        "ts_event",
        "ts_inits",
    )

    def __init__(self, read: "_Read", first: int, end: int) -> None:
        self._data = read.data
        self._starts = read.starts[first:end]
        self._ends = read.ends[first:end]
        self.start = int(self._starts[0])
        """Where its first frame begins in the bytes that it was found in."""
        self.end = int(self._ends[-1])
        """Where its last frame ends."""
        self.ts_event = int(read.stamps[first])
        self.returns = read.returns[first:end]
        self.seqs = read.seqs[first:end]
        self.ts_inits = read.ts_inits[first:end]
        self.names = [word[first:end] for word in read.names]
        """Eight characters of each name a column, as many columns as it takes."""
        self.lengths = read.lengths[first:end]
        """Characters of each name."""

    def __len__(self) -> int:
        return len(self.returns)

    @property
    def seq(self) -> int:
        """`seq` of the last message."""
        return int(self.seqs[-1])

    def payloads(self) -> list[bytes]:
        """Return the bytes of each message."""
        data = self._data
        places = zip((self._starts + 4).tolist(), self._ends.tolist(), strict=True)
        return [data[start:end] for start, end in places]

    def message(self, position: int) -> ReturnObserved:
        """Return one of the messages."""
        start, end = int(self._starts[position]) + 4, int(self._ends[position])
        return cast("ReturnObserved", decode(self._data[start:end]))

    def messages(self) -> list[Message]:
        """Return the messages one by one."""
        messages: list[Message] = []
        decode_payloads(self.payloads(), messages)
        return messages


Piece = list[bytes] | ReturnGroup
"""What a stream is cut into: payloads, or a group."""
Taken = Message | ReturnGroup
"""What a source sent."""

NUMBERED_TYPES: Final[tuple[type[Observation] | type[ReturnGroup], ...]] = (
    *OBSERVATION_TYPES,
    ReturnGroup,
)
"""What has a place in a feed's own sequence."""


class _Read:
    """What may be single returns in the bytes of a read, field by field.

    Parameters
    ----------
    data
        Bytes of a stream.
    first
        Where to begin in them.
    """

    def __init__(self, data: bytes, first: int) -> None:
        self.data = data
        padded = data + _PADDING
        self.parts: list[int] = []
        """Where groups begin, and the last one ends."""
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


class _Layout:
    """Where the fields behind the name are, in the frame at some place.

    A feed's stamps and numbers keep their widths for long; a frame with others is left
    to the decoder of messages.
    """

    def __init__(self, octets: bytes, start: int) -> None:
        at = first = start + _NAME_AT + (octets[start + 7] & _LONGEST_NAME)
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


def _layout_of(octets: bytes, starts: Places) -> _Layout:
    # That of most places, by three of them.
    first, layout, last = [
        _Layout(octets, int(starts[at])) for at in (0, len(starts) // 2, -1)
    ]
    return first if first.fields == last.fields else layout


def find_groups(data: bytes, first: int = 0) -> list[ReturnGroup]:
    """Return what are groups in a stream, if their first frames begin where they do.

    Parameters
    ----------
    data
        Bytes of a stream.
    first
        Where to begin in them.
    """
    if len(data) - first < FEWEST_BYTES:
        return []
    read = _Read(data, first)
    parts = read.parts
    return [
        ReturnGroup(read, begin, end)
        for begin, end in pairwise(parts)
        if end - begin >= SMALLEST_GROUP
    ]


def decode_pieces(pieces: Sequence[Piece], messages: list[Taken]) -> None:
    """Append the messages of payloads, and groups of them, oldest first.

    Parameters
    ----------
    pieces
        As `framing.FrameReader.feed_groups` returns them.
    messages
        Appended to; it holds what came before the fault when this raises.

    Raises
    ------
    MalformedMessageError
        At the first payload that is malformed.
    """
    for piece in pieces:
        if isinstance(piece, ReturnGroup):
            messages.append(piece)
        else:
            decode_payloads(piece, cast("list[Message]", messages))


def ungrouped(messages: Sequence[Taken]) -> list[Message]:
    """Return messages with those of groups in their place."""
    singles: list[Message] = []
    for message in messages:
        if isinstance(message, ReturnGroup):
            singles += message.messages()
        else:
            singles.append(message)
    return singles


def n_within(messages: Sequence[Taken], budget: int) -> int:
    """Return how many of the first messages together cost no more than so many.

    In a group a message costs less than an eighth of what it costs alone. The first is
    within every budget.
    """
    if len(messages) >= budget or ReturnGroup not in set(map(type, messages)):
        return min(len(messages), budget)
    left = budget
    for position, message in enumerate(messages):
        left -= len(message) // 8 if isinstance(message, ReturnGroup) else 1
        if left < 0 and position:
            return position
    return len(messages)


class NameIndex:
    """Finds the rows of many names at once.

    Parameters
    ----------
    names
        The name of each row.
    """

    def __init__(self, names: Sequence[str]) -> None:
        octets = [name.encode() for name in names]
        fits = [len(each) <= _LONGEST_NAME and each.isascii() for each in octets]
        rows = [row for row, is_fit in enumerate(fits) if is_fit]
        size = _WORD * _NAME_WORDS
        padded = b"".join(octets[row].ljust(size, b"\0") for row in rows)
        words = np.frombuffer(padded, dtype=">u8").reshape(-1, _NAME_WORDS)
        words = words.astype(np.uint64).T
        lengths = np.array([len(octets[row]) for row in rows], dtype=np.intp)
        self._salt = 0
        self._is_unique = False
        keys: Words = np.zeros(0, dtype=np.uint64)
        while not self._is_unique and self._salt < _LAST_SALT:
            self._salt += 1
            keys = self._keys(list(words), lengths)
            self._is_unique = len(np.unique(keys)) == len(keys)
        order = np.argsort(keys)
        # With one more that is nobody's, for what would come behind the last.
        self._sorted = keys[order]
        self._found = np.append(self._sorted, np.uint64(0))
        self._words = np.pad(words[:, order], ((0, 0), (0, 1)))
        self._lengths = np.append(lengths[order], 0)
        self._rows = np.append(np.array(rows, dtype=np.intp)[order], -1)
        self._is_in_order = rows == list(range(len(names))) == order.tolist()
        self._longest = max((len(each) for each in octets), default=0)

    def rows(self, group: ReturnGroup) -> Places | None:
        """Return the row of each message of a group, -1 where its name is no row's.

        ``None`` where there are names that cannot be told apart like this, which takes
        ingenuity: they are long, and have a NUL in them.
        """
        if not self._is_unique:
            return None
        keys = self._keys(group.names, group.lengths)
        at = self._sorted.searchsorted(keys)
        is_it = self._found[at] == keys
        if len(group.names) > 1 or self._longest > _WORD:
            is_it &= self._lengths[at] == group.lengths
            for known, word in zip(self._words, group.names, strict=False):
                is_it &= known[at] == word
        rows = at if self._is_in_order else self._rows[at]
        if not _are_all(is_it):
            rows[~is_it] = -1
        return rows

    def _keys(self, words: Sequence[Words], lengths: Places) -> Words:
        # Of short names, in the order of the names: that is how they mostly come.
        # A name of up to a word and its length are their sum, which no other has: it
        # ends in that length, or is of a word's length and ends in more than 8.
        keys = words[0] + lengths.view(np.uint64)
        for j, word in enumerate(words[1:], 1):
            keys += word * np.uint64((self._salt + j) * _SPREAD % 2**64)
        return keys


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
