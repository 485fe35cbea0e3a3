"""Durations as a configuration writes them: ``"30min"`` is so many nanoseconds."""

import re
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 24 * 3600 * 10**9,
    "w": 7 * 24 * 3600 * 10**9,
}
_DURATION: Final = re.compile(r"(\d{1,12})\s*(ns|us|ms|s|min|h|d|w)")

DAY_NS: Final = _UNITS["d"]

LONGEST_NS: Final = 100 * 366 * DAY_NS
"""A century; int64 nanoseconds hold not three of them."""


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds.

    Raises
    ------
    ValueError
        When ``text`` is not a whole number above 0 with a unit, or is above
        `LONGEST_NS`.

    Examples
    --------
    >>> parse_duration("30min"), parse_duration("1 d")
    (1800000000000, 86400000000000)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        msg = (
            f"must be a whole number and a unit of {', '.join(_UNITS)}, "
            f'such as "30min", was {text!r}'
        )
        raise ValueError(msg)
    duration = int(match[1]) * _UNITS[match[2]]
    if not 0 < duration <= LONGEST_NS:
        msg = f"must be above 0 and at most a century, was {text!r}"
        raise ValueError(msg)
    return duration
