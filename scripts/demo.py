"""Show the sidecar estimating betas that are known, live, and judge what it says.

Three real processes: `beta-factory run`, `beta-factory publish` and this one, which
subscribes over the Unix socket. The market is simulated (seeded): 50 symbols, one
benchmark, one hour of one-second bars, an opening burst, a halted symbol, missing bars.

The judgement: within non-overlapping windows every estimate is an independent draw, so
the share of intervals ``beta +- 1.96 * std_error`` that hold the true beta must be 95 %
up to binomial chance. (The first window holds the end of the opening burst, where the
volatility changes and least squares promises nothing: it is shown and not judged.) And
every update that the sidecar published must have arrived, once, in order, not folded.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

import polars as pl
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from beta_factory import BetaUpdated, Status, connect
from beta_factory.runtime.presentation import number
from beta_factory.runtime.simulation import (
    MarketSpec,
    SimulatedMarket,
    simulate_market,
    to_bars,
)

LOOKBACK_LENGTH = 600
MIN_OBSERVATIONS = 60
STALE_AFTER = 30
Z_95 = 1.959964
CHANCE_SD = 3.29
"""Coverage may be this many binomial standard deviations off: one run in a thousand."""

REDRAWS_PER_S = 8
ROWS_PER_COLUMN = 25

CONFIG = """\
symbols = {symbols}

[server]
address = "unix://{socket}"

[factors.market]
benchmark = "{benchmark}"
lookback_length = {lookback_length}
min_observations = {min_observations}
stale_after = {stale_after}

[log]
level = "WARNING"
"""


@dataclass
class Watcher:
    """What this process has received, and how it compares with the truth."""

    market: SimulatedMarket
    last: dict[str, BetaUpdated] = field(default_factory=dict[str, BetaUpdated])
    judged: dict[tuple[str, int], bool] = field(
        default_factory=dict[tuple[str, int], bool]
    )
    n_updates: int = 0
    n_out_of_order: int = 0
    n_conflated: int = 0
    saw_stale: bool = False
    _next_seq: int = 1

    def __post_init__(self) -> None:
        self.truth = dict(
            zip(self.market.symbols, self.market.true_betas.tolist(), strict=True)
        )
        stamps = self.market.ts_events.tolist()
        self._window_of = {
            stamp: bar // LOOKBACK_LENGTH
            for bar, stamp in enumerate(stamps)
            if (bar + 1) % LOOKBACK_LENGTH == 0 and bar >= LOOKBACK_LENGTH
        }

    def take(self, update: BetaUpdated) -> None:
        """Keep one update and judge it where a window ends."""
        self.n_updates += 1
        self.n_out_of_order += update.seq != self._next_seq
        self._next_seq = update.seq + 1
        self.n_conflated += update.conflated
        self.last[update.symbol] = update
        halted = update.symbol == self.market.halted
        self.saw_stale |= halted and update.status is Status.STALE
        window = self._window_of.get(update.ts_event)
        if window is None or update.beta is None or update.std_error is None:
            return
        if update.status is Status.OK:
            error = abs(update.beta - self.truth[update.symbol])
            self.judged[update.symbol, window] = error <= Z_95 * update.std_error

    @property
    def now(self) -> int:
        """The market's time: the newest bar of any symbol."""
        return max((update.ts_event for update in self.last.values()), default=0)

    def tables(self) -> Group:
        """Return the live table, half of the symbols beside the other half."""
        symbols = sorted(self.last)
        halves = [
            symbols[i : i + ROWS_PER_COLUMN]
            for i in range(0, len(symbols), ROWS_PER_COLUMN)
        ]
        held = sum(self.judged.values())
        head = (
            f"{self.n_updates:,} updates received   "
            f"{held}/{len(self.judged)} intervals hold the true beta"
        )
        return Group(head, Columns([self._table(half) for half in halves]))

    def _table(self, symbols: list[str]) -> Table:
        table = Table()
        for name in ("symbol", "beta +- se", "true", "R2", "n_obs", "status", "age"):
            table.add_column(name, justify="left" if name == "symbol" else "right")
        now = self.now
        for symbol in symbols:
            update = self.last[symbol]
            style = "green" if update.status is Status.OK else "yellow"
            table.add_row(
                symbol,
                f"{number(update.beta, '.3f')} +- {number(update.std_error, '.3f')}",
                f"{self.truth[symbol]:.3f}",
                number(update.r_squared, ".2f"),
                str(update.n_obs),
                f"[{style}]{update.status.name.lower()}[/]",
                f"{(now - update.ts_event) / 1e9:.0f} s",
            )
        return table


def verdict(watcher: Watcher, n_pairs: int, sidecar_lines: str) -> list[str]:
    """Return what is wrong; an empty list is a passed demo."""
    wrong: list[str] = []
    n = len(watcher.judged)
    expected = len(watcher.market.symbols) * (
        len(watcher.market.ts_events) // LOOKBACK_LENGTH - 1
    )
    # a symbol misses a window's last bar now and then; the halted one misses windows
    if n < expected * 0.8:
        wrong.append(f"only {n} of {expected} windows were judged")
    held = sum(watcher.judged.values())
    share = held / n if n else 0.0
    margin = CHANCE_SD * sqrt(0.95 * 0.05 / max(n, 1))
    if abs(share - 0.95) > margin:
        wrong.append(f"coverage {share:.1%} is not 95 % +- {margin:.1%}")
    published = int(
        next(
            line.split()[1].replace(",", "")
            for line in sidecar_lines.splitlines()
            if line.startswith("updates")
        )
    )
    if published != watcher.n_updates:
        wrong.append(f"{published} updates published, {watcher.n_updates} received")
    if watcher.n_out_of_order or watcher.n_conflated:
        wrong.append(
            f"{watcher.n_out_of_order} out of order, {watcher.n_conflated} conflated"
        )
    n_numbers = watcher.n_updates
    if n_numbers < n_pairs:
        wrong.append(f"{n_pairs} pairs were fed, {n_numbers} updates came back")
    if not watcher.saw_stale:
        wrong.append(f"the halted {watcher.market.halted} was never reported stale")
    return wrong


@contextmanager
def sidecar(config: Path) -> Generator["subprocess.Popen[str]"]:
    """Run a sidecar process that ends with the block, whatever happens in it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "beta_factory", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def watch(
    socket: Path,
    watcher: Watcher,
    bar_file: Path,
    speed: float,
    process: "subprocess.Popen[str]",
) -> None:
    """Subscribe, start the feed, and take updates until the sidecar says goodbye."""
    async with connect(f"unix://{socket}", name="demo") as client:
        subscription = client.subscribe("beta.market.*")
        await subscription.wait_joined()
        feed = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "beta_factory", "publish", str(bar_file)),
            *("--address", f"unix://{socket}", "--benchmark", watcher.market.benchmark),
            *("--speed", str(speed), "--no-progress"),
            stdout=subprocess.DEVNULL,
        )

        async def stop_after_feed() -> None:
            if await feed.wait() != 0:
                raise SystemExit("the feed failed")
            process.send_signal(signal.SIGTERM)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stop_after_feed())
            async for update in subscription:
                watcher.take(update)


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=7, help="of the market")
    parser.add_argument("--bars", type=int, default=3600, help="one-second bars")
    parser.add_argument("--speed", type=float, default=200.0, help="x real time")
    arguments = parser.parse_args()
    console = Console(highlight=False)

    market = simulate_market(MarketSpec(n_bars=arguments.bars, seed=arguments.seed))
    watcher = Watcher(market)
    with tempfile.TemporaryDirectory(prefix="beta-factory-") as folder:
        bar_file = Path(folder) / "market.parquet"
        bars = to_bars(market)
        stamps: list[int] = [
            stamp
            for stamp, n in zip(
                bars.ts_events.tolist(),
                (bars.offsets[1:] - bars.offsets[:-1]).tolist(),
                strict=True,
            )
            for _ in range(n)
        ]
        ids: list[int] = bars.symbol_ids.tolist()
        pl.DataFrame(
            {
                "ts_event": stamps,
                "symbol": [bars.symbols[i] for i in ids],
                "period_return": bars.period_returns,
            }
        ).write_parquet(bar_file)
        n_pairs = len(bars.period_returns) - len(market.ts_events)
        socket = Path(folder) / "sidecar.sock"
        config = Path(folder) / "beta-factory.toml"
        config.write_text(
            CONFIG.format(
                symbols=list(market.symbols),
                socket=socket,
                benchmark=market.benchmark,
                lookback_length=LOOKBACK_LENGTH,
                min_observations=MIN_OBSERVATIONS,
                stale_after=STALE_AFTER,
            )
        )
        with sidecar(config) as process:
            with Live(
                console=console,
                get_renderable=watcher.tables,
                refresh_per_second=REDRAWS_PER_S,
            ):
                asyncio.run(watch(socket, watcher, bar_file, arguments.speed, process))
            lines, errors = process.communicate(timeout=10)
    console.print()
    console.print(lines, end="")
    wrong = verdict(watcher, n_pairs, lines)
    if process.returncode != 0:
        wrong.append(f"the sidecar ended with {process.returncode}: {errors}")
    n = len(watcher.judged)
    held = sum(watcher.judged.values())
    console.print(
        f"coverage  {held}/{n} = {held / max(n, 1):.1%} of the 95 % intervals hold "
        "the true beta"
    )
    for problem in wrong:
        console.print(f"[red]wrong[/]: {problem}")
    console.print("demo: " + ("FAILED" if wrong else "passed"))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
