"""What was refused, by reason: nothing is dropped in silence.

Rule: whoever does not use an observation counts it here, and says why in one of the
words below. Each factor counts for itself, for one may use what another does not; so
what no factor sees counts once for each that would have used it. Each is counted three
times, and the three add up: by reason, by the source that sent it, and by the symbol or
benchmark that it was about. The runtime logs the counts once per interval; this file
knows no time.
"""

import enum
from collections import Counter, deque
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimators import LARGEST, PerRow, State
from ..messages import (
    OBSERVATION_TYPES,
    BenchmarkReturnObserved,
    Message,
    ReturnObserved,
)
from .quarantine import Absurd, Quarantine
from .sources import NOBODY, Sources

MAX_REFUSED = 1000
"""Refused messages kept for inspection; at a few hundred bytes each, well under a
megabyte, and enough to see what a bad feed sends."""


class Drop(enum.StrEnum):
    """Why an observation is not in any window."""

    NOT_FINITE = "not_finite"
    """A NaN or infinite return where a number was promised."""
    OUT_OF_RANGE = "out_of_range"
    """A return whose square is beyond a float64, so no return at all."""
    ABSURD = "absurd"
    """A return beyond the model's limits: held until an operator releases it."""
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_BENCHMARK = "unknown_benchmark"
    DUPLICATE = "duplicate"
    """The same value for the same symbol and bar, again."""
    CONFLICT = "conflict"
    """Another value for a symbol and bar that already has one, and no lateness."""
    LATE = "late"
    """For a bar older than the allowed lateness reaches."""
    FUTURE = "future"
    """A bar so far ahead of the clock that it would make every real one late."""
    UNPAIRED = "unpaired"
    """The benchmark never had a return for this bar."""
    OVERNIGHT = "overnight"
    """The return spans the night before the session's first bar."""
    HALTED = "halted"
    """The symbol was halted."""
    OVERFLOW = "overflow"
    """The actor's mailbox was full."""
    UNDELIVERABLE = "undeliverable"
    """The actor is quarantined or stopped, or failed on this very message."""


AT_FAULT = frozenset(
    {
        Drop.FUTURE,
        Drop.NOT_FINITE,
        Drop.OUT_OF_RANGE,
        Drop.UNKNOWN_SYMBOL,
        Drop.UNKNOWN_BENCHMARK,
        Drop.CONFLICT,
    }
)
"""Reasons that mean somebody is wrong: those messages are kept."""


Refusal = Drop | Absurd
"""Why a window did not take a return; `Absurd` = it is to be held."""


def refuse(period_return: float) -> Drop | None:
    """Return why a number cannot be a return, ``None`` when it can."""
    if abs(period_return) <= LARGEST:
        return None
    return Drop.OUT_OF_RANGE if isfinite(period_return) else Drop.NOT_FINITE


SourceNumbers = NDArray[np.uint16]
"""Numbers of `Sources`, one per row."""


class Tally:
    """Counts of what was dropped, and the last messages that should not have come.

    Parameters
    ----------
    row_of
        Row of each symbol whose drops are told apart.
    benchmarks
        The benchmark of each factor; their drops are told apart.
    """

    def __init__(
        self,
        row_of: Mapping[str, int] | None = None,
        benchmarks: Collection[str] = (),
    ) -> None:
        self.dropped: Counter[Drop] = Counter()
        self.refused: deque[tuple[Drop, Message]] = deque(maxlen=MAX_REFUSED)
        """The newest messages with which somebody was wrong, for inspection."""
        self.held = Quarantine()
        """The returns that were dropped as `ABSURD` and may yet be released."""
        self.sources = Sources()
        self.source = NOBODY
        """Number of the source whose message is being taken."""
        self.of_symbol: dict[Drop, NDArray[np.int64]] = {}
        """By reason, per row; a reason that never was is not in it."""
        self.of_benchmark: dict[str, Counter[str]] = {
            name: Counter() for name in sorted(set(benchmarks))
        }
        self._n_factors = max(len(benchmarks), 1)
        self._n_factors_on = Counter(benchmarks)
        self._row_of = row_of or {}

    def drop(
        self,
        reason: Refusal,
        message: Message | None = None,
        count: int = 1,
        *,
        is_as_sent: bool = True,
    ) -> None:
        """Count ``count`` observations that one factor does not use.

        The message is kept if it is at fault.

        Parameters
        ----------
        reason
            Why.
        message
            One that was dropped; what is `Absurd` comes with it.
        count
            How many.
        is_as_sent
            See `HeldReturn`.
        """
        if isinstance(reason, Absurd):
            self._count(Drop.ABSURD, message, count)
            if isinstance(message, (ReturnObserved, BenchmarkReturnObserved)):
                self.held.hold(reason, message, is_as_sent=is_as_sent)
            return
        self._count(reason, message, count)
        if message is not None and reason in AT_FAULT:
            self.refused.append((reason, message))

    def drop_for_all(self, reason: Drop, message: Message, count: int = 1) -> None:
        """Count observations that no factor sees, for each that would have used them.

        What is no observation, such as a command, is not counted.

        Parameters
        ----------
        reason
            Why.
        message
            One of them; the others are of its type and about the same name.
        count
            How many.
        """
        if isinstance(message, OBSERVATION_TYPES):
            benchmark = getattr(message, "benchmark", None)
            n_factors = self._n_factors
            if benchmark is not None:  # one that nobody has counts, too
                n_factors = self._n_factors_on.get(benchmark, 1)
            self.drop(reason, message, count * n_factors)

    @contextmanager
    def told_by(self, source: int) -> Generator[None]:
        """Count what is dropped in here as another source's."""
        before, self.source = self.source, source
        try:
            yield
        finally:
            self.source = before

    def drop_waiting(
        self, reason: Drop, returns: NDArray[np.float64], sources: SourceNumbers
    ) -> None:
        """Count returns that waited in vain.

        Parameters
        ----------
        returns
            Shape (n_rows,); NaN = none.
        sources
            Who sent each of them, shape (n_rows,).
        """
        present = ~np.isnan(returns)
        counts: list[int] = np.bincount(sources[present]).tolist()
        if not counts:
            return
        self.dropped[reason] += sum(counts)
        for number, count in enumerate(counts):
            if count:
                self.sources.dropped[number][reason] += count
        self._of_symbol(reason, len(returns))[present] += 1

    def state(self) -> State:
        """Return the counts by source, symbol and benchmark."""
        return {
            "sources": self.sources.state(),
            "of_symbol": {
                str(reason): PerRow(counts, 0)
                for reason, counts in sorted(self.of_symbol.items())
            },
            "of_benchmark": {
                name: dict(sorted(counts.items()))
                for name, counts in self.of_benchmark.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, of other symbols and benchmarks even."""
        self.sources.restore(state["sources"])
        self.of_symbol = {Drop(r): counts for r, counts in state["of_symbol"].items()}
        for name, counts in state["of_benchmark"].items():
            if name in self.of_benchmark:
                self.of_benchmark[name].update(counts)

    def _count(self, reason: Drop, message: Message | None, count: int) -> None:
        self.dropped[reason] += count
        self.sources.dropped[self.source][reason] += count
        row = self._row_of.get(getattr(message, "symbol", ""))
        if row is not None:
            self._of_symbol(reason, len(self._row_of))[row] += count
        elif (name := getattr(message, "benchmark", "")) in self.of_benchmark:
            self.of_benchmark[name][reason] += count

    def _of_symbol(self, reason: Drop, n_rows: int) -> NDArray[np.int64]:
        counts = self.of_symbol.get(reason)
        if counts is None:
            counts = self.of_symbol[reason] = np.zeros(n_rows, dtype=np.int64)
        return counts
