"""Markets for the bridge's tests: weekday bars, and minute bars with holes."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

DAY = 86_400
MINUTE = 60
BENCHMARK = "SPY"


@dataclass(frozen=True)
class PriceMarket:
    """Closes of a benchmark and of some assets; a symbol may miss any bar."""

    interval: int
    frames: dict[str, pl.DataFrame] = field(repr=False)

    @property
    def assets(self) -> tuple[str, ...]:
        return tuple(symbol for symbol in self.frames if symbol != BENCHMARK)

    def ticks(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Return (ts, symbol, row), in the order in which qmtl replays them."""
        rows = [
            (row["ts"], symbol, row)
            for symbol, frame in self.frames.items()
            for row in frame.iter_rows(named=True)
        ]
        return sorted(rows, key=lambda row: row[0])


def now_s() -> int:
    # qmtl replays what ends now, so that its tests cannot have a fixed calendar
    return int(time.time())


def weekday_market(
    n_bars: int = 120, symbols: tuple[str, ...] = ("AAPL", "BRK.B"), seed: int = 1
) -> PriceMarket:
    """Daily closes without weekends, up to today."""
    today = now_s() - now_s() % DAY
    days = [today - DAY * back for back in range(2 * n_bars)]
    days = sorted(day for day in days if (day // DAY + 3) % 7 < 5)[-n_bars:]
    return PriceMarket(DAY, _frames(days, symbols, seed, missing=0.0))


def minute_market(
    n_bars: int = 200, symbols: tuple[str, ...] = ("AAPL", "BTC/USDT"), seed: int = 2
) -> PriceMarket:
    """Minute closes of two sessions with a night between; a tenth is missing."""
    last = now_s() - now_s() % MINUTE
    half = n_bars // 2
    first = [last - 15 * 3600 - MINUTE * back for back in range(half)]
    second = [last - MINUTE * back for back in range(n_bars - half)]
    return PriceMarket(
        MINUTE, _frames(sorted(first + second), symbols, seed, missing=0.1)
    )


def _frames(
    stamps: list[int], symbols: tuple[str, ...], seed: int, missing: float
) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    market = rng.normal(size=len(stamps)) * 0.01
    frames: dict[str, pl.DataFrame] = {}
    for i, symbol in enumerate((BENCHMARK, *symbols)):
        noise = rng.normal(size=len(stamps)) * 0.005 * bool(i)
        closes = 100.0 * np.cumprod(1.0 + market * (1.0 + 0.5 * i) + noise)
        kept = rng.random(len(stamps)) >= missing * (1.0 if i else 0.3)
        frames[symbol] = pl.DataFrame(
            {"ts": np.array(stamps)[kept], "close": closes[kept]}
        )
    return frames
