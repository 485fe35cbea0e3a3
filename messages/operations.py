"""What an operator asks of a sidecar, and what it is answered.

Every request has a number of the operator's own, and its answer has the same.
"""

from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta

from .commands import Command
from .fields import MAX_SYMBOLS, Count, Text, TimestampNs
from .status import ReportStatus, StatusReported

MAX_LETTERS = 1000
"""Most dead letters in one message; a sidecar keeps no more."""

MAX_HELD_RETURNS = 1000
"""Most held returns in one message; a sidecar keeps no more."""


class ListActors(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="l", gc=False
):
    """Ask for every actor; answered by `ActorsListed`."""

    request: Count
    state: Text = ""
    """Only actors in this state; empty = all of them."""


class ReviveActor(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="v", gc=False
):
    """Restart a quarantined actor with a new budget; answered by `Answered`."""

    request: Count
    actor: Text
    """As `ActorListed` names it."""


class ListDeadLetters(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="d", gc=False
):
    """Ask for the messages that no actor took; answered by `DeadLettersListed`."""

    request: Count
    first: Count = 0
    """The lowest number that is asked for."""
    limit: Count = MAX_LETTERS
    """The newest so many of them."""


class RequeueDeadLetters(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="q", gc=False
):
    """Send dead letters to their actors again; answered by `Answered`."""

    request: Count
    numbers: Annotated[tuple[Count, ...], Meta(max_length=MAX_LETTERS)]


class ListHeldReturns(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="n", gc=False
):
    """Ask for the returns in quarantine; answered by `HeldReturnsListed`."""

    request: Count
    first: Count = 0
    """The lowest number that is asked for."""
    limit: Count = MAX_HELD_RETURNS
    """The newest so many of them."""


class ReleaseHeldReturns(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="f", gc=False
):
    """Take returns out of quarantine into their windows; answered by `Answered`."""

    request: Count
    numbers: Annotated[tuple[Count, ...], Meta(max_length=MAX_HELD_RETURNS)]


class DiscardHeldReturns(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="x", gc=False
):
    """Throw returns in quarantine away; answered by `Answered`."""

    request: Count
    numbers: Annotated[tuple[Count, ...], Meta(max_length=MAX_HELD_RETURNS)]


class ActorListed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One actor, as it was when it was asked for."""

    actor: Text
    """Its kind and its name."""
    state: Text
    n_waiting: Count
    """Messages in its mailbox."""
    n_processed: Count
    """Messages it has taken; a return in a columnar frame is worth one."""
    n_failures: Count
    last_error: Text = ""


class ActorsListed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="L", gc=False
):
    """The actors that were asked for, in the order of their names."""

    request: Count
    actors: Annotated[tuple[ActorListed, ...], Meta(max_length=2 * MAX_SYMBOLS)]


class DeadLetterListed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """A message that no actor took, and why."""

    number: Count
    """Its place among all dead letters of this sidecar, from 1."""
    actor: Text
    reason: Text
    buried_ns: TimestampNs
    """When it was given up, in nanoseconds since the Unix epoch."""
    payload: bytes
    """The message, encoded."""


class DeadLettersListed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="E", gc=False
):
    """The dead letters that were asked for, oldest first."""

    request: Count
    n_total: Count
    """How many there were so far, those included that are not kept any more."""
    letters: Annotated[tuple[DeadLetterListed, ...], Meta(max_length=MAX_LETTERS)]


class HeldReturnListed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False
):
    """A return in quarantine, and what it went beyond."""

    number: Count
    """Its place among all that this sidecar ever held, from 1."""
    factor: Text
    name: Text
    """The symbol, or the benchmark."""
    ts_event: TimestampNs
    period_return: float
    reason: Text
    """The key of the factor's model that it went beyond."""
    limit: float
    """The value of that key."""
    z: float | None
    """Distance from the median of its own returns, in robust standard deviations;
    ``None`` = there were too few of them."""
    is_as_sent: bool
    """Whether ``payload`` is the message that was sent; else it is one made of a cell:
    of a columnar frame, or of a bar that waited for its benchmark."""
    payload: bytes
    """The message, encoded."""


class HeldReturnsListed(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="N", gc=False
):
    """The held returns that were asked for, oldest first."""

    request: Count
    n_total: Count
    """How many there were so far, those included that are not held any more."""
    n_given_up: Count
    """How many of them had to make room for newer ones."""
    returns: Annotated[tuple[HeldReturnListed, ...], Meta(max_length=MAX_HELD_RETURNS)]


class Answered(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="K", gc=False
):
    """What was asked has been done, or has not."""

    request: Count
    n_done: Count
    problem: Text = ""
    """What could not be done, and why; empty = nothing."""


Operation = (
    ListActors
    | ReviveActor
    | ListDeadLetters
    | RequeueDeadLetters
    | ListHeldReturns
    | ReleaseHeldReturns
    | DiscardHeldReturns
    | Command
)
"""What concerns the actors and what was sent to them."""

Request = Operation | ReportStatus
"""What only an operator may ask."""

REQUEST_TYPES: Final[tuple[type[Request], ...]] = get_args(Request)
"""The members of `Request`, in the same order."""

Answer = (
    ActorsListed | DeadLettersListed | Answered | HeldReturnsListed | StatusReported
)
"""What a sidecar answers a `Request` with."""
