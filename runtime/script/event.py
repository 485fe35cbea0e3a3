"""What all events have in common: whom they concern, and when.

Rule: an event is a pure function from what arrives to what arrives instead. It keeps
what it holds back in its own generator, and draws from nothing but its seed.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from ...messages import ConfigError
from ...messages.fields import Name
from .turns import Arrival, Market, Return, Turn, name_of

Bar = Annotated[int, Meta(ge=1)]
"""A bar, counted from 1. In a script also a time, see `Timeline`."""

Bars = Annotated[int, Meta(ge=0, le=1_000_000)]
"""A number of bars."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens to a market.

    The fields of a kind are its keys in the script.
    """

    assets_only: ClassVar[bool] = False
    """Whether ``symbol`` cannot be the benchmark."""

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Return what arrives instead of ``turns``."""
        raise NotImplementedError

    @property
    def concerns(self) -> str | None:
        """The symbol or benchmark that it is about; ``None`` = all of them."""
        symbol: str | None = getattr(self, "symbol", None)
        return symbol

    def is_about(self, message: Return) -> bool:
        """Return whether it is about a return, wherever that stands."""
        return self.concerns is None or name_of(message) == self.concerns


class Span(Event, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """An event of some bars in a row, both ends included."""

    first: Bar
    last: Bar

    def __post_init__(self) -> None:
        check_span(self.first, self.last)

    def holds(self, bar: int) -> bool:
        """Return whether a bar belongs to it."""
        return self.first <= bar <= self.last


class SpanOf(Span, frozen=True, kw_only=True):
    """A span of one symbol or of the benchmark; by default of all of them."""

    symbol: Name | None = None


def check_span(first: int | None, last: int | None) -> None:
    """Refuse a range that ends before it begins."""
    if first is not None and last is not None and last < first:
        raise ConfigError([("to", f"must be at least {first} (from), was {last}")])


def insert(
    turns: Iterable[Turn], at: int, arrivals: list[Arrival], market: Market
) -> Iterator[Turn]:
    """Let something arrive before the returns of a bar, or of the next that comes."""
    waits = True
    for turn in turns:
        if waits and turn.bar >= at:
            waits = False
            turn.put_first(arrivals)
            market.n_touched += len(arrivals)
        yield turn


class Later:
    """Returns on a detour: they arrive some turns later, before those of that turn.

    What is still under way when the source ends arrives in one more turn.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Return]] = []

    def hold(self, due: int, messages: Iterable[Return]) -> None:
        """Let messages arrive with the bar ``due``."""
        self._waiting += [(due, message) for message in messages]

    def deliver(self, turn: Turn) -> None:
        """Put what is due into a turn."""
        self._put(turn, turn.bar)

    def rest(self, last: Turn | None) -> Iterator[Turn]:
        """Return the turn after the last one, if something is still under way."""
        if last is not None and self._waiting:
            turn = Turn(last.bar, last.now_ns, [])
            self._put(turn, max(due for due, _ in self._waiting))
            yield turn

    def _put(self, turn: Turn, bar: int) -> None:
        due = [entry for entry in self._waiting if entry[0] <= bar]
        self._waiting = [entry for entry in self._waiting if entry[0] > bar]
        turn.put_first([m for _, m in sorted(due, key=lambda entry: entry[0])])
