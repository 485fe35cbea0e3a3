"""Where a script's market comes from: a bar file, or a seeded simulation."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ...actors import Factor
from ...actors.durations import parse_duration
from ...messages import ConfigError
from ...messages.fields import Name
from ..bars import Bars, read_bars
from ..config import Limit
from ..simulation import MarketSpec, simulate_market, to_bars
from ..stamps import parse_stamp

Volatility = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """A bar file; how returns are made from it is up to the model."""

    file: Annotated[str, Meta(min_length=1)]
    """Its path, relative to the script's folder."""

    def bars(self, factor: Factor, folder: Path) -> Bars:
        """Return the market as a factor wants it.

        Raises
        ------
        BarFileError, FileNotFoundError
            As `read_bars`.
        """
        return read_bars(
            folder / self.file,
            returns=factor.model.returns,
            overnight=factor.model.overnight,
        )


class SimulatedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A seeded market of one session whose betas are known, see `simulation`.

    Raises
    ------
    ConfigError
        When an interval or a time is none, or there is no symbol.
    """

    n_bars: Limit
    betas: dict[Name, float]
    """The assets and their true betas; dimensionless."""
    bar_interval: str = "1min"
    start: str = "2025-06-02T13:30:00Z"
    """When the market opens; the first bar closes one interval later."""
    seed: Annotated[int, Meta(ge=0)] = 1
    benchmark_vol: Volatility = 1e-3
    """Standard deviation of the benchmark's return over one bar; dimensionless."""
    residual_vol: Volatility = 5e-4
    """The same for the middle symbol's residual; 0 = every pair on its line."""
    missing_fraction: Fraction = 0.0
    """Probability that an asset has no return in a bar."""

    def __post_init__(self) -> None:
        problems: list[tuple[str, str]] = []
        for key, parse in (("bar_interval", parse_duration), ("start", parse_stamp)):
            try:
                parse(getattr(self, key))
            except ValueError as error:
                problems.append((key, str(error)))
        if not self.betas:
            problems.append(("betas", "must hold at least one symbol"))
        if problems:
            raise ConfigError(problems)

    def bars(self, factor: Factor, folder: Path) -> Bars:  # noqa: ARG002 - there is no file
        """Return the market around a factor's benchmark."""
        spec = MarketSpec(
            n_symbols=len(self.betas),
            betas=self.betas,
            n_bars=self.n_bars,
            bar_interval_ns=parse_duration(self.bar_interval),
            seed=self.seed,
            start_ts=parse_stamp(self.start),
            benchmark=factor.benchmark,
            benchmark_vol=self.benchmark_vol,
            residual_vol=self.residual_vol,
            opening_burst_bars=0,
            missing_fraction=self.missing_fraction,
            halted_from_bar=0,
            halted_to_bar=0,
        )
        return to_bars(simulate_market(spec))


Source = FileSource | SimulatedSource
