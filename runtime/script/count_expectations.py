"""Expectations of how much: updates, drops, restarts; and of everything: the digest."""

import re
from typing import Annotated

from msgspec import Meta

from ...actors import Drop
from ...messages import ConfigError
from ...messages.fields import Name
from .event import Bar, check_span
from .expectation import Case, Expectation, Mismatch, one_of

Number = Annotated[int, Meta(ge=0)]


class Counted(Expectation, frozen=True, kw_only=True):
    """An exact ``count``, or a range of ``low`` to ``high``."""

    count: Number | None = None
    low: Number | None = None
    high: Number | None = None

    def __post_init__(self) -> None:
        band = self.low is not None or self.high is not None
        if band == (self.count is not None):
            raise ConfigError([("count", "give either count, or low or high")])

    def judged(self, n: int, what: str) -> Mismatch | None:
        """Hold a number against the band."""
        low = self.low or 0 if self.count is None else self.count
        high = self.high if self.count is None else self.count
        if low <= n and (high is None or n <= high):
            return None
        wanted = f"{low}" if low == high else f"{low} to {high}"
        return Mismatch(
            f"{wanted if high is not None else f'at least {low}'} {what}", str(n)
        )


class UpdatesExpected(
    Counted, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}
):
    """The number of updates in the bars of a span; of one symbol, or of all."""

    by_symbol = True

    symbol: Name | None = None
    factor: Name | None = None
    first: Bar | None = None
    last: Bar | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_span(self.first, self.last)

    def bars(self) -> tuple[int, int] | None:
        """Return the bars that it speaks of."""
        if self.first is None or self.last is None:
            return None
        return self.first, self.last

    def check(self, case: Case) -> Mismatch | None:
        """Count them."""
        first, last = self.first or 1, self.last or case.n_bars
        factor = self.factor or case.factor
        if self.symbol is None:
            n = case.seen.count(factor, first, last)
        else:
            n = len(case.seen.during((factor, self.symbol), first, last))
        whose = f" of {self.symbol}" if self.symbol else ""
        return self.judged(n, f"updates{whose} from bar {first} to {last}")


class DroppedExpected(Counted, frozen=True, kw_only=True):
    """How many observations were dropped for a reason, by the end."""

    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := one_of(self, "reason", [str(drop) for drop in Drop]):
            raise ConfigError(problems)

    def check(self, case: Case) -> Mismatch | None:
        """Look at the count."""
        dropped = case.seen.summary.system.dropped
        mismatch = self.judged(dropped.get(self.reason, 0), f"dropped as {self.reason}")
        if mismatch is None:
            return None
        others = ", ".join(f"{reason} {n}" for reason, n in dropped.items())
        return Mismatch(
            mismatch.expected, f"{mismatch.seen} ({others or 'none at all'})"
        )


class RestartsExpected(Counted, frozen=True, kw_only=True):
    """How often an actor came back, since the process began."""

    def check(self, case: Case) -> Mismatch | None:
        """Look at the count."""
        return self.judged(case.seen.summary.system.n_restarts, "restarts of actors")


class DeadLettersExpected(Counted, frozen=True, kw_only=True):
    """How many messages no actor took, since the process began."""

    def check(self, case: Case) -> Mismatch | None:
        """Look at the count."""
        return self.judged(case.seen.summary.system.n_dead_letters, "dead letters")


class RestoresExpected(Counted, frozen=True, kw_only=True):
    """How often a new process went on from a snapshot."""

    def check(self, case: Case) -> Mismatch | None:
        """Look at the count."""
        return self.judged(case.seen.n_restores, "restores")


class DigestExpected(Expectation, frozen=True, kw_only=True):
    """The digest of everything published: a SHA-256, or that of the undisturbed replay.

    The last bits of a number may differ between machines, and with them a SHA-256; two
    replays on one machine never differ.
    """

    equal: str

    def __post_init__(self) -> None:
        if not re.fullmatch("undisturbed|(sha256:)?[0-9a-f]{64}", self.equal):
            reason = f"must be undisturbed or a SHA-256 in hex, was {self.equal!r}"
            raise ConfigError([("equal", reason)])

    @property
    def needs_undisturbed(self) -> bool:
        """Whether it compares with the replay without events."""
        return self.equal == "undisturbed"

    def check(self, case: Case) -> Mismatch | None:
        """Compare it."""
        wanted, of_what = self.equal.removeprefix("sha256:"), ""
        if wanted == "undisturbed" and case.undisturbed is not None:
            wanted, of_what = case.undisturbed.summary.digest, ", as undisturbed"
        seen = case.seen.summary.digest
        if seen == wanted:
            return None
        return Mismatch(f"the digest sha256:{wanted}{of_what}", f"sha256:{seen}")
