"""Rows 10 to 12: the board, the garbage collector, memory."""

import gc
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from beta_factory import BetaFactory, Board, MarketBetaConfig
from beta_factory.actors import BetaColumns, BetaRows
from beta_factory.runtime.board_writer import BoardWriter
from beta_factory.runtime.clock import LiveClock

from .harness import Contender, Outcome, WrongAnswerError, interleave
from .market import MIN_OBSERVATIONS, WINDOW, names
from .options import Options
from .pauses import BOUND_MS, Kind, Load, Pauses
from .peers import Peers
from .pipeline import Pipeline
from .wire import program

N_LOOKUPS = 20_000
N_WRITES = 200
MAX_PAUSE_ROUNDS = 3
PAUSE_SECONDS = 5.0
"""Of bars, with snapshots and without, in each round."""


class BoardBench:
    """A factory whose turns are kept, to be written to a board over and over."""

    def __init__(self, path: str, n_symbols: int) -> None:
        self.factory = BetaFactory(
            names(n_symbols),
            benchmark="SPY",
            config=MarketBetaConfig(WINDOW, MIN_OBSERVATIONS),
        )
        self.whole = _last_turn(n_symbols, 0.0)
        self.gappy = _last_turn(n_symbols, 0.05)
        self.writer = BoardWriter(
            path,
            self.factory,
            instance="bench",
            clock=LiveClock(),
            heartbeat_bound_s=3600.0,
        )

    def write(self, turn: Sequence[BetaColumns | BetaRows]) -> list[float]:
        """Return ns per update of some writes of one turn."""
        n_updates = sum(len(updates) for updates in turn)
        spent: list[float] = []
        for _ in range(N_WRITES):
            started = time.perf_counter_ns()
            self.writer.write(turn)
            spent.append((time.perf_counter_ns() - started) / n_updates)
        return spent


def _last_turn(n_symbols: int, missing: float) -> list[BetaColumns | BetaRows]:
    # What a full system publishes for one bar.
    pipeline = Pipeline(n_symbols, missing=missing)
    kept: list[list[BetaColumns | BetaRows]] = []
    pipeline.on_turn = kept.append
    pipeline.market.advance()
    pipeline.turn(pipeline.market.benchmark() + pipeline.market.columns())
    pipeline.check()
    return kept[-1]


def board(options: Options, _: Peers) -> Outcome:
    """Row 10: the latest-value board."""
    n = 5_000
    outcome = Outcome(10, f"latest-value board, {n:,} symbols")
    shared = Path("/dev/shm")  # noqa: S108 - a tmpfs is the point
    with (
        tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder,
        ExitStack() as stack,
    ):
        path = f"{folder}/board"
        bench = BoardBench(path, n)
        stack.callback(bench.writer.close)
        bench.writer.write(bench.whole)
        reader = stack.enter_context(Board(path))
        updates = [update for part in bench.whole for update in part.as_rows()]
        if any(reader.read(update.symbol) != update for update in updates):
            raise WrongAnswerError("the board does not show what was written")
        symbol = bench.factory.symbols[77]

        def lookups(read: Callable[[], object], n_reads: int) -> list[float]:
            started = time.perf_counter_ns()
            for _ in range(n_reads):
                read()
            return [(time.perf_counter_ns() - started) / n_reads]

        def plain() -> list[float]:
            started = time.perf_counter_ns()
            for _ in range(N_LOOKUPS):
                reader[symbol]
            return [(time.perf_counter_ns() - started) / N_LOOKUPS]

        newest = reader.reader(symbol)

        def bound() -> list[float]:
            started = time.perf_counter_ns()
            for _ in range(N_LOOKUPS):
                newest()
            return [(time.perf_counter_ns() - started) / N_LOOKUPS]

        frames = "columns of a turn"
        interleave(
            outcome,
            [
                Contender("write", frames, lambda: bench.write(bench.whole)),
                Contender("write, 5 % missing", frames,
                          lambda: bench.write(bench.gappy)),
                Contender("board[symbol]", "one float", plain),
                Contender("board.reader(symbol)", "one float", bound),
                Contender("board.beta(symbol)", "one float",
                          lambda: lookups(lambda: reader.beta(symbol), 2_000)),
                Contender("board.read(symbol)", "one BetaUpdated",
                          lambda: lookups(lambda: reader.read(symbol), 2_000)),
                Contender("board.columns()", "all columns, copied",
                          lambda: lookups(reader.columns, 20)),
            ],
            options.rounds,
            "ns (a write: ns/update)",
        )  # fmt: skip
        other = stack.enter_context(program("benchmarks.board_reader", path, symbol))
        if other.stdout is None or other.stdout.readline() != "ready\n":
            raise RuntimeError("the reader did not start")
        with_reader = "write, one reader process that never pauses"
        interleave(
            outcome,
            [Contender(with_reader, frames, lambda: bench.write(bench.whole))],
            options.rounds,
            "ns/update",
        )
    least = {figure.name: figure.minimum for figure in outcome.figures}
    outcome.at_most("ns per update written", least["write"], 2)
    outcome.at_most("ns per update written beside a reader", least[with_reader], 2)
    outcome.at_most("us per lookup", least["board[symbol]"] / 1e3, 0.3)
    return outcome


def collection(*_: object) -> Outcome:
    """Row 11: a forced full garbage collection."""
    n = 20_000
    outcome = Outcome(11, f"full garbage collection, {n:,} symbols")
    for name in ("ours", "tasks"):
        with program("benchmarks.collection", name, str(n)) as process:
            if process.stdout is None or not (line := process.stdout.readline()):
                outcome.absent(name, "gave no answer")
                continue
            outcome.add(name, "no frames", "ms", json.loads(line))
    figures = {figure.name: figure for figure in outcome.figures}
    outcome.at_most("ms that the loop stands still", figures["ours"].median, 2)
    return outcome


def memory(options: Options, _: Peers) -> Outcome:
    """Row 12: memory per symbol, and snapshots beside a sidecar's running loop."""
    n = 5_000
    outcome = Outcome(12, f"memory, {n:,} symbols, window {WINDOW}, one benchmark")
    gc.collect()
    tracemalloc.start()
    pipeline = Pipeline(n)
    gc.collect()
    # The market remembers a window of its own, which is no part of the system.
    own = pipeline.market.n_bytes
    held = (tracemalloc.get_traced_memory()[0] - own) / n / 1024
    tracemalloc.stop()
    pipeline.check()
    outcome.add("ours", "columns", "KiB/symbol", [held])
    outcome.at_most("KiB per symbol", held, 10)
    stand_still(outcome, min(options.rounds, MAX_PAUSE_ROUNDS), Load(n, PAUSE_SECONDS))
    spent: list[float] = []
    for _round in range(options.rounds):
        started = time.perf_counter_ns()
        pipeline.factory.snapshot()
        spent.append((time.perf_counter_ns() - started) / 1e6)
    in_one_piece = "BetaFactory.snapshot(), programs with a loop of their own"
    outcome.add(in_one_piece, "arrays", "ms", spent)
    return outcome


def stand_still(outcome: Outcome, n_rounds: int, load: Load) -> None:
    """Add how long a sidecar's loop stands still, and judge it.

    Raises
    ------
    WrongAnswerError
        When a round had no snapshot that should have had one, or the reverse.
    """
    # In a process of its own: the collector and the heap are as a sidecar's.
    options = (
        f"--rounds={n_rounds}",
        f"--symbols={load.n_symbols}",
        f"--seconds={load.seconds}",
    )
    with program("benchmarks.pauses", "measure", *options) as process:
        if process.stdout is None or not (line := process.stdout.readline()):
            raise RuntimeError("the sidecar whose loop is measured did not answer")
    seen = {Kind(kind): Pauses(**told) for kind, told in json.loads(line).items()}
    bare, beside = seen[Kind.BARE], seen[Kind.SNAPSHOTS]
    if beside.n_rounds_with_snapshots < n_rounds or bare.n_rounds_with_snapshots:
        raise WrongAnswerError("snapshots were not taken when they should have been")
    for name, pauses in (("bare", bare), ("with snapshots", beside)):
        for clock, values in pauses.by_clock.items():
            outcome.add(f"loop {name}, {clock}", "columns in", "ms", values)
        longest = ", ".join(
            f"{clock} {max(values):.1f}" for clock, values in pauses.by_clock.items()
        )
        outcome.notes.append(f"longest pause {name}: {longest} ms")
    outcome.at_most(
        f"ms that the loop stands still at most, kept ({max(bare.kept):.1f} bare)",
        max(beside.kept),
        BOUND_MS,
    )
