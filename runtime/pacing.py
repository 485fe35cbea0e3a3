"""When the next bar of a recording is due.

Rule: nothing here waits; whoever paces a recording sleeps as long as it is told. So a
pace changes when something is sent, and never what.
"""

from typing import Final

from .clock import Clock

LONGEST_PAUSE_S: Final = 1.0
"""A gap in the recording (a night, a weekend) is cut to this: nobody watches a feed
that sends nothing for seventeen hours."""


class Pace:
    """A multiple of the recording's own time.

    Parameters
    ----------
    clock
        Measures what has passed.
    speed
        Multiple of real time; 0 = as fast as it goes.
    """

    def __init__(self, clock: Clock, speed: float) -> None:
        self._clock = clock
        self._speed = speed
        self._due = clock.monotonic()
        self._previous: int | None = None

    def wait_s(self, stamp: int) -> float:
        """Return for how long to wait before a bar, in seconds.

        Parameters
        ----------
        stamp
            When the bar closed, in ns; not before that of the last call.
        """
        previous, self._previous = self._previous, stamp
        if self._speed <= 0 or previous is None:
            return 0.0
        self._due += min((stamp - previous) / 1e9 / self._speed, LONGEST_PAUSE_S)
        # One that is late catches up by not sleeping; it does not skip.
        return max(0.0, self._due - self._clock.monotonic())
