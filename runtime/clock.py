"""The only place that reads the time.

Rule: whoever needs to know the time is given a `Clock`. Two clocks are enough: the
live one, and one that stands where it was set, for replays and tests.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, twice over."""

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch: for stamps on messages."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point, never going back: for durations."""
        ...


class LiveClock:
    """The machine's clocks."""

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    monotonic = staticmethod(time.monotonic)
    """Seconds on the machine's monotonic clock. Not wrapped: a board reads it with
    every beta, and a call in between would cost as much as the reading."""


class ReplayClock:
    """A clock that shows what it was last set to.

    A recording's messages are stamped by the recording's clock: a replayed file gives
    the same bytes whenever and however fast it is replayed.

    Parameters
    ----------
    now_ns
        Nanoseconds since the Unix epoch.
    """

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def time_ns(self) -> int:
        """Return the stamp that was last set."""
        return self._now_ns

    def monotonic(self) -> float:
        """Return the same, in seconds."""
        return self._now_ns / 1e9

    def set(self, now_ns: int) -> None:
        """Move to ``now_ns``; a replay may also go back."""
        self._now_ns = now_ns
