"""What to estimate: the configuration of one factor's betas."""

from collections.abc import Callable
from typing import Literal

import msgspec

from ..messages import ConfigError
from .calendars import Calendar, calendar_of
from .durations import DAY_NS, parse_duration

FEWEST_OBSERVATIONS = 3
"""Two pairs always lie on a line: below three there is no standard error."""

WindowKind = Literal["bars", "pairs", "time", "session"]

_STALE_SHARE = 10
"""By default a symbol is stale after this part of its window without a pair."""

_HALF_LIVES = 3
"""An exponential window is about as long as so many half-lives."""


class MarketBetaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a market beta is estimated.

    Raises
    ------
    ConfigError
        With every field that is wrong: above all when the window can never hold
        ``min_observations`` pairs, or when ``min_observations`` is too small for a
        standard error.
    """

    lookback_length: int | str = 390
    """Window length: bars of the benchmark's grid, complete pairs, or with ``window =
    "time"`` a duration such as ``"30min"``. Not used with ``half_life``."""
    min_observations: int = 60
    """Complete pairs before a beta is published as a number."""
    window: WindowKind = "bars"
    """What the length counts. ``bars``: the last bars of the grid; missing pairs are
    dropped, so ``n_obs <= lookback_length``. ``pairs``: the last complete pairs,
    however long ago. ``time``: pairs with a stamp in ``(ts_event - length, ts_event]``.
    ``session``: the last bars, but none from before the session's open."""
    half_life: float | str | None = None
    """Weights halve with this age: in bars (``bars``, ``session``), in complete pairs
    (``pairs``), or a duration (``time``); ``None`` = equal weights."""
    returns: Literal["simple", "log"] = "simple"
    """What the returns are; whoever makes them from prices goes by it."""
    overnight: Literal["exclude", "include"] = "exclude"
    """Whether the first bar of a session, whose return spans the night, is in the
    windows; needs to know sessions, see ``calendar``."""
    allowed_lateness: int = 0
    """How many bars after its own a return may still come, or be corrected; 0 = what is
    older than the open bar is dropped, and a second value for a bar is a conflict."""
    stale_after: int | str | None = None
    """Bars without a pair, or time on the clock (``"30s"``), after which a symbol is
    `stale`; by default a tenth of the window."""
    bar_interval: str | None = None
    """Spacing of the grid (``"1min"``, ``"1d"``): a bar that the benchmark skipped
    inside a session then still counts as a bar. ``None`` = only bars that came."""
    calendar: str | None = None
    """Where sessions begin and end: hours of weekdays and their zone (``"09:30-16:00
    America/New_York"``), or an exchange's code (``"XNYS"``, with the ``calendars``
    extra). By default sessions begin with `SessionOpened`, and on an intraday grid
    after a gap of four hours."""

    def __post_init__(self) -> None:
        problems = [*_length_problems(self), *_other_problems(self)]
        if problems:
            raise ConfigError(problems)

    @property
    def length_ns(self) -> int:
        """Length of a window of time, in ns."""
        return parse_duration(str(self.lookback_length))

    @property
    def n_bars(self) -> int:
        """Length of a window of bars or pairs."""
        return int(self.lookback_length)

    @property
    def decay(self) -> float | None:
        """``half_life`` as a number of bars, pairs or ns; ``None`` = equal weights."""
        if isinstance(self.half_life, str):
            return float(parse_duration(self.half_life))
        return self.half_life

    @property
    def stale_bars(self) -> int | None:
        """Bars without a pair until a symbol is stale; ``None`` = time counts."""
        if isinstance(self.stale_after, int):
            return self.stale_after
        if self.stale_after is not None or self.window == "time":
            return None
        length = self.n_bars
        if self.decay is not None:
            length = round(_HALF_LIVES * self.decay)
        return max(1, length // _STALE_SHARE)

    @property
    def stale_ns(self) -> int | None:
        """Nanoseconds without a pair until a symbol is stale; ``None`` = bars count."""
        if isinstance(self.stale_after, str):
            return parse_duration(self.stale_after)
        if self.stale_after is not None or self.window != "time":
            return None
        if self.decay is not None:
            return max(1, round(_HALF_LIVES * self.decay) // _STALE_SHARE)
        return max(1, self.length_ns // _STALE_SHARE)

    @property
    def interval_ns(self) -> int | None:
        """``bar_interval`` in ns."""
        return None if self.bar_interval is None else parse_duration(self.bar_interval)

    @property
    def is_intraday(self) -> bool:
        """Whether a session holds many bars, so that nights stand out."""
        interval = self.interval_ns
        return self.window == "session" or (interval is not None and interval < DAY_NS)

    @property
    def sessions(self) -> Calendar | None:
        """The calendar that ``calendar`` names."""
        return None if self.calendar is None else calendar_of(self.calendar)


Problems = list[tuple[str, str]]


def _length_problems(model: MarketBetaConfig) -> Problems:
    # Length, half-life and lateness, whose meaning depends on the kind of window.
    problems: Problems = []
    by_time = model.window == "time"
    length, fewest = model.lookback_length, model.min_observations
    if model.half_life is not None:
        problems += _half_life_problems(model)
    elif by_time and isinstance(length, str):
        problems += _duration_problems("lookback_length", length)
        interval = _parsed(model.bar_interval)
        if not problems and interval and model.length_ns // interval < fewest:
            reason = (
                f"{length} of {model.bar_interval} bars (bar_interval) never holds "
                f"{fewest} pairs (min_observations)"
            )
            problems.append(("lookback_length", reason))
    elif by_time:
        reason = f'a window of time needs a duration such as "30min", was {length}'
        problems.append(("lookback_length", reason))
    elif isinstance(length, str):
        counted = "pairs" if model.window == "pairs" else "bars"
        reason = f'counts {counted}; for {length!r} say window = "time"'
        problems.append(("lookback_length", reason))
    elif length < fewest:
        counted = "pairs" if model.window == "pairs" else "bars"
        reason = (
            f"a window of {length} {counted} never holds {fewest} pairs "
            "(min_observations)"
        )
        problems.append(("lookback_length", reason))
    bars = length if isinstance(length, int) and model.half_life is None else None
    if model.allowed_lateness < 0:
        reason = f"must be at least 0, was {model.allowed_lateness}"
        problems.append(("allowed_lateness", reason))
    elif bars is not None and not by_time and model.allowed_lateness >= max(bars, 1):
        reason = f"must be below lookback_length ({bars}), was {model.allowed_lateness}"
        problems.append(("allowed_lateness", reason))
    return problems


def _half_life_problems(model: MarketBetaConfig) -> Problems:
    half_life = model.half_life
    if model.window == "time":
        if not isinstance(half_life, str):
            reason = (
                f'a window of time needs a duration such as "10min", was {half_life}'
            )
            return [("half_life", reason)]
        return _duration_problems("half_life", half_life)
    if isinstance(half_life, str):
        counted = "pairs" if model.window == "pairs" else "bars"
        return [
            ("half_life", f'counts {counted}; for {half_life!r} say window = "time"')
        ]
    if half_life is not None and not 0 < half_life < float("inf"):
        return [("half_life", f"must be above 0, was {half_life:g}")]
    return []


def _other_problems(model: MarketBetaConfig) -> Problems:
    problems: Problems = []
    if model.min_observations < FEWEST_OBSERVATIONS:
        reason = (
            f"must be at least {FEWEST_OBSERVATIONS} for a standard error, "
            f"was {model.min_observations}"
        )
        problems.append(("min_observations", reason))
    if isinstance(model.stale_after, str):
        problems += _duration_problems("stale_after", model.stale_after)
    elif model.stale_after is not None and model.stale_after < 1:
        reason = f"must be at least 1 bar, was {model.stale_after}"
        problems.append(("stale_after", reason))
    if model.bar_interval is not None:
        problems += _duration_problems("bar_interval", model.bar_interval)
    if model.calendar is not None:
        problems += _problems_of("calendar", calendar_of, model.calendar)
    return problems


def _duration_problems(key: str, text: str) -> Problems:
    return _problems_of(key, parse_duration, text)


def _problems_of(key: str, parse: Callable[[str], object], text: str) -> Problems:
    try:
        parse(text)
    except ValueError as error:
        return [(key, str(error))]
    return []


def _parsed(text: str | None) -> int | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError:
        return None


class Factor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named model: the betas of every symbol to one benchmark."""

    benchmark: str
    name: str = "market"
    """The ``<factor>`` of its topics."""
    model: MarketBetaConfig = MarketBetaConfig()
