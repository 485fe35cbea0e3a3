"""What was refused is counted, and kept where somebody is wrong."""

from math import inf, nan

import pytest

from beta_factory.actors.tally import (
    QUARANTINE_LENGTH,
    QUARANTINED,
    Drop,
    Tally,
    refuse,
)
from strategies import asset

MESSAGE = asset("AAPL", 1, 0.5)


@pytest.mark.parametrize("reason", list(Drop))
def test_every_drop_is_counted_under_its_reason_alone(reason: Drop) -> None:
    tally = Tally()
    tally.drop(reason)
    tally.drop(reason, MESSAGE)
    tally.drop(reason, count=5)
    assert dict(tally.dropped) == {reason: 7}


@pytest.mark.parametrize("reason", list(Drop))
def test_messages_are_kept_where_somebody_is_wrong(reason: Drop) -> None:
    tally = Tally()
    tally.drop(reason, MESSAGE)
    assert list(tally.quarantine) == [(reason, MESSAGE)] * (reason in QUARANTINED)


@pytest.mark.parametrize(
    "reason", [Drop.DUPLICATE, Drop.LATE, Drop.UNPAIRED], ids=lambda drop: drop.value
)
def test_what_a_healthy_feed_also_does_is_not_kept(reason: Drop) -> None:
    assert reason not in QUARANTINED


def test_the_newest_messages_are_kept_and_no_more_than_agreed() -> None:
    tally = Tally()
    for ts in range(QUARANTINE_LENGTH + 3):
        tally.drop(Drop.CONFLICT, asset("AAPL", ts, 0.5))
    assert tally.dropped[Drop.CONFLICT] == QUARANTINE_LENGTH + 3
    assert len(tally.quarantine) == QUARANTINE_LENGTH
    assert tally.quarantine[0] == (Drop.CONFLICT, asset("AAPL", 3, 0.5))


def test_a_drop_without_a_message_leaves_the_quarantine_alone() -> None:
    tally = Tally()
    tally.drop(Drop.CONFLICT)
    assert not tally.quarantine


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0.0, None),
        (-0.5, None),
        (1e150, None),
        (-1e150, None),
        (1.0000001e150, Drop.OUT_OF_RANGE),
        (-1.7e308, Drop.OUT_OF_RANGE),
        (nan, Drop.NOT_FINITE),
        (inf, Drop.NOT_FINITE),
        (-inf, Drop.NOT_FINITE),
    ],
)
def test_what_cannot_be_squared_is_no_return(value: float, reason: Drop | None) -> None:
    assert refuse(value) is reason
