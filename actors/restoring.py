"""The state of a whole factory, and a factory that goes on from it.

Rule: what is restored gives the very bytes that an uninterrupted factory would. Rows
are matched by symbol. What an actor is stays so; that it was away does not, for here is
another one.
"""

from typing import Any

import msgspec
import numpy as np

from ..messages import SnapshotError, Status
from .config import Factor
from .parts import Parts
from .snapshot import pack_state, unpack_state
from .symbol import REASONS
from .tally import Drop


def snapshot(parts: Parts) -> bytes:
    """Return all that a factory knows, see `BetaFactory.snapshot`."""
    tally = parts.tally
    return pack_state(
        {
            "symbols": parts.symbols,
            "factors": [msgspec.to_builtins(factor) for factor in parts.factors],
            "held": tally.held.state(),
            "dropped": {str(reason): n for reason, n in tally.dropped.items()},
            "tally": tally.state(),
            "halts": [actor.status for actor in parts.actors.values()],
            "tables": parts.tables.state(),
            "cohorts": [cohort.state() for cohort in parts.cohorts],
            "publishers": [publisher.state() for publisher in parts.publishers],
        }
    )


def restore(parts: Parts, content: bytes) -> None:
    """Go on from a snapshot, see `BetaFactory.restore`.

    Raises
    ------
    SnapshotError
        When it is no snapshot, is damaged, or is one of other factors; or when the
        parts have taken something already.
    """
    if any(cohort.n_bars or cohort.n_waiting for cohort in parts.cohorts):
        raise SnapshotError("needs a factory that has taken nothing yet")
    header = unpack_state(content)
    if not _are_of(header["factors"], parts.factors):
        raise SnapshotError(
            "is of other factors: "
            + ", ".join(str(factor["name"]) for factor in header["factors"])
        )
    row_of = {symbol: row for row, symbol in enumerate(header["symbols"])}
    sources = np.array([row_of.get(symbol, -1) for symbol in parts.symbols])
    state = unpack_state(content, sources)
    for cohort, part in zip(parts.cohorts, state["cohorts"], strict=True):
        cohort.restore(part)
    for publisher, part in zip(parts.publishers, state["publishers"], strict=True):
        publisher.restore(part)
    for symbol, status in zip(header["symbols"], state["halts"], strict=True):
        if symbol in parts.actors and status is not None:
            parts.actors[symbol].restore(Status(status))
    _show_actors(parts)
    tally = parts.tally
    tally.dropped.update({Drop(reason): n for reason, n in state["dropped"].items()})
    tally.held.restore(state["held"])
    tally.restore(state["tally"])
    parts.tables.restore(state["tables"])


def _show_actors(parts: Parts) -> None:
    # Rows go on with what their actors are. Whose actor was away, or its benchmark's,
    # was said to be degraded: that is over, and is published with the next commit.
    statuses = [actor.status for actor in parts.actors.values()]
    for status, reason in REASONS.items():
        rows = np.flatnonzero([each is status for each in statuses])
        for cohort in parts.cohorts:
            cohort.go_on_as(rows, status, reason)
    for cohort, publisher in zip(parts.cohorts, parts.publishers, strict=True):
        cohort.announce(publisher.degraded())


def _are_of(stored: list[Any], factors: tuple[Factor, ...]) -> bool:
    # Whether windows of these factors can go on from those: the limits may differ.
    try:
        known = msgspec.convert(stored, tuple[Factor, ...])
    except msgspec.ValidationError:
        return False
    return [f.windows for f in known] == [f.windows for f in factors]
