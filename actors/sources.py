"""Who sent what: observations received and dropped, by the name of their source.

Rule: a source is a name that feeds give themselves, so the number of names is bounded.
What comes under one more name is counted with the others, and never forgotten: the
counts of all sources add up to the totals, however many there were.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ..estimators import State

MAX_SOURCES: Final = 256
"""Names that are told apart; a desk has a few dozen feeds."""

NOBODY: Final = 0
"""Number of what came from no feed: this process, or before sources were counted."""

OTHERS: Final = 1
"""Number of all names beyond `MAX_SOURCES`."""

OTHERS_NAME: Final = "(others)"


class Sources:
    """Counts by source; a source is known by a small number, for arrays of them.

    Parameters
    ----------
    limit
        Names that are told apart.
    """

    def __init__(self, limit: int = MAX_SOURCES) -> None:
        self._limit = limit
        self.names = ["", OTHERS_NAME]
        """By number."""
        self.received = [0, 0]
        """Observations taken in, by number: a columnar frame has one per return."""
        self.dropped: list[Counter[str]] = [Counter(), Counter()]
        """Observations not used, by number and reason."""
        self._numbers = {"": NOBODY}

    def number(self, name: str) -> int:
        """Return the number of a source, a new one where there is room."""
        number = self._numbers.get(name)
        if number is not None:
            return number
        if len(self._numbers) > self._limit:
            return OTHERS
        number = self._numbers[name] = len(self.names)
        self.names.append(name)
        self.received.append(0)
        self.dropped.append(Counter())
        return number

    def state(self) -> State:
        """Return the counts."""
        return {
            "names": self.names,
            "received": self.received,
            "dropped": [dict(sorted(counts.items())) for counts in self.dropped],
        }

    def restore(self, state: Mapping[str, list[object]]) -> None:
        """Go on from a `state`."""
        self.names = [str(name) for name in state["names"]]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        del self._numbers[OTHERS_NAME]
        self.received = [int(str(count)) for count in state["received"]]
        self.dropped = [Counter(counts) for counts in state["dropped"]]  # type: ignore[call-overload]
