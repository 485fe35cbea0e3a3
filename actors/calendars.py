"""When sessions begin and end.

Rule: a bar belongs to the last session that opened before its stamp, for a bar is
stamped when it closes: the bar stamped at the open itself is the night's.
"""

import re
import warnings
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

_HOURS: Final = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)\s+(\S+)")
_FIRST_YEAR: Final = 1990
_LAST_YEAR: Final = 2060
_SATURDAY: Final = 5

Stamps = NDArray[np.int64]


class Session(NamedTuple):
    """One stretch of trading, in ns since the Unix epoch."""

    opens: int
    closes: int


class Calendar:
    """A table of sessions.

    Parameters
    ----------
    name
        As it was asked for.
    opens, closes
        Increasing, in ns since the Unix epoch; shape (n_sessions,).
    """

    def __init__(self, name: str, opens: Stamps, closes: Stamps) -> None:
        self.name = name
        self._opens = opens
        self._closes = closes

    def number_at(self, stamp: int) -> int:
        """Return how many sessions have opened before a stamp."""
        return int(np.searchsorted(self._opens, stamp, side="left"))

    def session(self, number: int) -> Session | None:
        """Return the session of a number; ``None`` when the table has none."""
        if not 1 <= number <= len(self._opens):
            return None
        return Session(int(self._opens[number - 1]), int(self._closes[number - 1]))


@lru_cache(maxsize=16)
def calendar_of(name: str) -> Calendar:
    """Return the calendar of a name.

    Parameters
    ----------
    name
        ``"09:30-16:00 America/New_York"``: these hours of every weekday, holidays
        included; or an exchange's code as the package exchange-calendars has it.

    Raises
    ------
    ValueError
        When it is neither, or when that package is not installed.

    Examples
    --------
    >>> calendar = calendar_of("09:30-16:00 America/New_York")
    >>> session = calendar.session(calendar.number_at(1_700_000_000 * 10**9))
    >>> (session.closes - session.opens) / 3.6e12
    6.5
    """
    hours = _HOURS.fullmatch(name.strip())
    if hours is not None:
        return _weekdays(name, hours)
    if not re.fullmatch(r"[A-Za-z0-9_/]+", name):
        msg = (
            'must be hours and a zone such as "09:30-16:00 America/New_York", or the '
            f'code of an exchange such as "XNYS", was {name!r}'
        )
        raise ValueError(msg)
    return _exchange(name)


def _weekdays(name: str, hours: re.Match[str]) -> Calendar:
    try:
        zone = ZoneInfo(hours[5])
        begins, ends = (
            time(int(hours[1]), int(hours[2])),
            time(int(hours[3]), int(hours[4])),
        )
    except (ZoneInfoNotFoundError, ValueError) as error:
        msg = f"{name!r}: {error}"
        raise ValueError(msg) from error
    first, last = date(_FIRST_YEAR, 1, 1), date(_LAST_YEAR, 12, 31)
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    weekdays = [day for day in days if day.weekday() < _SATURDAY]
    # Hours that end before they begin go past midnight.
    next_day = timedelta(days=ends <= begins)
    return Calendar(
        name,
        np.array([_stamp(day, begins, zone) for day in weekdays], dtype=np.int64),
        np.array([_stamp(day + next_day, ends, zone) for day in weekdays], np.int64),
    )


def _stamp(day: date, at: time, zone: ZoneInfo) -> int:
    moment = datetime.combine(day, at, tzinfo=zone).astimezone(UTC)
    return int(moment.timestamp()) * 10**9


def _exchange(name: str) -> Calendar:
    try:
        package: Any = import_module("exchange_calendars")  # ships no types
    except ImportError as error:
        msg = (
            f"{name!r} is no hours with a zone, and for the calendars of exchanges "
            "pip install 'hft-beta-factory[calendars]'"
        )
        raise ValueError(msg) from error
    known: list[str] = sorted(package.get_calendar_names())
    if name not in known:
        msg = (
            f"no exchange has the code {name!r}; there are {', '.join(known[:10])}, ..."
        )
        raise ValueError(msg)
    with warnings.catch_warnings():  # the package is older than its pandas
        warnings.simplefilter("ignore")
        calendar = package.get_calendar(name)
        opens, closes = _stamps(calendar.opens), _stamps(calendar.closes)
    return Calendar(name, opens, closes)


def _stamps(times: object) -> Stamps:
    # pandas' stamps with a zone, in whatever unit they are held
    return np.asarray(times, dtype="datetime64[ns]").astype(np.int64)
