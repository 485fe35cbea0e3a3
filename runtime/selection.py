"""Which rows of each factor patterns select, one of them or several together.

Rule: the answer is that of `matches` on each topic, at a cost that depends neither on
how many symbols a pattern selects nor on how many patterns there are. A wildcard stands
for a whole token, so a pattern selects all symbols of a factor, one of them, or none,
and no topic has to be looked at. How many patterns select a row is counted, so one that
ends takes back what it added, and no other one has to be looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ..actors.publisher import BetaPublisher
from ..messages import InvalidTopicError
from ..messages.topics import BETA_TOPICS, TOKENS_OF_KIND, check_pattern, unescape

Mask = NDArray[np.bool_]

Selected = dict[int, slice]
"""The rows that a pattern selects, all or one, of each factor of which it selects any;
factors are numbered in the order of their publishers."""

_ALL: Final = slice(None)
_N_TOKENS: Final = TOKENS_OF_KIND["beta"]

_MAX_NAMED: Final = 8
"""Factors that an error lists: it has to fit a `Rejected`."""


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


class PatternUnion:
    """What any of several patterns selects.

    Parameters
    ----------
    publishers
        One per factor.
    """

    def __init__(self, publishers: Sequence[BetaPublisher]) -> None:
        self.n_patterns = 0
        self.masks: list[Mask] = [
            np.zeros(len(publisher.symbols), dtype=np.bool_) for publisher in publishers
        ]
        """The rows of each factor; a mask is replaced when it changes."""
        self.selections = [Selection.of(mask) for mask in self.masks]
        """The same, for encoding."""
        self._counts = [np.zeros(len(mask), dtype=np.int32) for mask in self.masks]

    def add(self, selected: Selected) -> None:
        """Let one more pattern take part."""
        self._count(selected, 1)

    def remove(self, selected: Selected) -> None:
        """Let one that was added no longer take part."""
        self._count(selected, -1)

    def _count(self, selected: Selected, change: int) -> None:
        self.n_patterns += change
        for table, rows in selected.items():
            counts = self._counts[table]
            counts[rows] += change
            mask = self.masks[table] = counts > 0
            self.selections[table] = Selection.of(mask)


def select(pattern: str, publishers: Sequence[BetaPublisher]) -> Selected:
    """Return which rows of each factor a pattern selects, at least one.

    Raises
    ------
    InvalidTopicError
        When the pattern is outside the grammar, or selects nothing: symbols and factors
        stay what they are while a factory runs, so it never would.
    """
    tokens = check_pattern(pattern)
    if tokens[-1] == ">" and len(tokens) <= _N_TOKENS:
        tokens[-1:] = ["*"] * (_N_TOKENS + 1 - len(tokens))
    if tokens[0] not in ("*", "beta"):
        reason = f"nothing is published as {tokens[0]} yet; topics are {BETA_TOPICS}"
        raise InvalidTopicError(pattern, reason)
    if len(tokens) != _N_TOKENS:
        reason = f"topics are {BETA_TOPICS}"
        if len(tokens) < _N_TOKENS:
            reason += f"; for all that begin so write {pattern}.>"
        raise InvalidTopicError(pattern, reason)
    _, factor, symbol = tokens
    is_any_factor, factor_name = factor == "*", unescape(factor)
    is_any_symbol, symbol_name = symbol == "*", unescape(symbol)
    selected: Selected = {}
    for table, publisher in enumerate(publishers):
        if not is_any_factor and factor_name != publisher.factor:
            continue
        if is_any_symbol:
            selected[table] = _ALL
        elif (row := publisher.row_of.get(symbol_name)) is not None:
            selected[table] = slice(row, row + 1)
    if not selected:
        names = [publisher.factor for publisher in publishers]
        reason = (
            f"there is no symbol {symbol_name} in the universe"
            if is_any_factor or factor_name in names
            else f"there is no factor {factor_name}, but {_listed(names)}"
        )
        raise InvalidTopicError(pattern, reason)
    return selected


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MAX_NAMED])
    n_more = len(names) - _MAX_NAMED
    return f"{listed} and {n_more:,} more" if n_more > 0 else listed
