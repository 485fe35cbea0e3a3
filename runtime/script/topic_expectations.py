"""Expectations of one topic: its status, its numbers, its silence."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from ...messages import BetaUpdated, ConfigError, Reason, Status
from ...messages.fields import Name
from .event import Bar, check_span
from .evidence import Topic
from .expectation import Case, Expectation, Mismatch, one_of

Tolerance = Annotated[float, Meta(ge=0)]

STATUSES: Final = {status.name.lower(): status for status in Status}
REASONS: Final = {reason.name.lower(): reason for reason in Reason}
NUMBERS: Final = (
    "beta",
    "alpha",
    "std_error",
    "t_stat",
    "r_squared",
    "residual_std",
    "n_obs",
    "revision",
)
"""Fields of an update that a band can be expected of."""


class OfSymbol(Expectation, frozen=True, kw_only=True):
    """An expectation of one symbol's topic."""

    by_symbol = True

    symbol: Name
    factor: Name | None = None
    """By default the only one, or the first."""

    def topic(self, case: Case) -> Topic:
        """Return the topic that it is about."""
        return self.factor or case.factor, self.symbol


class StatusExpected(OfSymbol, frozen=True, kw_only=True):
    """The status of a symbol ``at`` the end of a bar, or reached ``by`` then."""

    status: str
    reason: str | None = None
    at: Bar | None = None
    by: Bar | None = None

    def __post_init__(self) -> None:
        problems = one_of(self, "status", STATUSES) + one_of(self, "reason", REASONS)
        if (self.at is None) == (self.by is None):
            problems.append(("at", "give exactly one of at and by"))
        if problems:
            raise ConfigError(problems)

    def bars(self) -> tuple[int, int]:
        """Return the bars that it speaks of."""
        return (self.at or 1, self.at or self.by or 1)

    def check(self, case: Case) -> Mismatch | None:
        """Look for the status."""
        topic = self.topic(case)
        wanted = self.status + (f" ({self.reason})" if self.reason else "")
        if self.at is not None:
            latest = case.seen.latest(topic, self.at)
            if latest is not None and self._fits(latest):
                return None
            return Mismatch(
                f"{self.symbol} to be {wanted} at bar {self.at}", _described(latest)
            )
        last = self.by or case.n_bars
        seen = case.seen.during(topic, 1, last)
        if any(self._fits(update) for _, update in seen):
            return None
        first = next(
            (e for e in case.seen.history.get(topic, ()) if self._fits(e[1])), None
        )
        when = f", {wanted} only at bar {first[0]}" if first else f", never {wanted}"
        return Mismatch(
            f"{self.symbol} to be {wanted} by bar {last}",
            _described(case.seen.latest(topic, last)) + when,
        )

    def _fits(self, update: BetaUpdated) -> bool:
        return update.status is STATUSES[self.status] and (
            self.reason is None or update.reason is REASONS[self.reason]
        )


class NumberExpected(OfSymbol, frozen=True, kw_only=True):
    """A number of a symbol's last update at the end of a bar.

    Within ``low`` and ``high``; or ``near`` a value, or near what the undisturbed
    replay had then, up to ``tolerance`` (of the value, where that is above 1); or
    ``undefined``.
    """

    number: str
    at: Bar
    low: float | None = None
    high: float | None = None
    near: float | Literal["undisturbed"] | None = None
    tolerance: Tolerance = 0.0
    undefined: bool = False

    def __post_init__(self) -> None:
        band = self.low is not None or self.high is not None
        if band + (self.near is not None) + self.undefined != 1:
            reason = "give low or high, or near, or undefined = true"
            raise ConfigError([("low", reason)])
        if self.low is not None and self.high is not None and self.high < self.low:
            reason = f"must be at least {self.low:g} (low), was {self.high:g}"
            raise ConfigError([("high", reason)])

    def bars(self) -> tuple[int, int]:
        """Return the bars that it speaks of."""
        return self.at, self.at

    @property
    def needs_undisturbed(self) -> bool:
        """Whether it compares with the replay without events."""
        return self.near == "undisturbed"

    def check(self, case: Case) -> Mismatch | None:
        """Look at the number."""
        topic = self.topic(case)
        latest = case.seen.latest(topic, self.at)
        value = None if latest is None else _number(latest, self.number)
        where = f"{self.symbol}'s {self.number} at bar {self.at}"
        seen = _described(latest)
        if value is not None:
            seen = f"{value!r} ({seen})"
        if self.undefined:
            is_undefined = latest is not None and value is None
            return None if is_undefined else Mismatch(f"{where} to be undefined", seen)
        low, high, wanted = self._band(case, topic)
        if value is not None and low <= value <= high:
            return None
        return Mismatch(f"{where} {wanted}", seen)

    def _band(self, case: Case, topic: Topic) -> tuple[float, float, str]:
        if self.near is None:
            low = float("-inf") if self.low is None else self.low
            high = float("inf") if self.high is None else self.high
            return low, high, f"within {low:g} and {high:g}"
        near, of_what = self.near, ""
        if near == "undisturbed":
            of_what = ", as undisturbed,"
            other = case.undisturbed and case.undisturbed.latest(topic, self.at)
            value = None if not other else _number(other, self.number)
            if value is None:
                return 1.0, 0.0, "as undisturbed, where it is undefined"
            near = value
        margin = self.tolerance * max(1.0, abs(near))
        return near - margin, near + margin, f"near {near!r}{of_what} up to {margin:g}"


class SilenceExpected(
    OfSymbol, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}
):
    """No update of a symbol in the bars of a span."""

    first: Bar
    last: Bar

    def __post_init__(self) -> None:
        check_span(self.first, self.last)

    def bars(self) -> tuple[int, int]:
        """Return the bars that it speaks of."""
        return self.first, self.last

    def check(self, case: Case) -> Mismatch | None:
        """Look for an update."""
        seen = case.seen.during(self.topic(case), self.first, self.last)
        if not seen:
            return None
        bar, update = seen[0]
        return Mismatch(
            f"no update of {self.symbol} from bar {self.first} to {self.last}",
            f"{len(seen)}, the first at bar {bar}: {_described(update)}",
        )


def _number(update: BetaUpdated, name: str) -> float | None:
    value: float | None = getattr(update, name)
    return value


def _described(update: BetaUpdated | None) -> str:
    if update is None:
        return "no update"
    reason = f", {update.reason.name.lower()}" if update.reason else ""
    return f"{update.status.name.lower()}{reason}, n_obs {update.n_obs}"
