"""A random market: its bars, its bars as frames, and its betas by numpy.

Rule: every contender of a comparison gets the same bars. The answers are computed from
the bars themselves, by two-pass sums over the window, never by anything measured.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from beta_factory.messages import (
    BenchmarkReturnObserved,
    ReturnObserved,
    ReturnsObserved,
    encode,
)
from beta_factory.runtime.framing import frame

Floats = NDArray[np.float64]

WINDOW: Final = 390
MIN_OBSERVATIONS: Final = 60
READ_BYTES: Final = 65_536
"""What one read of a busy Unix socket brings."""


class Market:
    """Bars made as they are asked for, of which the newest window is remembered.

    Parameters
    ----------
    symbols
        Its assets.
    window
        How many bars `betas` looks back.
    missing
        Share of the returns that is missing.
    betas
        The least and the largest true beta; those of the assets lie evenly between.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        window: int = WINDOW,
        missing: float = 0.0,
        betas: tuple[float, float] = (1.2, 1.2),
    ) -> None:
        self.symbols = symbols
        self.ts_event = 0
        self._missing = missing
        self._betas = np.linspace(*betas, len(symbols))
        self._rng = np.random.default_rng(1)
        self._x = np.full(window, np.nan)
        self._y = np.full((window, len(symbols)), np.nan)

    def advance(self) -> None:
        """Make the next bar."""
        self.ts_event += 1
        slot = self.ts_event % len(self._x)
        x = float(self._rng.normal() * 1e-3)
        noise = self._rng.normal(size=len(self.symbols)) * 1e-3
        self._x[slot] = x
        self._y[slot] = self._betas * x + noise
        if self._missing:
            gone = self._rng.random(len(noise)) < self._missing
            self._y[slot, gone] = np.nan

    @property
    def n_bytes(self) -> int:
        """What it remembers takes."""
        return self._x.nbytes + self._y.nbytes

    @property
    def returns(self) -> Floats:
        """The newest bar of the assets."""
        row: Floats = self._y[self.ts_event % len(self._x)]
        return row

    @property
    def benchmark_return(self) -> float:
        """The newest bar of the benchmark."""
        return float(self._x[self.ts_event % len(self._x)])

    def benchmark(self) -> bytes:
        """Return the newest bar's benchmark return as a frame."""
        message = BenchmarkReturnObserved(
            benchmark="SPY",
            ts_event=self.ts_event,
            period_return=self.benchmark_return,
        )
        return frame(encode(message))

    def columns(self) -> bytes:
        """Return the newest bar's asset returns as one columnar frame."""
        message = ReturnsObserved(
            ts_event=self.ts_event, symbols=1, period_returns=self.returns.tobytes()
        )
        return frame(encode(message))

    def singles(self) -> list[bytes]:
        """Return the newest bar's asset returns as a frame each."""
        pairs = zip(self.symbols, self.returns.tolist(), strict=True)
        return [self.single(symbol, value) for symbol, value in pairs]

    def single(self, symbol: str, value: float) -> bytes:
        """Return one return of the newest bar as a frame."""
        message = ReturnObserved(
            symbol=symbol, ts_event=self.ts_event, period_return=value
        )
        return frame(encode(message))

    def betas(self) -> Floats:
        """Return the betas of the newest window."""
        return window_betas(self._x, self._y)


def names(n_symbols: int) -> tuple[str, ...]:
    """Return some symbols, in the order of their rows."""
    return tuple(f"S{i:05d}" for i in range(n_symbols))


def recorded(
    n_bars: int, n_symbols: int, missing: float = 0.0
) -> tuple[Floats, Floats]:
    """Return bars made at once: benchmark (n_bars,) and assets (n_bars, n_symbols)."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=n_bars) * 1e-3
    y = 1.2 * x[:, None] + rng.normal(size=(n_bars, n_symbols)) * 1e-3
    if missing:
        y[rng.random(y.shape) < missing] = np.nan
    return x, y


def window_betas(x: Floats, y: Floats) -> Floats:
    """Return the least-squares slope of each column of ``y`` over all bars."""
    xs = np.where(np.isnan(y), np.nan, x[:, None])
    dx = xs - np.nanmean(xs, axis=0)
    dy = y - np.nanmean(y, axis=0)
    slopes: Floats = np.nansum(dx * dy, axis=0) / np.nansum(dx * dx, axis=0)
    return slopes


def reads(stream: bytes) -> list[bytes]:
    """Cut a stream as a busy socket would."""
    return [stream[i : i + READ_BYTES] for i in range(0, len(stream), READ_BYTES)]
