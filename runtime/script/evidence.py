"""What a replay showed, as far as its expectations ask.

Rule: what subscribers would have seen, and when: an update belongs to the turn in which
it was published, whatever stamp it carries.
"""

from collections import Counter
from dataclasses import dataclass, field

from ...actors import BetaColumns, BetaRows
from ...messages import BetaUpdated
from ..replay import ReplaySummary

Topic = tuple[str, str]
"""Factor and symbol."""


@dataclass(slots=True)
class Evidence:
    """Everything published by the topics that are watched, and counts of the rest."""

    watched: frozenset[Topic]
    bar: int = 1
    """The bar that is being replayed."""
    n_restores: int = 0
    history: dict[Topic, list[tuple[int, BetaUpdated]]] = field(
        default_factory=dict[Topic, list[tuple[int, BetaUpdated]]]
    )
    """Updates of each watched topic with their bars, oldest first."""
    n_by_bar: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    """Number of updates, by factor and bar."""
    _summary: ReplaySummary | None = None

    @property
    def summary(self) -> ReplaySummary:
        """What the replay did, once it has ended."""
        if self._summary is None:
            msg = "the replay has not ended"
            raise RuntimeError(msg)
        return self._summary

    def end(self, summary: ReplaySummary) -> None:
        """Take note of the end."""
        self._summary = summary

    def see(self, updates: BetaColumns | BetaRows) -> None:
        """Take note of what was published."""
        self.n_by_bar[updates.factor, self.bar] += len(updates)
        for update in updates.as_rows():
            topic = (update.factor, update.symbol)
            if topic in self.watched:
                self.history.setdefault(topic, []).append((self.bar, update))

    def latest(self, topic: Topic, bar: int) -> BetaUpdated | None:
        """Return the last update of a topic at the end of a bar."""
        found = [update for seen, update in self.history.get(topic, ()) if seen <= bar]
        return found[-1] if found else None

    def during(
        self, topic: Topic, first: int, last: int
    ) -> list[tuple[int, BetaUpdated]]:
        """Return the updates of a topic in some bars, both ends included."""
        return [
            entry for entry in self.history.get(topic, ()) if first <= entry[0] <= last
        ]

    def count(self, factor: str, first: int, last: int) -> int:
        """Return the number of updates of a factor in some bars."""
        return sum(
            n
            for (name, bar), n in self.n_by_bar.items()
            if name == factor and first <= bar <= last
        )
