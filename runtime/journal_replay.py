"""A journal's turns through a factory: what recovers, verifies and looks back.

Rule: one piece of code does a turn again, whoever asks: a sidecar that starts, the
background snapshot, a replay, a question about the past. It is a function of the
entries alone, and checks at every turn that it published as much as the live run did.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..actors import BetaColumns, BetaFactory, BetaRows, Factor
from ..actors.tables import SymbolTables
from ..messages import (
    MalformedMessageError,
    Message,
    SnapshotError,
    UnknownSymbolError,
)
from ..messages.codec import decode_payload
from .checkpoint import Checkpoint, PeerState
from .clock import ReplayClock
from .journal_entries import (
    Part,
    PeerGreeted,
    PeerLeft,
    PlacedTurn,
    RunStarted,
    SubscriptionBegan,
    SubscriptionEnded,
    Taken,
)
from .operations import DEAD_LETTERS, JOURNALED, Operations
from .replay_timers import ReplayTimers
from .sequences import Sequences, last_seq
from .system import System


class RunConfig(msgspec.Struct, frozen=True):
    """What a run estimated: enough to build its factory again."""

    symbols: tuple[str, ...]
    factors: tuple[Factor, ...]

    def build(self) -> BetaFactory:
        """Return an empty factory."""
        return BetaFactory(self.symbols, factors=self.factors)

    def to_json(self) -> str:
        """Return it as `RunStarted` holds it."""
        return _encoder.encode(self).decode()

    @staticmethod
    def of_json(text: str) -> "RunConfig":
        """Return what `to_json` wrote.

        Raises
        ------
        SnapshotError
            When it did not.
        """
        try:
            return _decoder.decode(text)
        except msgspec.DecodeError as error:
            raise SnapshotError(f"has no configuration: {error}") from error


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(RunConfig)


class Peer:
    """One connection of the live run, as far as the journal tells.

    Parameters
    ----------
    name, sequence
        As it greeted.
    tables
        What its frames refer to.
    """

    def __init__(self, name: str, sequence: str, tables: SymbolTables) -> None:
        self.name = name
        self.sequence = sequence
        self.tables = tables
        self.patterns: dict[int, str] = {}
        """Its subscriptions, by number."""


class JournalReplay:
    """The state after some turn of a journal.

    Parameters
    ----------
    config
        Of the factory until the journal names another one.
    on_updates
        Called with what each turn published.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        on_updates: Callable[[list[BetaColumns | BetaRows]], None] | None = None,
    ) -> None:
        self.position = 0
        """Of the last turn that was done."""
        self.ts = 0
        """What the clock showed then."""
        self.instance = ""
        """The run to which that turn belongs."""
        self.peers: dict[int, Peer] = {}
        self.sequences = Sequences()
        self.diverged_at: int | None = None
        """The first turn that published more or less than it did live."""
        self.n_refused = 0
        """Messages that could not be taken again."""
        self.refused: str = ""
        """Why the newest run could not go on from the state before it."""
        self.config = config
        self._on_updates = on_updates
        self._clock = ReplayClock()
        self._timers = ReplayTimers(self._clock)
        self._n_ahead = 0
        self.factory = config.build()
        self._system = self._start(self.factory)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        SnapshotError
            When its factory cannot be restored.
        """
        config = RunConfig.of_json(checkpoint.config)
        factory = config.build()
        factory.restore(checkpoint.factory)
        self.config = config
        self.factory = factory
        self._system = self._start(factory)
        self.position = checkpoint.position
        self.ts = checkpoint.ts
        self.instance = checkpoint.instance
        self.sequences.restore(checkpoint.sequences)
        self.peers = {}
        for number, state in checkpoint.peers.items():
            peer = Peer(
                state.name, state.sequence, SymbolTables(factory.row_of, state.name)
            )
            peer.tables.restore(state.tables)
            peer.patterns.update(state.patterns)
            self.peers[number] = peer

    def checkpoint(self) -> Checkpoint:
        """Return the state, to go on from it elsewhere."""
        return Checkpoint(
            position=self.position,
            ts=self.ts,
            instance=self.instance,
            config=self.config.to_json(),
            factory=self.factory.snapshot(),
            sequences=self.sequences.state(),
            peers={
                number: PeerState(
                    peer.name,
                    peer.sequence,
                    {**peer.tables.state()},
                    dict(peer.patterns),
                )
                for number, peer in self.peers.items()
            },
        )

    def take(self, placed: PlacedTurn) -> None:
        """Do one turn again."""
        turn = placed.turn
        self._clock.set(turn.ts)
        self._timers.run_due()
        for part in turn.parts:
            self._take_part(part)
        if turn.looked:
            self._system.advance_clock()
        else:
            self._system.end_turn()
        self.position = placed.position
        self.ts = turn.ts
        n_published = self.n_published - self._n_ahead
        if n_published != turn.n_published:
            self._n_ahead += n_published - turn.n_published
            if self.diverged_at is None:
                self.diverged_at = placed.position

    @property
    def n_published(self) -> int:
        """Updates published so far, over all factors."""
        return sum(publisher.last_seq for publisher in self.factory.publishers)

    def _take_part(self, part: Part) -> None:
        match part:
            case Taken():
                peer = self._peer(part.peer)
                messages = decode_payload(part.payload)
                self._take_all(messages, peer.tables)
                key = peer.name, peer.sequence
                self.sequences.advance(key, last_seq(messages))
            case PeerGreeted():
                tables = SymbolTables(self.factory.row_of, part.name)
                self.peers[part.peer] = Peer(part.name, part.sequence, tables)
            case PeerLeft():
                self.peers.pop(part.peer, None)
            case SubscriptionBegan():
                peer = self._peer(part.peer)
                peer.patterns[part.subscription] = part.pattern
            case SubscriptionEnded():
                self._peer(part.peer).patterns.pop(part.subscription, None)
            case RunStarted():
                self._run_started(part)

    def _take_all(self, messages: list[Message], tables: SymbolTables) -> None:
        position = 0
        while position < len(messages):
            try:
                if not isinstance(messages[position], JOURNALED):  # from an operator
                    position = self._system.take_all(messages, tables, position)
                if position < len(messages):
                    self._take_one(messages[position], tables)
            except (MalformedMessageError, UnknownSymbolError):
                # Its table is lost with the front of a damaged journal, or what was
                # requeued is for a symbol that is not there.
                self.n_refused += 1
            position += 1

    def _take_one(self, message: Message, tables: SymbolTables) -> None:
        # What was requeued was told to its actor, nobody was answered.
        if isinstance(message, JOURNALED) and tables.source != DEAD_LETTERS:
            Operations(self._system).answer(message)
        else:
            self._system.take(message, tables)

    def _peer(self, number: int) -> Peer:
        # One whose greeting is lost with the front of a damaged journal has no name.
        if number not in self.peers:
            self.peers[number] = Peer("", "", SymbolTables(self.factory.row_of))
        return self.peers[number]

    def _run_started(self, part: RunStarted) -> None:
        # As the sidecar did: a new factory goes on from what the old one knew.
        content = self.factory.snapshot()
        self.config = RunConfig.of_json(part.config)
        self.factory = self.config.build()
        self.refused = ""
        if self.position:
            try:
                self.factory.restore(content)
            except SnapshotError as error:
                self.refused = str(error)
        self._n_ahead = 0
        self._timers.clear()
        self._system = self._start(self.factory)
        self.instance = part.instance
        self.peers = {}

    def _start(self, factory: BetaFactory) -> System:
        system = System(
            factory,
            self._clock,
            call_later=self._timers.call_later,
            call_soon=self._timers.call_soon,
            on_updates=self._on_updates or _discard,
        )
        system.start()
        return system


def _discard(_: list[Any]) -> None:
    pass
