"""What to estimate: the configuration of one factor's betas."""

import msgspec

from ..messages import ConfigError

FEWEST_OBSERVATIONS = 3
"""Two pairs always lie on a line: below three there is no standard error."""


class MarketBetaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a market beta is estimated.

    Raises
    ------
    ConfigError
        When the window can never hold ``min_observations`` pairs, or when
        ``min_observations`` is too small for a standard error.
    """

    lookback_length: int = 390
    """Window length, in bars of the benchmark's grid."""
    min_observations: int = 60
    """Complete pairs before a beta is published as a number."""
    stale_after: int | None = None
    """Bars without a pair after which a symbol is `stale`; by default a tenth of the
    window, at least one."""
    allowed_lateness: int = 0
    """How many bars after its own a return may still come, or be corrected; 0 = what is
    older than the open bar is dropped, and a second value for a bar is a conflict."""

    def __post_init__(self) -> None:
        problems: list[tuple[str, str]] = []
        if self.min_observations < FEWEST_OBSERVATIONS:
            problems.append(
                (
                    "min_observations",
                    (
                        f"must be at least {FEWEST_OBSERVATIONS} for a standard "
                        f"error, was {self.min_observations}"
                    ),
                )
            )
        if self.lookback_length < self.min_observations:
            problems.append(
                (
                    "lookback_length",
                    (
                        f"a window of {self.lookback_length} bars never holds "
                        f"{self.min_observations} pairs (min_observations)"
                    ),
                )
            )
        if self.stale_after is not None and self.stale_after < 1:
            problems.append(
                ("stale_after", f"must be at least 1 bar, was {self.stale_after}")
            )
        if not 0 <= self.allowed_lateness < max(self.lookback_length, 1):
            problems.append(
                (
                    "allowed_lateness",
                    (
                        "must be at least 0 and below lookback_length, "
                        f"was {self.allowed_lateness}"
                    ),
                )
            )
        if problems:
            raise ConfigError(problems)

    @property
    def stale_bars(self) -> int:
        """`stale_after`, with its default filled in."""
        if self.stale_after is None:
            return max(1, self.lookback_length // 10)
        return self.stale_after


class Factor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named model: the betas of every symbol to one benchmark."""

    benchmark: str
    name: str = "market"
    """The ``<factor>`` of its topics."""
    model: MarketBetaConfig = MarketBetaConfig()
