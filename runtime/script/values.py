"""Events that change what a return says."""

from collections.abc import Callable, Iterable, Iterator
from math import log

from ...messages import BenchmarkReturnMissed, ConfigError
from ...messages.fields import Name
from .event import Bar, Bars, Event, Later, Span, SpanOf
from .turns import Market, Return, Turn, grown, is_return, name_of, with_value

Change = Callable[[Return, int], Return]


class Spike(Event, frozen=True, kw_only=True):
    """One bad print.

    ``add`` is added to the return of the bar, ``value`` replaces it. ``price_factor``
    multiplies the price of this bar alone, so that the symbol's next return undoes it.
    """

    symbol: Name
    at: Bar
    add: float | None = None
    value: float | None = None
    price_factor: float | None = None

    def __post_init__(self) -> None:
        given = (self.add, self.value, self.price_factor)
        if sum(number is not None for number in given) != 1:
            reason = "give exactly one of add, value and price_factor"
            raise ConfigError([("add", reason)])
        if self.price_factor is not None and self.price_factor <= 0:
            reason = f"must be above 0, was {self.price_factor:g}"
            raise ConfigError([("price_factor", reason)])

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Change the return of the bar, and with a price the one after it."""
        returns_to_price = False

        def changed(message: Return, bar: int) -> Return:
            nonlocal returns_to_price
            value = message.period_return
            if bar == self.at:
                market.n_touched += 1
                returns_to_price = self.price_factor is not None
                return with_value(message, self._spiked(value, market))
            if returns_to_price and self.price_factor is not None:
                returns_to_price = False
                back = _growth(1.0 / self.price_factor, market)
                return with_value(message, grown(value, back, is_log=market.is_log))
            return message

        return _each(self, turns, changed)

    def _spiked(self, value: float, market: Market) -> float:
        if self.price_factor is not None:
            up = _growth(self.price_factor, market)
            return grown(value, up, is_log=market.is_log)
        return value + self.add if self.add is not None else self.value or 0.0


class Offset(SpanOf, frozen=True, kw_only=True):
    """Every return of the span is larger by ``add``."""

    add: float

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Move the returns."""

        def changed(message: Return, bar: int) -> Return:
            if not self.holds(bar):
                return message
            market.n_touched += 1
            return with_value(message, message.period_return + self.add)

        return _each(self, turns, changed)


class Flat(SpanOf, frozen=True, kw_only=True):
    """A feed that stands still: every return of the span is ``value``."""

    value: float = 0.0

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Replace the returns."""

        def changed(message: Return, bar: int) -> Return:
            if not self.holds(bar):
                return message
            market.n_touched += 1
            return with_value(message, self.value)

        return _each(self, turns, changed)


class Correction(Event, frozen=True, kw_only=True):
    """The return of a bar is sent again ``after`` bars later, with another value.

    The value is ``value``, or larger by ``add`` than the first one.
    """

    symbol: Name
    at: Bar
    after: Bars = 1
    add: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        if (self.add is None) == (self.value is None):
            raise ConfigError([("add", "give exactly one of add and value")])

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Let the first value pass, and send the other one later."""
        later = Later()
        turn = None
        for turn in turns:
            if turn.bar == self.at:
                for message in filter(is_return, list(turn.arrivals)):
                    if self.is_about(message):
                        market.n_touched += 1
                        other = self.value
                        if other is None:
                            other = message.period_return + (self.add or 0.0)
                        correction = with_value(message, other)
                        if self.after:
                            later.hold(self.at + self.after, [correction])
                        else:
                            turn.arrivals.append(correction)
            later.deliver(turn)
            yield turn
        yield from later.rest(turn)


class BenchmarkMissed(Span, frozen=True, kw_only=True):
    """The feed says that the benchmark has no return for the bars of a span."""

    def disturb(self, turns: Iterable[Turn], market: Market) -> Iterator[Turn]:
        """Put a `BenchmarkReturnMissed` where the benchmark's return was."""
        for turn in turns:
            if self.holds(turn.bar):
                missed = turn.take_out(lambda m: name_of(m) == market.benchmark)
                market.n_touched += len(missed)
                turn.put_first(
                    BenchmarkReturnMissed(
                        benchmark=market.benchmark,
                        ts_event=message.ts_event,
                        ts_init=message.ts_init,
                    )
                    for message in missed
                )
            yield turn


def _each(event: Event, turns: Iterable[Turn], changed: Change) -> Iterator[Turn]:
    for turn in turns:
        turn.arrivals = [
            changed(arrival, turn.bar)
            if is_return(arrival) and event.is_about(arrival)
            else arrival
            for arrival in turn.arrivals
        ]
        yield turn


def _growth(factor: float, market: Market) -> float:
    return log(factor) if market.is_log else factor - 1.0
