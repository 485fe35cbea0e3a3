"""What arrives, turn by turn: the stream that events change.

Rule: a turn is what arrives between two looks at the clock; undisturbed it is one bar.
Events change, move, drop and repeat the returns in it; commands and deeds stand before
the returns of their turn, in the order in which the script names them, and no event
touches them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

from msgspec.structs import replace

from ...messages import BenchmarkReturnObserved, Message, ReturnObserved
from ..bars import Bars
from ..observations import FrameFormat, observe
from ..replay import Replayer

Return = ReturnObserved | BenchmarkReturnObserved


@dataclass(slots=True)
class Stage:
    """The running replay, as far as a deed may touch it."""

    replayer: Replayer
    snapshot: bytes = b""
    """The last one that was taken."""
    n_restores: int = 0


class Deed(ABC):
    """Something that no message says: a failure, a restart of the process."""

    __slots__ = ()

    @abstractmethod
    def perform(self, stage: Stage) -> None:
        """Do it, now."""


Arrival = Message | Deed


@dataclass(slots=True)
class Turn:
    """What arrives at one point in time."""

    bar: int
    """The bar that closes with it, counted from 1."""
    now_ns: int
    """What the clock shows, in ns since the epoch."""
    arrivals: list[Arrival]

    def put_first(self, arrivals: Iterable[Arrival]) -> None:
        """Let something arrive before the returns, behind what does so already."""
        place = 0
        while place < len(self.arrivals) and not is_return(self.arrivals[place]):
            place += 1
        self.arrivals[place:place] = arrivals

    def take_out(self, is_meant: Callable[[Return], bool]) -> list[Return]:
        """Take some returns out of it."""
        taken = [a for a in self.arrivals if is_return(a) and is_meant(a)]
        self.arrivals = [a for a in self.arrivals if not (is_return(a) and is_meant(a))]
        return taken


@dataclass(slots=True)
class Market:
    """What an event knows of the source, and where it notes what it did."""

    benchmark: str
    is_log: bool = False
    """Whether returns are logarithms of price ratios."""
    n_touched: int = field(default=0)
    """Messages that the event changed, moved, dropped, repeated or sent."""


def turns_of(bars: Bars, benchmark: str) -> Iterator[Turn]:
    """Return the undisturbed stream of a market, one message per return."""
    stream = observe(bars, benchmark, frame_format=FrameFormat.SINGLE)
    for bar, (stamp, messages) in enumerate(stream, start=1):
        yield Turn(bar, stamp, list(messages))


def is_return(arrival: Arrival) -> TypeGuard[Return]:
    """Tell the returns from what no event touches."""
    return isinstance(arrival, (ReturnObserved, BenchmarkReturnObserved))


def name_of(message: Return) -> str:
    """Return whose return it is."""
    if isinstance(message, ReturnObserved):
        return message.symbol
    return message.benchmark


def with_value(message: Return, period_return: float) -> Return:
    """Return a message with another value."""
    return replace(message, period_return=period_return)


def grown(first: float, second: float, *, is_log: bool) -> float:
    """Return the return over two periods in a row."""
    return first + second if is_log else (1.0 + first) * (1.0 + second) - 1.0
