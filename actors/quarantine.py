"""Returns that are too large to be true, held until an operator has looked at them.

Rule: a held return is as if it had never come, and a released one as if it came now.
So nothing follows from a hold but that the return is kept here, with its message in the
bytes of the wire and with what it went beyond; and a release is judged by the rules for
late returns like any other, only not by the check that held it.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..estimators import State
from ..messages import (
    BenchmarkReturnObserved,
    ReturnObserved,
    SnapshotError,
    decode,
    encode,
)

MAX_HELD: Final = 1000
"""Held returns that are kept; one more and the oldest is given up, and counted. An
operator can look through so many, and a feed whose scale is wrong sends any number."""

Return = ReturnObserved | BenchmarkReturnObserved


class Absurd(NamedTuple):
    """What a return went beyond."""

    factor: str
    key: str
    """The key of the model that says so: ``max_abs_return`` or ``max_robust_z``."""
    limit: float
    """Its value."""
    z: float | None
    """Distance from the median of the symbol's own returns, in robust deviations;
    ``None`` = there were too few of them."""


class HeldReturn(NamedTuple):
    """One return in quarantine."""

    number: int
    """Its place among all that were ever held, from 1."""
    message: Return
    is_as_sent: bool
    """Whether this is the message that was sent. False for a cell of a columnar frame
    and for a return that waited for its benchmark: those are encoded anew."""
    finding: Absurd

    @property
    def name(self) -> str:
        """The symbol, or the benchmark."""
        return name_of(self.message)

    @property
    def is_benchmark(self) -> bool:
        """Whether it is a benchmark's."""
        return isinstance(self.message, BenchmarkReturnObserved)

    @property
    def payload(self) -> bytes:
        """The message, encoded."""
        return encode(self.message)


def name_of(message: Return) -> str:
    """Return whose return it is."""
    if isinstance(message, ReturnObserved):
        return message.symbol
    return message.benchmark


class Quarantine:
    """The returns that are held, oldest first."""

    def __init__(self) -> None:
        self.n_total = 0
        """How many were ever held."""
        self.n_given_up = 0
        """How many of them had to make room for newer ones."""
        self.n_released = 0
        self.n_discarded = 0
        self._held: dict[int, HeldReturn] = {}
        self._places: set[tuple[str, type[Return], str, int, float]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldReturn]:
        return iter(self._held.values())

    def hold(self, finding: Absurd, message: Return, *, is_as_sent: bool) -> HeldReturn:
        """Take in one more."""
        self.n_total += 1
        held = HeldReturn(self.n_total, message, is_as_sent, finding)
        self._add(held)
        if len(self._held) > MAX_HELD:
            self.n_given_up += 1
            self._remove(next(iter(self._held)))
        return held

    def get(self, number: int) -> HeldReturn | None:
        """Return a held return; ``None`` when it is not here, or not any more."""
        return self._held.get(number)

    def is_new(self, factor: str, message: Return) -> bool:
        """Note a return that is going to be held; whether it is not so already.

        Whoever sent it when: it is the same one if it says the same of the same bar.
        """
        place = _place(factor, message)
        if place in self._places:
            return False
        self._places.add(place)
        return True

    def release(self, number: int) -> None:
        """Take out one that is in its window now."""
        self._remove(number)
        self.n_released += 1

    def discard(self, number: int) -> bool:
        """Throw one away; return whether it was here."""
        if number not in self._held:
            return False
        self._remove(number)
        self.n_discarded += 1
        return True

    def state(self) -> State:
        """Return what has to be kept to go on later."""
        return {
            "counts": [
                self.n_total,
                self.n_given_up,
                self.n_released,
                self.n_discarded,
            ],
            "held": [
                [held.number, held.payload, held.is_as_sent, list(held.finding)]
                for held in self
            ],
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`.

        Raises
        ------
        SnapshotError
            When something is held in it that is no return.
        """
        counts: list[int] = state["counts"]
        self.n_total, self.n_given_up, self.n_released, self.n_discarded = counts
        entries: list[Any] = state["held"]
        for number, payload, is_as_sent, finding in entries:
            message = decode(payload)
            if not isinstance(message, (ReturnObserved, BenchmarkReturnObserved)):
                raise SnapshotError(f"holds a {type(message).__name__}")
            self._add(HeldReturn(number, message, is_as_sent, Absurd(*finding)))

    def _add(self, held: HeldReturn) -> None:
        self._held[held.number] = held
        self._places.add(_place(held.finding.factor, held.message))

    def _remove(self, number: int) -> None:
        held = self._held.pop(number)
        self._places.discard(_place(held.finding.factor, held.message))


def _place(factor: str, message: Return) -> tuple[str, type[Return], str, int, float]:
    value = message.period_return
    return factor, type(message), name_of(message), message.ts_event, value
