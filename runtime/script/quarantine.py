"""Events of the quarantine: what an operator does with held returns."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...messages import ReleaseHeldReturns
from ...messages.fields import Name
from ..operations import Operations
from .event import Bar, Event, insert
from .turns import Deed, Market, Stage, Turn


@dataclass(frozen=True, slots=True)
class HeldReleased(Deed):
    """Asks for all that is held of one symbol, or of the benchmark."""

    symbol: str

    def perform(self, stage: Stage) -> None:
        """Ask as an operator does; what is too late stays held."""
        system = stage.replayer.system
        held = system.factory.tally.held
        numbers = tuple([one.number for one in held if one.name == self.symbol])
        Operations(system).answer(ReleaseHeldReturns(request=1, numbers=numbers))


class Release(Event, frozen=True, kw_only=True):
    """An operator releases what is held of a symbol, before a bar."""

    symbol: Name
    at: Bar

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Ask for it."""
        return insert(turns, self.at, [HeldReleased(self.symbol)], market)
