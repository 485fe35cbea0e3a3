"""What all expectations have in common: what they are held against, and what they say.

Rule: an expectation is checked against what was published and counted, never against
the state of an actor. What cannot be seen from outside cannot be expected.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from .evidence import Evidence


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What was expected, and what was seen instead."""

    expected: str
    seen: str


@dataclass(frozen=True, slots=True)
class Case:
    """What an expectation is checked against."""

    seen: Evidence
    undisturbed: Evidence | None
    """The same market without the events, where somebody asks for it."""
    factor: str
    """The factor of expectations that name none."""
    n_bars: int


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is seen when all is well.

    The fields of a kind are its keys in the script.
    """

    by_symbol: ClassVar[bool] = False
    """Whether it is about a topic."""

    def check(self, case: Case) -> Mismatch | None:
        """Return what is wrong, if anything is."""
        raise NotImplementedError

    def bars(self) -> tuple[int, int] | None:
        """Return the bars that it speaks of; ``None`` = the whole replay."""
        return None

    @property
    def needs_undisturbed(self) -> bool:
        """Whether it compares with the replay without events."""
        return False


def one_of(
    expectation: Expectation, key: str, names: Collection[str]
) -> list[tuple[str, str]]:
    """Return what is wrong with a key that holds one of some names, if anything."""
    value = getattr(expectation, key)
    if value is None or value in names:
        return []
    return [(key, f"must be one of {', '.join(names)}, was {value!r}")]
