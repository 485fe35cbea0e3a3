"""Timers by the clock of a replay.

Rule: time passes only where the replay says so. A timer runs when `run_due` finds its
time gone by, the earliest first, and one that a timer sets waits for the next look.
"""

from collections.abc import Callable
from typing import Final

from .clock import Clock

_TICK_NS: Final = 1000
"""Timers count seconds since the epoch in floats, which are about this coarse."""


class ReplayTimers:
    """What is to be called when a replay has come so far.

    Parameters
    ----------
    clock
        The replay's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[float, Callable[[], object]]] = []

    @property
    def next_ns(self) -> int | None:
        """When the next one is due for certain; ``None`` = nothing waits.

        In nanoseconds since the Unix epoch, and never in the past.
        """
        if not self._waiting:
            return None
        first_ns = round(min(when for when, _ in self._waiting) * 1e9)
        return max(first_ns, self._clock.time_ns()) + _TICK_NS

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Call back when ``delay`` seconds have passed."""
        self._waiting.append((self._clock.monotonic() + delay, callback))

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back at the next look."""
        self.call_later(0.0, callback)

    def run_due(self) -> None:
        """Call back whatever is due by now."""
        if not self._waiting:
            return
        now = self._clock.monotonic()
        due = [timer for timer in self._waiting if timer[0] <= now]
        self._waiting = [timer for timer in self._waiting if timer[0] > now]
        for _, callback in sorted(due, key=lambda timer: timer[0]):
            callback()

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
