"""Runs a script: its market through its events into the real actors.

Rule: synchronous from end to end. Whoever wants it slower hands in something that
waits; what is published does not depend on it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ...actors import BetaColumns, BetaFactory, BetaRows
from ..clock import Clock
from ..replay import Replayer, ReplaySummary
from .document import Script
from .evidence import Evidence, Topic
from .expectation import Case
from .turns import Deed, Market, Stage, Turn, turns_of

Waiting = Callable[[int], None]
"""Called with the stamp of a turn before it is taken."""


class Failure(NamedTuple):
    """An expectation that did not hold, or an event that found nothing to do."""

    path: str
    expected: str
    seen: str


class ScriptReport(NamedTuple):
    """What came of a script."""

    summary: ReplaySummary
    failures: tuple[Failure, ...]
    n_checked: int
    n_skipped: int
    #: expectations about bars that were not replayed


def run_script(
    script: Script,
    clock: Clock,
    *,
    from_ts: int | None = None,
    to_ts: int | None = None,
    wait: Waiting | None = None,
    on_updates: Callable[[BetaColumns | BetaRows], None] | None = None,
    on_bar: Callable[[int], None] | None = None,
) -> ScriptReport:
    """Replay a script and check what it expects.

    Parameters
    ----------
    script
        The script.
    clock
        Measures how long the replay takes.
    from_ts, to_ts
        Replay the turns from this stamp up to and including that, in ns. Bars keep
        their numbers, and expectations about other bars are skipped.
    wait
        Called before each turn.
    on_updates
        Called with what each turn computed.
    on_bar
        Called with the stamp after each turn.
    """
    last = script.bars.n_bars
    span = script.timeline.bars_within(from_ts, to_ts)
    factor = script.factors[0].name
    checked = [
        (position, expectation)
        for position, expectation in enumerate(script.expectations)
        if _is_within(expectation.bars() or (1, last), span)
    ]
    watched = frozenset(
        (getattr(e, "factor", None) or factor, getattr(e, "symbol", None) or "")
        for e in script.expectations
    )
    disturbed = _Run(script, span, watched, clock, on_updates)
    markets = [
        Market(script.benchmark, is_log=script.factors[0].model.returns == "log")
        for _ in script.events
    ]
    turns: Iterable[Turn] = turns_of(script.bars, script.benchmark)
    for event, market in zip(script.events, markets, strict=True):
        turns = event.disturb(turns, market)
    seen = disturbed.play(iter(turns), wait, on_bar)
    undisturbed = None
    if any(expectation.needs_undisturbed for _, expectation in checked):
        plain = _Run(script, span, watched, clock, None)
        undisturbed = plain.play(turns_of(script.bars, script.benchmark), None, None)
    case = Case(seen, undisturbed, factor, last)
    failures = [
        Failure(f"events[{position}]", "something to happen", "nothing it is about")
        for position, market in enumerate(markets)
        if not market.n_touched and span == (1, last)
    ]
    for position, expectation in checked:
        mismatch = expectation.check(case)
        if mismatch is not None:
            path = f"expectations[{position}]"
            failures.append(Failure(path, mismatch.expected, mismatch.seen))
    return ScriptReport(
        summary=seen.summary,
        failures=tuple(failures),
        n_checked=len(checked),
        n_skipped=len(script.expectations) - len(checked),
    )


class _Run:
    def __init__(
        self,
        script: Script,
        span: tuple[int, int],
        watched: frozenset[Topic],
        clock: Clock,
        on_updates: Callable[[BetaColumns | BetaRows], None] | None,
    ) -> None:
        self._span = span
        self._evidence = Evidence(watched)
        self._on_updates = on_updates
        factory = BetaFactory(script.symbols, factors=script.factors)
        self._replayer = Replayer(
            factory, clock, on_updates=self._see, actors=script.actors
        )

    def play(
        self, turns: Iterator[Turn], wait: Waiting | None, on_bar: Waiting | None
    ) -> Evidence:
        evidence, replayer = self._evidence, self._replayer
        stage = Stage(replayer)
        first, last = self._span
        replayer.start()
        for turn in turns:
            if not first <= turn.bar <= last:
                continue
            if wait is not None:
                wait(turn.now_ns)
            evidence.bar = turn.bar
            replayer.begin_turn(turn.now_ns)
            for arrival in turn.arrivals:
                if isinstance(arrival, Deed):
                    arrival.perform(stage)
                else:
                    replayer.take(arrival)
            replayer.end_turn()
            if on_bar is not None:
                on_bar(turn.now_ns)
        evidence.n_restores = stage.n_restores
        evidence.end(replayer.stop())
        return evidence

    def _see(self, updates: BetaColumns | BetaRows) -> None:
        self._evidence.see(updates)
        if self._on_updates is not None:
            self._on_updates(updates)


def _is_within(bars: tuple[int, int], span: tuple[int, int]) -> bool:
    return span[0] <= bars[0] and bars[1] <= span[1]
