"""What was refused, by reason: nothing is dropped in silence.

Rule: whoever does not use an observation counts it here, and says why in one of the
words below. The runtime logs the counts once per interval; this file knows no time.
"""

import enum
from collections import Counter, deque
from math import isfinite

from ..estimators import LARGEST
from ..messages import BenchmarkReturnObserved, Message, ReturnObserved
from .quarantine import Absurd, Quarantine

QUARANTINE_LENGTH = 1000
"""Refused messages kept for inspection; at a few hundred bytes each, well under a
megabyte, and enough to see what a bad feed sends."""


class Drop(enum.StrEnum):
    """Why an observation is not in any window."""

    NOT_FINITE = "not_finite"
    """A NaN or infinite return where a number was promised."""
    OUT_OF_RANGE = "out_of_range"
    """A return whose square is beyond a float64, so no return at all."""
    ABSURD = "absurd"
    """A return beyond the model's limits: held until an operator releases it."""
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_BENCHMARK = "unknown_benchmark"
    DUPLICATE = "duplicate"
    """The same value for the same symbol and bar, again."""
    CONFLICT = "conflict"
    """Another value for a symbol and bar that already has one, and no lateness."""
    LATE = "late"
    """For a bar older than the allowed lateness reaches."""
    FUTURE = "future"
    """A bar so far ahead of the clock that it would make every real one late."""
    UNPAIRED = "unpaired"
    """The benchmark never had a return for this bar."""
    OVERNIGHT = "overnight"
    """The return spans the night before the session's first bar."""
    HALTED = "halted"
    """The symbol was halted."""
    OVERFLOW = "overflow"
    """The actor's mailbox was full."""
    UNDELIVERABLE = "undeliverable"
    """The actor is quarantined or stopped, or failed on this very message."""


QUARANTINED = frozenset(
    {
        Drop.FUTURE,
        Drop.NOT_FINITE,
        Drop.OUT_OF_RANGE,
        Drop.UNKNOWN_SYMBOL,
        Drop.UNKNOWN_BENCHMARK,
        Drop.CONFLICT,
    }
)
"""Reasons that mean somebody is wrong: those messages are kept."""


Refusal = Drop | Absurd
"""Why a window did not take a return; `Absurd` = it is to be held."""


def refuse(period_return: float) -> Drop | None:
    """Return why a number cannot be a return, ``None`` when it can."""
    if abs(period_return) <= LARGEST:
        return None
    return Drop.OUT_OF_RANGE if isfinite(period_return) else Drop.NOT_FINITE


class Tally:
    """Counts of what was dropped, and the last messages that should not have come."""

    def __init__(self) -> None:
        self.dropped: Counter[Drop] = Counter()
        self.quarantine: deque[tuple[Drop, Message]] = deque(maxlen=QUARANTINE_LENGTH)
        self.held = Quarantine()
        """The returns that were dropped as `ABSURD` and may yet be released."""

    def drop(
        self,
        reason: Refusal,
        message: Message | None = None,
        count: int = 1,
        *,
        is_as_sent: bool = True,
    ) -> None:
        """Count ``count`` dropped observations; keep the message if it is at fault.

        Parameters
        ----------
        reason
            Why.
        message
            One that was dropped; what is `Absurd` comes with it.
        count
            How many.
        is_as_sent
            See `HeldReturn`.
        """
        if isinstance(reason, Absurd):
            self.dropped[Drop.ABSURD] += count
            if isinstance(message, (ReturnObserved, BenchmarkReturnObserved)):
                self.held.hold(reason, message, is_as_sent=is_as_sent)
            return
        self.dropped[reason] += count
        if message is not None and reason in QUARANTINED:
            self.quarantine.append((reason, message))
