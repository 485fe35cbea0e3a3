"""What to estimate: the configuration of one factor's betas."""

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
import numpy as np
from msgspec import structs

from ..messages import ConfigError
from .calendars import Calendar, calendar_of
from .durations import DAY_NS, parse_duration
from .values import reason_of

FEWEST_OBSERVATIONS = 3
"""Two pairs always lie on a line: below three there is no standard error."""

FEWEST_FOR_SCALE = 5
"""Below this many returns their scale is an accident."""

FEWEST_FROZEN = 2
"""One return repeats nothing."""

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
        With every field that is wrong: of another type, or a word that is none of
        its own; when the window can never hold ``min_observations`` pairs, or
        ``min_observations`` is too small for a standard error; and so on.
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
    max_abs_return: float | None = None
    """A return of a symbol or of the benchmark beyond this is held in quarantine until
    an operator releases it; ``None`` = any may come."""
    max_robust_z: float | None = None
    """So is one that is further than this from the median of its own past, in robust
    standard deviations (1.4826 MAD); see `estimators.robust`. A session's first bar,
    whose return spans the night, is only held against ``max_abs_return``."""
    robust_window: int | None = None
    """Bars of that past; by default the window's length, or three half-lives."""
    robust_min_observations: int = 30
    """Returns in that past, other than their median, before ``max_robust_z`` holds."""
    feed_timeout: str | None = None
    """Time on the clock (``"5s"``) without a return of a symbol, or of the benchmark,
    after which the rows concerned are `stale` and say which side fell silent."""
    frozen_after: int | None = None
    """Bars in a row with one and the same return after which a symbol, or all symbols
    of a benchmark, are `stale` and say which side is frozen."""

    def __post_init__(self) -> None:
        problems = _type_problems(self)
        if not problems:  # for what the fields say to each other
            problems = [*_length_problems(self), *_other_problems(self)]
        if not problems:  # which of the window's own length are the past's
            problems = _guard_problems(self)
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
    def is_guarded(self) -> bool:
        """Whether returns are held against limits, or feeds are watched."""
        keys = (
            self.max_abs_return,
            self.max_robust_z,
            self.feed_timeout,
            self.frozen_after,
        )
        return any(key is not None for key in keys)

    @property
    def unguarded(self) -> "MarketBetaConfig":
        """The same windows, of whatever is taken."""
        return structs.replace(self, **_NO_GUARD)

    @property
    def robust_bars(self) -> int | None:
        """Length of ``robust_window``; ``None`` = a window of time does not say."""
        if self.robust_window is not None:
            return self.robust_window
        if self.window == "time":
            interval = _parsed(self.bar_interval)
            if interval is None:
                return None
            span = self.decay if self.decay is not None else self.length_ns
            return round(span * (_HALF_LIVES if self.decay else 1) / interval)
        if self.decay is not None:
            return round(_HALF_LIVES * self.decay)
        return self.n_bars

    @property
    def feed_timeout_ns(self) -> int | None:
        """``feed_timeout`` in ns."""
        return None if self.feed_timeout is None else parse_duration(self.feed_timeout)

    @property
    def goes_by_clock(self) -> bool:
        """Whether somebody must tell the time, for what is stale by it."""
        return self.stale_ns is not None or self.feed_timeout is not None

    @property
    def sessions(self) -> Calendar | None:
        """The calendar that ``calendar`` names."""
        return None if self.calendar is None else calendar_of(self.calendar)


_NO_GUARD: dict[str, Any] = {
    field.name: field.default
    for field in structs.fields(MarketBetaConfig)
    if field.name
    in {
        "max_abs_return",
        "max_robust_z",
        "robust_window",
        "robust_min_observations",
        "feed_timeout",
        "frozen_after",
    }
}
"""The keys that decide what comes into a window and what is said of it, but not what a
window is: with other values it goes on."""

_TYPES: Final = {f.name: f.type for f in structs.fields(MarketBetaConfig)}

_PLAIN: Final[dict[type, type]] = {
    **dict.fromkeys((np.int32, np.int64), int),
    **dict.fromkeys((np.float32, np.float64), float),
}
"""What numpy counts with is a number all the same."""

Problems = list[tuple[str, str]]


def _type_problems(model: MarketBetaConfig) -> Problems:
    # The decoder of a file checks types, the constructor does not.
    problems: Problems = []
    for key, wanted in _TYPES.items():
        value: Any = getattr(model, key)
        if type(value) in _PLAIN:
            value = _PLAIN[type(value)](value)
            structs.force_setattr(model, key, value)
        try:
            msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            problems.append((key, reason_of(wanted, value, error)))
    return problems


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


def _guard_problems(model: MarketBetaConfig) -> Problems:
    problems: Problems = []
    for key in ("max_abs_return", "max_robust_z"):
        value: float | None = getattr(model, key)
        if value is not None and not 0 < value < float("inf"):
            problems.append((key, f"must be above 0 and finite, was {value:g}"))
    fewest = model.robust_min_observations
    if fewest < FEWEST_FOR_SCALE:
        reason = f"must be at least {FEWEST_FOR_SCALE}, was {fewest}"
        problems.append(("robust_min_observations", reason))
    bars = model.robust_bars
    if model.max_robust_z is not None and bars is None:
        reason = "is needed beside max_robust_z: a window of time has no number of bars"
        problems.append(("robust_window", reason))
    elif model.max_robust_z is not None and bars is not None and bars < fewest:
        reason = (
            f"a past of {bars} bars never holds {fewest} returns "
            "(robust_min_observations)"
        )
        problems.append(("robust_window", reason))
    if model.feed_timeout is not None:
        problems += _duration_problems("feed_timeout", model.feed_timeout)
    if model.frozen_after is not None and model.frozen_after < FEWEST_FROZEN:
        reason = f"must be at least {FEWEST_FROZEN} bars, was {model.frozen_after}"
        problems.append(("frozen_after", reason))
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

    @property
    def windows(self) -> "Factor":
        """What of it decides what its windows hold of what is taken."""
        return Factor(self.benchmark, self.name, self.model.unguarded)
