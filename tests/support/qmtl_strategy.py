"""A strategy that can watch its betas in every way there is, and a sidecar for it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beta_factory import MarketBetaConfig
from qmtl_market import BENCHMARK, PriceMarket

CONFIG = MarketBetaConfig(lookback_length=40, min_observations=10)
PERIOD = 5_000
"""qmtl replays a window that ends now: long enough for a night between sessions."""

SIDECAR = """\
symbols = {symbols}
[server]
address = "unix://{socket}"
[factors.market]
benchmark = "SPY"
lookback_length = 40
min_observations = 10
"""

Rows = dict[str, list[dict[str, Any]]]


def make_strategy(
    bridge: Any,
    sdk: Any,
    market: PriceMarket,
    *,
    sink: Any = None,
    in_dag: bool = True,
    beta_history: Any = None,
    warm_up: bool = True,
) -> Any:
    """Return a strategy, set up, whose taps write down every beta payload.

    ``computed`` is what `market_beta_node` gave, ``received`` what came by `BetaInput`.
    """
    history = bridge.FrameHistory(market.frames) if warm_up else None

    class Watching(sdk.Strategy):  # type: ignore[misc]
        def setup(self) -> None:
            self.computed: Rows = {}
            self.received: Rows = {}
            self.errors: list[Exception] = []
            self.beta_inputs: list[Any] = []
            self.prices = {
                symbol: sdk.StreamInput(
                    interval=market.interval,
                    period=PERIOD,
                    config={"symbol": symbol},
                    history_provider=history,
                )
                for symbol in market.frames
            }
            spy = self.observe(BENCHMARK)
            for symbol in market.assets:
                asset = self.observe(symbol)
                if in_dag:
                    beta = bridge.market_beta_node(asset, spy, CONFIG)
                    self.add_nodes([beta, self.tap(symbol, beta, self.computed)])
                back = bridge.BetaInput(
                    symbol,
                    interval=market.interval,
                    period=PERIOD,
                    history_provider=beta_history,
                )
                self.beta_inputs.append(back)
                self.add_nodes([back, self.tap(symbol, back, self.received)])

        def observe(self, symbol: str) -> Any:
            price = self.prices[symbol]
            if symbol == BENCHMARK:
                node = bridge.benchmark_return_node(price, symbol=symbol)
            else:
                node = bridge.asset_return_node(price, symbol=symbol)
            self.add_nodes([price, node])
            if sink is not None:
                self.add_nodes(bridge.beta_sink_node(node, sink))
            return node

        def tap(self, symbol: str, beta: Any, into: Rows) -> Any:
            rows = into.setdefault(symbol, [])

            def write_down(view: Any) -> None:
                rows.append(view[beta][beta.interval][-1][1])

            return bridge.GapTolerantNode(
                input=beta,
                compute_fn=write_down,
                name=f"tap_{symbol}",
                interval=market.interval,
                period=1,
                config={"tap": beta.node_id},
            )

        def on_error(self, error: Exception) -> None:
            self.errors.append(error)

    strategy = Watching()
    strategy.setup()
    return strategy


async def ticks(bridge: Any, strategy: Any, market: PriceMarket) -> AsyncIterator[Any]:
    """Yield the market as a live price feed would."""
    for ts, symbol, row in market.ticks():
        yield bridge.Tick(strategy.prices[symbol], ts, row)


@contextmanager
def sidecar_process(folder: Path, symbols: tuple[str, ...]) -> Generator[str]:
    """Run a real sidecar; yield its address when it listens."""
    config = folder / "beta-factory.toml"
    listed = "[" + ", ".join(f'"{symbol}"' for symbol in symbols) + "]"
    socket = folder / "beta.sock"
    config.write_text(SIDECAR.format(symbols=listed, socket=socket))
    process = subprocess.Popen(
        [sys.executable, "-m", "beta_factory", "run", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening at" in line:
                break
        else:
            raise AssertionError(f"the sidecar ended with {process.wait()}")
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def run(coroutine: Any) -> Any:
    """Run a coroutine on a loop of its own."""
    return asyncio.run(coroutine)
