"""Finds the rows of many names at once: a dictionary for columns.

Rule: the answer is that of the dictionary. Names are compared as whole words of eight
characters, so only those that a group can hold are known here.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .group_finder import LONGEST_NAME
from .groups import Places, ReturnGroup, Words

_WORD: Final = 8
_NAME_WORDS: Final = 4
_SPREAD: Final = 0x9E3779B97F4A7C15
"""An odd number whose multiples lie far apart."""

_LAST_SALT: Final = 64


class NameIndex:
    """Finds the rows of many names at once.

    Parameters
    ----------
    names
        The name of each row.
    """

    def __init__(self, names: Sequence[str]) -> None:
        octets = [name.encode() for name in names]
        fits = [len(each) <= LONGEST_NAME and each.isascii() for each in octets]
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
        self._last: tuple[Sequence[Words], Places, Places] | None = None
        """Names and lengths last asked for, and their rows."""

    def rows(self, group: ReturnGroup) -> Places | None:
        """Return the row of each message of a group, -1 where its name is no row's.

        ``None`` where there are names that cannot be told apart like this, which takes
        ingenuity: they are long, and have a NUL in them. A feed mostly names the same
        symbols in the same order: then it is the very array of the last time, which is
        not to be written to.
        """
        if not self._is_unique:
            return None
        if self._last is not None:
            names, lengths, rows = self._last
            if _are_equal([*names, lengths], [*group.names, group.lengths]):
                return rows
        rows = self._find(group)
        rows.setflags(write=False)
        self._last = group.names, group.lengths, rows
        return rows

    def _find(self, group: ReturnGroup) -> Places:
        keys = self._keys(group.names, group.lengths)
        at = self._sorted.searchsorted(keys)
        is_it = self._found[at] == keys
        if len(group.names) > 1 or self._longest > _WORD:
            is_it &= self._lengths[at] == group.lengths
            for known, word in zip(self._words, group.names, strict=False):
                is_it &= known[at] == word
        rows = at if self._is_in_order else self._rows[at]
        if np.count_nonzero(is_it) < len(rows):
            rows[~is_it] = -1
        return rows

    def _keys(self, words: Sequence[Words], lengths: Places) -> Words:
        # Of short names, in the order of the names: that is how they mostly come.
        # A name of up to a word and its length make a sum that no other such name has:
        # the sum ends in a length of 1 to 7, or in 8 and the last character.
        keys = words[0] + lengths.view(np.uint64)
        for j, word in enumerate(words[1:], 1):
            keys += word * np.uint64((self._salt + j) * _SPREAD % 2**64)
        return keys


def _are_equal(
    columns: Sequence[NDArray[np.generic]], others: Sequence[NDArray[np.generic]]
) -> bool:
    return len(columns) == len(others) and all(
        len(column) == len(other) and np.count_nonzero(column == other) == len(column)
        for column, other in zip(columns, others, strict=True)
    )
