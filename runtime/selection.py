"""Which rows of a factor a pattern selects.

Rule: the answer is that of `matches` on each topic, at a cost that does not depend on
the pattern: a wildcard stands for a whole token, so a pattern selects all symbols of a
factor, one of them, or none, and no topic has to be looked at.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..actors.publisher import BetaPublisher
from ..messages.topics import check_pattern, escape

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some rows of a factor."""

    mask: Mask
    """Which ones, shape (n_symbols,)."""
    key: bytes
    """The same as bytes, to find what was made for another one of the same rows."""
    cells: memoryview
    """The same as scalars."""

    @classmethod
    def of(cls, mask: Mask) -> Self | None:
        """Return the rows of a mask; ``None`` = all of them."""
        return None if mask.all() else cls(mask, mask.tobytes(), mask.data)


def select(pattern: str, publisher: BetaPublisher) -> Mask:
    """Return which rows a pattern selects, shape (n_symbols,).

    Raises
    ------
    InvalidTopicError
        When the pattern is outside the grammar.
    """
    tokens = check_pattern(pattern)
    topic = ("beta", escape(publisher.factor))
    mask = np.zeros(len(publisher.topics), dtype=np.bool_)
    for position, token in enumerate(tokens):
        if token == ">":
            mask[:] = True
            return mask
        if position == len(topic):
            if len(tokens) > position + 1:
                pass  # longer than any topic of a factor
            elif token == "*":
                mask[:] = True
            elif (wanted := ".".join((*topic, token))) in publisher.topics:
                mask[publisher.topics.index(wanted)] = True
            return mask
        if token not in ("*", topic[position]):
            return mask
    return mask
