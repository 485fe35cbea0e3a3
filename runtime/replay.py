"""A bar file through the actors, as fast as they go or at a multiple of real time.

Rule: a replay is the live path without the socket. The same messages, the same actors,
the same turns, and so the same bytes.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..actors import BetaColumns, BetaFactory, BetaRows
from ..actors.tables import SymbolTables
from ..messages import BetaUpdated, MailboxFullError, Message, encode
from .clock import Clock, ReplayClock
from .config import ActorsConfig
from .observations import Observation
from .replay_timers import ReplayTimers
from .system import System
from .system_statistics import SystemStatistics


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

    def add_encoded(self, encoded: bytes | memoryview, n_updates: int) -> None:
        """Take the next updates, encoded one after another."""
        self._hash.update(encoded)
        self.n_updates += n_updates

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

    A source whose message finds a full mailbox that blocks waits, like the socket of a
    feed that is not read from: all that it sends later waits behind that message.

    Parameters
    ----------
    factory
        The actors.
    clock
        Measures how long the replay takes.
    on_updates
        Called with what each turn computed.
    actors
        How the actors are run and restarted.
    """

    def __init__(
        self,
        factory: BetaFactory,
        clock: Clock,
        *,
        on_updates: Callable[[BetaColumns | BetaRows], None] | None = None,
        actors: ActorsConfig | None = None,
    ) -> None:
        self.digest = Digest()
        self._actors = actors or ActorsConfig()
        self._clock = clock
        self._on_updates = on_updates
        self._replay_clock = ReplayClock()
        self._timers = ReplayTimers(self._replay_clock)
        self._held: deque[Message] = deque()
        self._n_messages = 0
        self._started = clock.monotonic()
        self.system = self._run_factory(factory)

    @property
    def factory(self) -> BetaFactory:
        """The actors."""
        return self.system.factory

    def run(
        self,
        bars: Iterable[tuple[int, list[Observation]]],
        *,
        wait: Callable[[int], None] | None = None,
        on_bar: Callable[[int], None] | None = None,
    ) -> ReplaySummary:
        """Replay every bar; each is one turn.

        Parameters
        ----------
        bars
            Pairs of (stamp, messages), oldest first.
        wait
            Called with the stamp before each bar.
        on_bar
            Called with the stamp after each bar.
        """
        self.start()
        for ts_event, messages in bars:
            if wait is not None:
                wait(ts_event)
            self.begin_turn(ts_event)
            for message in messages:
                self.take(message)
            self.end_turn()
            if on_bar is not None:
                on_bar(ts_event)
        return self.stop()

    def start(self) -> None:
        """Start the actors."""
        self._started = self._clock.monotonic()
        self.system.start()

    def begin_turn(self, now_ns: int) -> None:
        """Set the clock of the replay, and do what has become due by it."""
        self._replay_clock.set(now_ns)
        self._timers.run_due()
        self.system.advance_clock()
        self._take_held()

    def take(self, message: Message) -> None:
        """Take one message of the turn; it waits where an actor's mailbox blocks."""
        self._n_messages += 1
        if not self._held:
            try:
                self.system.take(message, self._tables)
            except MailboxFullError:
                self._held.append(message)
        else:
            self._held.append(message)

    def end_turn(self) -> None:
        """Compute, and hand on what was computed."""
        self.system.end_turn()

    def stop(self) -> ReplaySummary:
        """Wait until all is taken, end the last turn, and stop the actors."""
        while self._held and (due_ns := self._timers.next_ns) is not None:
            self.begin_turn(due_ns)
            self.end_turn()
        self.system.stop()
        return ReplaySummary(
            n_messages=self._n_messages,
            system=self.system.statistics(),
            elapsed_s=self._clock.monotonic() - self._started,
            digest=self.digest.hexdigest(),
        )

    def resume(self, factory: BetaFactory) -> None:
        """Go on with another factory, as a process that was killed does.

        What waited in the mailboxes of the old one is gone.
        """
        self._timers.clear()
        self.system = self._run_factory(factory)
        self.system.start()
        self.system.advance_clock()

    def _run_factory(self, factory: BetaFactory) -> System:
        self._tables = SymbolTables(factory.row_of)
        return System(
            factory,
            self._replay_clock,
            call_later=self._timers.call_later,
            call_soon=self._timers.call_soon,
            on_updates=self._publish,
            mailbox_capacity=self._actors.mailbox_capacity,
            overflow=self._actors.overflow,
            restart_policy=self._actors.restart_policy,
            turn_budget=self._actors.turn_budget,
        )

    def _take_held(self) -> None:
        held = self._held
        try:
            while held:
                self.system.take(held[0], self._tables)
                held.popleft()
        except MailboxFullError:
            return

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            self.digest.add(updates.as_rows())
            if self._on_updates is not None:
                self._on_updates(updates)
