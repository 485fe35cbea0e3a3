"""Events that somebody says: commands to symbols, and the session's open."""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from ...messages import (
    AddSymbol,
    HaltSymbol,
    Message,
    RemoveSymbol,
    ResumeSymbol,
    SessionOpened,
)
from ...messages.fields import Name
from .event import Bar, Event
from .turns import Market, Turn


class Command(Event, frozen=True, kw_only=True):
    """A command to one symbol, before the returns of a bar."""

    assets_only = True
    command: ClassVar[type[HaltSymbol | ResumeSymbol | AddSymbol | RemoveSymbol]]

    symbol: Name
    at: Bar

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Send it."""
        return _say(
            turns,
            self.at,
            lambda turn: self.command(symbol=self.symbol, ts_init=turn.now_ns),
            market,
        )


class Halt(Command, frozen=True, kw_only=True):
    """`HaltSymbol`: the symbol's returns are refused until it resumes."""

    command = HaltSymbol


class Resume(Command, frozen=True, kw_only=True):
    """`ResumeSymbol`: the end of a halt."""

    command = ResumeSymbol


class Remove(Command, frozen=True, kw_only=True):
    """`RemoveSymbol`: the symbol leaves the universe."""

    command = RemoveSymbol


class Add(Command, frozen=True, kw_only=True):
    """`AddSymbol`: a removed symbol comes back, with an empty window."""

    command = AddSymbol


class SessionOpens(Event, frozen=True, kw_only=True):
    """`SessionOpened` of the benchmark: the bar is the first of a session."""

    at: Bar

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Send it, stamped just before the bar."""
        return _say(
            turns,
            self.at,
            lambda turn: SessionOpened(
                benchmark=market.benchmark,
                ts_event=turn.now_ns - 1,
                ts_init=turn.now_ns,
            ),
            market,
        )


def _say(
    turns: Iterable[Turn], at: int, message: Callable[[Turn], Message], market: Market
) -> Iterator[Turn]:
    # With the bar, or with the next that comes.
    waits = True
    for turn in turns:
        if waits and turn.bar >= at:
            waits = False
            market.n_touched += 1
            turn.put_first([message(turn)])
        yield turn
