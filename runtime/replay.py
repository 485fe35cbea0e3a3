"""A bar file through the actors, as fast as they go or at a multiple of real time.

Rule: a replay is the live path without the socket. The same messages, the same actors,
the same turns, and so the same bytes.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..actors import BetaColumns, BetaFactory, BetaRows
from ..actors.tables import SymbolTables
from ..messages import BetaUpdated, encode
from .clock import Clock, ReplayClock
from .observations import Observation
from .system import System, SystemStatistics


class Digest:
    """SHA-256 over the encoded rows of everything published, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.n_updates = 0

    def add(self, updates: Iterable[BetaUpdated]) -> None:
        """Take the next updates."""
        for update in updates:
            self._hash.update(encode(update))
            self.n_updates += 1

    def hexdigest(self) -> str:
        """Return the digest so far."""
        return self._hash.hexdigest()


class ReplaySummary(NamedTuple):
    """What a replay did."""

    n_messages: int
    system: SystemStatistics
    elapsed_s: float
    digest: str


class Replayer:
    """Drives one factory with recorded messages.

    Parameters
    ----------
    factory
        The actors.
    clock
        Measures how long the replay takes.
    on_updates
        Called with what each turn computed.
    """

    def __init__(
        self,
        factory: BetaFactory,
        clock: Clock,
        *,
        on_updates: Callable[[BetaColumns | BetaRows], None] | None = None,
    ) -> None:
        self.factory = factory
        self.digest = Digest()
        self._clock = clock
        self._on_updates = on_updates
        self._replay_clock = ReplayClock()
        self._due: list[tuple[float, Callable[[], object]]] = []
        self._system = System(
            factory,
            self._replay_clock,
            call_later=self._call_later,
            call_soon=lambda callback: self._call_later(0.0, callback),
            on_updates=self._publish,
        )

    def run(
        self,
        bars: Iterable[tuple[int, list[Observation]]],
        *,
        on_bar: Callable[[int], None] | None = None,
    ) -> ReplaySummary:
        """Replay every bar; each is one turn.

        Parameters
        ----------
        bars
            Pairs of (stamp, messages), oldest first.
        on_bar
            Called with the stamp after each bar.
        """
        started = self._clock.monotonic()
        tables = SymbolTables(self.factory.row_of)
        system = self._system
        system.start()
        n_messages = 0
        for ts_event, messages in bars:
            self._replay_clock.set(ts_event)
            self._run_due()
            system.advance_clock()
            for message in messages:
                system.take(message, tables)
            n_messages += len(messages)
            system.end_turn()
            if on_bar is not None:
                on_bar(ts_event)
        system.stop()
        return ReplaySummary(
            n_messages=n_messages,
            system=system.statistics(),
            elapsed_s=self._clock.monotonic() - started,
            digest=self.digest.hexdigest(),
        )

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            self.digest.add(updates.as_rows())
            if self._on_updates is not None:
                self._on_updates(updates)

    def _call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self._due.append((self._replay_clock.monotonic() + delay, callback))

    def _run_due(self) -> None:
        now = self._replay_clock.monotonic()
        due = [entry for entry in self._due if entry[0] <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for _, callback in sorted(due, key=lambda entry: entry[0]):
            callback()
