"""What the log says of the input, once per interval.

Rule: drops are counted where they happen, and a feed can drop a million things a
second; here their counts become one line per reason, with the newest message where
somebody is wrong. Of the quarantine and of sides that have died there is a line when
they begin and one when they end.
"""

import logging
from collections import Counter
from typing import Final

import anyio

from ..actors.quarantine import HeldReturn
from ..messages import RejectReason
from .server import Server
from .system import System

logger = logging.getLogger(__name__)

MAX_LINES: Final = 20
"""Symbols named per interval as newly held; a wrong scale makes all of them so."""

Holder = tuple[str, str, bool]
"""Factor, name, and whether it is the benchmark."""


class Report:
    """Logs what has changed since it was last asked to.

    Parameters
    ----------
    system, server
        Whose counts.
    """

    def __init__(self, system: System, server: Server) -> None:
        self._system = system
        self._server = server
        self._dropped: Counter[str] = Counter()
        self._rejected: Counter[RejectReason] = Counter()
        self._holders: set[Holder] = set()
        self._stale: set[tuple[str, str]] = set()

    async def run(self, interval_s: float) -> None:
        """Report for ever."""
        while True:
            await anyio.sleep(interval_s)
            self.report()

    def report(self) -> None:
        """Log what is new."""
        statistics = self._system.statistics()
        dropped = Counter(statistics.dropped)
        newest = {str(why): one for why, one in self._system.factory.tally.refused}
        for reason, count in sorted((dropped - self._dropped).items()):
            example = f" newest={newest[reason]!r}" if reason in newest else ""
            logger.warning(
                "observations.dropped reason=%s count=%d total=%d%s",
                reason,
                count,
                dropped[reason],
                example,
            )
        self._dropped = dropped
        rejected = self._server.rejected
        for reason, count in sorted((rejected - self._rejected).items()):
            logger.warning(
                "connections.rejected reason=%s count=%d total=%d",
                reason,
                count,
                rejected[reason],
            )
        self._rejected = rejected.copy()
        self._report_quarantine()
        self._report_stale(statistics.stale)

    def _report_quarantine(self) -> None:
        newest: dict[Holder, HeldReturn] = {}
        for held in self._system.factory.tally.held:
            newest[held.finding.factor, held.name, held.is_benchmark] = held
        begun = sorted(newest.keys() - self._holders)
        for holder in begun[:MAX_LINES]:
            logger.warning("quarantine.holds %s", described(newest[holder]))
        if len(begun) > MAX_LINES:
            logger.warning("quarantine.holds others=%d", len(begun) - MAX_LINES)
        ended = sorted(self._holders - newest.keys())
        for factor, name, _ in ended[:MAX_LINES]:
            logger.info("quarantine.cleared factor=%s name=%s", factor, name)
        self._holders = set(newest)

    def _report_stale(self, stale: dict[tuple[str, str], int]) -> None:
        for factor, reason in sorted(stale.keys() - self._stale):
            count = stale[factor, reason]
            logger.warning(
                "topics.stale factor=%s reason=%s count=%d", factor, reason, count
            )
        for factor, reason in sorted(self._stale - stale.keys()):
            logger.info("topics.recovered factor=%s reason=%s", factor, reason)
        self._stale = set(stale)


def described(held: HeldReturn) -> str:
    """Return a held return as the fields of a line of the log."""
    message, finding = held.message, held.finding
    z = "unknown" if finding.z is None else f"{finding.z:.1f}"
    return (
        f"number={held.number} factor={finding.factor} name={held.name} "
        f"ts_event={message.ts_event} period_return={message.period_return:g} "
        f"reason={finding.key} limit={finding.limit:g} z={z}"
    )
