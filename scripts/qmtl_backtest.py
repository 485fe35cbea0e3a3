"""Run the example strategy over a bar file: replayed by qmtl, and live by a sidecar.

    scripts/qmtl_backtest.py bars.parquet --benchmark SPY           # Runner.submit
    scripts/qmtl_backtest.py bars.parquet --benchmark SPY --live    # and a sidecar

The live run starts a sidecar process (or takes the one at ``--address``), feeds it bar
by bar through the strategy's sink, and hedges with the betas that come back. It says in
how many bars it hedged exactly as the replay did.

A bar file is parquet or CSV with the columns ``ts_event`` (integer nanoseconds),
``symbol`` and ``close``.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from beta_factory import MarketBetaConfig
from beta_factory.qmtl import (
    BetaFeed,
    BetaSink,
    FrameHistory,
    Tick,
    run_backtest,
    run_live,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from qmtl_beta_strategy import HedgedBasket

NS_PER_S: Final = 1_000_000_000
LONGEST_PERIOD: Final = 10_000
"""What qmtl allows; it counts bars of the calendar, nights and weekends too."""

SIDECAR: Final = """\
symbols = [{symbols}]
[server]
address = "unix://{folder}/beta.sock"
[factors.market]
benchmark = "{benchmark}"
lookback_length = {model.lookback_length}
min_observations = {model.min_observations}
"""


def read_frames(path: Path, interval: int) -> dict[str, pl.DataFrame]:
    """Return the last close of each bar, by symbol, as far as qmtl can replay it."""
    read = pl.read_parquet if path.suffix == ".parquet" else pl.read_csv
    ts = pl.col("ts_event") // NS_PER_S
    rows = read(path).select("symbol", "close", ts=ts - ts % interval).sort("ts")
    newest = rows["ts"].max()
    if not isinstance(newest, int):
        sys.exit(f"qmtl_backtest: {path} has no rows")
    rows = rows.filter(pl.col("ts") > newest - (LONGEST_PERIOD - 1) * interval)
    return {
        str(symbol): frame.group_by("ts", maintain_order=True)
        .agg(pl.col("close").last())
        .sort("ts")
        for (symbol,), frame in rows.group_by("symbol")
    }


@contextmanager
def sidecar(
    symbols: tuple[str, ...], benchmark: str, model: MarketBetaConfig
) -> Generator[str]:
    """Run a sidecar process; yield its address once it listens."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "beta-factory.toml")
        listed = ", ".join(f'"{symbol}"' for symbol in symbols)
        config.write_text(
            SIDECAR.format(
                symbols=listed, folder=folder, benchmark=benchmark, model=model
            )
        )
        command = [sys.executable, "-m", "beta_factory", "run", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                for line in process.stderr or ():
                    if "listening at" in line:
                        break
                yield f"unix://{folder}/beta.sock"
            finally:
                process.terminate()


async def live(
    strategy: HedgedBasket,
    frames: dict[str, pl.DataFrame],
    sink: BetaSink,
    address: str,
    world: str,
) -> None:
    """Feed the strategy bar by bar; the next bar waits for the betas of this one."""
    back = BetaFeed(strategy.feed.beta_inputs, address)

    async def prices() -> AsyncIterator[Tick]:
        await back.wait_joined()
        rows = [
            (row["ts"], symbol, row)
            for symbol, frame in frames.items()
            for row in frame.iter_rows(named=True)
        ]
        newest = None
        for ts, symbol, row in sorted(rows, key=lambda row: row[:2]):
            if ts != newest and newest is not None:
                await asyncio.to_thread(sink.drain)
                await back.catch_up()
            newest = ts
            yield Tick(strategy.prices[symbol], ts, row)

    await run_live(strategy, [prices(), back], world, sinks=[sink], warm_up=False)


def show(title: str, strategy: HedgedBasket) -> None:
    """Print what hedging did."""
    table = Table(title=title)
    for name in ("symbol", "bars", "beta", "volatility", "hedged", "reduction"):
        table.add_column(name, justify="left" if name == "symbol" else "right")
    for symbol, bars in sorted(strategy.hedged.items()):
        if not bars:
            continue
        raw, hedged, betas = np.array(list(bars.values())).T
        table.add_row(
            symbol,
            str(len(bars)),
            f"{betas.mean():.3f}",
            f"{raw.std():.6f}",
            f"{hedged.std():.6f}",
            f"{1 - hedged.std() / raw.std():.1%}",
        )
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bars", type=Path)
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--interval", type=int, default=60, help="seconds per bar")
    parser.add_argument("--lookback-length", type=int, default=120)
    parser.add_argument("--min-observations", type=int, default=60)
    parser.add_argument("--world", default="example")
    parser.add_argument("--live", action="store_true", help="run it live as well")
    parser.add_argument("--address", help="of a sidecar that runs already")
    options = parser.parse_args(arguments)

    frames = read_frames(options.bars, options.interval)
    if options.benchmark not in frames:
        parser.error(f"{options.bars} has no symbol {options.benchmark}")
    symbols = tuple(sorted(set(frames) - {options.benchmark}))
    model = MarketBetaConfig(
        lookback_length=options.lookback_length,
        min_observations=options.min_observations,
    )
    last = max(int(frame["ts"][-1]) for frame in frames.values())
    replayed = HedgedBasket(
        symbols,
        options.benchmark,
        interval=options.interval,
        period=LONGEST_PERIOD,
        price_history=FrameHistory(frames),
        model=model,
    )
    run_backtest(replayed, now_s=last)
    show("Runner.submit, betas computed in the DAG", replayed)
    if not options.live:
        return 0

    def run(address: str) -> HedgedBasket:
        with BetaSink(address) as sink:
            strategy = HedgedBasket(
                symbols, options.benchmark, interval=options.interval, sink=sink
            )
            asyncio.run(live(strategy, frames, sink, address, options.world))
        return strategy

    if options.address:
        strategy = run(options.address)
    else:
        with sidecar(symbols, options.benchmark, model) as address:
            strategy = run(address)
    show("live, betas from a sidecar process", strategy)
    n_same = sum(
        replayed.hedged[symbol].get(ts) == bar
        for symbol, bars in strategy.hedged.items()
        for ts, bar in bars.items()
    )
    n_bars = sum(map(len, replayed.hedged.values()))
    print(f"{n_same} of {n_bars} bars were hedged bit for bit as in the replay")
    return 0 if n_same == n_bars else 1


if __name__ == "__main__":
    sys.exit(main())
