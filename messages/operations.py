"""What an operator asks of a sidecar, and what it is answered.

Every request has a number of the operator's own, and its answer has the same.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from .fields import MAX_SYMBOLS, Count, Text, TimestampNs
from .status import ReportStatus, StatusReported

MAX_LETTERS = 1000
"""Most dead letters in one message; a sidecar keeps no more."""


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


class ActorListed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One actor, as it was when it was asked for."""

    actor: Text
    """Its kind and its name."""
    state: Text
    n_waiting: Count
    """Messages in its mailbox."""
    n_processed: Count
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


class Answered(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="K", gc=False
):
    """What was asked has been done, or has not."""

    request: Count
    n_done: Count
    problem: Text = ""
    """What could not be done, and why; empty = nothing."""


Request = ListActors | ReviveActor | ListDeadLetters | RequeueDeadLetters | ReportStatus
"""What only an operator may ask."""

REQUEST_TYPES: Final[tuple[type[Request], ...]] = (
    ListActors,
    ReviveActor,
    ListDeadLetters,
    RequeueDeadLetters,
    ReportStatus,
)
"""The members of `Request`, in the same order."""

Answer = ActorsListed | DeadLettersListed | Answered | StatusReported
"""What a sidecar answers a `Request` with."""
