"""Callbacks of this process that get every turn's updates.

Rule: a callback that raises reaches nobody else: not the next callback, not the feed
whose return caused the turn. Its first failure in a row is logged with its traceback,
each one is counted, and it is called again the next turn: what it missed is its own
affair, as `n_failures` says.
"""

import logging
from collections.abc import Callable

from ..actors import BetaColumns, BetaRows

logger = logging.getLogger(__name__)

Updates = list[BetaColumns | BetaRows]


class Listeners:
    """The callbacks, in the order in which they came."""

    def __init__(self) -> None:
        self.n_failures = 0
        """Calls that raised so far, over all callbacks."""
        self.callbacks: dict[int, Callable[[Updates], None]] = {}
        """By number."""
        self._failing: set[int] = set()
        self._last = 0

    def add(self, callback: Callable[[Updates], None]) -> Callable[[], None]:
        """Call it with the updates of each turn; what is returned takes it back.

        Adding or taking back from within a callback holds from the next turn on.
        """
        self._last += 1
        number = self._last
        self.callbacks[number] = callback

        def remove() -> None:
            self.callbacks.pop(number, None)
            self._failing.discard(number)

        return remove

    def tell(self, updates: Updates) -> None:
        """Hand a turn's updates to each callback."""
        for number, callback in tuple(self.callbacks.items()):
            if number not in self.callbacks:
                continue  # taken back by one before it
            try:
                callback(updates)
            except Exception as error:
                # A subscriber's failure stops here: nobody else is to notice.
                self.n_failures += 1
                if number not in self._failing:
                    self._failing.add(number)
                    logger.exception("listener.failed callback=%r", callback)
                else:
                    logger.debug(
                        "listener.failed callback=%r error=%r", callback, error
                    )
            else:
                self._failing.discard(number)
