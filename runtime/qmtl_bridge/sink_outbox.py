"""What a courier has for the sidecar, until it is acknowledged.

Rule: no I/O, and one owner. The front of it is *in flight*, published on the present
connection and not acknowledged; what follows is *new*. With another connection all of
it is new again, and its tables are declared again.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from ...messages import ReturnsObserved, SymbolsDeclared
from ..outgoing import Publishable


class Outbox:
    """Messages in order, and how many observations each of them settles."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Publishable, int]] = deque()
        self._n_in_flight = 0
        self._tables: dict[int, SymbolsDeclared] = {}
        self._declared: set[int] = set()

    @property
    def n_new(self) -> int:
        """Messages that are not published on this connection."""
        return len(self._kept) - self._n_in_flight

    def add_bar(self, messages: Sequence[Publishable], n_observations: int) -> None:
        """Keep the messages of a bar, which settle so many observations."""
        for message in messages:
            if isinstance(message, SymbolsDeclared):
                self._tables[message.table] = message
            else:
                self._kept.append((message, 0))
        # all of the bar's observations are settled with its last message
        last, _ = self._kept.pop()
        self._kept.append((last, n_observations))

    def begin_connection(self) -> None:
        """Take it that nothing of this was published, nor any table."""
        self._n_in_flight = 0
        self._declared.clear()

    def to_publish(self) -> list[Publishable]:
        """Return what is new, each table before the first that refers to it."""
        messages: list[Publishable] = []
        for message, _ in islice(self._kept, self._n_in_flight, None):
            if isinstance(message, ReturnsObserved):
                table = message.symbols
                if isinstance(table, int) and table not in self._declared:
                    self._declared.add(table)
                    messages.append(self._tables[table])
            messages.append(message)
        return messages

    def published(self, n_messages: int) -> int:
        """Count so many as in flight, tables not counted; return their observations."""
        start, self._n_in_flight = self._n_in_flight, self._n_in_flight + n_messages
        return sum(n for _, n in islice(self._kept, start, self._n_in_flight))

    def settle(self, n_in_flight: int) -> int:
        """Forget all but so many in flight; return the observations of the others."""
        n_settled = 0
        while self._n_in_flight > n_in_flight:
            self._n_in_flight -= 1
            n_settled += self._kept.popleft()[1]
        return n_settled

    def give_up(self) -> int:
        """Forget everything; return the observations that are lost by it."""
        n_lost = sum(n for _, n in self._kept)
        self._kept.clear()
        self._n_in_flight = 0
        return n_lost
