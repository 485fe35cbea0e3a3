"""Stores with something in them, made by the parts of a live sidecar."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from beta_factory import BenchmarkReturnObserved, BetaFactory, ReturnObserved
from beta_factory.actors import BetaColumns, BetaRows, Factor, MarketBetaConfig
from beta_factory.actors.tables import SymbolTables
from beta_factory.messages import Message
from beta_factory.runtime.checkpoint import pack
from beta_factory.runtime.clock import ReplayClock
from beta_factory.runtime.durability import Durability
from beta_factory.runtime.journal import Journal
from beta_factory.runtime.journal_replay import RunConfig
from beta_factory.runtime.recovery import Recovery, recover
from beta_factory.runtime.replay import Digest
from beta_factory.runtime.replay_timers import ReplayTimers
from beta_factory.runtime.retention import Retention
from beta_factory.runtime.store import Store
from beta_factory.runtime.store_writer import StoreWriter
from beta_factory.runtime.system import System

SYMBOLS = ("AAPL", "BRK.B", "MSFT")
RUN = RunConfig(
    SYMBOLS,
    (
        Factor("SPY", "market", MarketBetaConfig(20, 3, stale_after="5s")),
        Factor("SPY", "late", MarketBetaConfig(10, 3, allowed_lateness=2)),
    ),
)
FIRST_NS = 1_760_000_000 * 10**9
KEEP_ALL = Retention(2**40, 1000.0)


def bar(number: int) -> list[Message]:
    """Return the messages of a bar, with `seq` as a feed numbers them."""
    rng = np.random.default_rng(number)
    ts = FIRST_NS + number * 10**9
    seq = 1 + number * (len(SYMBOLS) + 1)
    return [
        BenchmarkReturnObserved(
            benchmark="SPY", ts_event=ts, period_return=rng.normal(), seq=seq
        ),
        *(
            ReturnObserved(
                symbol=symbol, ts_event=ts, period_return=rng.normal(), seq=seq + 1 + i
            )
            for i, symbol in enumerate(SYMBOLS)
        ),
    ]


class LiveRun:
    """A system that writes a store, from its start to its end.

    Parameters
    ----------
    path
        The store; it goes on from what is in it.
    run
        What it estimates.
    now_ns
        When it begins.
    """

    def __init__(
        self, path: Path, *, run: RunConfig = RUN, now_ns: int = FIRST_NS
    ) -> None:
        self.path = str(path)
        self.clock = ReplayClock(now_ns)
        self.timers = ReplayTimers(self.clock)
        self.digest = Digest()
        self.durable: list[int] = []
        self.states: list[str] = []
        self.found = recover(self.path, run)
        self.factory = run.build()
        if self.found.replay.position:
            self.factory.restore(self.found.replay.factory.snapshot())
        self.writer = StoreWriter(
            self.path,
            Durability.OS,
            KEEP_ALL,
            on_durable=self.durable.append,
            on_state=self.states.append,
            retry_s=0.01,
        )
        self.journal = Journal(
            self.writer,
            self.clock,
            position=self.found.next_position - 1,
            n_published=lambda: sum(p.last_seq for p in self.factory.publishers),
        )
        self.system = System(
            self.factory,
            self.journal,
            call_later=self.timers.call_later,
            call_soon=self.timers.call_soon,
            on_updates=self._publish,
            on_clock=self.journal.looked_at_clock,
            on_turn=self.journal.turn_ended,
        )
        self.tables = SymbolTables(self.factory.row_of, "feed")
        self.writer.start()
        self.journal.run_started("run", run.to_json())
        self.system.start()
        self.system.advance_clock()
        self.system.end_turn()
        self.peer = self.journal.greeted("feed", "of today")

    def take(self, bars: Iterable[int], *, late_ns: int = 0) -> "LiveRun":
        """Take bars, each in a turn of its own, at their time or a little later."""
        for number in bars:
            self.clock.set(FIRST_NS + number * 10**9 + late_ns)
            self.timers.run_due()
            messages = bar(number)
            taken = self.system.take_all(messages, self.tables)
            assert taken == len(messages)
            self.journal.took(self.peer, messages)
            self.system.end_turn()
        return self

    def wait(self, seconds: int) -> None:
        """Let time pass, and the system look at the clock."""
        self.clock.set(self.clock.time_ns() + seconds * 10**9)
        self.timers.run_due()
        self.system.advance_clock()

    def end(self) -> None:
        """End as a process does that is killed once all is written."""
        self.writer.close()

    def _publish(self, turn: list[BetaColumns | BetaRows]) -> None:
        for updates in turn:
            self.digest.add(updates.as_rows())


def recovered(path: Path) -> Recovery:
    """Read a store."""
    return recover(str(path), RUN)


def add_snapshot(path: Path) -> int:
    """Add a snapshot of the newest state; return its position."""
    replay = recovered(path).replay
    store = Store(str(path), Durability.OS)
    store.add_snapshot(replay.position, replay.ts, pack(replay.checkpoint()))
    store.close()
    return replay.position


def uninterrupted(bars: Iterable[int]) -> BetaFactory:
    """Return a factory that took bars and knows of no store."""
    factory = RUN.build()
    for number in bars:
        for message in bar(number):
            factory.receive(message)
    return factory
