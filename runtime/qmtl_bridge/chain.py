"""From prices to returns: one symbol's chain of closes.

Rule: everything that makes returns (nodes, loaders, the batch input) makes them here,
so that they agree to the last bit.

A return spans the time since the symbol's previous price, whatever bars lie between: a
weekend, a halt or a missing price does not swallow the bar after it. The first price
of a bar counts; a price that is not newer than the newest is late and left out, as is
one that is missing, not finite or not positive.
"""

from math import log
from typing import Final

from ...actors.openings import OVERNIGHT_GAP_NS
from ...messages import ConfigError
from ..bars import INTRADAY_SPACING_NS
from .schema import NS_PER_S, ReturnKind

OVERNIGHT_GAP_S: Final = OVERNIGHT_GAP_NS // NS_PER_S
INTRADAY_SPACING_S: Final = INTRADAY_SPACING_NS // NS_PER_S


class ReturnChain:
    """Turns prices into returns, one after the other.

    Parameters
    ----------
    kind
        ``"simple"``: ``p1 / p0 - 1``; ``"log"``: ``log(p1 / p0)``.
    max_gap_s
        Prices further apart than this, in seconds, begin a new chain; ``None`` =
        never.
    """

    __slots__ = ("_is_log", "_max_gap_s", "_price", "_ts", "n_late", "n_unpriced")

    def __init__(
        self, kind: ReturnKind = "simple", max_gap_s: int | None = None
    ) -> None:
        self._is_log = kind == "log"
        self._max_gap_s = max_gap_s
        self._price = 0.0
        self._ts = -1
        self.n_late = 0
        """Prices left out because they were not newer than the newest."""
        self.n_unpriced = 0
        """Bars whose price was missing, not finite or not positive."""

    def reset(self) -> None:
        """Forget the previous price, not the counts."""
        self._ts = -1

    def advance(self, ts: int, price: float | None) -> float | None:
        """Take the next price and return the return that it ends, if there is one.

        Parameters
        ----------
        ts
            The bar's stamp, in seconds.
        price
            As `schema.read_price` returns it.
        """
        since = self._ts
        if ts <= since:
            self.n_late += 1
            return None
        if price is None:
            self.n_unpriced += 1
            return None
        previous = self._price
        self._ts = ts
        self._price = price
        if since < 0:
            return None
        if self._max_gap_s is not None and ts - since > self._max_gap_s:
            return None
        ratio = price / previous
        return log(ratio) if self._is_log else ratio - 1.0


def check_kind(kind: str) -> None:
    """Refuse a kind of return that there is not.

    Raises
    ------
    ConfigError
        When it is neither ``"simple"`` nor ``"log"``.
    """
    if kind not in {"simple", "log"}:
        raise ConfigError([("kind", f"must be simple or log, was {kind!r}")])


def longest_gap_s(overnight: str, interval: int) -> int | None:
    """Return the longest gap that a return may span, in seconds; ``None`` = any.

    Parameters
    ----------
    overnight
        ``"include"``, or ``"exclude"``: no return between two closes that are more
        than four hours apart, on intraday bars.
    interval
        Length of a bar, in seconds.

    Raises
    ------
    ConfigError
        When ``overnight`` is neither.
    """
    if overnight not in {"include", "exclude"}:
        reason = f"must be include or exclude, was {overnight!r}"
        raise ConfigError([("overnight", reason)])
    if overnight == "exclude" and interval <= INTRADAY_SPACING_S:
        return OVERNIGHT_GAP_S
    return None
