"""Rows 6 and 7: a batch over arrays, and a replay of real trades."""

import ctypes
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from beta_factory import MarketBetaConfig, compute_market_beta
from beta_factory.runtime.memory import keep_freed_memory

from .harness import Contender, Outcome, WrongAnswerError, check, interleave
from .market import MIN_OBSERVATIONS, WINDOW, names, recorded, window_betas
from .options import Options
from .peers import Peers
from .rows_turn import per_update

ROOT = Path(__file__).parents[1]

_KEPT_BYTES = 1 << 30
"""More than the results of a batch, so that the next one finds their memory."""


def batch(options: Options, peers: Peers) -> Outcome:
    """Row 6: all windows of arrays that are there."""
    n, n_bars, n_slow = 500, 10_000, 2
    outcome = Outcome(6, f"batch, {n} symbols, {n_bars:,} bars, every window kept")
    x, y = recorded(n_bars, n)
    wanted = window_betas(x[-WINDOW:], y[-WINDOW:])
    config, frames = MarketBetaConfig(WINDOW, MIN_OBSERVATIONS), "arrays, all fields"
    returns = dict(zip(names(n), y.T.copy(), strict=True))

    by_processor: list[float] = []

    def kept() -> list[float]:
        before, started = time.process_time_ns(), time.perf_counter_ns()
        series = compute_market_beta(returns, x, config)
        ns = (time.perf_counter_ns() - started) / n_bars
        by_processor.append((time.process_time_ns() - before) / n_bars / n)
        check("ours", np.array([each.beta[-1] for each in series.values()]), wanted)
        return [ns]

    def ours() -> list[float]:
        # As in a program that asks once, and as the peers do each time.
        _give_memory_back()
        sample = kept()
        by_processor.pop()
        return sample

    def peer(name: str, n_assets: int) -> Contender:
        contender = peers.contender(name, n_bars, n_assets, warm=0)
        return per_update(name, contender.frames, n_assets, contender.burst)

    contenders = [
        per_update("ours", frames, n, ours),
        per_update("ours, memory kept", frames, n, kept),
        *(peer(name, n) for name in ("pandas, beta", "polars, beta", "wickra, beta")),
        peer("statsmodels, full", n_slow),
    ]
    keep_freed_memory(_KEPT_BYTES)  # as a program that computes batch after batch
    interleave(outcome, contenders, options.rounds, "ns/window")
    keep_freed_memory()
    outcome.add("ours, memory kept, processor", frames, "ns/window", by_processor)
    for name, bound, stretch in (
        ("pandas, beta", 2.5, False),
        ("statsmodels, full", 700.0, False),
        ("polars, beta", 1.0, True),
    ):
        outcome.at_least(
            f"against {name}", outcome.ratio(name, "ours"), bound, stretch=stretch
        )
    outcome.notes.append(f"statsmodels on {n_slow} of the symbols; per window")
    outcome.notes.append("ours and polars use all processors")
    return outcome


def _give_memory_back() -> None:
    # What is free, to the kernel, where the C library is one that can.
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def replay(options: Options, _: Peers) -> Outcome:
    """Row 7: from a parquet file of real bars to a parquet file of updates."""
    outcome = Outcome(
        7, "replay of real one-second bars, process start to written file"
    )
    if options.lean is None:
        outcome.absent("ours", "no --lean SOURCE.parquet")
        outcome.at_most("us per row", None, 10)
        return outcome
    with tempfile.TemporaryDirectory(prefix="beta-factory-") as folder:
        bars, betas = Path(folder, "bars.parquet"), Path(folder, "betas.parquet")
        prepare: list[str | Path] = [
            sys.executable,
            ROOT / "scripts" / "prepare_lean.py",
            "--all-hours",
        ]
        said = _run([*prepare, options.lean, bars])
        n_rows = int(said.partition(": ")[2].partition(" ")[0])
        python: list[str | Path] = [sys.executable, "-m", "beta_factory"]
        command = [*python, "replay", bars]
        command += ["--benchmark", "SPY", "--out", betas, "--no-progress"]

        frames = "parquet in, parquet out"
        by_processor: list[float] = []

        def ours() -> list[float]:
            before, started = _processor_s(), time.perf_counter_ns()
            _run(command)
            elapsed_ns = time.perf_counter_ns() - started
            by_processor.append((_processor_s() - before) / n_rows * 1e6)
            return [elapsed_ns / n_rows / 1e3]

        contender = Contender("ours", frames, ours)
        interleave(outcome, [contender], min(options.rounds, 5), "us/row")
        outcome.add("ours, processor time", frames, "us/row", by_processor)
        if not betas.stat().st_size:
            raise WrongAnswerError("the replay wrote nothing")
    outcome.at_most("us per row", outcome.figures[0].minimum, 10)
    outcome.notes.append(f"{n_rows:,} rows")
    return outcome


def _processor_s() -> float:
    # Of the processes that have ended: what a busy machine does not stretch.
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _run(command: list[str | Path]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout
