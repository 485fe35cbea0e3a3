"""Rows 1 to 4 and 8: what one turn costs, in one process."""

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
import uvloop

from beta_factory.messages import (
    BenchmarkReturnObserved,
    BetaUpdated,
    Encoding,
    ReturnObserved,
    encode,
)

from .harness import Contender, Outcome, check, interleave
from .market import WINDOW, Market, names
from .options import Options
from .peers import Peers
from .pipeline import Pipeline, columns, fan_out, singles, without_arithmetic
from .tasks import TaskFactory

COLUMNS_BOTH = "columns in, columns out"
SINGLES_IN = "singles in, columns out"
N_BARS = 20
"""Bars of a burst,"""
N_BEFORE = 100
"""and before one: csp's burst has a whole window before it in the same run."""
N_BARS_OF_SINGLES = 5
"""The same in frames of one message, which take much longer to make than to take."""


def per_update(
    name: str, frames: str, n_symbols: int, burst: Callable[[], Sequence[float]]
) -> Contender:
    """Return a contender whose bars are told per update."""
    return Contender(name, frames, lambda: [ns / n_symbols for ns in burst()])


class TaskPipeline:
    """The task-per-actor variant, fed with a market."""

    def __init__(self, n_symbols: int) -> None:
        self.market = Market(names(n_symbols))
        self._loop = uvloop.new_event_loop()
        self._n_updates = 0
        self._done = asyncio.Event()
        self.factory = self._loop.run_until_complete(self._make())
        self._loop.run_until_complete(self._fill())

    def fan_out(self, n_bars: int) -> list[float]:
        """Return ns per bar from the benchmark's return to all betas encoded."""
        return self._loop.run_until_complete(self._fan_out(n_bars))

    def close(self) -> None:
        """End the tasks and the loop."""
        self._loop.run_until_complete(self.factory.close())
        self._loop.close()

    async def _make(self) -> TaskFactory:
        return TaskFactory(self.market.symbols, WINDOW, self._publish)

    async def _fill(self) -> None:
        # The windows are filled by hand: through the queues it would take a minute.
        xs: list[float] = []
        ys: list[list[float]] = []
        for _ in range(WINDOW):
            self.market.advance()
            benchmark, values = self._bar()
            xs.append(benchmark.period_return)
            ys.append([value.period_return for value in values])
        for column, symbol in zip(
            np.array(ys).T.tolist(), names(len(ys[0])), strict=True
        ):
            add = self.factory.regressions[symbol].add
            for x, y in zip(xs, column, strict=True):
                add(x, y)

    async def _fan_out(self, n_bars: int) -> list[float]:
        take = self.factory.take
        spent: list[float] = []
        for _ in range(n_bars):
            self.market.advance()
            benchmark, values = self._bar()
            for value in values:
                take(value)
            queues = self.factory.queues.values()
            while any(queue.qsize() for queue in queues):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._n_updates = 0
            self._done.clear()
            started = time.perf_counter_ns()
            take(benchmark)
            await self._done.wait()
            spent.append(float(time.perf_counter_ns() - started))
        betas = np.array(list(self.factory.betas.values()))
        check("tasks", betas, self.market.betas())
        return spent

    def _bar(self) -> tuple[BenchmarkReturnObserved, list[ReturnObserved]]:
        market = self.market
        x = BenchmarkReturnObserved(
            benchmark="SPY",
            ts_event=market.ts_event,
            period_return=market.benchmark_return,
        )
        ys = [
            ReturnObserved(symbol=symbol, ts_event=market.ts_event, period_return=value)
            for symbol, value in zip(
                market.symbols, market.returns.tolist(), strict=True
            )
        ]
        return x, ys

    def _publish(self, update: BetaUpdated) -> None:
        encode(update)
        self._n_updates += 1
        if self._n_updates == len(self.market.symbols):
            self._done.set()


def fan_outs(options: Options, peers: Peers) -> Outcome:
    """Row 1: one benchmark bar to every beta, updated and encoded."""
    outcome = Outcome(1, "benchmark bar -> all betas in one columnar frame")
    n = 5_000
    pipeline, gappy = Pipeline(n), Pipeline(n, missing=0.05)
    tasks = TaskPipeline(n)
    warm = WINDOW + 10
    n_bars = warm + N_BARS

    def scaled(contender: Contender, as_name: str = "") -> Contender:
        name = as_name or contender.name
        return per_update(name, contender.frames, n, contender.burst)

    contenders = [
        per_update("ours", "assets' columns before; columns out", n,
                   lambda: fan_out(pipeline, N_BARS, N_BEFORE)),
        per_update("ours, whole bar", COLUMNS_BOTH, n,
                   lambda: columns(pipeline, N_BARS, N_BEFORE)),
        per_update("ours, 5 % missing", "assets' columns before; columns out", n,
                   lambda: fan_out(gappy, N_BARS, N_BEFORE)),
        per_update("tasks", "messages in, rows out", n, lambda: tasks.fan_out(2)),
        scaled(peers.contender("csp arrays, full", n_bars, n, warm=warm)),
        scaled(peers.contender("csp arrays, beta", n_bars, n, warm=warm)),
        scaled(
            peers.contender("csp arrays, full", n_bars, n, missing=0.05, warm=warm),
            "csp arrays, full, 5 % missing",
        ),
        scaled(peers.contender("csp per symbol, beta", n_bars, n, warm=warm)),
    ]  # fmt: skip
    interleave(outcome, contenders, options.rounds, "ns/update")
    tasks.close()
    for size in (1_000, 20_000):
        other = Pipeline(size)
        contender = per_update(
            f"ours, {size:,} symbols",
            "assets' columns before; columns out",
            size,
            lambda other=other: fan_out(other, N_BARS, N_BEFORE),  # type: ignore[misc]
        )
        interleave(outcome, [contender], options.rounds, "ns/update")
    ratio = outcome.ratio
    outcome.at_least(
        "complete bars, against csp on arrays", ratio("csp arrays, full", "ours"), 2.0
    )
    outcome.at_least(
        "5 % missing, against csp on arrays",
        ratio("csp arrays, full, 5 % missing", "ours, 5 % missing"),
        1.0,
    )
    outcome.at_least(
        "against csp, one node per symbol, beta only",
        ratio("csp per symbol, beta", "ours"),
        25.0,
    )
    outcome.at_least("against one task per actor", ratio("tasks", "ours"), 100.0)
    outcome.notes.append(
        "csp in historical mode, one run well past the window, timed from bar "
        f"{warm}; its whole bar, for it keeps no assets waiting"
    )
    return outcome


def single_frames(options: Options, peers: Peers) -> Outcome:
    """Row 2: single-message frames."""
    outcome = Outcome(
        2, "single-message frames: decode -> route -> pair -> beta -> encode"
    )
    n, n_bars = 1_000, 4
    to_columns, to_rows = Pipeline(n), Pipeline(n, Encoding.ROWS)
    idle = Pipeline(n)
    without_arithmetic(idle)
    warm = WINDOW + 10

    def peer(name: str) -> Contender:
        contender = peers.contender(name, warm + n_bars, n, warm=warm)
        return per_update(name, contender.frames, n, contender.burst)

    contenders = [
        per_update("ours", SINGLES_IN, n,
                   lambda: singles(to_columns, n_bars)),
        per_update("ours, rows", "singles in, rows out", n,
                   lambda: singles(to_rows, n_bars)),
        per_update("ours without arithmetic", SINGLES_IN, n,
                   lambda: singles(idle, n_bars, is_checked=False)),
        peer("csp push per symbol, beta"),
        peer("river, beta"),
    ]  # fmt: skip
    interleave(outcome, contenders, options.rounds, "ns/update")
    figures = {figure.name: figure for figure in outcome.figures}
    outcome.at_most(f"ns per update, {SINGLES_IN}", figures["ours"].minimum, 700)
    outcome.at_least(
        "against csp realtime push",
        outcome.ratio("csp push per symbol, beta", "ours"),
        3,
    )
    outcome.at_least("against river", outcome.ratio("river, beta", "ours"), 8)
    share = figures["ours"].minimum / figures["ours without arithmetic"].minimum
    outcome.at_most("against ours without the arithmetic", share, 1.5)
    outcome.notes.append("csp in realtime mode: a burst of bars pushed from a thread")
    return outcome


def columnar_frames(options: Options, _: Peers) -> Outcome:
    """Row 3: columnar frames in and out."""
    outcome = Outcome(3, "columnar frames in and out, 5,000 symbols")
    n = 5_000
    pipeline, gappy = Pipeline(n), Pipeline(n, missing=0.05)
    diverse = Pipeline(n, betas=(-0.5, 2.0))
    contenders = [
        per_update("ours", COLUMNS_BOTH, n,
                   lambda: columns(pipeline, N_BARS, N_BEFORE)),
        per_update("ours, 5 % missing", COLUMNS_BOTH, n,
                   lambda: columns(gappy, N_BARS, N_BEFORE)),
        per_update("ours, betas from -0.5 to 2", COLUMNS_BOTH, n,
                   lambda: columns(diverse, N_BARS, N_BEFORE)),
    ]  # fmt: skip
    interleave(outcome, contenders, options.rounds, "ns/update")
    outcome.at_most("ns per update", outcome.figures[0].minimum, 40)
    outcome.notes.append("a few betas next to 0 are recalculated at every bar")
    return outcome


def idle_ticks(pipeline: Pipeline, n_ticks: int) -> list[float]:
    """Return us from one asset's frame to its beta encoded, on a quiet system."""
    market = pipeline.market
    spent: list[float] = []
    for _ in range(n_ticks):
        market.advance()
        pipeline.turn(market.benchmark())
        tick = market.single(market.symbols[0], float(market.returns[0]))
        spent.append(pipeline.timed([tick]) / 1e3)
        pipeline.turn(market.columns())  # the others; the tick's own is a duplicate
    pipeline.check()
    return spent


def ticks_in_a_row(pipeline: Pipeline, n_bars: int) -> list[float]:
    """Return us from an asset's frame to its beta encoded, right after one another."""
    market = pipeline.market
    spent: list[float] = []
    for _ in range(n_bars):
        market.advance()
        pipeline.turn(market.benchmark())
        spent += [pipeline.timed([tick]) / 1e3 for tick in market.singles()]
    pipeline.check()
    return spent


def growth(options: Options, _: Peers) -> Outcome:
    """Row 8: cost as the universe and the window grow."""
    outcome = Outcome(8, "cost as symbols and windows grow")
    sizes, windows = (100, 1_000, 5_000, 20_000), (30, 390, 2_000, 10_000)

    def contender(name: str, pipeline: Pipeline, *, is_columns: bool) -> Contender:
        # The mean of a burst: what the window prepares bar by bar is part of the cost.
        frames, drive, n_bars = (
            (COLUMNS_BOTH, columns, N_BARS)
            if is_columns
            else (SINGLES_IN, singles, N_BARS_OF_SINGLES)
        )
        return per_update(
            name,
            frames,
            len(pipeline.symbols),
            lambda: [float(np.mean(drive(pipeline, n_bars)))],
        )

    contenders = [
        contender(f"{form}, {n:,} symbols", Pipeline(n), is_columns=form == "columns")
        for form in ("singles", "columns")
        for n in sizes
    ] + [
        contender(f"window {w:,}, 1,000 symbols", Pipeline(1_000, window=w),
                  is_columns=True)
        for w in windows
    ]  # fmt: skip
    interleave(outcome, contenders, options.rounds, "ns/update")
    least = [figure.minimum for figure in outcome.figures]
    k = len(sizes)
    for frames, by_size in (
        (SINGLES_IN, least[1:k]),
        (COLUMNS_BOTH, least[k + 1 : 2 * k]),
    ):
        outcome.at_most(
            f"{frames}: dearest by cheapest, 1,000 to 20,000 symbols",
            max(by_size) / min(by_size),
            2.0,
        )
    by_window = least[2 * k :]
    outcome.at_most(
        f"{COLUMNS_BOTH}: dearest by cheapest, windows of 30 to 10,000",
        max(by_window) / min(by_window),
        1.3,
    )
    return outcome
