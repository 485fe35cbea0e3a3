"""Events that change whether, when and how often a return arrives."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from ...actors.durations import parse_duration
from ...messages import ConfigError
from ...messages.fields import Name
from .event import Bars, Later, Span, SpanOf
from .turns import Market, Return, Turn, grown, is_return, name_of, with_value

Delay = Annotated[int, Meta(ge=1, le=1_000_000)]
Shift = Annotated[str, Meta(min_length=1)]


class FeedDeath(SpanOf, frozen=True, kw_only=True):
    """A feed that is dead: what it would have sent in the span never arrives.

    The clock goes on. A return after the span says what it always said: its own bar.
    """

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Drop the returns."""
        for turn in turns:
            if self.holds(turn.bar):
                market.n_touched += len(turn.take_out(self.is_about))
            yield turn


class Gap(SpanOf, frozen=True, kw_only=True):
    """Bars that do not exist: nobody traded, and the price has gone on since.

    The first return after the span covers it, as a return between two closes does. A
    gap of all symbols takes the turns out, too: the clock jumps.
    """

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Drop the returns, and add them to the next ones."""
        growth: dict[str, float] = {}

        def covered(message: Return) -> float:
            before = growth.pop(name_of(message), None)
            if before is None:
                return message.period_return
            return grown(before, message.period_return, is_log=market.is_log)

        for turn in turns:
            if self.holds(turn.bar):
                gone = turn.take_out(self.is_about)
                market.n_touched += len(gone)
                for message in gone:
                    growth[name_of(message)] = covered(message)
                if self.symbol is None and not turn.arrivals:
                    continue
            elif growth:
                turn.arrivals = [
                    with_value(arrival, covered(arrival))
                    if is_return(arrival) and name_of(arrival) in growth
                    else arrival
                    for arrival in turn.arrivals
                ]
            yield turn


class Delayed(Span, frozen=True, kw_only=True):
    """The returns of a symbol or of the benchmark arrive some ``bars`` later.

    They say what they always said, for their own bars, and arrive before the returns of
    the turn that they arrive in.
    """

    symbol: Name
    bars: Delay

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Hold the returns back."""
        later = Later()
        turn = None
        for turn in turns:
            if self.holds(turn.bar):
                held = turn.take_out(self.is_about)
                market.n_touched += len(held)
                later.hold(turn.bar + self.bars, held)
            later.deliver(turn)
            yield turn
        yield from later.rest(turn)


class Duplicate(SpanOf, frozen=True, kw_only=True):
    """Every return of the span arrives twice.

    The second time right behind the first, or ``after`` so many bars.
    """

    after: Bars = 0

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Repeat the returns."""
        later = Later()
        turn = None
        for turn in turns:
            again = [
                arrival
                for arrival in turn.arrivals
                if is_return(arrival) and self.is_about(arrival)
            ]
            if self.holds(turn.bar):
                market.n_touched += len(again)
                if self.after:
                    later.hold(turn.bar + self.after, again)
                else:
                    turn.arrivals = [
                        copy
                        for arrival in turn.arrivals
                        for copy in [arrival] * (2 if arrival in again else 1)
                    ]
            later.deliver(turn)
            yield turn
        yield from later.rest(turn)


class Burst(SpanOf, frozen=True, kw_only=True):
    """Out of order: the returns of the span arrive with its last bar, shuffled."""

    seed: Annotated[int, Meta(ge=0)] = 1

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Hold the returns back, and deal them out in another order."""
        held: list[Return] = []
        later = Later()
        turn = None
        for turn in turns:
            if self.holds(turn.bar):
                held += turn.take_out(self.is_about)
            if held and turn.bar >= self.last:
                self._deal(held, later, market)
            later.deliver(turn)
            yield turn
        self._deal(held, later, market)
        yield from later.rest(turn)

    def _deal(self, held: list[Return], later: Later, market: Market) -> None:
        market.n_touched += len(held)
        order = np.random.default_rng(self.seed).permutation(len(held))
        places: list[int] = order.tolist()
        later.hold(self.last, [held[place] for place in places])
        held.clear()


class ClockSkew(SpanOf, frozen=True, kw_only=True):
    """A source whose clock is wrong: its stamps are ``shift`` later, or earlier.

    Messages arrive when they always did.
    """

    shift: Shift
    """A duration such as ``"1ms"``, or ``"-2s"``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.shift_ns  # noqa: B018 - parsed to be checked
        except ValueError as error:
            raise ConfigError([("shift", str(error))]) from error

    @property
    def shift_ns(self) -> int:
        """By how much stamps are later, in ns."""
        magnitude = parse_duration(self.shift.removeprefix("-"))
        return -magnitude if self.shift.startswith("-") else magnitude

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Change the stamps."""
        shift_ns = self.shift_ns

        def skewed(message: Return) -> Return:
            market.n_touched += 1
            return replace(
                message,
                ts_event=message.ts_event + shift_ns,
                ts_init=message.ts_init + shift_ns,
            )

        for turn in turns:
            if self.holds(turn.bar):
                turn.arrivals = [
                    skewed(arrival)
                    if is_return(arrival) and self.is_about(arrival)
                    else arrival
                    for arrival in turn.arrivals
                ]
            yield turn
