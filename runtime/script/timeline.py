"""The bars of a script's source, and how a script speaks of them.

Rule: in a script a whole number is a bar, counted from 1; text is a time in ISO 8601,
and means a bar: the first at or after it, or for the end of a range the last at or
before it.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np

from ..stamps import parse_stamp, stamp_text


class Timeline:
    """When each bar of a source closed.

    Parameters
    ----------
    stamps
        In ns since the epoch, increasing, at least one.
    """

    def __init__(self, stamps: Sequence[int]) -> None:
        self._stamps = np.array(stamps, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._stamps)

    def stamp(self, bar: int) -> int:
        """Return when a bar closed."""
        return int(self._stamps[bar - 1])

    def bars_within(self, from_ts: int | None, to_ts: int | None) -> tuple[int, int]:
        """Return the first and the last bar of a span of time.

        The last is before the first where there is none.
        """
        first, last = 1, len(self)
        if from_ts is not None:
            first = int(self._stamps.searchsorted(from_ts, "left")) + 1
        if to_ts is not None:
            last = int(self._stamps.searchsorted(to_ts, "right"))
        return first, last

    def bar(self, when: object, *, ends: bool = False) -> int:
        """Return the bar that is meant.

        Parameters
        ----------
        when
            As it stands in the script.
        ends
            Whether it is the end of a range.

        Raises
        ------
        ValueError
            When it is no point in time, or there is no such bar.
        """
        n_bars = len(self)
        if isinstance(when, int) and not isinstance(when, bool):
            if not 1 <= when <= n_bars:
                msg = f"must be a bar from 1 to {n_bars}, was {when}"
                raise ValueError(msg)
            return when
        if not isinstance(when, (str, date)):
            msg = f"must be the number of a bar or a time in ISO 8601, was {when!r}"
            raise ValueError(msg)  # noqa: TRY004 - a value of the script
        stamp = parse_stamp(when)
        if ends:
            bar = int(self._stamps.searchsorted(stamp, "right"))
        else:
            bar = int(self._stamps.searchsorted(stamp, "left")) + 1
        if not 1 <= bar <= n_bars:
            first, last = stamp_text(self.stamp(1)), stamp_text(self.stamp(n_bars))
            msg = f"must be within the bars ({first} to {last}), was {when}"
            raise ValueError(msg)
        return bar
