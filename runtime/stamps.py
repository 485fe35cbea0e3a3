"""Points in time as people write them: ISO 8601, or nanoseconds since the epoch.

Rule: a stamp is an integer of nanoseconds in UTC, in the years 1970 to 2261, and no
digit of it is lost on the way in or out. A text without a zone is UTC.
"""

import re
from datetime import UTC, date, datetime
from typing import Final

STAMP_RULE: Final = "stamp must be integer ns or ISO 8601, in the years 1970 to 2261"

_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?"
)
_LAST: Final = 2**63 - 1
_LAST_YEAR: Final = 2261


def parse_stamp(text: str | int | date) -> int:
    """Return a point in time in nanoseconds since the epoch.

    Parameters
    ----------
    text
        ISO 8601 with dashes and colons, or a number of nanoseconds; or what TOML reads
        as a date or a time.

    Raises
    ------
    ValueError
        When it is neither, or is outside the years 1970 to 2261.

    Examples
    --------
    >>> parse_stamp("2025-06-02T13:30:00.000000001Z")
    1748871000000000001
    >>> parse_stamp("2025-06-02 09:30-04:00") == parse_stamp("1748871000000000000")
    True
    """
    was = text.isoformat() if isinstance(text, date) else text
    stamp = was if isinstance(was, int) else _parsed(was)
    if stamp is None or not 0 <= stamp <= _LAST:
        msg = f"{STAMP_RULE}, was {was!r}"
        raise ValueError(msg)
    return stamp


def stamp_text(ts_ns: int) -> str:
    """Return nanoseconds since the epoch as ISO 8601 in UTC, exact to the last digit.

    Examples
    --------
    >>> stamp_text(1_381_239_001_000_000_002)
    '2013-10-08T13:30:01.000000002'
    """
    seconds, ns = divmod(ts_ns, 1_000_000_000)
    # datetime has microseconds only: it gets the seconds, the rest is text
    whole = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{ns:09d}"


def _parsed(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= len(str(_LAST)) else None
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, minutes, seconds, fraction, zone = match.groups()
    zone = (zone or "Z").replace("Z", "+00:00")
    try:
        whole = datetime.fromisoformat(
            f"{day}T{minutes or '00:00'}:{seconds or '00'}{zone}"
        )
    except ValueError:
        return None
    if whole.year > _LAST_YEAR:
        return None
    return int(whole.timestamp()) * 10**9 + int((fraction or "0").ljust(9, "0"))
