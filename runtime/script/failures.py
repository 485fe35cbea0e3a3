"""Events in the process itself: actors that fail, mailboxes that fill, restarts.

Rule: what fails is the real thing. An actor fails because it is told something that it
cannot take, and its supervisor, its mailbox and its way back are those of the sidecar.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ...actors import BetaFactory
from ...messages import Goodbye, MailboxFullError
from ...messages.fields import Name
from .event import Bar, Event, insert
from .turns import Deed, Market, Return, Stage, Turn

Times = Annotated[int, Meta(ge=1, le=10_000)]


_POISON = Goodbye(reason="no symbol takes this")


@dataclass(frozen=True, slots=True)
class Poison(Deed):
    """Tells a symbol's actor something that it cannot take."""

    symbol: str

    def perform(self, stage: Stage) -> None:
        """Tell it, past the edge that would have refused it."""
        with suppress(MailboxFullError):  # it is away already
            stage.replayer.system.tell(self.symbol, _POISON)


class SnapshotTaken(Deed):
    """Keeps the state of the factory."""

    def perform(self, stage: Stage) -> None:
        """Keep it."""
        stage.snapshot = stage.replayer.factory.snapshot()


class ProcessRestarted(Deed):
    """Replaces the factory by a new one that was restored."""

    def perform(self, stage: Stage) -> None:
        """Forget the running factory; go on from the last snapshot."""
        old = stage.replayer.factory
        new = BetaFactory(old.symbols, factors=old.factors)
        new.restore(stage.snapshot)
        stage.replayer.resume(new)
        stage.n_restores += 1


class ActorFailure(Event, frozen=True, kw_only=True):
    """The actor of a symbol raises, so many ``times`` in a row, before a bar.

    It loses no return: those wait in its mailbox until its supervisor brings it back.
    """

    assets_only = True

    symbol: Name
    at: Bar
    times: Times = 1

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Send what it cannot take."""
        return insert(turns, self.at, [Poison(self.symbol)] * self.times, market)


class Overload(Event, frozen=True, kw_only=True):
    """More arrives for a symbol than its mailbox holds, while its actor is away.

    The actor raises before the bar; behind the returns of the bar come the symbol's
    next ``count`` returns, all at once. What its mailbox does with them is up to the
    ``[actors]`` section of the script.
    """

    assets_only = True

    symbol: Name
    at: Bar
    count: Times

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Let the actor fail, and bring its next returns forward."""
        coming = iter(turns)
        for turn in coming:
            if turn.bar < self.at:
                yield turn
                continue
            early: list[Return] = []
            passed: deque[Turn] = deque()
            for later in coming:
                passed.append(later)
                early += later.take_out(self.is_about)
                if len(early) >= self.count:
                    break
            market.n_touched += 1
            turn.put_first([Poison(self.symbol)])
            turn.arrivals += early
            yield turn
            yield from passed
            yield from coming


class Snapshot(Event, frozen=True, kw_only=True):
    """A snapshot of the factory is taken before a bar."""

    at: Bar

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Take it."""
        return insert(turns, self.at, [SnapshotTaken()], market)


class Restore(Event, frozen=True, kw_only=True):
    """The process dies before a bar, and a new one goes on from the last snapshot.

    What happened since that snapshot is forgotten; what waited in mailboxes is lost.
    """

    at: Bar

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Replace the factory."""
        return insert(turns, self.at, [ProcessRestarted()], market)
